//! Bytes and keys in, bytes out; one file per family of keys.
//!
//! The room knows no callers, no objects and no storage: that an operation may be done is shown to it by a `Permit`,
//! and it checks that the permit is for this operation. Nothing here is hand-written cryptography; where a library
//! lacks a form, the form is composed from the library's own pieces (architecture D10, `docs/decisions/0006`), and the
//! composition is compared with another library or with published vectors in the tests.
//!
//! Which library does what:
//!
//! | operation | library |
//! |---|---|
//! | AES-GCM, IV of 12 bytes | `aes-gcm` (a tag below 16 bytes is checked by the composition) |
//! | AES-GCM, other IVs | composed: `ghash` and `ctr` over `aes` |
//! | AES ECB, CBC, CTR | `aes`, `cbc`, `ctr` |
//! | RSA signatures over SHA-256, SHA-384, SHA-512, usual salts | `aws-lc-rs` |
//! | RSA signatures otherwise | `rsa`, blinded; PSS padding is composed (`pss`) |
//! | RSA-OAEP with one digest of SHA-1, SHA-256, SHA-384, SHA-512 | `aws-lc-rs` |
//! | RSA-OAEP otherwise, PKCS #1 v1.5 decryption (implicit rejection) | `rsa`, blinded |
//! | ECDSA | `aws-lc-rs`; P-521 over more than 64 bytes: `p521` |
//! | HMAC | `hmac` over `sha1`, `sha2` |

mod aes;
mod digest;
mod ec;
mod gcm;
mod mac;
mod make;
mod pss;
mod random;
mod reveal;
mod rsa;
#[cfg(test)]
mod vectors;

use std::fmt;

use kms_protocol::{KeyType, Mechanism, ObjectClass, Rv, Secret};

use crate::object::KeyBytes;
use crate::policy::{Permit, Usage};

pub use make::{Made, make};
pub use reveal::reveal;

/// Why a key could not be made or read. Callers never see it: it is ours, and goes to the log.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// There are no keys of this kind here. Policy and store let none come so far.
    #[error("no key of class {0} and type {1} is used here")]
    Unsupported(ObjectClass, KeyType),
    /// The material is not what its object says.
    #[error("the material is not that of a key of type {0}")]
    Material(KeyType),
    /// The library could not make a key.
    #[error("a key of type {0} could not be made")]
    Making(KeyType),
    /// A permit for something else was shown.
    #[error("the permit is for something else")]
    Permit,
}

/// A key prepared for use: what can be computed ahead is computed once. Dropping it wipes it.
pub struct OpenedKey(Kind);

enum Kind {
    Aes(Box<dyn aes::Modes>),
    Rsa(Box<rsa::RsaKey>),
    Ec(ec::EcKey),
    Generic(KeyBytes),
}

impl OpenedKey {
    /// Prepares a key from its material.
    ///
    /// # Errors
    /// When the material does not belong to a key of this class and type.
    pub fn open(class: ObjectClass, kind: KeyType, material: &KeyBytes) -> Result<Self, CryptoError> {
        let opened = match (class, kind) {
            (ObjectClass::SECRET_KEY, KeyType::AES) => {
                Kind::Aes(aes::open(material).ok_or(CryptoError::Material(kind))?)
            }
            (ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET) => {
                Kind::Generic(KeyBytes::from(material.as_ref().to_vec()))
            }
            (ObjectClass::PRIVATE_KEY, KeyType::RSA) => {
                Kind::Rsa(Box::new(rsa::RsaKey::open(material).ok_or(CryptoError::Material(kind))?))
            }
            (ObjectClass::PRIVATE_KEY, KeyType::EC) => {
                Kind::Ec(ec::EcKey::open(material).ok_or(CryptoError::Material(kind))?)
            }
            _ => return Err(CryptoError::Unsupported(class, kind)),
        };
        Ok(Self(opened))
    }

    /// How much memory it takes, roughly, for the cache that bounds it.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Kind::Aes(_) => aes::OPENED_BYTES,
            Kind::Rsa(key) => key.bytes(),
            Kind::Ec(_) => ec::OPENED_BYTES,
            Kind::Generic(key) => size_of::<Self>() + key.as_ref().len(),
        }
    }
}

impl fmt::Debug for OpenedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Aes(_) => KeyType::AES,
            Kind::Rsa(_) => KeyType::RSA,
            Kind::Ec(_) => KeyType::EC,
            Kind::Generic(_) => KeyType::GENERIC_SECRET,
        };
        write!(f, "OpenedKey({kind})")
    }
}

/// Encrypts with a secret key.
///
/// # Errors
/// `CKR_DATA_LEN_RANGE` when the mechanism does not take data of this length.
pub fn encrypt(permit: &Permit, key: &OpenedKey, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    covered(permit, Usage::Encrypt, mechanism)?;
    match &key.0 {
        Kind::Aes(key) => key.encrypt(mechanism, data),
        // Encryption with a public key is the provider's.
        Kind::Rsa(_) | Kind::Ec(_) | Kind::Generic(_) => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// Decrypts with a secret or private key.
///
/// # Errors
/// `CKR_ENCRYPTED_DATA_INVALID` for whatever is wrong with the data but its length, which is
/// `CKR_ENCRYPTED_DATA_LEN_RANGE`.
pub fn decrypt(permit: &Permit, key: &OpenedKey, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    covered(permit, Usage::Decrypt, mechanism)?;
    match &key.0 {
        Kind::Aes(key) => key.decrypt(mechanism, data),
        Kind::Rsa(key) => key.decrypt(mechanism, data),
        Kind::Ec(_) | Kind::Generic(_) => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// Signs. For a hash-then-sign mechanism `data` is the digest.
///
/// # Errors
/// `CKR_DATA_LEN_RANGE` when the mechanism does not take data of this length.
pub fn sign(permit: &Permit, key: &OpenedKey, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    covered(permit, Usage::Sign, mechanism)?;
    match &key.0 {
        Kind::Rsa(key) => key.sign(mechanism, data),
        Kind::Ec(key) => key.sign(mechanism, data),
        Kind::Generic(key) => mac::sign(key, mechanism, data),
        Kind::Aes(_) => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// Verifies a MAC. Signatures of key pairs are verified by the provider: that needs no secret.
///
/// # Errors
/// `CKR_SIGNATURE_INVALID`, or `CKR_SIGNATURE_LEN_RANGE` when its length alone shows it.
pub fn verify(
    permit: &Permit,
    key: &OpenedKey,
    mechanism: &Mechanism,
    data: &[u8],
    signature: &[u8],
) -> Result<(), Rv> {
    covered(permit, Usage::Verify, mechanism)?;
    match &key.0 {
        Kind::Generic(key) => mac::verify(key, mechanism, data, signature),
        Kind::Aes(_) | Kind::Rsa(_) | Kind::Ec(_) => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// A permit for another use or mechanism is a bug of ours, and is stopped here.
fn covered(permit: &Permit, usage: Usage, mechanism: &Mechanism) -> Result<(), Rv> {
    if permit.covers(usage, mechanism.kind) { Ok(()) } else { Err(Rv::KEY_FUNCTION_NOT_PERMITTED) }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use kms_protocol::{Attribute, AttributeType, MechanismType, Parameters, RingId, RingPolicy, Template};
    use zeroize::ZeroizeOnDrop;

    use super::*;
    use crate::object::{Curve, KeySpec, Material, Object, Standing};
    use crate::policy::{self, callers::caller, permit};
    use ::rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};

    /// An object with the flags that make a key open to its user, as far as policy asks.
    fn object(class: ObjectClass, kind: KeyType, made: &Made) -> Object {
        let mut attributes = Template(vec![
            Attribute::ulong(AttributeType::CLASS, u64::from(class.0)),
            Attribute::ulong(AttributeType::KEY_TYPE, u64::from(kind.0)),
            Attribute::bool(AttributeType::SENSITIVE, false),
            Attribute::bool(AttributeType::EXTRACTABLE, true),
            Attribute::bool(AttributeType::ENCRYPT, true),
            Attribute::bool(AttributeType::DECRYPT, true),
        ]);
        made.attributes.iter().for_each(|attribute| attributes.set(attribute.clone()));
        Object { id: None, ring: RingId([1; 16]), version: None, attributes, material: Material::None }
    }

    fn revealed(class: ObjectClass, kind: KeyType, spec: &KeySpec) -> (Made, Template) {
        let made = make(spec, &SystemRandom::new()).unwrap();
        let user = caller(Some(Standing::User), RingPolicy::Strict);
        let permit = policy::permit_reveal(&user, &object(class, kind, &made)).unwrap();
        let secret = reveal(&permit, kind, class, &made.material).unwrap();
        (made, secret)
    }

    #[test]
    fn a_revealed_secret_is_the_key() {
        let (made, secret) = revealed(ObjectClass::SECRET_KEY, KeyType::AES, &KeySpec::Aes { bytes: 32 });
        assert_eq!(secret.bytes(AttributeType::VALUE), Some(made.material.as_ref()));

        let (made, secret) =
            revealed(ObjectClass::PRIVATE_KEY, KeyType::EC, &KeySpec::Ec { curve: Curve::P521 });
        let key = p521::SecretKey::from_slice(secret.bytes(AttributeType::VALUE).unwrap()).unwrap();
        let info = Template(made.public).bytes(AttributeType::PUBLIC_KEY_INFO).unwrap().to_vec();
        assert_eq!(p521::PublicKey::from_public_key_der(&info).unwrap(), key.public_key());

        let spec = KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] };
        let (made, secret) = revealed(ObjectClass::PRIVATE_KEY, KeyType::RSA, &spec);
        let other = ::rsa::PrivateKey::from_pkcs8_der(made.material.as_ref()).unwrap();
        let number = |kind| ::rsa::BoxedUint::from_be_slice(secret.bytes(kind).unwrap(), 2048).unwrap();
        assert_eq!(&number(AttributeType::PRIVATE_EXPONENT), ::rsa::traits::PrivateKeyParts::d(&other));
        let product = number(AttributeType::PRIME_1).wrapping_mul(number(AttributeType::PRIME_2));
        assert_eq!(&product, ::rsa::traits::PublicKeyParts::n(&other).as_ref());
        assert_eq!(secret.0.len(), 6);
    }

    #[test]
    fn a_permit_opens_nothing_else() {
        let made = make(&KeySpec::Aes { bytes: 16 }, &SystemRandom::new()).unwrap();
        let object = object(ObjectClass::SECRET_KEY, KeyType::AES, &made);
        let key = OpenedKey::open(ObjectClass::SECRET_KEY, KeyType::AES, &made.material).unwrap();
        let user = caller(Some(Standing::User), RingPolicy::Strict);
        let (ecb, cbc) = (
            Mechanism::plain(MechanismType::AES_ECB),
            Mechanism { kind: MechanismType::AES_CBC, parameters: Parameters::Iv([0; 16]) },
        );
        let permit = permit(&user, Usage::Encrypt, &ecb, &object).unwrap();
        assert!(encrypt(&permit, &key, &ecb, &[0; 16]).is_ok());
        let refused = Rv::KEY_FUNCTION_NOT_PERMITTED;
        assert_eq!(encrypt(&permit, &key, &cbc, &[0; 16]).unwrap_err(), refused);
        assert_eq!(decrypt(&permit, &key, &ecb, &[0; 16]).unwrap_err(), refused);
        assert_eq!(sign(&permit, &key, &ecb, &[0; 16]).unwrap_err(), refused);
        assert_eq!(verify(&permit, &key, &ecb, &[0; 16], &[0; 16]).unwrap_err(), refused);
        let shown = reveal(&permit, KeyType::AES, ObjectClass::SECRET_KEY, &made.material);
        assert!(matches!(shown, Err(CryptoError::Permit)));
    }

    /// Compiles only while the types that hold keys wipe themselves.
    fn wipes<T: ZeroizeOnDrop>() {}

    #[test]
    fn prepared_keys_wipe_themselves() {
        wipes::<::aes::Aes128>();
        wipes::<::aes::Aes192>();
        wipes::<::aes::Aes256>();
        wipes::<::aes_gcm::Aes256Gcm>();
        wipes::<::rsa::PrivateKey>();
        wipes::<zeroize::Zeroizing<Vec<u8>>>();
    }

    #[test]
    fn material_of_another_kind_does_not_open() {
        let random = SystemRandom::new();
        let made = make(&KeySpec::Ec { curve: Curve::P256 }, &random).unwrap();
        let open = |class, kind| OpenedKey::open(class, kind, &made.material);
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
            let bytes = KeyBytes::from(made.material.as_ref()[..length].to_vec());
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
