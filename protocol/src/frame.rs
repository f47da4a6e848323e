//! Frames: a length of four bytes, little endian, then one value encoded with postcard. No I/O.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The maximum size of the value in a frame, without the header: 1 MiB of data in one call and the fields around it.
/// 1 000 connections that each send a frame of this size still fit in 1.1 GiB.
pub const FRAME_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// The size of the header: the length before each value.
pub const HEADER_BYTES: usize = 4;

/// The protocol version of this crate. Version 2 added proofs of context-specific logins (docs/decisions/0049).
pub const VERSION: u16 = 2;

/// The oldest version that a backend accepts. What version 1 sends has the same form in version 2.
pub const VERSION_OLDEST: u16 = 1;

/// The provider's first frame on a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Identifies the protocol, so that other clients are recognised.
    pub magic: [u8; 4],
    /// The oldest version the provider understands.
    pub oldest: u16,
    /// The newest version the provider understands.
    pub newest: u16,
}

impl Hello {
    /// The required value of [`Hello::magic`].
    pub const MAGIC: [u8; 4] = *b"kms\x01";

    /// The hello of this crate's version.
    pub const fn ours() -> Self {
        Self { magic: Self::MAGIC, oldest: VERSION, newest: VERSION }
    }

    /// The newest version that both sides support, if there is one.
    pub fn agreed(&self) -> Option<u16> {
        let newest = self.newest.min(VERSION);
        let oldest = self.oldest.max(VERSION_OLDEST);
        (self.magic == Self::MAGIC && oldest <= newest).then_some(newest)
    }
}

/// The backend's first frame on a connection: the version of all further frames, or why the connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Welcome {
    /// All further frames have this version.
    Version(u16),
    /// The backend supports these versions only and closes the connection.
    Unsupported {
        /// The oldest version the backend understands.
        oldest: u16,
        /// The newest version the backend understands.
        newest: u16,
    },
    /// The backend has reached its limit of connections and closes this one.
    Busy,
}

/// Why bytes are not a valid frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    /// The length exceeds [`FRAME_BYTES_MAX`].
    TooLarge,
    /// The bytes are not one value of the expected type, or more than one.
    Malformed,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "a frame is longer than the limit",
            Self::Malformed => "a frame does not contain the expected message",
        })
    }
}

impl std::error::Error for FrameError {}

/// Encodes a value as a frame, header included, so that one `send` is enough. `frame` is cleared first and keeps its
/// capacity.
pub fn encode<T: Serialize>(value: &T, frame: &mut Zeroizing<Vec<u8>>) -> Result<(), FrameError> {
    frame.clear();
    frame.extend_from_slice(&[0; HEADER_BYTES]);
    append(value, frame)?;
    let length = frame.len() - HEADER_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge);
    }
    let length = u32::try_from(length).map_err(|_| FrameError::TooLarge)?;
    frame[..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Appends an encoded value to a buffer. When the buffer must grow, its old memory is wiped.
///
/// # Errors
/// When the value has no serialised form.
pub fn append<T: Serialize>(value: &T, buffer: &mut Zeroizing<Vec<u8>>) -> Result<(), FrameError> {
    postcard::serialize_with_flavor(value, WipingAppender(buffer)).map_err(|_| FrameError::Malformed)
}

/// The length of the value that follows this header.
pub fn length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_le_bytes(header)).map_err(|_| FrameError::TooLarge)?;
    if length > FRAME_BYTES_MAX { Err(FrameError::TooLarge) } else { Ok(length) }
}

/// Decodes the value of a frame, without its header. Every byte must belong to the value.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(FrameError::Malformed),
    }
}

/// Lets postcard append to a borrowed buffer, whose old memory is wiped when it grows.
struct WipingAppender<'a>(&'a mut Zeroizing<Vec<u8>>);

impl WipingAppender<'_> {
    #[inline]
    fn reserve(&mut self, more: usize) {
        if more > self.0.capacity() - self.0.len() {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let needed = self.0.len() + more;
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two().max(512)));
        larger.extend_from_slice(self.0);
        *self.0 = larger; // the old buffer is wiped on drop
    }
}

impl postcard::ser_flavors::Flavor for WipingAppender<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.reserve(1);
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
