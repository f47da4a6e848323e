//! One connection to the backend. The host owns the process: no thread and no signal is used; writes cannot raise
//! `SIGPIPE`, interrupted system calls continue with the time that is left, and a descriptor that the host closed or
//! replaced is never written to.

use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use kms_protocol::{FrameError, Hello, Welcome, frame};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, Zeroizing};

use super::{CallError, Deadline, ServerUser};

/// The receive buffer of a connection, in bytes: most responses fit, so that one `recv` reads a whole one.
const BUFFER_BYTES: usize = 8 << 10;

/// After this time a call sets the socket timeout to the time that is left; before, the full timeout is close enough.
const SHORTEN_TIMEOUT_AFTER: Duration = Duration::from_millis(50);

/// How long a call polls for the response before it sleeps: all operations but RSA finish within it, and waking up a
/// sleeping thread costs as much as the rest of such a call (docs/decisions/0014).
const BUSY_POLL: Duration = Duration::from_micros(50);

/// A connection after the handshake.
pub(super) struct Connection {
    /// None when the descriptor no longer belongs to this connection.
    pub(super) socket: Option<OwnedFd>,
    /// The device and inode of the socket: if the descriptor has others, the host has replaced it.
    identity: (u64, u64),
    timeout: Duration,
    /// Whether the socket timeout is shorter than the full timeout.
    timeout_shortened: bool,
    send_buffer: Zeroizing<Vec<u8>>,
    receive_buffer: Zeroizing<Vec<u8>>,
}

impl Connection {
    /// Connects, checks who listens, and agrees on the protocol version.
    pub(super) fn open(
        (path, server): (&Path, &ServerUser),
        timeout: Duration,
        deadline: &Deadline,
    ) -> Result<Self, CallError> {
        let address = SocketAddrUnix::new(path).map_err(|_| CallError::Unreachable)?;
        let socket = socket_above_stdio()?;
        for which in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&socket, which, Some(deadline.remaining()?))
                .map_err(|_| CallError::Disconnected)?;
        }
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => break,
                Err(Errno::INTR) if deadline.remaining().is_ok() => {}
                Err(Errno::AGAIN | Errno::INTR) => return Err(CallError::TimedOut),
                Err(_) => return Err(CallError::Unreachable),
            }
        }
        server.check(&socket, path)?;
        let identity = identity_of(&socket).ok_or(CallError::Disconnected)?;
        let mut connection = Self {
            socket: Some(socket),
            identity,
            timeout,
            timeout_shortened: true,
            send_buffer: Zeroizing::new(Vec::new()),
            receive_buffer: Zeroizing::new(vec![0; BUFFER_BYTES]),
        };
        match connection.exchange::<Hello, Welcome>(&Hello::ours(), deadline)? {
            Welcome::Version(frame::VERSION) => Ok(connection),
            Welcome::Version(_) | Welcome::Unsupported { .. } | Welcome::Busy => Err(CallError::Unusable),
        }
    }

    /// Whether the descriptor is still the socket that was opened: some hosts close descriptors that they do not know.
    pub(super) fn is_ours(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| identity_of(socket) == Some(self.identity))
    }

    /// Sends a frame and reads the response frame.
    pub(super) fn exchange<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        request: &Q,
        deadline: &Deadline,
    ) -> Result<A, CallError> {
        if self.timeout_shortened {
            let remaining = deadline.remaining()?.min(self.timeout);
            self.set_timeout(remaining)?;
            self.timeout_shortened = remaining + SHORTEN_TIMEOUT_AFTER < self.timeout;
        }
        frame::encode(request, &mut self.send_buffer).map_err(|error| match error {
            FrameError::TooLarge => CallError::RequestTooLarge,
            FrameError::Malformed => CallError::Unusable,
        })?;
        let sent = self.send(deadline);
        self.send_buffer.as_mut_slice().zeroize();
        sent?;
        let end = self.receive(deadline)?;
        let response =
            frame::decode(&self.receive_buffer[frame::HEADER_BYTES..end]).map_err(|_| CallError::Unusable);
        self.wipe(end);
        response
    }

    fn send(&mut self, deadline: &Deadline) -> Result<(), CallError> {
        let mut sent = 0;
        while sent < self.send_buffer.len() {
            match rustix::net::send(self.socket()?, &self.send_buffer[sent..], SendFlags::NOSIGNAL) {
                Ok(bytes) => sent += bytes,
                Err(Errno::INTR) => self.set_timeout(deadline.remaining()?)?,
                Err(Errno::AGAIN) => return Err(CallError::TimedOut),
                Err(_) => return Err(CallError::Disconnected),
            }
        }
        Ok(())
    }

    /// Reads one frame to the beginning of the receive buffer and returns its end.
    fn receive(&mut self, deadline: &Deadline) -> Result<usize, CallError> {
        let (mut filled, mut end) = (0, frame::HEADER_BYTES);
        while filled < end {
            if deadline.started.elapsed() > SHORTEN_TIMEOUT_AFTER {
                self.set_timeout(deadline.remaining()?)?;
            }
            let socket = self.socket.as_ref().ok_or(CallError::Disconnected)?;
            match receive_some(socket, &mut self.receive_buffer[filled..]) {
                Ok(0) => return Err(CallError::Disconnected),
                Ok(bytes) => filled += bytes,
                Err(Errno::INTR) => self.set_timeout(deadline.remaining()?)?,
                Err(Errno::AGAIN) => return Err(CallError::TimedOut),
                Err(_) => return Err(CallError::Disconnected),
            }
            if filled >= frame::HEADER_BYTES {
                let header =
                    self.receive_buffer[..frame::HEADER_BYTES].try_into().expect("a header is four bytes");
                end = frame::HEADER_BYTES + frame::length(header).map_err(|_| CallError::Unusable)?;
                self.reserve(end, filled);
            }
        }
        // There is one request at a time: bytes after the frame belong to no response.
        if filled == end { Ok(end) } else { Err(CallError::Unusable) }
    }

    /// Sets how long `send` and `recv` may wait.
    fn set_timeout(&mut self, timeout: Duration) -> Result<(), CallError> {
        self.timeout_shortened = true;
        for which in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(self.socket()?, which, Some(timeout)).map_err(|_| CallError::Disconnected)?;
        }
        Ok(())
    }

    /// Enlarges the receive buffer for a frame that does not fit. The old buffer is wiped on drop.
    fn reserve(&mut self, bytes: usize, filled: usize) {
        if bytes > self.receive_buffer.len() {
            let mut larger = Zeroizing::new(vec![0; bytes]);
            larger[..filled].copy_from_slice(&self.receive_buffer[..filled]);
            self.receive_buffer = larger;
        }
    }

    /// Wipes the received frame and shrinks buffers that were enlarged.
    fn wipe(&mut self, end: usize) {
        if self.receive_buffer.len() > BUFFER_BYTES {
            self.receive_buffer = Zeroizing::new(vec![0; BUFFER_BYTES]);
        } else {
            self.receive_buffer[..end].zeroize();
        }
        if self.send_buffer.capacity() > BUFFER_BYTES {
            self.send_buffer = Zeroizing::new(Vec::new());
        }
    }

    fn socket(&self) -> Result<&OwnedFd, CallError> {
        self.socket.as_ref().ok_or(CallError::Disconnected)
    }
}

impl Drop for Connection {
    /// Shuts the socket down first: a forked child may hold a copy of the descriptor, and then closing ours would not
    /// end the connection. A descriptor that now belongs to the host is neither shut down nor closed.
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

/// Reads available bytes: polls for [`BUSY_POLL`], then sleeps until the socket's timeout. Between two polls it yields
/// the processor to other threads: to the backend's, where there is only one processor.
fn receive_some(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let started = Instant::now();
    loop {
        let flags = if started.elapsed() < BUSY_POLL { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        match rustix::net::recv(socket, &mut *buffer, flags) {
            Err(Errno::AGAIN) if flags == RecvFlags::DONTWAIT => std::thread::yield_now(),
            other => return other.map(|(bytes, _)| bytes),
        }
    }
}

/// A socket that is not one of the three standard descriptors, even if the host has closed those: code that prints
/// would write to it.
fn socket_above_stdio() -> Result<OwnedFd, CallError> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(|_| CallError::Disconnected)?;
    match rustix::fd::AsRawFd::as_raw_fd(&socket) {
        0..=2 => rustix::io::fcntl_dupfd_cloexec(&socket, 3).map_err(|_| CallError::Disconnected),
        _ => Ok(socket),
    }
}

fn identity_of(socket: &impl AsFd) -> Option<(u64, u64)> {
    rustix::fs::fstat(socket).ok().map(|stat| (stat.st_dev, stat.st_ino))
}
