//! Opened keys: material and public keys, parsed and prepared for use.

use std::fmt;

use kms_core::object::KeyBytes;
use kms_protocol::{KeyType, ObjectClass, Rv, Template};

use super::error::CryptoError;
use super::stack::wipe_deep_stack;
use super::{aes, chacha, ec, edwards_montgomery, mldsa, mlkem, public, public_attributes, rsa, verify};

/// A key prepared for use, with everything that can be computed in advance. It is wiped on drop.
pub struct OpenedKey(pub(super) Kind);

/// The families of keys.
pub(super) enum Kind {
    Aes(Box<dyn aes::Modes>),
    ChaCha(Box<chacha::ChaChaKey>),
    Generic(KeyBytes),
    Rsa(Box<rsa::RsaKey>),
    Ec(Box<ec::EcKey>),
    Edwards(edwards_montgomery::EdwardsKey),
    Montgomery(Box<edwards_montgomery::MontgomeryKey>),
    Kem(mlkem::KemKey),
    Dsa(Box<mldsa::DsaKey>),
    PublicEc(verify::EcPublic),
    PublicRsa(Box<::rsa::PublicKey>),
    PublicKem(mlkem::KemPublic),
}

impl OpenedKey {
    /// The fingerprint that `compute` gives for an AES key's value. None for other keys.
    pub fn fingerprint<P>(&self, compute: impl FnOnce(&[u8]) -> P) -> Option<P> {
        match &self.0 {
            Kind::Aes(key) => Some(compute(key.value())),
            Kind::ChaCha(_) | Kind::Generic(_) | Kind::Rsa(_) | Kind::Ec(_) | Kind::Edwards(_) => None,
            Kind::Montgomery(_) | Kind::Kem(_) | Kind::Dsa(_) => None,
            Kind::PublicEc(_) | Kind::PublicRsa(_) | Kind::PublicKem(_) => None,
        }
    }

    /// Prepares a key from its material.
    ///
    /// # Errors
    /// When the material does not belong to a key of this class and type.
    pub fn open(class: ObjectClass, kind: KeyType, material: &KeyBytes) -> Result<Self, CryptoError> {
        let bytes = material.as_ref();
        if let Some((curve, _)) = edwards_montgomery::read(kind, bytes) {
            edwards_montgomery::check_built_in(curve)?;
        }
        let opened = match (class, kind) {
            (ObjectClass::SECRET_KEY, KeyType::AES) => aes::open(material).map(Kind::Aes),
            (ObjectClass::SECRET_KEY, KeyType::CHACHA20) => {
                chacha::ChaChaKey::open(material).map(|key| Kind::ChaCha(Box::new(key)))
            }
            (ObjectClass::SECRET_KEY, _) if public_attributes::is_any_secret(kind) => {
                Some(Kind::Generic(KeyBytes::from(bytes.to_vec())))
            }
            (ObjectClass::PRIVATE_KEY, KeyType::RSA) => {
                rsa::RsaKey::open(material).map(|key| Kind::Rsa(Box::new(key)))
            }
            (ObjectClass::PRIVATE_KEY, KeyType::EC) => {
                ec::EcKey::open(material).map(|key| Kind::Ec(Box::new(key)))
            }
            (ObjectClass::PRIVATE_KEY, KeyType::EC_EDWARDS) => {
                edwards_montgomery::EdwardsKey::open(bytes).map(Kind::Edwards)
            }
            (ObjectClass::PRIVATE_KEY, KeyType::EC_MONTGOMERY) => {
                edwards_montgomery::MontgomeryKey::open(bytes).map(|key| Kind::Montgomery(Box::new(key)))
            }
            (ObjectClass::PRIVATE_KEY, KeyType::ML_KEM) => mlkem::KemKey::open(bytes).map(Kind::Kem),
            (ObjectClass::PRIVATE_KEY, KeyType::ML_DSA) => {
                mldsa::DsaKey::open(bytes).map(|key| Kind::Dsa(Box::new(key)))
            }
            _ => return Err(CryptoError::Unsupported(class, kind)),
        };
        if kind == KeyType::ML_KEM || kind == KeyType::ML_DSA {
            wipe_deep_stack();
        }
        opened.map(Self).ok_or(CryptoError::Material(kind))
    }

    /// Prepares a public key, which wraps, encapsulates, encrypts or verifies, from its object's attributes.
    ///
    /// # Errors
    /// `CKR_KEY_TYPE_INCONSISTENT` for a type whose public keys the backend does not use.
    pub fn public(kind: KeyType, attributes: &Template) -> Result<Self, Rv> {
        match kind {
            KeyType::RSA => public::rsa_of(attributes).map(|key| Self(Kind::PublicRsa(Box::new(key)))),
            KeyType::EC => verify::EcPublic::open(attributes)
                .map(|key| Self(Kind::PublicEc(key)))
                .ok_or(Rv::ATTRIBUTE_VALUE_INVALID),
            KeyType::ML_KEM => public::kem_of(attributes).map(|key| Self(Kind::PublicKem(key))),
            _ => Err(Rv::KEY_TYPE_INCONSISTENT),
        }
    }

    /// The approximate memory of the key, for the cache's limit.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Kind::Aes(_) => aes::OPENED_BYTES,
            Kind::Rsa(key) => key.bytes(),
            Kind::Ec(_) => ec::OPENED_BYTES,
            Kind::Generic(key) => size_of::<Self>() + key.as_ref().len(),
            Kind::ChaCha(_) | Kind::Edwards(_) | Kind::Montgomery(_) => SMALL_BYTES,
            Kind::PublicRsa(_) | Kind::PublicEc(_) => SMALL_BYTES,
            Kind::Kem(_) | Kind::PublicKem(_) => mlkem::OPENED_BYTES,
            Kind::Dsa(_) => mldsa::OPENED_BYTES,
        }
    }

    fn key_type(&self) -> KeyType {
        match &self.0 {
            Kind::Aes(_) => KeyType::AES,
            Kind::ChaCha(_) => KeyType::CHACHA20,
            Kind::Generic(_) => KeyType::GENERIC_SECRET,
            Kind::Rsa(_) | Kind::PublicRsa(_) => KeyType::RSA,
            Kind::Ec(_) | Kind::PublicEc(_) => KeyType::EC,
            Kind::Edwards(_) => KeyType::EC_EDWARDS,
            Kind::Montgomery(_) => KeyType::EC_MONTGOMERY,
            Kind::Kem(_) | Kind::PublicKem(_) => KeyType::ML_KEM,
            Kind::Dsa(_) => KeyType::ML_DSA,
        }
    }
}

/// The approximate memory of a key on an Edwards or Montgomery curve, a ChaCha20 key, or a public RSA or EC key.
const SMALL_BYTES: usize = 1024;

impl fmt::Debug for OpenedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenedKey({})", self.key_type())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::{Curve, KeySpec};
    use zeroize::ZeroizeOnDrop;

    use super::*;
    use crate::generate;

    /// Compiles only if the type wipes itself on drop.
    fn wipes<T: ZeroizeOnDrop>() {}

    #[test]
    fn opened_keys_are_wiped_on_drop() {
        wipes::<::aes::Aes128>();
        wipes::<::aes::Aes192>();
        wipes::<::aes::Aes256>();
        wipes::<::aes_gcm::Aes256Gcm>();
        wipes::<::rsa::PrivateKey>();
        wipes::<chacha20poly1305::ChaCha20Poly1305>();
        wipes::<ed25519_dalek::SigningKey>();
        #[cfg(feature = "pre-release-curves")]
        wipes::<ed448_goldilocks::SigningKey>();
        wipes::<ml_dsa::ExpandedSigningKey<ml_dsa::MlDsa65>>();
        wipes::<zeroize::Zeroizing<Vec<u8>>>();
    }

    #[test]
    fn material_of_another_type_does_not_open() {
        let random = SystemRandom::new();
        let generated = generate(&KeySpec::Ec { curve: Curve::P256 }, &random).unwrap();
        let open = |class, kind| OpenedKey::open(class, kind, &generated.material);
        assert!(open(ObjectClass::PRIVATE_KEY, KeyType::EC).is_ok());
        assert!(matches!(
            open(ObjectClass::PRIVATE_KEY, KeyType::RSA),
            Err(CryptoError::Material(KeyType::RSA))
        ));
        assert!(matches!(
            open(ObjectClass::SECRET_KEY, KeyType::AES),
            Err(CryptoError::Material(KeyType::AES))
        ));
        assert!(matches!(open(ObjectClass::PUBLIC_KEY, KeyType::EC), Err(CryptoError::Unsupported(..))));
        for length in [0, 1, 31, 64] {
            let bytes = KeyBytes::from(generated.material.as_ref()[..length].to_vec());
            assert!(OpenedKey::open(ObjectClass::PRIVATE_KEY, KeyType::EC, &bytes).is_err());
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let key = KeyBytes::from(vec![0x41; 32]);
        let opened = OpenedKey::open(ObjectClass::SECRET_KEY, KeyType::AES, &key).unwrap();
        assert_eq!(format!("{opened:?}"), "OpenedKey(CKK_AES)");
        assert!(opened.bytes() > 32);
    }
}
