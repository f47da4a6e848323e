//! The doors: they accept, limit and drain, and turn what comes in into one call of the dispatcher.
//!
//! Tokio listens and waits for signals. Each connection of a provider has a thread of its own that reads, dispatches
//! and writes: a provider sends one request at a time and waits for the answer, and every hop between tasks and
//! threads on the way would be paid by each signature (docs/decisions/0003).

mod busy_poll;
mod connection;
mod socket;

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use kms_core::object::Peer;
use kms_protocol::{Welcome, frame};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::{AuditConfig, RestConfig};
use crate::dispatch::Dispatch;
use crate::rest::{self, RestListener, RestServerHandle};

pub use socket::{SocketError, SocketListener};

/// How long a connection may take to finish what it is doing when the daemon stops: the longest request, an RSA-4096
/// key pair, and some.
const DRAIN: Duration = Duration::from_secs(15);

/// A connection's stack. RSA in pure Rust is the deepest call there is; it takes less than a quarter of this.
const STACK_BYTES: usize = 1 << 20;

/// How long the runtime's own threads may take after that: what they do nobody waits for any more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What can be taken over of a configuration while it is served.
pub struct Reread {
    /// The REST door's limits and certificate.
    pub rest: RestConfig,
    /// What the audit log holds, and for how long.
    pub audit: AuditConfig,
}

/// Whom the doors tell what happens, and who can tell them more.
pub trait Owner {
    /// All doors listen.
    fn ready(&mut self, socket: &Path, rest: Option<&str>);

    /// The process was asked to read its configuration again (SIGHUP): what the doors are to take over, if it can be
    /// read.
    fn reload(&mut self) -> Option<Reread>;

    /// All of what was read has been taken over, or nothing.
    fn reloaded(&mut self, taken: bool);

    /// No further request is taken.
    fn stopping(&mut self);
}

/// Serves providers, and REST if there is a listener, until the process is told to stop; then lets requests in progress
/// finish.
///
/// # Errors
/// When a door fails for good; single connections fail on their own.
pub fn run(
    socket: SocketListener,
    listener: Option<RestListener>,
    dispatch: Arc<Dispatch>,
    connections_max: usize,
    owner: &mut dyn Owner,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("rest").enable_all().build()?;
    let connections = Arc::new(Connections::default());
    let served = runtime.block_on(async {
        let rest = RestServer::open(listener, &dispatch)?;
        let accepted = accept(&socket, &dispatch, &connections, connections_max, rest, owner).await;
        owner.stopping();
        accepted
    });
    let (served, rest) = match served {
        Ok(rest) => (Ok(()), rest),
        Err(error) => (Err(error), None),
    };
    // Both doors finish what they do at the same time.
    if let Some(rest) = &rest {
        rest.handle.stop(DRAIN);
    }
    connections.drain();
    if let Some(rest) = rest {
        runtime.block_on(rest.finish());
    }
    runtime.shutdown_timeout(LAST_WORDS);
    served
}

/// The REST door while it is served.
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

    /// Waits until its connections are done, which is bounded.
    async fn finish(self) {
        match tokio::time::timeout(DRAIN + LAST_WORDS, self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the REST door did not end well"),
            Ok(Err(error)) => tracing::error!(%error, "the REST door panicked; this is a bug"),
            Err(_) => tracing::warn!("stopped with calls unfinished"),
        }
    }
}

/// Ends when the REST door ends by itself, which it does only when it fails.
async fn ended(rest: &mut Option<RestServer>) -> io::Error {
    match rest {
        Some(rest) => match (&mut rest.task).await {
            Ok(Ok(())) => io::Error::other("the REST door closed by itself"),
            Ok(Err(error)) => error,
            Err(error) => io::Error::other(error),
        },
        None => std::future::pending().await,
    }
}

async fn accept(
    socket: &SocketListener,
    dispatch: &Arc<Dispatch>,
    connections: &Arc<Connections>,
    connections_max: usize,
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
                        Ok(stream) => admit(stream, peer, dispatch, connections, connections_max),
                        Err(error) => tracing::warn!(%error, "a connection could not be taken"),
                    }
                }
                Err(error) => {
                    // Out of descriptors, most likely: others must finish first. Not a reason to stop.
                    tracing::error!(%error, "no connection could be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            _ = hangup.recv() => reload(dispatch, rest.as_ref(), owner),
            error = ended(&mut rest) => return Err(error),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("stopping: requests in progress are finished first");
    Ok(rest)
}

/// Takes over what can be taken over while the doors are open. What cannot be read leaves all as it was.
fn reload(dispatch: &Dispatch, rest: Option<&RestServer>, owner: &mut dyn Owner) {
    let Some(Reread { rest: settings, audit }) = owner.reload() else {
        return owner.reloaded(false);
    };
    // The certificate comes first: it alone can still fail.
    let adopted = rest.map_or(Ok(()), |rest| rest.handle.apply_settings(settings));
    match &adopted {
        Ok(()) => dispatch.recorder.set(audit),
        Err(error) => tracing::error!(%error, "SIGHUP: the certificate cannot be used; all stays as it was"),
    }
    owner.reloaded(adopted.is_ok());
}

/// Starts the thread of a new connection, or tells the provider that there are too many.
fn admit(
    stream: UnixStream,
    peer: Option<Peer>,
    dispatch: &Arc<Dispatch>,
    connections: &Arc<Connections>,
    connections_max: usize,
) {
    let number = match prepare(&stream).and_then(|()| connections.enter(&stream, connections_max)) {
        Ok(Some(number)) => number,
        Ok(None) => {
            tracing::warn!(connections_max, "a connection was refused: too many are open");
            refuse(&stream);
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be taken");
            return;
        }
    };
    let (dispatch, owner) = (Arc::clone(dispatch), Arc::clone(connections));
    let thread = std::thread::Builder::new().name(format!("door-{number}")).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        let leave = Leave { connections: &owner, number };
        if let Err(error) = connection::converse(&stream, peer, &dispatch) {
            tracing::info!(uid = peer.map(|peer| peer.uid), pid = peer.map(|peer| peer.pid), %error, "connection closed");
        }
        drop(leave);
    });
    if let Err(error) = started {
        tracing::error!(%error, "no thread for a connection");
        connections.leave(number);
    }
}

fn prepare(stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(connection::PATIENCE))?;
    stream.set_write_timeout(Some(connection::PATIENCE))
}

fn refuse(mut stream: &UnixStream) {
    use std::io::Write;
    let mut answer = zeroize::Zeroizing::new(Vec::new());
    if frame::encode(&Welcome::Busy, &mut answer).is_ok() && stream.write_all(&answer).is_err() {
        tracing::debug!("a refused provider had already gone");
    }
}

/// The process at the other end, as the kernel knows it (`SO_PEERCRED`): set when it connected. The process id is 0
/// when the process is not of our pid namespace: a daemon in a container serves applications outside of it.
fn peer_of(stream: &tokio::net::UnixStream) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
    Some(Peer { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) })
}

/// The connections that are open, so that they can be counted and, at the end, be asked to leave.
#[derive(Default)]
struct Connections {
    open: Mutex<(u64, HashMap<u64, UnixStream>)>,
    left: Condvar,
}

impl Connections {
    fn enter(&self, stream: &UnixStream, connections_max: usize) -> io::Result<Option<u64>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.1.len() >= connections_max {
            return Ok(None);
        }
        open.0 += 1;
        let number = open.0;
        open.1.insert(number, stream.try_clone()?);
        Ok(Some(number))
    }

    fn leave(&self, number: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
        self.left.notify_all();
    }

    /// No further request is read; each connection ends after the answer it is working on.
    fn drain(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.1.values() {
            if let Err(error) = stream.shutdown(Shutdown::Read) {
                tracing::debug!(%error, "a connection had already gone");
            }
        }
        let waited = self.left.wait_timeout_while(open, DRAIN, |open| !open.1.is_empty());
        open = waited.unwrap_or_else(PoisonError::into_inner).0;
        if !open.1.is_empty() {
            tracing::warn!(connections = open.1.len(), "stopped with requests unfinished");
        }
    }
}

/// Counts a connection out however its thread ends.
struct Leave<'a> {
    connections: &'a Connections,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.connections.leave(self.number);
    }
}
