//! The provider's listener: frames in, the dispatcher's answers out, one at a time.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kms_core::object::Peer;
use kms_protocol::{FrameError, Hello, RequestEnvelope, ResponseEnvelope, Rv, Welcome, frame};
use zeroize::{Zeroize, Zeroizing};

use super::busy_poll::PollPolicy;
use crate::dispatch::{Dispatch, Memory};

/// How long a started frame may take to arrive, and an answer to be taken. Between two frames a provider may be
/// silent as long as it likes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The room a connection keeps for frames: most requests fit, so one `read` brings a whole one.
const ROOM_BYTES: usize = 8 << 10;

/// Answers a provider until it goes.
///
/// # Errors
/// When the provider does not speak our language, is too slow, or the connection breaks.
pub(super) fn converse(stream: &UnixStream, peer: Option<Peer>, dispatch: &Dispatch) -> io::Result<()> {
    let mut inbox = Inbox::new(stream);
    let mut outbox = Zeroizing::new(Vec::with_capacity(ROOM_BYTES));
    let Some(hello) = inbox.next::<Hello>()? else { return Ok(()) };
    let welcome = match hello.agreed() {
        Some(version) => Welcome::Version(version),
        None => Welcome::Unsupported { oldest: frame::VERSION, newest: frame::VERSION },
    };
    send(stream, &welcome, &mut outbox)?;
    if hello.agreed().is_none() {
        return Err(io::Error::new(ErrorKind::InvalidData, "the provider speaks another version"));
    }
    let mut memory = Memory::default();
    while let Some(ask) = inbox.next::<RequestEnvelope>()? {
        // A bug in one request must not take the others' connections down, nor leave this provider without an answer.
        let answer = catch_unwind(AssertUnwindSafe(|| dispatch.answer(peer, ask, &mut memory)));
        let answer = answer.unwrap_or_else(|_| {
            tracing::error!("a request made the backend panic; this is a bug");
            ResponseEnvelope { ticket: None, result: Err(Rv::GENERAL_ERROR) }
        });
        send(stream, &answer, &mut outbox)?;
    }
    Ok(())
}

fn send<T: serde::Serialize>(
    mut stream: &UnixStream,
    value: &T,
    outbox: &mut Zeroizing<Vec<u8>>,
) -> io::Result<()> {
    frame::encode(value, outbox).map_err(refused)?;
    let sent = stream.write_all(outbox);
    outbox.as_mut_slice().zeroize();
    sent
}

fn refused(error: FrameError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// What has been read of a connection and not yet been understood.
struct Inbox<'a> {
    stream: &'a UnixStream,
    room: Zeroizing<Vec<u8>>,
    filled: usize,
    policy: PollPolicy,
}

impl<'a> Inbox<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self { stream, room: Zeroizing::new(vec![0; ROOM_BYTES]), filled: 0, policy: PollPolicy::default() }
    }

    /// The next frame's value; none when the provider has gone between two frames.
    fn next<T: for<'de> serde::Deserialize<'de>>(&mut self) -> io::Result<Option<T>> {
        if !self.fill(frame::HEADER_BYTES)? {
            return Ok(None);
        }
        let header = self.room[..frame::HEADER_BYTES].try_into().expect("a header is four bytes");
        let end = frame::HEADER_BYTES + frame::length(header).map_err(refused)?;
        self.reserve(end);
        if !self.fill(end)? {
            return Ok(None);
        }
        let value = frame::decode(&self.room[frame::HEADER_BYTES..end]).map_err(refused);
        self.consume(end);
        value.map(Some)
    }

    /// Reads until `wanted` bytes are there. False if the provider went before the first of them.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        while self.filled < wanted {
            let received = self.policy.receive(self.stream, &mut self.room[self.filled..]);
            match received.map_err(io::Error::from) {
                Ok(0) if self.filled == 0 => return Ok(false),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Silence between two frames is no fault; in the middle of one it is.
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.filled == 0 => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::new(ErrorKind::TimedOut, "half a frame, then silence"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Makes room for a frame larger than most. The old room is wiped as it goes.
    fn reserve(&mut self, bytes: usize) {
        if bytes > self.room.len() {
            let mut larger = Zeroizing::new(vec![0; bytes]);
            larger[..self.filled].copy_from_slice(&self.room[..self.filled]);
            self.room = larger;
        }
    }

    /// Wipes a frame that has been understood, and gives back room beyond the usual.
    fn consume(&mut self, end: usize) {
        let rest = self.filled - end;
        if self.room.len() > ROOM_BYTES && rest <= ROOM_BYTES {
            let mut usual = Zeroizing::new(vec![0; ROOM_BYTES]);
            usual[..rest].copy_from_slice(&self.room[end..self.filled]);
            self.room = usual;
        } else {
            self.room.copy_within(end..self.filled, 0);
            self.room[rest..self.filled].zeroize();
        }
        self.filled = rest;
    }
}
