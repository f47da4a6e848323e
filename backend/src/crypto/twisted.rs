//! Curve 25519: signatures in Edwards's form, agreements in Montgomery's.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use ed25519_dalek::{Digest, Sha512, Signer, SigningKey, VerifyingKey};
use kms_protocol::{Mechanism, MechanismType, Parameters, Rv, Secret};
use zeroize::Zeroizing;

use super::{der, ed25519ctx};
use crate::object::{Curve25519, KeyBytes};

/// The length of a private and of a public key, in bytes.
pub(super) const KEY_BYTES: usize = 32;

/// A fresh private key, in PKCS #8.
pub(super) fn make(form: Curve25519, random: &SystemRandom) -> Option<KeyBytes> {
    let mut seed = Zeroizing::new([0; KEY_BYTES]);
    random.fill(&mut *seed).ok()?;
    private_key(form, &seed)
}

/// The private key with this seed, in PKCS #8 (RFC 8410: an OCTET STRING in an OCTET STRING).
pub(super) fn private_key(form: Curve25519, seed: &[u8; KEY_BYTES]) -> Option<KeyBytes> {
    der::private_key(form.oid_der(), &der::octet_string(seed))
}

/// The seed in PKCS #8: for those who may see it.
pub(super) fn seed_of(form: Curve25519, material: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let seed = der::octets(der::inner_of(material, form.oid_der())?)?;
    seed.try_into().ok().map(Zeroizing::new)
}

/// The public key that goes with a private one.
pub(super) fn public_of(form: Curve25519, material: &[u8]) -> Option<[u8; KEY_BYTES]> {
    match form {
        Curve25519::Edwards => Some(EdwardsKey::open(material)?.0.verifying_key().to_bytes()),
        Curve25519::Montgomery => {
            MontgomeryKey::open(material)?.0.compute_public_key().ok()?.as_ref().try_into().ok()
        }
    }
}

/// Whether a public key is one: a point on Edwards's form; any 32 bytes on Montgomery's.
pub(super) fn is_public(form: Curve25519, key: &[u8; KEY_BYTES]) -> bool {
    match form {
        Curve25519::Edwards => VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak()),
        Curve25519::Montgomery => true,
    }
}

/// A private key that signs.
pub(super) struct EdwardsKey(SigningKey);

impl EdwardsKey {
    /// Opens a private key from PKCS #8.
    pub(super) fn open(material: &[u8]) -> Option<Self> {
        Some(Self(SigningKey::from_bytes(&*seed_of(Curve25519::Edwards, material)?)))
    }

    /// Signs with Ed25519, Ed25519ph or Ed25519ctx.
    pub(super) fn sign(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        let signature = match (mechanism.kind, &mechanism.parameters) {
            (MechanismType::EDDSA, Parameters::None) => self.0.try_sign(data),
            (MechanismType::EDDSA, Parameters::Eddsa { prehashed: true, context }) => {
                self.0.sign_prehashed(Sha512::new_with_prefix(data), Some(context))
            }
            (MechanismType::EDDSA, Parameters::Eddsa { prehashed: false, context })
                if !context.is_empty() =>
            {
                ed25519ctx::sign(&self.0, context, data)
            }
            // Without a context too it would not be Ed25519, though some who ask for that mean it.
            (MechanismType::EDDSA, _) => return Err(Rv::MECHANISM_PARAM_INVALID),
            _ => return Err(Rv::MECHANISM_INVALID),
        };
        Ok(Secret::from(signature.map_err(|_| Rv::FUNCTION_FAILED)?.to_bytes().to_vec()))
    }
}

/// A private key that agrees.
pub(super) struct MontgomeryKey(PrivateKey);

impl MontgomeryKey {
    /// Opens a private key from PKCS #8.
    pub(super) fn open(material: &[u8]) -> Option<Self> {
        let seed = seed_of(Curve25519::Montgomery, material)?;
        PrivateKey::from_private_key(&X25519, &*seed).ok().map(Self)
    }

    /// What both sides get: 32 bytes.
    ///
    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID` for no public value, or one that gives every partner the same secret.
    pub(super) fn agree(&self, public: &[u8]) -> Result<Zeroizing<Vec<u8>>, Rv> {
        let public = der::point(public, KEY_BYTES).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
        let public = UnparsedPublicKey::new(&X25519, public);
        agreement::agree(&self.0, public, Rv::MECHANISM_PARAM_INVALID, |shared| {
            Ok(Zeroizing::new(shared.to_vec()))
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use ed25519_dalek::Signature;

    use super::*;

    fn eddsa(prehashed: bool, context: &[u8]) -> Mechanism {
        let parameters = Parameters::Eddsa { prehashed, context: Secret::from(context) };
        Mechanism { kind: MechanismType::EDDSA, parameters }
    }

    #[test]
    fn another_library_verifies() {
        let material = make(Curve25519::Edwards, &SystemRandom::new()).unwrap();
        let key = EdwardsKey::open(material.as_ref()).unwrap();
        let public = public_of(Curve25519::Edwards, material.as_ref()).unwrap();
        assert!(is_public(Curve25519::Edwards, &public));
        let pure = key.sign(&Mechanism::plain(MechanismType::EDDSA), b"message").unwrap();
        UnparsedPublicKey::new(&ED25519, public).verify(b"message", &pure).unwrap();
        assert_eq!(key.sign(&eddsa(false, b""), b"message").unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
        let under_context = key.sign(&eddsa(false, b"context"), b"message").unwrap();
        assert_ne!(under_context, pure);
        assert!(UnparsedPublicKey::new(&ED25519, public).verify(b"message", &under_context).is_err());
    }

    #[test]
    fn prehashed_signatures_are_bound_to_their_context() {
        let material = make(Curve25519::Edwards, &SystemRandom::new()).unwrap();
        let key = EdwardsKey::open(material.as_ref()).unwrap();
        let signature = key.sign(&eddsa(true, b"context"), b"message").unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        let digest = || Sha512::new_with_prefix(b"message");
        let public = key.0.verifying_key();
        assert!(public.verify_prehashed(digest(), Some(b"context"), &signature).is_ok());
        assert!(public.verify_prehashed(digest(), Some(b"other"), &signature).is_err());
    }

    #[test]
    fn two_sides_agree() {
        let random = SystemRandom::new();
        let keys = [(); 2].map(|()| make(Curve25519::Montgomery, &random).unwrap());
        let public = |key: &KeyBytes| public_of(Curve25519::Montgomery, key.as_ref()).unwrap();
        let agree = |own: &KeyBytes, other: &[u8]| MontgomeryKey::open(own.as_ref()).unwrap().agree(other);
        let shared = agree(&keys[0], &public(&keys[1])).unwrap();
        assert_eq!(shared, agree(&keys[1], &public(&keys[0])).unwrap());
        assert_eq!(shared, agree(&keys[1], &der::octet_string(&public(&keys[0]))).unwrap());
        assert_eq!(agree(&keys[0], &[0; 32]).unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
        assert_eq!(agree(&keys[0], &[9; 31]).unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
    }
}
