//! Ed25519ctx (RFC 8032, section 5.1): Ed25519 under a context. `ed25519-dalek` computes it, over a digest that puts
//! the context where the scheme requires it: before all other input.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign_byupdate};
use ed25519_dalek::{Signature, SignatureError, SigningKey};
use sha2::digest::consts::U64;
use sha2::digest::{FixedOutput, HashMarker, Output, OutputSizeUser, Update};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

/// The beginning of `dom2`.
const DOMAIN: &[u8] = b"SigEd25519 no Ed25519 collisions";

/// The size of the input before the message: half of the expanded secret, or two points.
const BUFFERED_BYTES: usize = 64;

/// Signs with a context of 1 to 255 bytes. RFC 8032 advises against an empty context, which gives another scheme.
pub(super) fn sign(key: &SigningKey, context: &[u8], data: &[u8]) -> Result<Signature, SignatureError> {
    let length = u8::try_from(context.len()).ok().filter(|length| *length > 0);
    let length = length.ok_or_else(SignatureError::new)?;
    let expanded = ExpandedSecretKey::from(key.as_bytes());
    let message = |digest: &mut ContextDigest| {
        digest.begin(length, context);
        Update::update(digest, data);
        Ok(())
    };
    raw_sign_byupdate(&expanded, message, &key.verifying_key())
}

/// SHA-512 after a context that is set later: input before that is buffered.
struct ContextDigest {
    running: Option<Sha512>,
    buffered: Zeroizing<Vec<u8>>,
}

impl ContextDigest {
    fn begin(&mut self, length: u8, context: &[u8]) {
        let mut digest = Sha512::new_with_prefix(DOMAIN);
        for part in [&[0, length][..], context, &self.buffered] {
            Digest::update(&mut digest, part);
        }
        self.running = Some(digest);
    }
}

impl Default for ContextDigest {
    fn default() -> Self {
        Self { running: None, buffered: Zeroizing::new(Vec::with_capacity(BUFFERED_BYTES)) }
    }
}

impl Update for ContextDigest {
    fn update(&mut self, data: &[u8]) {
        match &mut self.running {
            Some(digest) => Digest::update(digest, data),
            None => self.buffered.extend_from_slice(data),
        }
    }
}

impl OutputSizeUser for ContextDigest {
    type OutputSize = U64;
}

impl FixedOutput for ContextDigest {
    fn finalize_into(self, out: &mut Output<Self>) {
        let digest = self.running.expect("each message begins with its context");
        Digest::finalize_into(digest, out);
    }
}

impl HashMarker for ContextDigest {}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    /// RFC 8032, section 7.2: the first key, under its two contexts.
    #[test]
    fn the_signatures_are_the_standards() {
        let key = SigningKey::from_bytes(&bytes(
            "0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6",
        ));
        let public: [u8; 32] = bytes("dfc9425e4f968f7f0c29f0259cf5f9aed6851c2bb4ad8bfb860cfee0ab248292");
        assert_eq!(key.verifying_key().to_bytes(), public);
        let message: [u8; 16] = bytes("f726936d19c800494e3fdaff20b276a8");
        for (context, signature) in [
            (
                b"foo",
                "55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a\
                 8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d",
            ),
            (
                b"bar",
                "fc60d5872fc46b3aa69f8b5b4351d5808f92bcc044606db097abab6dbcb1aee3\
                 216c48e8b3b66431b5b186d1d28f8ee15a5ca2df6668346291c2043d4eb3e90d",
            ),
        ] {
            assert_eq!(sign(&key, context, &message).unwrap().to_bytes(), bytes(signature));
        }
    }

    #[test]
    fn a_context_is_neither_empty_nor_too_long() {
        let key = SigningKey::from_bytes(&[7; 32]);
        assert!(sign(&key, b"", b"data").is_err() && sign(&key, &[0; 256], b"data").is_err());
        assert!(sign(&key, &[0; 255], b"data").is_ok());
    }
}
