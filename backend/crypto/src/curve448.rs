//! Curve 448: Ed448 and X448 of RustCrypto's `ed448-goldilocks` and `x448`. Both are unaudited pre-releases
//! (`docs/decisions/0034`), so their results are checked: a signature is verified before it is returned, and a shared
//! secret that is the same for every partner is rejected.

use ed448_goldilocks::elliptic_curve::zeroize::Zeroize;
use ed448_goldilocks::shake::Shake256;
use ed448_goldilocks::shake::digest::Update;
use ed448_goldilocks::{EdwardsScalarBytes, PreHasherXof, Signature, SigningKey, VerifyingKey};
use kms_protocol::{Rv, Secret};
use subtle::ConstantTimeEq;
use x448::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The length of a public key of Ed448, in bytes.
const EDWARDS_BYTES: usize = 57;

/// The length of a public key of X448, and of a shared secret, in bytes.
const MONTGOMERY_BYTES: usize = 56;

/// Whether these bytes are a public key of Ed448: a point of large order in its canonical encoding.
pub(super) fn is_public(key: &[u8]) -> bool {
    verifying_key(key).is_some()
}

/// Reads a public key. The library ignores bits of the last byte and accepts numbers beyond the field's order; RFC 8032
/// (section 5.2.3) allows neither.
fn verifying_key(key: &[u8]) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    (key.to_edwards().to_affine().compress().to_bytes() == key.to_bytes()).then_some(key)
}

/// A private key of Ed448.
pub(super) struct Ed448Key(SigningKey);

impl Ed448Key {
    /// Opens a key from its secret.
    pub(super) fn open(secret: &[u8]) -> Option<Self> {
        let mut secret = EdwardsScalarBytes::try_from(secret).ok()?;
        let key = SigningKey::from(&secret);
        secret.zeroize();
        Some(Self(key))
    }

    /// The public key.
    pub(super) fn public(&self) -> [u8; EDWARDS_BYTES] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs with Ed448, or with Ed448ph if the message is prehashed. Ed448 has an empty context by default (RFC 8032,
    /// section 5.2).
    pub(super) fn sign(&self, prehashed: bool, context: &[u8], data: &[u8]) -> Result<Secret, Rv> {
        let signature = if prehashed {
            self.0.sign_prehashed(Some(context), prehash(data))
        } else {
            self.0.sign_ctx(context, data)
        };
        let signature = signature.map_err(|_| Rv::FUNCTION_FAILED)?;
        // A faulty signature would reveal the private key (published fault attacks on EdDSA), so it is not returned.
        if !verifies(self.0.verifying_key(), prehashed, context, data, &signature) {
            return Err(Rv::FUNCTION_FAILED);
        }
        Ok(Secret::from(signature.to_bytes().to_vec()))
    }
}

fn prehash(data: &[u8]) -> PreHasherXof<Shake256> {
    Shake256::default().chain(data).into()
}

fn verifies(key: VerifyingKey, prehashed: bool, context: &[u8], data: &[u8], signature: &Signature) -> bool {
    let verified = if prehashed {
        key.verify_prehashed(signature, Some(context), prehash(data))
    } else {
        key.verify_ctx(signature, context, data)
    };
    verified.is_ok()
}

/// A private key of X448.
pub(super) struct X448Key(StaticSecret);

impl X448Key {
    /// Opens a key from its secret.
    pub(super) fn open(secret: &[u8]) -> Option<Self> {
        let mut secret: [u8; MONTGOMERY_BYTES] = secret.try_into().ok()?;
        let key = StaticSecret::from(secret);
        secret.zeroize();
        Some(Self(key))
    }

    /// The public key.
    pub(super) fn public(&self) -> [u8; MONTGOMERY_BYTES] {
        *PublicKey::from(&self.0).as_bytes()
    }

    /// The shared secret. None for a public key that gives every partner the same secret (RFC 7748, section 6.2); the
    /// library rejects some of them, and all of them give zeros.
    pub(super) fn agree(&self, public: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let shared = self.0.diffie_hellman(&PublicKey::from_bytes(public)?);
        let zeros = [0; MONTGOMERY_BYTES];
        let is_zero = bool::from(shared.as_bytes().as_slice().ct_eq(&zeros));
        (!is_zero).then(|| Zeroizing::new(shared.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748, section 6.2.
    #[test]
    fn the_standards_example_agrees() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let alice = X448Key::open(&hex("9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf5\
             74a9419744897391006382a6f127ab1d9ac2d8c0a598726b"))
        .unwrap();
        let bob = X448Key::open(&hex("1c306a7ac2a0e2e0990b294470cba339e6453772b075811d8fad0d1d6927c120\
             bb5ee8972b0d3e21374c9c921b09d1b0366f10b65173992d"))
        .unwrap();
        let public = hex("9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c22c5d9bb\
             c836647241d953d40c5b12da88120d53177f80e532c41fa0");
        assert_eq!(alice.public().to_vec(), public);
        let shared = hex("07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282bb60c0b56\
             fd2464c335543936521c24403085d59a449a5037514a879d");
        assert_eq!(*alice.agree(&bob.public()).unwrap(), shared);
        assert_eq!(*bob.agree(&public).unwrap(), shared);
    }

    /// 0, 1, p - 1, and the first two encoded beyond the field's order.
    #[test]
    fn public_keys_of_small_order_are_rejected_in_any_encoding() {
        let key = X448Key::open(&[7; MONTGOMERY_BYTES]).unwrap();
        let mut one = [0; MONTGOMERY_BYTES];
        one[0] = 1;
        let mut order = [0xff; MONTGOMERY_BYTES];
        order[28] = 0xfe;
        let (mut before, mut after) = (order, order);
        before[0] = 0xfe;
        // p + 1: the lower 28 bytes overflow.
        after[..28].fill(0);
        after[28] = 0xff;
        for public in [[0; MONTGOMERY_BYTES], one, before, order, after] {
            assert!(key.agree(&public).is_none(), "{public:02x?}");
        }
        assert!(key.agree(&[5; MONTGOMERY_BYTES]).is_some());
    }

    #[test]
    fn a_point_has_one_encoding() {
        let key = Ed448Key::open(&[7; EDWARDS_BYTES]).unwrap();
        let public = key.public();
        assert!(is_public(&public) && !is_public(&public[1..]));
        for (at, bit) in [(56, 1), (56, 0x40)] {
            let mut other = public;
            other[at] ^= bit;
            assert!(!is_public(&other), "a bit that no encoding has");
        }
        let mut neutral = [0; EDWARDS_BYTES];
        neutral[0] = 1;
        assert!(!is_public(&neutral) && !is_public(&[0; EDWARDS_BYTES]), "points of small order");
    }

    #[test]
    fn a_signature_is_bound_to_scheme_and_context() {
        let key = Ed448Key::open(&[9; EDWARDS_BYTES]).unwrap();
        let signature = key.sign(false, b"context", b"message").unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        let check = |prehashed, context: &[u8], data: &[u8]| {
            verifies(key.0.verifying_key(), prehashed, context, data, &signature)
        };
        assert!(check(false, b"context", b"message"));
        assert!(!check(true, b"context", b"message") && !check(false, b"", b"message"));
        assert!(!check(false, b"context", b"massage"));
        assert_eq!(key.sign(false, &[0; 256], b"message").unwrap_err(), Rv::FUNCTION_FAILED);
    }
}
