//! A provider's connection: reads frames, calls the dispatcher and writes its responses, one at a time.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kms_core::object::Peer;
use kms_protocol::{FrameError, Hello, RequestEnvelope, ResponseEnvelope, Rv, Welcome, frame};
use zeroize::{Zeroize, Zeroizing};

use super::busy_poll::PollPolicy;
use crate::dispatch::{Dispatch, Memory};

/// The timeout for the rest of a frame, and for the provider to accept a response. Between two frames a connection may
/// be idle without limit.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// The size of a connection's read buffer. Most requests fit, so that one `recv` reads a whole one.
const BUFFER_BYTES: usize = 8 << 10;

/// Serves a provider until it disconnects.
///
/// # Errors
/// When the provider's protocol version is not supported, it is too slow, or the connection fails.
pub(super) fn serve(stream: &UnixStream, peer: Option<Peer>, dispatch: &Dispatch) -> io::Result<()> {
    let mut reader = FrameReader::new(stream);
    let mut buffer = Zeroizing::new(Vec::with_capacity(BUFFER_BYTES));
    let Some(hello) = reader.next::<Hello>()? else { return Ok(()) };
    let welcome = match hello.agreed() {
        Some(version) => Welcome::Version(version),
        None => Welcome::Unsupported { oldest: frame::VERSION, newest: frame::VERSION },
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
    mut stream: &UnixStream,
    value: &T,
    buffer: &mut Zeroizing<Vec<u8>>,
) -> io::Result<()> {
    frame::encode(value, buffer).map_err(invalid_data)?;
    let sent = stream.write_all(buffer);
    buffer.as_mut_slice().zeroize();
    sent
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
}

impl<'a> FrameReader<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self {
            stream,
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
        self.reserve(end);
        if !self.fill(end)? {
            return Ok(None);
        }
        let value = frame::decode(&self.buffer[frame::HEADER_BYTES..end]).map_err(invalid_data);
        self.consume(end);
        value.map(Some)
    }

    /// Reads until the buffer holds this many bytes. Returns false if the provider disconnected before the first one.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        while self.filled < bytes {
            let received = self.poll_policy.receive(self.stream, &mut self.buffer[self.filled..]);
            match received.map_err(io::Error::from) {
                Ok(0) if self.filled == 0 => return Ok(false),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.filled += read,
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

    /// Enlarges the buffer for a large frame. The old buffer is wiped when it is dropped.
    fn reserve(&mut self, bytes: usize) {
        if bytes > self.buffer.len() {
            let mut larger = Zeroizing::new(vec![0; bytes]);
            larger[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
            self.buffer = larger;
        }
    }

    /// Wipes a decoded frame, and shrinks an enlarged buffer.
    fn consume(&mut self, end: usize) {
        let rest = self.filled - end;
        if self.buffer.len() > BUFFER_BYTES && rest <= BUFFER_BYTES {
            let mut smaller = Zeroizing::new(vec![0; BUFFER_BYTES]);
            smaller[..rest].copy_from_slice(&self.buffer[end..self.filled]);
            self.buffer = smaller;
        } else {
            self.buffer.copy_within(end..self.filled, 0);
            self.buffer[rest..self.filled].zeroize();
        }
        self.filled = rest;
    }
}
