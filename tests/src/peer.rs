//! A provider that speaks the frames of the protocol itself, as any user of the operating system: for tests of what the
//! daemon does with peers that the module would never be.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kms_protocol::frame;
use kms_protocol::{
    FrameError, Hello, Request, RequestEnvelope, RequestId, Response, ResponseEnvelope, Role, Rv, Secret,
    SlotId, Ticket, Welcome,
};
use zeroize::Zeroizing;

use crate::Stack;

/// How long a response may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A connection that has said hello.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    /// The ticket of the last login, which later requests carry.
    pub ticket: Option<Ticket>,
}

/// The number of the next request of this process.
static NEXT_REQUEST: AtomicU64 = AtomicU64::new(1);

/// Lets every user of the machine reach a stack's socket. Takes effect when the daemon starts.
///
/// # Panics
/// When a mode cannot be changed.
pub fn open_to_all_users(stack: &Stack) {
    for folder in [stack.folder(), &stack.home()] {
        let mode = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(folder, mode).expect("the mode can be set");
    }
    stack.configure("socket", "mode", "\"0666\"");
}

/// Whether tests may take another user's id.
pub fn may_change_user() -> bool {
    rustix::process::geteuid().is_root()
}

/// Connects to a socket as a user of the operating system.
///
/// # Errors
/// When that user cannot connect.
///
/// # Panics
/// When this process may not change its user.
pub fn connect_as(socket: &Path, uid: u32) -> io::Result<UnixStream> {
    let socket = socket.to_owned();
    // The user id of a thread is its own on Linux; this thread ends with the connection made.
    let thread = std::thread::spawn(move || {
        become_user(uid)?;
        UnixStream::connect(&socket)
    });
    let stream = thread.join().expect("the thread ends")?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Makes the calling thread another user's, for good: what it connects to later sees that user.
///
/// # Errors
/// When this process may not change its user.
pub fn become_user(uid: u32) -> io::Result<()> {
    Ok(rustix::thread::set_thread_uid(rustix::thread::Uid::from_raw(uid))?)
}

impl Peer {
    /// Connects as a user and says hello. Returns `None` if the daemon answers that it is busy.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn connect(socket: &Path, uid: u32) -> Option<Self> {
        Self::over(connect_as(socket, uid).expect("the daemon listens"))
    }

    /// Says hello over a connection. Returns `None` if the daemon answers that it is busy, or closes it.
    ///
    /// # Panics
    /// When it answers something else.
    pub fn over(stream: UnixStream) -> Option<Self> {
        let mut peer = Self { stream, ticket: None };
        // A daemon that is busy answers without reading, and closes the connection.
        peer.send(|bytes| frame::encode(&Hello::ours(), bytes)).unwrap_or_default();
        match frame::decode::<Welcome>(&peer.receive().ok()?).expect("a welcome") {
            Welcome::Version(_) => Some(peer),
            Welcome::Busy => None,
            welcome @ Welcome::Unsupported { .. } => panic!("{welcome:?}"),
        }
    }

    /// Sends a request and returns its result.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn call(&mut self, slot: u64, request: Request) -> io::Result<Result<Response, Rv>> {
        self.request(slot, request)?;
        self.response()
    }

    /// Sends a request without waiting for its response.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn request(&mut self, slot: u64, request: Request) -> io::Result<()> {
        // Unique, because a repeated request gets the result of the first.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&NEXT_REQUEST.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        id[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        let ticket = self.ticket.clone();
        let envelope = RequestEnvelope { id: RequestId(id), slot: SlotId(slot), ticket, request };
        self.send(|bytes| frame::encode(&envelope, bytes))
    }

    /// Waits for a response.
    ///
    /// # Errors
    /// When the connection is closed.
    ///
    /// # Panics
    /// When what arrives is no response.
    pub fn response(&mut self) -> io::Result<Result<Response, Rv>> {
        let body = self.receive()?;
        Ok(frame::decode::<ResponseEnvelope>(&body).expect("a response").result)
    }

    /// Logs in as a ring's user and keeps the ticket.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn log_in(&mut self, slot: u64, pin: &str) -> io::Result<Result<(), Rv>> {
        let pin = Secret::from(pin.as_bytes());
        let response = self.call(slot, Request::Login { role: Role::User, pin })?;
        Ok(response.map(|response| {
            let Response::LoggedIn { ticket } = response else { panic!("{response:?}") };
            self.ticket = Some(ticket);
        }))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Whether the daemon has closed the connection, or stopped to read from it.
    pub fn is_closed(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("the mode can be set");
        let closed = match self.stream.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        self.stream.set_nonblocking(false).expect("the mode can be set");
        closed
    }

    /// Ends the connection; the daemon sees that at once.
    pub fn close(self) {
        self.stream.shutdown(Shutdown::Both).unwrap_or_default();
    }

    fn send(
        &mut self,
        encode: impl FnOnce(&mut Zeroizing<Vec<u8>>) -> Result<(), FrameError>,
    ) -> io::Result<()> {
        let mut bytes = Zeroizing::new(Vec::new());
        encode(&mut bytes).expect("it fits into a frame");
        self.stream.write_all(&bytes)
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut header = [0; frame::HEADER_BYTES];
        self.stream.read_exact(&mut header)?;
        let mut body = vec![0; frame::length(header).expect("a length within the limit")];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}
