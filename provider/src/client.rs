//! One request, one response: blocking sockets with deadlines, one connection for each concurrent call.
//!
//! The host owns the process: no thread, no signal is used; `SIGPIPE` cannot come, interrupted calls go on with what
//! is left of their time, and a descriptor that the host closed or put something else on is never written to. No lock
//! is held while waiting for a backend.

use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kms_protocol::{FrameError, Hello, RequestEnvelope, ResponseEnvelope, Welcome, frame};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, Zeroizing};

/// The room a connection keeps for an answer: most fit, so that one `recv` brings a whole one.
const ROOM_BYTES: usize = 8 << 10;

/// How long a backend that was there may be away before its calls fail: a restart with an HSM to open takes less.
const RESTART_PATIENCE: Duration = Duration::from_secs(3);

/// How often a backend that is away is looked for: a tenth of what a restart takes.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A call that has waited so long tells the kernel how little time is left; before, the full timeout is close enough.
const REMIND_AFTER: Duration = Duration::from_millis(50);

/// How long an answer is waited for awake: all but RSA come within it, and waking up a sleeping thread costs as much as
/// the rest of such a call (docs/decisions/0014).
const AWAKE: Duration = Duration::from_micros(50);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lost {
    /// No backend listens.
    Absent,
    /// The connection broke, and so did the one after it.
    Broken,
    /// The time was over.
    TimedOut,
    /// The backend has as many connections as it takes, speaks another version, or talks nonsense.
    Unfit,
    /// The request does not fit in a frame.
    TooLarge,
}

/// Connections to one backend.
pub(crate) struct Client {
    socket: PathBuf,
    timeout: Duration,
    connections_max: usize,
    pool: Mutex<Pool>,
    freed: Condvar,
    /// Whether the last attempt to connect succeeded: only then is it worth waiting for a restart.
    reachable: AtomicBool,
}

/// Who uses connections, and which are free. The last one used is the first one taken: its memory is warm.
#[derive(Default)]
struct Pool {
    free: Vec<Connection>,
    busy: usize,
    /// Calls that wait for one of the busy ones: without them, nobody need be woken, and waking is a system call.
    waiting: usize,
}

impl Client {
    /// Connects to nothing yet.
    pub(crate) fn new(socket: PathBuf, timeout: Duration, connections_max: usize) -> Self {
        let (pool, freed, reachable) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        Self { socket, timeout, connections_max, pool, freed, reachable }
    }

    /// Asks. A connection that breaks is replaced once, and the request, with the same id, sent again over the new one.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub(crate) fn ask(&self, ask: &RequestEnvelope) -> Result<ResponseEnvelope, Lost> {
        let deadline = Deadline::after(self.timeout);
        let mut seat = self.enter(&deadline)?;
        let first = match seat.connection.take().filter(Connection::is_ours) {
            Some(connection) => Ok(connection),
            None => self.connect(&deadline),
        };
        let mut connection = first?;
        let answer = match connection.exchange(ask, &deadline) {
            Err(Lost::Broken) => {
                drop(connection);
                seat.forget_free();
                connection = self.connect(&deadline)?;
                connection.exchange(ask, &deadline)?
            }
            other => other?,
        };
        seat.connection = Some(connection);
        Ok(answer)
    }

    /// Takes a free connection, or the right to make one; waits when all that may be are in use.
    fn enter(&self, deadline: &Deadline) -> Result<ConnectionLease<'_>, Lost> {
        let mut pool = self.pool();
        while pool.busy >= self.connections_max {
            let left = deadline.left()?;
            pool.waiting += 1;
            pool = self.freed.wait_timeout(pool, left).unwrap_or_else(PoisonError::into_inner).0;
            pool.waiting -= 1;
        }
        pool.busy += 1;
        let connection = pool.free.pop();
        Ok(ConnectionLease { client: self, connection })
    }

    /// Connects, waiting for a backend that was there a moment ago.
    fn connect(&self, deadline: &Deadline) -> Result<Connection, Lost> {
        let patience = Deadline::after(RESTART_PATIENCE);
        let mut before = None;
        loop {
            let failed = match Connection::open(&self.socket, self.timeout, deadline) {
                Ok(connection) => {
                    self.reachable.store(true, Ordering::Relaxed);
                    return Ok(connection);
                }
                // The time was over while nobody listened: that is why, not that somebody was slow.
                Err(Lost::TimedOut) => before.unwrap_or(Lost::TimedOut),
                Err(failed) => failed,
            };
            before = Some(failed);
            let worth_waiting = match failed {
                Lost::Absent | Lost::Broken | Lost::Unfit => self.reachable.load(Ordering::Relaxed),
                Lost::TimedOut | Lost::TooLarge => false,
            };
            if !worth_waiting || patience.left().is_err() || deadline.left().is_err() {
                self.reachable.store(false, Ordering::Relaxed);
                return Err(failed);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call's place among those that may use a connection at the same time. A connection left in it is kept.
struct ConnectionLease<'a> {
    client: &'a Client,
    connection: Option<Connection>,
}

impl ConnectionLease<'_> {
    /// The backend has gone, so the free connections lead nowhere either.
    fn forget_free(&self) {
        let free = std::mem::take(&mut self.client.pool().free);
        drop(free);
    }
}

impl Drop for ConnectionLease<'_> {
    fn drop(&mut self) {
        let mut pool = self.client.pool();
        pool.busy -= 1;
        pool.free.extend(self.connection.take());
        let awaited = pool.waiting > 0;
        drop(pool);
        if awaited {
            self.client.freed.notify_one();
        }
    }
}

/// When a call must be over.
struct Deadline {
    started: Instant,
    until: Instant,
}

impl Deadline {
    fn after(time: Duration) -> Self {
        let started = Instant::now();
        Self { started, until: started + time }
    }

    /// The time left, never zero: the kernel takes zero for "for ever".
    fn left(&self) -> Result<Duration, Lost> {
        match self.until.checked_duration_since(Instant::now()) {
            Some(left) if left > Duration::from_micros(1) => Ok(left),
            _ => Err(Lost::TimedOut),
        }
    }
}

/// A connection on which a version is agreed.
struct Connection {
    /// None when the descriptor turned out to be somebody else's.
    socket: Option<OwnedFd>,
    /// The device and inode of the socket: a descriptor with the same number and others is not ours any more.
    identity: (u64, u64),
    timeout: Duration,
    /// Whether the kernel has been told less than the full timeout.
    reminded: bool,
    outbox: Zeroizing<Vec<u8>>,
    inbox: Zeroizing<Vec<u8>>,
}

impl Connection {
    fn open(path: &Path, timeout: Duration, deadline: &Deadline) -> Result<Self, Lost> {
        let address = SocketAddrUnix::new(path).map_err(|_| Lost::Absent)?;
        let socket = socket_above_stdio()?;
        for which in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&socket, which, Some(deadline.left()?)).map_err(|_| Lost::Broken)?;
        }
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => break,
                Err(Errno::INTR) if deadline.left().is_ok() => {}
                Err(Errno::AGAIN | Errno::INTR) => return Err(Lost::TimedOut),
                Err(_) => return Err(Lost::Absent),
            }
        }
        let identity = identity_of(&socket).ok_or(Lost::Broken)?;
        let (outbox, inbox) = (Zeroizing::new(Vec::new()), Zeroizing::new(vec![0; ROOM_BYTES]));
        let mut connection = Self { socket: Some(socket), identity, timeout, reminded: true, outbox, inbox };
        match connection.exchange::<Hello, Welcome>(&Hello::ours(), deadline)? {
            Welcome::Version(frame::VERSION) => Ok(connection),
            Welcome::Version(_) | Welcome::Unsupported { .. } | Welcome::Busy => Err(Lost::Unfit),
        }
    }

    /// Whether the descriptor is still the socket that was opened: hosts close descriptors that they do not know.
    fn is_ours(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| identity_of(socket) == Some(self.identity))
    }

    /// Sends a frame and reads the one that answers it.
    fn exchange<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        question: &Q,
        deadline: &Deadline,
    ) -> Result<A, Lost> {
        if self.reminded {
            let left = deadline.left()?.min(self.timeout);
            self.remind(left)?;
            self.reminded = left + REMIND_AFTER < self.timeout;
        }
        frame::encode(question, &mut self.outbox).map_err(|error| match error {
            FrameError::TooLarge => Lost::TooLarge,
            FrameError::Malformed => Lost::Unfit,
        })?;
        let sent = self.send(deadline);
        self.outbox.as_mut_slice().zeroize();
        sent?;
        let end = self.receive(deadline)?;
        let answer = frame::decode(&self.inbox[frame::HEADER_BYTES..end]).map_err(|_| Lost::Unfit);
        self.wipe(end);
        answer
    }

    fn send(&mut self, deadline: &Deadline) -> Result<(), Lost> {
        let mut sent = 0;
        while sent < self.outbox.len() {
            match rustix::net::send(self.socket()?, &self.outbox[sent..], SendFlags::NOSIGNAL) {
                Ok(bytes) => sent += bytes,
                Err(Errno::INTR) => self.remind(deadline.left()?)?,
                Err(Errno::AGAIN) => return Err(Lost::TimedOut),
                Err(_) => return Err(Lost::Broken),
            }
        }
        Ok(())
    }

    /// Reads one frame to the beginning of the inbox; gives its end.
    fn receive(&mut self, deadline: &Deadline) -> Result<usize, Lost> {
        let (mut filled, mut end) = (0, frame::HEADER_BYTES);
        while filled < end {
            if deadline.started.elapsed() > REMIND_AFTER {
                self.remind(deadline.left()?)?;
            }
            let socket = self.socket.as_ref().ok_or(Lost::Broken)?;
            match receive_some(socket, &mut self.inbox[filled..]) {
                Ok(0) => return Err(Lost::Broken),
                Ok(bytes) => filled += bytes,
                Err(Errno::INTR) => self.remind(deadline.left()?)?,
                Err(Errno::AGAIN) => return Err(Lost::TimedOut),
                Err(_) => return Err(Lost::Broken),
            }
            if filled >= frame::HEADER_BYTES {
                let header = self.inbox[..frame::HEADER_BYTES].try_into().expect("a header is four bytes");
                end = frame::HEADER_BYTES + frame::length(header).map_err(|_| Lost::Unfit)?;
                self.reserve(end, filled);
            }
        }
        // The backend says one thing at a time: bytes after the frame are not an answer to anything.
        if filled == end { Ok(end) } else { Err(Lost::Unfit) }
    }

    /// Tells the kernel how long `send` and `recv` may wait.
    fn remind(&mut self, left: Duration) -> Result<(), Lost> {
        self.reminded = true;
        for which in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(self.socket()?, which, Some(left)).map_err(|_| Lost::Broken)?;
        }
        Ok(())
    }

    /// Makes room for a frame larger than most. The old room is wiped as it goes.
    fn reserve(&mut self, bytes: usize, filled: usize) {
        if bytes > self.inbox.len() {
            let mut larger = Zeroizing::new(vec![0; bytes]);
            larger[..filled].copy_from_slice(&self.inbox[..filled]);
            self.inbox = larger;
        }
    }

    /// Wipes what was received, and gives back room beyond the usual.
    fn wipe(&mut self, end: usize) {
        if self.inbox.len() > ROOM_BYTES {
            self.inbox = Zeroizing::new(vec![0; ROOM_BYTES]);
        } else {
            self.inbox[..end].zeroize();
        }
        if self.outbox.capacity() > ROOM_BYTES {
            self.outbox = Zeroizing::new(Vec::new());
        }
    }

    fn socket(&self) -> Result<&OwnedFd, Lost> {
        self.socket.as_ref().ok_or(Lost::Broken)
    }
}

impl Drop for Connection {
    /// A forked child may hold a copy of the descriptor, so closing ours would not tell the backend: shutting down
    /// does. A number that now names something of the host's is left alone.
    fn drop(&mut self) {
        let ours = self.is_ours();
        match self.socket.take() {
            Some(socket) if ours => match rustix::net::shutdown(&socket, Shutdown::Both) {
                Ok(()) | Err(_) => drop(socket),
            },
            Some(socket) => {
                let _not_ours = socket.into_raw_fd();
            }
            None => {}
        }
    }
}

/// Reads what is there, awake for [`AWAKE`], then asleep until the socket's timeout. Between two looks another thread may
/// have the processor: the backend's, where there is only one.
fn receive_some(socket: &OwnedFd, room: &mut [u8]) -> Result<usize, Errno> {
    let started = Instant::now();
    loop {
        let flags = if started.elapsed() < AWAKE { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        match rustix::net::recv(socket, &mut *room, flags) {
            Err(Errno::AGAIN) if flags == RecvFlags::DONTWAIT => std::thread::yield_now(),
            other => return other.map(|(bytes, _)| bytes),
        }
    }
}

/// A socket that is not one of the three standard descriptors, even if the host has closed those: it would be
/// written to by whoever prints.
fn socket_above_stdio() -> Result<OwnedFd, Lost> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(|_| Lost::Broken)?;
    match rustix::fd::AsRawFd::as_raw_fd(&socket) {
        0..=2 => rustix::io::fcntl_dupfd_cloexec(&socket, 3).map_err(|_| Lost::Broken),
        _ => Ok(socket),
    }
}

fn identity_of(socket: &impl AsFd) -> Option<(u64, u64)> {
    rustix::fs::fstat(socket).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc;

    use kms_protocol::{Request, RequestId, Response, SlotId};

    use super::*;

    fn ask() -> RequestEnvelope {
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

    /// A backend that serves connections one after the other: so many answers on each, then it hangs up.
    fn backend(listener: UnixListener, answers: &'static [usize]) -> mpsc::Receiver<RequestEnvelope> {
        let (asked, seen) = mpsc::channel();
        #[expect(clippy::disallowed_methods, reason = "the stand-in for the backend runs beside the test")]
        std::thread::spawn(move || {
            for count in answers {
                let (mut stream, _) = listener.accept().unwrap();
                read::<Hello>(&mut stream).unwrap();
                write(&mut stream, &Welcome::Version(frame::VERSION));
                for _ in 0..*count {
                    let Some(ask) = read::<RequestEnvelope>(&mut stream) else { break };
                    asked.send(ask).unwrap();
                    write(&mut stream, &ResponseEnvelope { ticket: None, result: Ok(Response::Done) });
                }
            }
        });
        seen
    }

    fn client(folder: &tempfile::TempDir, timeout_ms: u64) -> Client {
        Client::new(folder.path().join("sock"), Duration::from_millis(timeout_ms), 4)
    }

    #[test]
    fn an_absent_backend_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let started = Instant::now();
        assert_eq!(client(&folder, 10_000).ask(&ask()), Err(Lost::Absent));
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_request_is_repeated_over_a_fresh_connection_with_the_same_id() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let seen = backend(listener, &[1, 1]);
        let client = client(&folder, 10_000);
        client.ask(&ask()).unwrap();
        client.ask(&ask()).unwrap();
        let ids: Vec<RequestId> = seen.try_iter().map(|ask| ask.id).collect();
        assert_eq!(ids, [RequestId([7; 16]); 2]);
    }

    #[test]
    fn a_request_is_repeated_once_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let _seen = backend(listener, &[1, 0, 1]);
        let client = client(&folder, 10_000);
        client.ask(&ask()).unwrap();
        assert_eq!(client.ask(&ask()), Err(Lost::Broken));
        client.ask(&ask()).unwrap();
    }

    #[test]
    fn a_silent_backend_costs_the_deadline_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let started = Instant::now();
        assert_eq!(client(&folder, 200).ask(&ask()), Err(Lost::TimedOut));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_descriptor_that_became_another_file_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let _seen = backend(listener, &[1, 1]);
        let client = client(&folder, 10_000);
        client.ask(&ask()).unwrap();
        // The host puts a file of its own on our number.
        let mut host = tempfile::tempfile().unwrap();
        let mut pool = client.pool();
        rustix::io::dup2(&host, pool.free[0].socket.as_mut().unwrap()).unwrap();
        drop(pool);
        client.ask(&ask()).unwrap();
        let mut written = Vec::new();
        host.read_to_end(&mut written).unwrap();
        assert_eq!(host.metadata().unwrap().len(), 0);
    }
}
