//! A client that speaks the protocol itself: what a provider could send that is not ours.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kms_protocol::{
    Hello, Request, RequestEnvelope, RequestId, Response, ResponseEnvelope, Role, Rv, Secret, SlotId, Ticket,
    Welcome, frame,
};
use zeroize::Zeroizing;

use crate::Stack;

/// A connection to a stack's daemon.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    sent: u128,
    /// The slot of all requests.
    pub slot: SlotId,
    /// The ticket that requests carry.
    pub ticket: Option<Ticket>,
}

impl Peer {
    /// Connects, and agrees on the version.
    ///
    /// # Panics
    /// When the daemon does not accept the connection.
    pub fn connect(stack: &Stack) -> Self {
        let stream = UnixStream::connect(stack.socket()).expect("the daemon listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
        let mut peer = Self { stream, sent: 0, slot: SlotId(0), ticket: None };
        peer.write(&Hello::ours());
        assert_eq!(peer.read::<Welcome>(), Welcome::Version(frame::VERSION));
        peer
    }

    /// Sends a request and returns the response.
    ///
    /// # Errors
    /// The daemon's return value.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn send(&mut self, request: Request) -> Result<Response, Rv> {
        self.sent += 1;
        let id = RequestId(self.sent.to_be_bytes());
        self.write(&RequestEnvelope { id, slot: self.slot, ticket: self.ticket.clone(), request });
        self.read::<ResponseEnvelope>().result
    }

    /// Logs in, and keeps the ticket.
    ///
    /// # Errors
    /// The daemon's return value.
    ///
    /// # Panics
    /// When the connection breaks, or the response is not one to a login.
    pub fn log_in(&mut self, role: Role, pin: &str) -> Result<(), Rv> {
        match self.send(Request::Login { role, pin: Secret::from(pin.as_bytes()) })? {
            Response::LoggedIn { ticket } => self.ticket = Some(ticket),
            other => panic!("not a response to a login: {other:?}"),
        }
        Ok(())
    }

    fn write(&mut self, value: &impl serde::Serialize) {
        let mut bytes = Zeroizing::new(Vec::new());
        frame::encode(value, &mut bytes).expect("it fits in a frame");
        self.stream.write_all(&bytes).expect("the daemon reads");
    }

    fn read<T: for<'a> serde::Deserialize<'a>>(&mut self) -> T {
        let mut header = [0; frame::HEADER_BYTES];
        self.stream.read_exact(&mut header).expect("a frame arrives");
        let mut body = vec![0; frame::length(header).expect("a length within the limit")];
        self.stream.read_exact(&mut body).expect("a frame arrives");
        frame::decode(&body).expect("the frame contains the expected value")
    }
}
