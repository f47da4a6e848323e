//! What AES ciphertext of this service looks like, so that whoever may use the key over PKCS#11 can decrypt it.
//!
//! ```text
//! byte 0       1: this form
//! bytes 1..5   the number of the key version, big endian
//! bytes 5..17  the nonce: 12 random bytes
//! bytes 17..   AES-256-GCM ciphertext, then the tag of 16 bytes
//! ```
//!
//! The additional data of GCM are the first five bytes, then the caller's own (`aad`, an extension): a ciphertext is
//! bound to its version. The key binds it to the key. RSA ciphertext is OAEP's own output.

use super::Problem;

/// This form's number.
const FORM: u8 = 1;

/// Form and version.
const HEADER_BYTES: usize = 5;

/// The nonce.
const NONCE_BYTES: usize = 12;

/// The tag.
const TAG_BYTES: usize = 16;

/// How much longer a ciphertext is than its plaintext.
pub const CIPHERTEXT_OVERHEAD: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;

/// What stands in front of a ciphertext.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The version that encrypted it.
    pub version: u32,
    /// The nonce.
    pub nonce: [u8; NONCE_BYTES],
}

impl Header {
    /// Header and nonce, as they stand in front of the ciphertext.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES + NONCE_BYTES] {
        let mut bytes = [0; HEADER_BYTES + NONCE_BYTES];
        bytes[0] = FORM;
        bytes[1..HEADER_BYTES].copy_from_slice(&self.version.to_be_bytes());
        bytes[HEADER_BYTES..].copy_from_slice(&self.nonce);
        bytes
    }

    /// Reads a ciphertext's header; gives GCM's own output, tag included, with it.
    ///
    /// # Errors
    /// 400 for what is no ciphertext of ours.
    pub fn read(ciphertext: &[u8]) -> Result<(Self, &[u8]), Problem> {
        let ours = ciphertext.first() == Some(&FORM) && ciphertext.len() >= CIPHERTEXT_OVERHEAD;
        let parts = ciphertext.split_first_chunk::<HEADER_BYTES>().and_then(|([_, version @ ..], rest)| {
            let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
            Some((Self { version: u32::from_be_bytes(*version), nonce: *nonce }, rest))
        });
        match parts {
            Some(parts) if ours => Ok(parts),
            Some(_) | None => Err(Problem::malformed("data is no ciphertext of this service")),
        }
    }
}

/// The additional data of a ciphertext under this version.
pub fn additional_data(version: u32, aad: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + aad.len());
    bytes.push(FORM);
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
        fn what_is_written_is_read(version: u32, nonce: [u8; 12], body in prop::collection::vec(any::<u8>(), 16..64)) {
            let header = Header { version, nonce };
            let whole = [header.to_bytes().as_slice(), &body].concat();
            prop_assert_eq!(Header::read(&whole).unwrap(), (header, body.as_slice()));
            prop_assert_eq!(&additional_data(version, b"")[..], &whole[..5]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok((header, body)) = Header::read(&bytes) {
                prop_assert_eq!([header.to_bytes().as_slice(), body].concat(), bytes);
            }
        }
    }
}
