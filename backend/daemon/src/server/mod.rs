//! The listeners: accepting and limiting connections, signals, and graceful shutdown.
//!
//! Tokio accepts connections and waits for signals. Each connection of a provider has a thread of its own that reads,
//! dispatches and writes: a provider sends one request at a time and waits for the response, and each signature would
//! pay for every switch between tasks and threads on the way (docs/decisions/0003).

mod busy_poll;
mod connection;
mod socket;

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kms_core::object::Peer;
use kms_protocol::{Welcome, frame};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::{AuditConfig, RestConfig};
use crate::dispatch::Dispatch;
use crate::fairness::{Activity, ByteBudget, ConnectionLimits, Connections, ThrottledLog};
use crate::rest::{self, RestListener, RestServerHandle};

pub use socket::{SocketError, SocketListener};

/// The timeout for requests in progress when the daemon stops. The longest, the generation of an RSA-4096 key pair,
/// takes less.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// The stack size of a connection's thread. RSA in pure Rust needs the most stack: less than a quarter of this.
const STACK_BYTES: usize = 1 << 20;

/// Memory for requests that have not arrived completely, in bytes: 64 of the longest. The small buffer that each
/// connection has does not count.
const FRAMES_BYTES_MAX: usize = 64 << 20;

/// Of [`FRAMES_BYTES_MAX`], what the connections of one user may have.
const FRAMES_BYTES_PER_USER: usize = FRAMES_BYTES_MAX / 4;

/// Of the connections, those that only the daemon's own user and root may take, so that `kms doctor` always gets in: an
/// eighth, at most this many.
const KEPT_MAX: usize = 16;

/// How long the runtime's threads may take after that. No caller waits for what they still do.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// How many connections providers may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SocketLimits {
    /// Connections of all users together.
    pub connections_max: usize,
    /// Connections of one user of the operating system, but for root and the daemon's own.
    pub connections_per_uid: usize,
}

/// What can be changed in the configuration of a running daemon.
pub struct ReloadedConfig {
    /// The limits and the certificate of the REST API.
    pub rest: RestConfig,
    /// What the audit log records, and for how long.
    pub audit: AuditConfig,
}

/// The process around the server: it is notified of state changes, and provides the configuration for a reload.
pub trait Owner {
    /// All listeners accept connections.
    fn ready(&mut self, socket: &Path, rest: Option<&str>);

    /// Reads the configuration again, after SIGHUP. Returns `None` if it cannot be read.
    fn reload(&mut self) -> Option<ReloadedConfig>;

    /// The reloaded configuration has been applied as a whole, or not at all.
    fn reloaded(&mut self, applied: bool);

    /// No further connections are accepted.
    fn stopping(&mut self);
}

/// Serves providers, and the REST API if there is a listener, until the process receives a signal to stop; then lets
/// requests in progress finish.
///
/// # Errors
/// When a listener fails permanently. Errors of single connections do not end the server.
pub fn run(
    socket: SocketListener,
    listener: Option<RestListener>,
    dispatch: Arc<Dispatch>,
    limits: SocketLimits,
    owner: &mut dyn Owner,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("rest").enable_all().build()?;
    let providers = Providers::new(limits, &dispatch);
    let served = runtime.block_on(async {
        let rest = RestServer::open(listener, &dispatch)?;
        let accepted = accept(&socket, &providers, rest, owner).await;
        owner.stopping();
        accepted
    });
    let (served, rest) = match served {
        Ok(rest) => (Ok(()), rest),
        Err(error) => (Err(error), None),
    };
    // Both listeners drain at the same time.
    if let Some(rest) = &rest {
        rest.handle.stop(DRAIN_TIMEOUT);
    }
    let unfinished = providers.connections.drain(DRAIN_TIMEOUT);
    if unfinished > 0 {
        tracing::warn!(connections = unfinished, "stopped with requests unfinished");
    }
    if let Some(rest) = rest {
        runtime.block_on(rest.finish());
    }
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    served
}

/// A REST server that runs.
struct RestServer {
    url: String,
    handle: RestServerHandle,
    task: JoinHandle<io::Result<()>>,
}

impl RestServer {
    fn open(listener: Option<RestListener>, dispatch: &Arc<Dispatch>) -> io::Result<Option<Self>> {
        let Some(listener) = listener else { return Ok(None) };
        let url = listener.url();
        let (handle, served) = rest::serve(listener, dispatch)?;
        Ok(Some(Self { url, handle, task: tokio::spawn(served) }))
    }

    /// Waits until its connections have ended, with a timeout.
    async fn finish(self) {
        match tokio::time::timeout(DRAIN_TIMEOUT + SHUTDOWN_TIMEOUT, self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the REST server ended with an error"),
            Ok(Err(error)) => tracing::error!(%error, "the REST server panicked; this is a bug"),
            Err(_) => tracing::warn!("stopped with REST requests unfinished"),
        }
    }
}

/// Completes if the REST server ends without having been stopped, which is always a failure.
async fn rest_failure(rest: &mut Option<RestServer>) -> io::Error {
    match rest {
        Some(rest) => match (&mut rest.task).await {
            Ok(Ok(())) => io::Error::other("the REST server ended unexpectedly"),
            Ok(Err(error)) => error,
            Err(error) => io::Error::other(error),
        },
        None => std::future::pending().await,
    }
}

async fn accept(
    socket: &SocketListener,
    providers: &Providers,
    mut rest: Option<RestServer>,
    owner: &mut dyn Owner,
) -> io::Result<Option<RestServer>> {
    let listener = tokio::net::UnixListener::from_std(socket.listener.try_clone()?)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    owner.ready(&socket.path, rest.as_ref().map(|rest| rest.url.as_str()));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let peer = peer_of(&stream);
                    match stream.into_std() {
                        Ok(stream) => providers.accept(stream, peer),
                        Err(error) => tracing::warn!(%error, "a connection could not be accepted"),
                    }
                }
                Err(error) => {
                    // Most likely out of file descriptors: other connections must end first. No reason to stop.
                    tracing::error!(%error, "no connection could be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            _ = hangup.recv() => reload(&providers.dispatch, rest.as_ref(), owner),
            error = rest_failure(&mut rest) => return Err(error),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("stopping: requests in progress are finished first");
    Ok(rest)
}

/// Applies a reloaded configuration as far as that is possible without a restart. On an error nothing changes.
fn reload(dispatch: &Dispatch, rest: Option<&RestServer>, owner: &mut dyn Owner) {
    let Some(ReloadedConfig { rest: settings, audit }) = owner.reload() else {
        return owner.reloaded(false);
    };
    // The certificate comes first, because it is the only part that can still fail.
    let applied = rest.map_or(Ok(()), |rest| rest.handle.apply_settings(settings));
    match &applied {
        Ok(()) => dispatch.audit_writer.set(audit),
        Err(error) => tracing::error!(%error, "SIGHUP: the certificate cannot be used; nothing was changed"),
    }
    owner.reloaded(applied.is_ok());
}

/// A user of the operating system whose processes connect; none if the kernel did not tell.
type User = Option<u32>;

/// The connections of providers, and what they share.
struct Providers {
    dispatch: Arc<Dispatch>,
    connections: Arc<Connections<User>>,
    frames: Arc<ByteBudget<User>>,
    limits: SocketLimits,
    refused: ThrottledLog,
}

impl Providers {
    fn new(limits: SocketLimits, dispatch: &Arc<Dispatch>) -> Self {
        let SocketLimits { connections_max: max, connections_per_uid: per_peer } = limits;
        let places = ConnectionLimits { max, per_peer, kept: (max / 8).min(KEPT_MAX) };
        let counts = Arc::clone(&dispatch.shares.provider_connections);
        Self {
            dispatch: Arc::clone(dispatch),
            connections: Arc::new(Connections::new(places, counts)),
            frames: Arc::new(ByteBudget::new(FRAMES_BYTES_MAX, FRAMES_BYTES_PER_USER)),
            limits,
            refused: ThrottledLog::default(),
        }
    }

    /// Starts the thread of a new connection, or rejects the connection when there are too many.
    fn accept(&self, stream: UnixStream, peer: Option<Peer>) {
        let user = peer.map(|peer| peer.uid);
        let activity = Activity::new();
        let closer = configure(&stream).and_then(|()| stream.try_clone());
        let closer = match closer {
            Ok(closer) => closer,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                return;
            }
        };
        // What has arrived is still read and answered: a connection ends between two requests.
        let close = move || match closer.shutdown(Shutdown::Read) {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "a connection was already closed"),
        };
        let Some(place) = self.connections.enter(user, is_exempt(user), &activity, close) else {
            if let Some(times) = self.refused.count() {
                let SocketLimits { connections_max, connections_per_uid } = self.limits;
                tracing::warn!(
                    uid = user,
                    times,
                    connections_max,
                    connections_per_uid,
                    "a connection was rejected: too many are open, each with a request in flight"
                );
            }
            reject(&stream);
            return;
        };
        let (dispatch, frames) = (Arc::clone(&self.dispatch), Arc::clone(&self.frames));
        let name = format!("provider-{}", place.number());
        let started = std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            // Given back when the thread ends, even by a panic.
            let _place = place;
            if let Err(error) = connection::serve(&stream, peer, &dispatch, &activity, &frames) {
                tracing::info!(uid = peer.map(|peer| peer.uid), pid = peer.map(|peer| peer.pid), %error, "connection closed");
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "the thread of a connection could not be started");
        }
    }
}

/// Whether a user has places of its own: root and the user that runs the daemon, who could stop it anyway.
fn is_exempt(user: User) -> bool {
    user.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
}

fn configure(stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(connection::FRAME_TIMEOUT))?;
    stream.set_write_timeout(Some(connection::FRAME_TIMEOUT))
}

fn reject(mut stream: &UnixStream) {
    use std::io::Write;
    let mut response = zeroize::Zeroizing::new(Vec::new());
    if frame::encode(&Welcome::Busy, &mut response).is_ok() && stream.write_all(&response).is_err() {
        tracing::debug!("a rejected provider had already disconnected");
    }
}

/// Returns the process at the other end, as the kernel recorded it at `connect` (`SO_PEERCRED`). The process id is 0
/// when the process is not in our pid namespace: a daemon in a container serves applications outside of it.
fn peer_of(stream: &tokio::net::UnixStream) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
    Some(Peer { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) })
}
