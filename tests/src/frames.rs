//! A client that sends frames to the daemon itself, as a provider that an attacker has written: it may send any ticket
//! with any seal.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kms_protocol::frame;
use kms_protocol::{
    Hello, Mechanism, MechanismType, ObjectRef, Parameters, Request, RequestEnvelope, RequestId, Response,
    ResponseEnvelope, Role, Rv, Secret, SlotId, Ticket, Welcome,
};
use zeroize::Zeroizing;

use crate::Stack;

/// A connection to the daemon's socket, and the ticket that its requests carry.
#[derive(Debug)]
pub struct Frames {
    stream: UnixStream,
    /// The slot of the requests.
    pub slot: SlotId,
    /// The ticket of the requests, if there is one; replaced when it is renewed.
    pub ticket: Option<Ticket>,
}

/// How many requests all clients of this process have sent: the daemon takes a request with a known id for a repetition.
static SENT: AtomicU64 = AtomicU64::new(0);

impl Frames {
    /// Connects to the daemon of a stack; the requests are for its first ring.
    ///
    /// # Panics
    /// When the daemon does not respond.
    pub fn connect(stack: &Stack) -> Self {
        let stream = UnixStream::connect(stack.socket()).expect("the daemon listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
        let mut client = Self { stream, slot: SlotId(0), ticket: None };
        let mut hello = Zeroizing::new(Vec::new());
        frame::encode(&Hello::ours(), &mut hello).expect("a hello fits into a frame");
        client.write(&hello);
        assert_eq!(frame::decode::<Welcome>(&client.read()), Ok(Welcome::Version(frame::VERSION)));
        client
    }

    /// Sends a request and returns the response.
    ///
    /// # Errors
    /// The daemon's return value.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn send(&mut self, request: Request) -> Result<Response, Rv> {
        let id = RequestId((u128::from(SENT.fetch_add(1, Ordering::Relaxed)) + 1).to_be_bytes());
        let envelope = RequestEnvelope { id, slot: self.slot, ticket: self.ticket.clone(), request };
        let mut encoded = Zeroizing::new(Vec::new());
        frame::encode(&envelope, &mut encoded).expect("a request fits into a frame");
        self.write(&encoded);
        let answer: ResponseEnvelope = frame::decode(&self.read()).expect("a response");
        if let Some(renewed) = answer.ticket {
            self.ticket = Some(renewed);
        }
        answer.result
    }

    /// Logs in; the ticket is kept.
    ///
    /// # Errors
    /// The daemon's return value.
    ///
    /// # Panics
    /// When the response is not that of a login.
    pub fn log_in(&mut self, role: Role, pin: &str) -> Result<(), Rv> {
        let response = self.send(Request::Login { role, pin: Secret::from(pin.as_bytes()) })?;
        let Response::LoggedIn { ticket } = response else { panic!("{response:?}") };
        self.ticket = Some(ticket);
        Ok(())
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

    fn write(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).expect("the frame is sent");
    }

    fn read(&mut self) -> Vec<u8> {
        let mut header = [0; frame::HEADER_BYTES];
        self.stream.read_exact(&mut header).expect("a frame header arrives");
        let mut body = vec![0; frame::length(header).expect("a length within the limit")];
        self.stream.read_exact(&mut body).expect("a frame body arrives");
        body
    }
}
