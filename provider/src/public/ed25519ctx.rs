//! Verifies Ed25519ctx (RFC 8032, section 5.1): Ed25519 with a context. `ed25519-dalek` verifies, with a digest that
//! puts the context where the scheme requires it: before everything else that is hashed.

use ed25519_dalek::hazmat::raw_verify;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::digest::consts::U64;
use sha2::digest::{FixedOutput, HashMarker, Output, OutputSizeUser, Update};
use sha2::{Digest, Sha512};

/// The prefix of `dom2`.
const DOMAIN: &[u8] = b"SigEd25519 no Ed25519 collisions";

/// The length of what is hashed before the message: a point of the signature, and the public key.
const POINTS_BYTES: usize = 64;

/// Whether the signature is valid with a context of 1 to 255 bytes. Without a context no signature is valid here.
pub(super) fn is_valid(key: &VerifyingKey, context: &[u8], data: &[u8], signature: &Signature) -> bool {
    let Some(length) = u8::try_from(context.len()).ok().filter(|length| *length > 0) else { return false };
    let message = [&[length][..], context, data].concat();
    raw_verify::<ContextDigest>(key, &message, signature).is_ok()
}

/// SHA-512 over RFC 8032's `dom2`, two points and a message. The input is the points, then the length of the context
/// and the context, then the message.
#[derive(Default)]
struct ContextDigest(Vec<u8>);

impl Update for ContextDigest {
    fn update(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }
}

impl OutputSizeUser for ContextDigest {
    type OutputSize = U64;
}

impl FixedOutput for ContextDigest {
    fn finalize_into(self, out: &mut Output<Self>) {
        let (points, rest) = self.0.split_at(POINTS_BYTES);
        let (context, message) = rest.split_at(1 + usize::from(rest[0]));
        let mut digest = Sha512::new_with_prefix(DOMAIN);
        for part in [&[0][..], context, points, message] {
            Digest::update(&mut digest, part);
        }
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

    /// RFC 8032, section 7.2: the first key's message with the context "foo".
    #[test]
    fn the_signature_of_the_rfc_is_valid_only_with_its_context() {
        let public = bytes("dfc9425e4f968f7f0c29f0259cf5f9aed6851c2bb4ad8bfb860cfee0ab248292");
        let key = VerifyingKey::from_bytes(&public).unwrap();
        let message: [u8; 16] = bytes("f726936d19c800494e3fdaff20b276a8");
        let mut signature = bytes::<64>(
            "55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a\
             8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d",
        );
        let check = |context: &[u8], message: &[u8], signature: &[u8; 64]| {
            is_valid(&key, context, message, &Signature::from_bytes(signature))
        };
        assert!(check(b"foo", &message, &signature));
        assert!(!check(b"fop", &message, &signature) && !check(b"", &message, &signature));
        assert!(!check(b"foo", &message[1..], &signature) && !check(&[1; 256], &message, &signature));
        signature[9] ^= 1;
        assert!(!check(b"foo", &message, &signature));
    }
}
