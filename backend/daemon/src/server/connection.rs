//! A provider's connection: reads frames, calls the dispatcher and writes its responses, one at a time.

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kms_core::object::Peer;
use kms_protocol::{FrameError, Hello, RequestEnvelope, ResponseEnvelope, Rv, Welcome, frame};
use zeroize::{Zeroize, Zeroizing};

use super::busy_poll::PollPolicy;
use crate::dispatch::{Dispatch, Memory};
use crate::fairness::{Activity, ByteBudget, HeldBytes};

/// The timeout for the rest of a frame, and for the provider to accept a response: for the whole of it, and for each
/// part. Between two frames a connection may be idle until another needs its place.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// The size of a connection's read buffer. Most requests fit, so that one `recv` reads a whole one.
const BUFFER_BYTES: usize = 8 << 10;

/// Serves a provider until it disconnects.
///
/// # Errors
/// When the provider's protocol version is not supported, it is too slow, or the connection fails.
pub(super) fn serve(
    stream: &UnixStream,
    peer: Option<Peer>,
    dispatch: &Dispatch,
    activity: &Arc<Activity>,
    frames: &Arc<ByteBudget<Option<u32>>>,
) -> io::Result<()> {
    let mut reader = FrameReader::new(stream, frames, peer.map(|peer| peer.uid));
    let mut buffer = Zeroizing::new(Vec::with_capacity(BUFFER_BYTES));
    let Some(hello) = reader.next::<Hello>()? else { return Ok(()) };
    let welcome = match hello.agreed() {
        Some(version) => Welcome::Version(version),
        None => Welcome::Unsupported { oldest: frame::VERSION_OLDEST, newest: frame::VERSION },
    };
    send(stream, &welcome, &mut buffer)?;
    if hello.agreed().is_none() {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "the provider's protocol version is not supported",
        ));
    }
    let mut memory = Memory::default();
    while let Some(request) = reader.next::<RequestEnvelope>()? {
        // From here on until the response is sent, the connection is not closed for another.
        let _busy = activity.busy();
        // A bug in one request must not end other connections, nor leave this provider without a response.
        let response = catch_unwind(AssertUnwindSafe(|| dispatch.answer(peer, request, &mut memory)));
        let response = response.unwrap_or_else(|_| {
            tracing::error!("a request made the backend panic; this is a bug");
            ResponseEnvelope { ticket: None, result: Err(Rv::GENERAL_ERROR) }
        });
        send(stream, &response, &mut buffer)?;
        drop(response);
        kms_crypto::wipe_stack();
    }
    Ok(())
}

fn send<T: serde::Serialize>(
    stream: &UnixStream,
    value: &T,
    buffer: &mut Zeroizing<Vec<u8>>,
) -> io::Result<()> {
    frame::encode(value, buffer).map_err(invalid_data)?;
    let sent = write_all(stream, buffer);
    buffer.as_mut_slice().zeroize();
    sent
}

/// Writes all of it within [`FRAME_TIMEOUT`]: a provider that reads a byte now and then does not hold its thread.
fn write_all(mut stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    let mut started = None;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !bytes.is_empty() {
            check_deadline(&mut started)?;
        }
    }
    Ok(())
}

/// Fails if [`FRAME_TIMEOUT`] has passed since the first call with this `started`.
fn check_deadline(started: &mut Option<Instant>) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a time between two parts of a frame, not a date")]
    let now = Instant::now();
    if now.saturating_duration_since(*started.get_or_insert(now)) < FRAME_TIMEOUT {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::TimedOut, "timeout in the middle of a frame"))
}

fn invalid_data(error: FrameError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// Reads frames from a connection, and buffers what is not yet decoded.
struct FrameReader<'a> {
    stream: &'a UnixStream,
    buffer: Zeroizing<Vec<u8>>,
    filled: usize,
    poll_policy: PollPolicy,
    /// When a part of the frame had arrived, and the rest had not.
    started: Option<Instant>,
    /// The memory for large frames that all connections share, and this one's user.
    frames: &'a Arc<ByteBudget<Option<u32>>>,
    user: Option<u32>,
    /// What the enlarged buffer takes of it.
    held: Option<HeldBytes<Option<u32>>>,
}

impl<'a> FrameReader<'a> {
    fn new(stream: &'a UnixStream, frames: &'a Arc<ByteBudget<Option<u32>>>, user: Option<u32>) -> Self {
        Self {
            stream,
            started: None,
            frames,
            user,
            held: None,
            buffer: Zeroizing::new(vec![0; BUFFER_BYTES]),
            filled: 0,
            poll_policy: PollPolicy::default(),
        }
    }

    /// Reads and decodes the next frame. Returns `None` if the provider disconnected between two frames.
    fn next<T: for<'de> serde::Deserialize<'de>>(&mut self) -> io::Result<Option<T>> {
        if !self.fill(frame::HEADER_BYTES)? {
            return Ok(None);
        }
        let header = self.buffer[..frame::HEADER_BYTES].try_into().expect("a header is four bytes");
        let end = frame::HEADER_BYTES + frame::length(header).map_err(invalid_data)?;
        self.reserve(end)?;
        if !self.fill(end)? {
            return Ok(None);
        }
        let value = frame::decode(&self.buffer[frame::HEADER_BYTES..end]).map_err(invalid_data);
        self.consume(end);
        self.started = None;
        value.map(Some)
    }

    /// Reads until the buffer holds this many bytes. Returns false if the provider disconnected before the first one.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        while self.filled < bytes {
            if self.filled == self.buffer.len() {
                self.grow(bytes);
            }
            let received = self.poll_policy.receive(self.stream, &mut self.buffer[self.filled..]);
            match received.map_err(io::Error::from) {
                Ok(0) if self.filled == 0 => return Ok(false),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.filled += read;
                    if self.filled < bytes {
                        check_deadline(&mut self.started)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A timeout between two frames is no error; within a frame it is.
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.filled == 0 => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::new(ErrorKind::TimedOut, "timeout in the middle of a frame"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes memory for a large frame from what all connections share; waits while that is used up.
    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > self.buffer.len() {
            self.held = None;
            let held = self.frames.take(self.user, bytes, FRAME_TIMEOUT).ok_or_else(|| {
                io::Error::new(ErrorKind::OutOfMemory, "too many large requests are incomplete")
            })?;
            self.held = Some(held);
        }
        Ok(())
    }

    /// Enlarges a buffer that is full, four times up to `bytes`: what was announced costs nothing before it arrives. The
    /// old buffer is wiped when it is dropped.
    fn grow(&mut self, bytes: usize) {
        let mut larger = Zeroizing::new(vec![0; bytes.min(self.buffer.len() * 4)]);
        larger[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
        self.buffer = larger;
    }

    /// Wipes a decoded frame, and shrinks an enlarged buffer.
    fn consume(&mut self, end: usize) {
        let rest = self.filled - end;
        if self.buffer.len() > BUFFER_BYTES && rest <= BUFFER_BYTES {
            let mut smaller = Zeroizing::new(vec![0; BUFFER_BYTES]);
            smaller[..rest].copy_from_slice(&self.buffer[end..self.filled]);
            self.buffer = smaller;
            self.held = None;
        } else {
            self.buffer.copy_within(end..self.filled, 0);
            self.buffer[rest..self.filled].zeroize();
        }
        self.filled = rest;
    }
}
