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
//! | ECDSA | `aws-lc-rs`; P-521 over more than 64 bytes: `p521`; DER: `p256`, `p384`, `p521` |
//! | RSA-OAEP with a public key | `rsa` |
//! | HMAC | `hmac` over `sha1`, `sha2`, `sha3` |
//! | AES-CMAC; AES key wrap | `cmac`; `aes-kw` |
//! | AES-CCM | composed: `cbc` and `ctr` over `aes` |
//! | ChaCha20-Poly1305 | `chacha20poly1305` |
//! | Ed25519, Ed25519ph | `ed25519-dalek` |
//! | Ed448, Ed448ph; X448 | `ed448-goldilocks`; `x448`: pre-releases (`docs/decisions/0034`) |
//! | The wrapping half of a key that has two | `hkdf` |
//! | ECDH, X25519 | `aws-lc-rs` |
//! | HKDF; X9.63 and SP 800-108 | `hkdf`; composed over digests and MACs |
//! | ML-KEM, ML-DSA | `aws-lc-rs`; ML-DSA with a context or without randomness, HashML-DSA: `ml-dsa`; seeds of ML-KEM: `ml-kem` |

mod account_key;
mod aes;
mod ccm;
mod chacha;
mod curve448;
mod der;
mod derive;
mod digest;
mod ec;
mod ed25519ctx;
mod edwards_montgomery;
mod export_value;
mod gcm;
mod generate;
mod import;
mod jwt;
mod kdf;
mod keywrap;
mod mac;
mod message;
mod mldsa;
mod mlkem;
mod pss;
mod public;
mod public_attributes;
mod random;
mod rsa;
mod rsa_parts;
mod verify;
mod wrap;
mod wrap_for_import;
mod wrap_subkey;
#[cfg(test)]
mod wycheproof_vectors;

use std::fmt;

use kms_core::object::KeyBytes;
use kms_core::policy::{Permit, Usage};
use kms_protocol::{KeyType, Mechanism, ObjectClass, Parameters, Rv, Secret, Template};

use self::mac::MacKey;

pub use account_key::{
    AccountPair, PUBLIC_KEY_FILE_BYTES_MAX, PublicKeyError, generate_account_key_pair, public_key_pem,
    read_public_key, rsa_public_key,
};
pub use derive::{decapsulate, derive, encapsulate};
pub use export_value::export_value;
pub use generate::{GeneratedKey, generate};
pub use import::{Imported, import};
pub use jwt::{
    Asserted, Asserter, Issued, JWT_BYTES_MAX, JwtError, JwtKeys, JwtUse, assertion_key, check_assertion,
};
pub use message::encrypt_message;
pub use public_attributes::{public_attributes, public_key_attributes};
pub use verify::{signature_from_der, signature_to_der};
pub use wrap::{unwrap, wrap};
pub use wrap_for_import::wrap_for_import;

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
    /// What an AES key's value is called by `name`; none for other keys.
    pub fn fingerprint<P>(&self, name: impl FnOnce(&[u8]) -> P) -> Option<P> {
        match &self.0 {
            Kind::Aes(key) => Some(name(key.value())),
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
        opened.map(Self).ok_or(CryptoError::Material(kind))
    }

    /// Prepares a public key, to wrap or to encapsulate with it, from its object's attributes.
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

    /// How much memory it takes, roughly, for the cache that bounds it.
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

/// What an opened key of a edwards_montgomery curve, a ChaCha20 key, or an RSA public key takes, roughly.
const SMALL_BYTES: usize = 1024;

impl fmt::Debug for OpenedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenedKey({})", self.key_type())
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
        Kind::ChaCha(key) => key.encrypt(mechanism, data),
        Kind::PublicRsa(key) => oaep(key, mechanism, data),
        Kind::Rsa(_) | Kind::Ec(_) | Kind::Generic(_) | Kind::Edwards(_) | Kind::Montgomery(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
        Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
    }
}

/// Encrypts with an RSA public key and OAEP.
fn oaep(key: &::rsa::PublicKey, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    let Parameters::Oaep { hash, mgf, label } = &mechanism.parameters else {
        return Err(Rv::MECHANISM_INVALID);
    };
    let random = aws_lc_rs::rand::SystemRandom::new();
    let encrypted = public::encrypt_oaep(key, (*hash, *mgf, label), data, &random);
    encrypted.map_err(|rv| if rv == Rv::KEY_SIZE_RANGE { Rv::DATA_LEN_RANGE } else { rv })
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
        Kind::ChaCha(key) => key.decrypt(mechanism, data),
        Kind::Rsa(key) => key.decrypt(mechanism, data),
        Kind::Ec(_) | Kind::Generic(_) | Kind::Edwards(_) | Kind::Montgomery(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
        Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicRsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
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
        Kind::Generic(key) => mac::sign(key.into(), mechanism, data),
        Kind::Aes(key) => mac::sign(MacKey::Aes(key.as_ref()), mechanism, data),
        Kind::Edwards(key) => key.sign(mechanism, data),
        Kind::Dsa(key) => key.sign(mechanism, data),
        Kind::ChaCha(_) | Kind::Montgomery(_) | Kind::Kem(_) => Err(Rv::KEY_TYPE_INCONSISTENT),
        Kind::PublicRsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// Verifies a MAC, or an ECDSA signature for a door without a provider behind it. Providers verify signatures
/// themselves: that needs no secret.
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
        Kind::Generic(key) => mac::verify(key.into(), mechanism, data, signature),
        Kind::Aes(key) => mac::verify(MacKey::Aes(key.as_ref()), mechanism, data, signature),
        Kind::PublicEc(key) => key.verify(mechanism, data, signature),
        Kind::ChaCha(_) | Kind::Rsa(_) | Kind::Ec(_) | Kind::Edwards(_) | Kind::Montgomery(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
        Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicRsa(_) | Kind::PublicKem(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
    }
}

/// A permit for another use or mechanism is a bug of ours, and is stopped here.
fn covered(permit: &Permit, usage: Usage, mechanism: &Mechanism) -> Result<(), Rv> {
    if permit.covers(usage, mechanism.kind) { Ok(()) } else { Err(Rv::KEY_FUNCTION_NOT_PERMITTED) }
}

/// Callers for tests.
#[cfg(test)]
mod callers {
    use kms_core::object::{Caller, Login, RingRole};
    use kms_protocol::{RingId, RingPolicy};

    /// A caller with this login in a ring of this policy.
    pub(crate) fn caller(ring_role: Option<RingRole>, policy: RingPolicy) -> Caller {
        let login =
            ring_role.map(|ring_role| Login { ring: RingId([1; 16]), name: "someone".to_owned(), ring_role });
        Caller { peer: None, login, policy }
    }
}

/// Permits for the tests of this crate.
#[cfg(test)]
mod permits {
    use kms_core::object::{Material, Object, RingRole};
    use kms_core::policy;
    use kms_protocol::{Attribute, AttributeType, RingId, RingPolicy};

    use super::*;
    use crate::callers::caller;

    /// A key that its owner opened to every use, as far as policy asks.
    pub(super) fn object(class: ObjectClass, kind: KeyType, attributes: &[Attribute]) -> Object {
        let number = |kind, code: u32| Attribute::ulong(kind, u64::from(code));
        let mut template = Template(vec![
            number(AttributeType::CLASS, class.0),
            number(AttributeType::KEY_TYPE, kind.0),
            Attribute::bool(AttributeType::SENSITIVE, false),
            Attribute::bool(AttributeType::EXTRACTABLE, true),
        ]);
        for flag in [
            AttributeType::ENCRYPT,
            AttributeType::DECRYPT,
            AttributeType::SIGN,
            AttributeType::VERIFY,
            AttributeType::WRAP,
            AttributeType::UNWRAP,
            AttributeType::DERIVE,
            AttributeType::ENCAPSULATE,
            AttributeType::DECAPSULATE,
        ] {
            template.set(Attribute::bool(flag, true));
        }
        attributes.iter().for_each(|attribute| template.set(attribute.clone()));
        Object {
            id: None,
            ring: RingId([1; 16]),
            version: None,
            attributes: template,
            material: Material::None,
        }
    }

    /// A permit for a use of it in a ring that allows everything.
    pub(super) fn permit(usage: Usage, mechanism: &Mechanism, object: &Object) -> Permit {
        mechanism.check().unwrap();
        let user = caller(Some(RingRole::User), RingPolicy::Compat);
        policy::permit(&user, usage, mechanism, object).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use ::rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::{Curve, KeySpec, RingRole};
    use kms_core::policy::{self, permit};
    use kms_protocol::{AttributeType, MechanismType, Parameters, RingPolicy};
    use zeroize::ZeroizeOnDrop;

    use super::permits::object;
    use super::*;
    use crate::callers::caller;

    fn revealed(class: ObjectClass, kind: KeyType, spec: &KeySpec) -> (GeneratedKey, Template) {
        let made = generate(spec, &SystemRandom::new()).unwrap();
        let user = caller(Some(RingRole::User), RingPolicy::Strict);
        let permit = policy::permit_reveal(&user, &object(class, kind, &made.attributes)).unwrap();
        let secret = export_value(&permit, kind, class, &made.material).unwrap();
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
        let made = generate(&KeySpec::Aes { bytes: 16 }, &SystemRandom::new()).unwrap();
        let object = object(ObjectClass::SECRET_KEY, KeyType::AES, &made.attributes);
        let key = OpenedKey::open(ObjectClass::SECRET_KEY, KeyType::AES, &made.material).unwrap();
        let user = caller(Some(RingRole::User), RingPolicy::Strict);
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
        let shown = export_value(&permit, KeyType::AES, ObjectClass::SECRET_KEY, &made.material);
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
        wipes::<chacha20poly1305::ChaCha20Poly1305>();
        wipes::<ed25519_dalek::SigningKey>();
        wipes::<ed448_goldilocks::SigningKey>();
        wipes::<ml_dsa::ExpandedSigningKey<ml_dsa::MlDsa65>>();
        wipes::<zeroize::Zeroizing<Vec<u8>>>();
    }

    #[test]
    fn material_of_another_kind_does_not_open() {
        let random = SystemRandom::new();
        let made = generate(&KeySpec::Ec { curve: Curve::P256 }, &random).unwrap();
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
