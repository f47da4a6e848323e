//! Requests to one backend over a pool of connections: blocking sockets with deadlines, one connection for each
//! concurrent call. No lock is held while a call waits for the backend.

/// One connection: the handshake and the exchange of frames before a deadline.
mod connection;
/// The user of the process that listens.
mod server_user;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kms_protocol::{RequestEnvelope, ResponseEnvelope};

use connection::Connection;
pub(crate) use server_user::ServerUser;

/// How long calls wait for a backend that was reachable before they fail: a restart with an HSM to open takes less.
const RESTART_TIMEOUT: Duration = Duration::from_secs(3);

/// The interval between attempts to reconnect: a tenth of what a restart takes.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// Why there is no response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CallError {
    /// No backend listens.
    Unreachable,
    /// The connection broke, and so did the one that replaced it.
    Disconnected,
    /// The deadline passed.
    TimedOut,
    /// The backend is at its connection limit, uses another protocol version, or sends malformed frames.
    Unusable,
    /// The process that listens belongs to this user, who is none that the backend may run as.
    ForeignServer(u32),
    /// The request does not fit in a frame.
    RequestTooLarge,
}

/// A client of one backend.
pub(crate) struct Client {
    socket: PathBuf,
    server: ServerUser,
    timeout: Duration,
    connections_max: usize,
    pool: Mutex<Pool>,
    released: Condvar,
    /// Whether the last attempt to connect succeeded: only then do calls wait for a restart.
    reachable: AtomicBool,
}

/// The connections. The last one released is the first one reused: its memory is warm.
#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    busy: usize,
    /// Calls that wait for a busy connection. Without them there is no notification, which is a system call.
    waiting: usize,
}

impl Client {
    /// Creates a client; it connects with the first call.
    pub(crate) fn new(
        socket: PathBuf,
        server: ServerUser,
        timeout: Duration,
        connections_max: usize,
    ) -> Self {
        let (pool, released, reachable) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        Self { socket, server, timeout, connections_max, pool, released, reachable }
    }

    /// Sends a request and waits for the response. A connection that breaks is replaced once, and the request sent
    /// again with the same id.
    ///
    /// # Errors
    /// When there is no response before the deadline.
    pub(crate) fn call(&self, request: &RequestEnvelope) -> Result<ResponseEnvelope, CallError> {
        let deadline = Deadline::after(self.timeout);
        let mut lease = self.lease(&deadline)?;
        let first = match lease.connection.take().filter(Connection::is_ours) {
            Some(connection) => Ok(connection),
            None => self.connect(&deadline),
        };
        let mut connection = first?;
        let response = match connection.exchange(request, &deadline) {
            Err(CallError::Disconnected) => {
                drop(connection);
                lease.drop_idle();
                connection = self.connect(&deadline)?;
                connection.exchange(request, &deadline)?
            }
            other => other?,
        };
        lease.connection = Some(connection);
        Ok(response)
    }

    /// Takes an idle connection or the right to open one; waits while the maximum is in use.
    fn lease(&self, deadline: &Deadline) -> Result<ConnectionLease<'_>, CallError> {
        let mut pool = self.pool();
        while pool.busy >= self.connections_max {
            let remaining = deadline.remaining()?;
            pool.waiting += 1;
            pool = self.released.wait_timeout(pool, remaining).unwrap_or_else(PoisonError::into_inner).0;
            pool.waiting -= 1;
        }
        pool.busy += 1;
        let connection = pool.idle.pop();
        Ok(ConnectionLease { client: self, connection })
    }

    /// Connects; waits for a backend that was reachable before.
    fn connect(&self, deadline: &Deadline) -> Result<Connection, CallError> {
        let restart_deadline = Deadline::after(RESTART_TIMEOUT);
        let mut previous_error = None;
        loop {
            let error = match Connection::open((&self.socket, &self.server), self.timeout, deadline) {
                Ok(connection) => {
                    self.reachable.store(true, Ordering::Relaxed);
                    return Ok(connection);
                }
                // If the deadline passed while no backend listened, that is the cause, not a slow backend.
                Err(CallError::TimedOut) => previous_error.unwrap_or(CallError::TimedOut),
                Err(error) => error,
            };
            previous_error = Some(error);
            let retry = match error {
                CallError::Unreachable | CallError::Disconnected | CallError::Unusable => {
                    self.reachable.load(Ordering::Relaxed)
                }
                CallError::TimedOut | CallError::RequestTooLarge | CallError::ForeignServer(_) => false,
            };
            if !retry || restart_deadline.remaining().is_err() || deadline.remaining().is_err() {
                self.reachable.store(false, Ordering::Relaxed);
                return Err(error);
            }
            std::thread::sleep(RECONNECT_INTERVAL);
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right of one call to use a connection. A connection that it holds on drop returns to the pool.
struct ConnectionLease<'a> {
    client: &'a Client,
    connection: Option<Connection>,
}

impl ConnectionLease<'_> {
    /// Closes the idle connections: the backend that they lead to has stopped.
    fn drop_idle(&self) {
        let idle = std::mem::take(&mut self.client.pool().idle);
        drop(idle);
    }
}

impl Drop for ConnectionLease<'_> {
    fn drop(&mut self) {
        let mut pool = self.client.pool();
        pool.busy -= 1;
        pool.idle.extend(self.connection.take());
        let notify = pool.waiting > 0;
        drop(pool);
        if notify {
            self.client.released.notify_one();
        }
    }
}

/// The time by which a call must end.
struct Deadline {
    started: Instant,
    until: Instant,
}

impl Deadline {
    fn after(time: Duration) -> Self {
        let started = Instant::now();
        Self { started, until: started + time }
    }

    /// The time left, never zero: the kernel takes zero for "no timeout".
    fn remaining(&self) -> Result<Duration, CallError> {
        match self.until.checked_duration_since(Instant::now()) {
            Some(remaining) if remaining > Duration::from_micros(1) => Ok(remaining),
            _ => Err(CallError::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc;

    use kms_protocol::{Hello, Request, RequestId, Response, SlotId, Welcome, frame};
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use zeroize::Zeroizing;

    use super::*;

    fn request() -> RequestEnvelope {
        RequestEnvelope { id: RequestId([7; 16]), slot: SlotId(0), ticket: None, request: Request::Slots }
    }

    fn read<T: DeserializeOwned>(stream: &mut UnixStream) -> Option<T> {
        let mut header = [0; frame::HEADER_BYTES];
        stream.read_exact(&mut header).ok()?;
        let mut body = vec![0; frame::length(header).ok()?];
        stream.read_exact(&mut body).ok()?;
        frame::decode(&body).ok()
    }

    fn write<T: Serialize>(stream: &mut UnixStream, value: &T) {
        let mut bytes = Zeroizing::new(Vec::new());
        frame::encode(value, &mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    }

    /// A backend that serves connections one after the other: `responses` says how many on each before it closes it.
    fn backend(listener: UnixListener, responses: &'static [usize]) -> mpsc::Receiver<RequestEnvelope> {
        let (received, requests) = mpsc::channel();
        #[expect(clippy::disallowed_methods, reason = "the fake backend runs beside the test")]
        std::thread::spawn(move || {
            for count in responses {
                let (mut stream, _) = listener.accept().unwrap();
                read::<Hello>(&mut stream).unwrap();
                write(&mut stream, &Welcome::Version(frame::VERSION));
                for _ in 0..*count {
                    let Some(request) = read::<RequestEnvelope>(&mut stream) else { break };
                    received.send(request).unwrap();
                    write(&mut stream, &ResponseEnvelope { ticket: None, result: Ok(Response::Done) });
                }
            }
        });
        requests
    }

    fn client(folder: &tempfile::TempDir, timeout_ms: u64) -> Client {
        Client::new(folder.path().join("sock"), ServerUser::default(), Duration::from_millis(timeout_ms), 4)
    }

    #[test]
    fn an_unreachable_backend_is_reported_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let started = Instant::now();
        assert_eq!(client(&folder, 10_000).call(&request()), Err(CallError::Unreachable));
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_request_is_repeated_over_a_new_connection_with_the_same_id() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let requests = backend(listener, &[1, 1]);
        let client = client(&folder, 10_000);
        client.call(&request()).unwrap();
        client.call(&request()).unwrap();
        let ids: Vec<RequestId> = requests.try_iter().map(|request| request.id).collect();
        assert_eq!(ids, [RequestId([7; 16]); 2]);
    }

    #[test]
    fn a_request_is_repeated_once_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let _requests = backend(listener, &[1, 0, 1]);
        let client = client(&folder, 10_000);
        client.call(&request()).unwrap();
        assert_eq!(client.call(&request()), Err(CallError::Disconnected));
        client.call(&request()).unwrap();
    }

    #[test]
    fn a_call_to_a_silent_backend_ends_at_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let started = Instant::now();
        assert_eq!(client(&folder, 200).call(&request()), Err(CallError::TimedOut));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_descriptor_that_the_host_replaced_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let _requests = backend(listener, &[1, 1]);
        let client = client(&folder, 10_000);
        client.call(&request()).unwrap();
        // The host duplicates its own file onto our descriptor.
        let mut host = tempfile::tempfile().unwrap();
        let mut pool = client.pool();
        rustix::io::dup2(&host, pool.idle[0].socket.as_mut().unwrap()).unwrap();
        drop(pool);
        client.call(&request()).unwrap();
        let mut written = Vec::new();
        host.read_to_end(&mut written).unwrap();
        assert_eq!(host.metadata().unwrap().len(), 0);
    }
}
