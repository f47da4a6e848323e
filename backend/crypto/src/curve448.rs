//! Curve 448: Ed448 and X448 out of RustCrypto's `ed448-goldilocks` and `x448`. Both are pre-releases that nobody has
//! audited (`docs/decisions/0034`), so what leaves this room is looked at once more: a signature is verified before
//! anybody sees it, and a secret that every partner would get is refused.

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

/// The length of a public key of X448, and of what is agreed on, in bytes.
const MONTGOMERY_BYTES: usize = 56;

/// Whether these bytes are a public key of Ed448: a point of the large group, written in its one way.
pub(super) fn is_public(key: &[u8]) -> bool {
    verifying(key).is_some()
}

/// The library ignores bits of the last byte, and numbers above the field's; RFC 8032 (section 5.2.3) has neither.
fn verifying(key: &[u8]) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    (key.to_edwards().to_affine().compress().to_bytes() == key.to_bytes()).then_some(key)
}

/// A private key of Ed448.
pub(super) struct Ed448Key(SigningKey);

impl Ed448Key {
    /// From its secret.
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

    /// Signs with Ed448, or with Ed448ph if the message is hashed before. An empty context is Ed448's own (RFC 8032,
    /// section 5.2).
    pub(super) fn sign(&self, prehashed: bool, context: &[u8], data: &[u8]) -> Result<Secret, Rv> {
        let signature = if prehashed {
            self.0.sign_prehashed(Some(context), prehash(data))
        } else {
            self.0.sign_ctx(context, data)
        };
        let signature = signature.map_err(|_| Rv::FUNCTION_FAILED)?;
        // A wrong sum would tell the private key (published faults on EdDSA); it does not leave.
        if !holds(self.0.verifying_key(), prehashed, context, data, &signature) {
            return Err(Rv::FUNCTION_FAILED);
        }
        Ok(Secret::from(signature.to_bytes().to_vec()))
    }
}

fn prehash(data: &[u8]) -> PreHasherXof<Shake256> {
    Shake256::default().chain(data).into()
}

fn holds(key: VerifyingKey, prehashed: bool, context: &[u8], data: &[u8], signature: &Signature) -> bool {
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
    /// From its secret.
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

    /// What both sides get. None for a public value that gives every partner the same (RFC 7748, section 6.2); the
    /// library knows some of them, and all of them give zeros.
    pub(super) fn agree(&self, public: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let shared = self.0.diffie_hellman(&PublicKey::from_bytes(public)?);
        let zeros = [0; MONTGOMERY_BYTES];
        let known = bool::from(shared.as_bytes().as_slice().ct_eq(&zeros));
        (!known).then(|| Zeroizing::new(shared.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748, section 6.2.
    #[test]
    fn the_standards_two_sides_agree() {
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

    /// 0, 1, p - 1, and the first two written beyond the field's order.
    #[test]
    fn partners_who_are_nobody_are_refused_however_they_are_written() {
        let key = X448Key::open(&[7; MONTGOMERY_BYTES]).unwrap();
        let mut one = [0; MONTGOMERY_BYTES];
        one[0] = 1;
        let mut order = [0xff; MONTGOMERY_BYTES];
        order[28] = 0xfe;
        let (mut before, mut after) = (order, order);
        before[0] = 0xfe;
        // p + 1: the low half overflows.
        after[..28].fill(0);
        after[28] = 0xff;
        for public in [[0; MONTGOMERY_BYTES], one, before, order, after] {
            assert!(key.agree(&public).is_none(), "{public:02x?}");
        }
        assert!(key.agree(&[5; MONTGOMERY_BYTES]).is_some());
    }

    #[test]
    fn a_point_is_written_in_one_way() {
        let key = Ed448Key::open(&[7; EDWARDS_BYTES]).unwrap();
        let public = key.public();
        assert!(is_public(&public) && !is_public(&public[1..]));
        for (at, bit) in [(56, 1), (56, 0x40)] {
            let mut other = public;
            other[at] ^= bit;
            assert!(!is_public(&other), "a bit that no point has");
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
            holds(key.0.verifying_key(), prehashed, context, data, &signature)
        };
        assert!(check(false, b"context", b"message"));
        assert!(!check(true, b"context", b"message") && !check(false, b"", b"message"));
        assert!(!check(false, b"context", b"massage"));
        assert_eq!(key.sign(false, &[0; 256], b"message").unwrap_err(), Rv::FUNCTION_FAILED);
    }
}
