//! Bytes that may be a key, a PIN or a user's data: wiped on drop, never printed.

use std::fmt;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};
use zeroize::Zeroizing;

/// Bytes that are wiped on drop and not printed: `Debug` shows their number only.
///
/// Equality is not constant-time: compare PINs and tags with `subtle`.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            // Borrowed from the frame: a length beyond the frame's end is an error before anything is copied.
            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Secret, E> {
                Ok(Secret::from(bytes))
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Secret, E> {
                Ok(Secret::from(bytes))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Secret, E> {
                Ok(Secret::from(bytes))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_its_length_only() {
        assert_eq!(format!("{:?}", Secret::from(b"1234".as_slice())), "Secret(4 bytes)");
    }
}
