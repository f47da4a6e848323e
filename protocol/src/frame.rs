//! Frames: a length of four bytes, little endian, then one value in postcard's form. Nothing here touches a socket.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The largest value in a frame, header not counted: 1 MiB of data in one call and what stands around it.
/// 1 000 connections that each send a frame of this size still fit in 1.1 GiB.
pub const FRAME_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// The length in front of each frame.
pub const HEADER_BYTES: usize = 4;

/// The version of the conversation this crate speaks.
pub const VERSION: u16 = 1;

/// The provider's first frame on a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Says that this is our conversation and not a stray client's.
    pub magic: [u8; 4],
    /// The oldest version the provider understands.
    pub oldest: u16,
    /// The newest version the provider understands.
    pub newest: u16,
}

impl Hello {
    /// What [`Hello::magic`] must be.
    pub const MAGIC: [u8; 4] = *b"kms\x01";

    /// The hello of this version.
    pub const fn ours() -> Self {
        Self { magic: Self::MAGIC, oldest: VERSION, newest: VERSION }
    }

    /// The version both sides speak, if there is one.
    pub fn agreed(&self) -> Option<u16> {
        (self.magic == Self::MAGIC && self.oldest <= VERSION && VERSION <= self.newest).then_some(VERSION)
    }
}

/// The backend's first frame on a connection: the version of all that follows, or why there is nothing to follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Welcome {
    /// The conversation goes on in this version.
    Version(u16),
    /// The backend speaks these versions only and closes the connection.
    Unsupported {
        /// The oldest version the backend understands.
        oldest: u16,
        /// The newest version the backend understands.
        newest: u16,
    },
    /// The backend serves as many connections as it may and closes this one.
    Busy,
}

/// Why bytes are not a frame of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    /// The length is beyond [`FRAME_BYTES_MAX`].
    TooLarge,
    /// The bytes are not a value of the type asked for, or more than one.
    Malformed,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "a frame is longer than the limit",
            Self::Malformed => "a frame does not hold the message expected",
        })
    }
}

impl std::error::Error for FrameError {}

/// Writes a frame, header and all, so that one `send` is enough. `frame` is emptied first and keeps its room.
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

/// Writes a value behind what a buffer holds. A buffer that must grow leaves no copy of what it held behind.
///
/// # Errors
/// When the value has no serialised form.
pub fn append<T: Serialize>(value: &T, buffer: &mut Zeroizing<Vec<u8>>) -> Result<(), FrameError> {
    postcard::serialize_with_flavor(value, Tail(buffer)).map_err(|_| FrameError::Malformed)
}

/// The length of the value that follows this header.
pub fn length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_le_bytes(header)).map_err(|_| FrameError::TooLarge)?;
    if length > FRAME_BYTES_MAX { Err(FrameError::TooLarge) } else { Ok(length) }
}

/// Reads the value of a frame, without its header. Every byte must belong to the value.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(FrameError::Malformed),
    }
}

/// Lets postcard append to a borrowed buffer that never leaves a copy of a secret behind when it grows.
struct Tail<'a>(&'a mut Zeroizing<Vec<u8>>);

impl Tail<'_> {
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
        *self.0 = larger; // the old buffer is wiped as it drops
    }
}

impl postcard::ser_flavors::Flavor for Tail<'_> {
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
