//! The format of the service's AES ciphertext, so that callers that may use the key over PKCS#11 can decrypt it.
//!
//! ```text
//! byte 0       1: the version of this format
//! bytes 1..5   the number of the key version, big endian
//! bytes 5..17  the nonce: 12 random bytes
//! bytes 17..   AES-256-GCM ciphertext, then the tag of 16 bytes
//! ```
//!
//! The additional authenticated data of GCM are the first five bytes, then those of the caller (`aad`, an extension):
//! so a ciphertext is bound to its version. The key binds it to the key. RSA ciphertext is OAEP's own output.

use super::Problem;

/// The version of this format.
const FORMAT: u8 = 1;

/// The length of the format and the key version, in bytes.
const HEADER_BYTES: usize = 5;

/// The length of the nonce, in bytes.
const NONCE_BYTES: usize = 12;

/// The length of the tag, in bytes.
const TAG_BYTES: usize = 16;

/// The difference between the lengths of a ciphertext and its plaintext, in bytes.
pub const CIPHERTEXT_OVERHEAD: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;

/// The header of a ciphertext.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The key version that encrypted it.
    pub version: u32,
    /// The nonce.
    pub nonce: [u8; NONCE_BYTES],
}

impl Header {
    /// The header's bytes, which precede GCM's output.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES + NONCE_BYTES] {
        let mut bytes = [0; HEADER_BYTES + NONCE_BYTES];
        bytes[0] = FORMAT;
        bytes[1..HEADER_BYTES].copy_from_slice(&self.version.to_be_bytes());
        bytes[HEADER_BYTES..].copy_from_slice(&self.nonce);
        bytes
    }

    /// Parses a ciphertext into its header and GCM's output, which includes the tag.
    ///
    /// # Errors
    /// 400 if it is not a ciphertext of this service.
    pub fn read(ciphertext: &[u8]) -> Result<(Self, &[u8]), Problem> {
        let right_format = ciphertext.first() == Some(&FORMAT) && ciphertext.len() >= CIPHERTEXT_OVERHEAD;
        let parts = ciphertext.split_first_chunk::<HEADER_BYTES>().and_then(|([_, version @ ..], rest)| {
            let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
            Some((Self { version: u32::from_be_bytes(*version), nonce: *nonce }, rest))
        });
        match parts {
            Some(parts) if right_format => Ok(parts),
            Some(_) | None => Err(Problem::malformed("data is no ciphertext of this service")),
        }
    }
}

/// The additional authenticated data of a ciphertext under a key version.
pub fn additional_data(version: u32, aad: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + aad.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(aad);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_written_header_can_be_parsed(version: u32, nonce: [u8; 12], body in prop::collection::vec(any::<u8>(), 16..64)) {
            let header = Header { version, nonce };
            let whole = [header.to_bytes().as_slice(), &body].concat();
            prop_assert_eq!(Header::read(&whole).unwrap(), (header, body.as_slice()));
            prop_assert_eq!(&additional_data(version, b"")[..], &whole[..5]);
        }

        #[test]
        fn any_bytes_are_parsed_or_rejected(bytes: Vec<u8>) {
            if let Ok((header, body)) = Header::read(&bytes) {
                prop_assert_eq!([header.to_bytes().as_slice(), body].concat(), bytes);
            }
        }
    }
}
