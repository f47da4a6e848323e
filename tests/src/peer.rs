//! A provider that speaks the frames of the protocol itself, as any user of the operating system: for tests of what the
//! daemon does with peers that the module would never be, such as one that sends any ticket with any seal.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kms_protocol::frame;
use kms_protocol::{
    FrameError, Hello, Mechanism, MechanismType, ObjectRef, Parameters, Request, RequestEnvelope, RequestId,
    Response, ResponseEnvelope, Role, Rv, Secret, SlotId, Ticket, Welcome,
};
use zeroize::Zeroizing;

use crate::Stack;

/// How long a response may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A connection that has said hello.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    /// The ticket of the last login, which later requests carry; replaced when it is renewed.
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
    /// Connects to a stack's daemon as the test's own user.
    ///
    /// # Panics
    /// When the daemon does not answer, or is busy.
    pub fn of(stack: &Stack) -> Self {
        let stream = UnixStream::connect(stack.socket()).expect("the daemon listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
        Self::over(stream).expect("the daemon is not busy")
    }

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
        peer.write(|bytes| frame::encode(&Hello::ours(), bytes)).unwrap_or_default();
        match frame::decode::<Welcome>(&peer.receive().ok()?).expect("a welcome") {
            Welcome::Version(frame::VERSION) => Some(peer),
            Welcome::Busy => None,
            welcome @ (Welcome::Version(_) | Welcome::Unsupported { .. }) => panic!("{welcome:?}"),
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
        self.write(|bytes| frame::encode(&envelope, bytes))
    }

    /// Waits for a response.
    ///
    /// # Errors
    /// When the connection is closed.
    ///
    /// # Panics
    /// When what arrives is no response.
    pub fn response(&mut self) -> io::Result<Result<Response, Rv>> {
        let answer: ResponseEnvelope = frame::decode(&self.receive()?).expect("a response");
        if let Some(renewed) = answer.ticket {
            self.ticket = Some(renewed);
        }
        Ok(answer.result)
    }

    /// Sends a request for the first ring and returns its result.
    ///
    /// # Errors
    /// The daemon's return value.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn send(&mut self, request: Request) -> Result<Response, Rv> {
        self.call(0, request).expect("the daemon answers")
    }

    /// Logs in as a ring's user and keeps the ticket.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn log_in(&mut self, slot: u64, pin: &str) -> io::Result<Result<(), Rv>> {
        self.log_in_as(slot, Role::User, pin)
    }

    /// Logs in to the first ring and keeps the ticket.
    ///
    /// # Errors
    /// The daemon's return value.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn enter(&mut self, role: Role, pin: &str) -> Result<(), Rv> {
        self.log_in_as(0, role, pin).expect("the daemon answers")
    }

    fn log_in_as(&mut self, slot: u64, role: Role, pin: &str) -> io::Result<Result<(), Rv>> {
        let pin = Secret::from(pin.as_bytes());
        let response = self.call(slot, Request::Login { role, pin })?;
        Ok(response.map(|response| {
            let Response::LoggedIn { ticket } = response else { panic!("{response:?}") };
            self.ticket = Some(ticket);
        }))
    }

    /// Encrypts with AES-GCM.
    ///
    /// # Errors
    /// The daemon's return value.
    ///
    /// # Panics
    /// When the response is of another kind.
    pub fn encrypt(&mut self, key: &ObjectRef) -> Result<Secret, Rv> {
        let parameters =
            Parameters::Gcm { iv: Secret::from(vec![1; 12]), aad: Secret::default(), tag_bits: 128 };
        let mechanism = Mechanism { kind: MechanismType::AES_GCM, parameters };
        let data = Secret::from(b"frames".as_slice());
        let response = self.send(Request::Encrypt { key: key.clone(), mechanism, data })?;
        let Response::Bytes(bytes) = response else { panic!("{response:?}") };
        Ok(bytes)
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

    fn write(
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
