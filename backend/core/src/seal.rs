//! Seals: encrypted session objects (architecture D4). Pure: randomness is an argument.
//!
//! A session object is stored in the provider's memory, which an attacker may control: the provider can neither read
//! nor change it, nor use it in another ring, nor, if it is private, under another principal's login. Any backend that
//! has the seal key can open it.
//!
//! A seal is `kind ‖ nonce ‖ AES-256-GCM(attributes, material)`. Each seal has a key of its own, HMAC-SHA-256 of the
//! nonce under the seal key: with 24 random bytes no two seals ever share a key, however many there are.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use hmac::{Hmac, Mac};
use kms_protocol::{AttributeType, DATA_BYTES_MAX, ObjectClass, RingId, Secret, Template, frame};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::object::{KeyBytes, Material, Object};

/// The number of random bytes in a seal.
pub const NONCE_BYTES: usize = 24;

/// The maximum length of a key's seal: an RSA-4096 key takes 2.4 KiB and its attributes as much. A frame has space for
/// it and for the data of the call.
pub const SEAL_BYTES_MAX: usize = 32 << 10;

/// The maximum length of a data object's seal, its value and its attributes: no call sends other data with it.
pub const DATA_SEAL_BYTES_MAX: usize = DATA_BYTES_MAX + SEAL_BYTES_MAX;

const TAG_BYTES: usize = 16;

/// The length of the kind and the nonce before the ciphertext.
const HEADER_BYTES: usize = 1 + NONCE_BYTES;

/// The reason why an object cannot be sealed, or a seal cannot be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// Not sealed by this KMS, changed since, or sealed for another ring or another principal.
    #[error("the session object was not sealed by this KMS, or it was sealed for another ring or login")]
    Invalid,
    /// The object does not fit.
    #[error(
        "a session object is larger than {SEAL_BYTES_MAX} bytes, or a data object larger than {DATA_SEAL_BYTES_MAX} bytes"
    )]
    TooLarge,
    /// The object is private, and there is no principal that it could belong to.
    #[error("a private session object cannot be created without a login")]
    NoOwner,
}

/// The kind of a seal, its first byte: who may open it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// All callers of the ring.
    Public = 1,
    /// One principal of the ring.
    Private = 2,
}

/// The plaintext of a seal, for reading.
#[derive(serde::Deserialize)]
struct Content {
    attributes: Template,
    material: Secret,
}

/// The plaintext of a seal, for writing.
#[derive(serde::Serialize)]
struct ContentRef<'a> {
    attributes: &'a Template,
    material: &'a Secret,
}

/// The initial buffer size, enough for the attributes of most keys: a longer seal is reallocated once while it is
/// written.
const INITIAL_BYTES: usize = 1 << 10;

/// The fingerprint of a key's value, which reveals nothing of the value without the seal key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fingerprint(pub [u8; 32]);

/// Seals session objects, and opens them.
pub struct Seals(Zeroizing<[u8; 32]>);

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seals")
    }
}

impl Seals {
    /// Creates it with the seal key, which only the backend has.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// Seals an object for a ring; a private object also for `principal`. `nonce` is random.
    ///
    /// # Errors
    /// When the object is too large, or private without a principal.
    pub fn seal(
        &self,
        ring: RingId,
        principal: Option<&str>,
        attributes: &Template,
        material: &KeyBytes,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Secret, SealError> {
        let (kind, owner) = match (attributes.bool(AttributeType::PRIVATE), principal) {
            (Some(true), None) => return Err(SealError::NoOwner),
            (Some(true), Some(principal)) => (Kind::Private, principal),
            (Some(false) | None, _) => (Kind::Public, ""),
        };
        let max_bytes = match attributes.class() {
            Some(ObjectClass::DATA) => DATA_SEAL_BYTES_MAX,
            _ => SEAL_BYTES_MAX,
        };
        let mut seal = Zeroizing::new(Vec::with_capacity(INITIAL_BYTES + material.as_ref().len()));
        seal.push(kind as u8);
        seal.extend_from_slice(&nonce);
        let content = ContentRef { attributes, material: &Secret::from(material.as_ref()) };
        frame::append(&content, &mut seal).map_err(|_| SealError::TooLarge)?;
        if seal.len() + TAG_BYTES > max_bytes {
            return Err(SealError::TooLarge);
        }
        let aad = additional_data(ring, kind, owner);
        let content = &mut seal[HEADER_BYTES..];
        let tag = self.cipher(&nonce).encrypt_inout_detached(&Nonce::default(), &aad, content.into());
        let tag = tag.map_err(|_| SealError::TooLarge)?;
        // The buffer holds no plaintext any more, so it may be reallocated.
        seal.extend_from_slice(&tag);
        Ok(Secret::from(std::mem::take(&mut *seal)))
    }

    /// Opens a seal that a caller sent, in a ring and as a principal if it is logged in.
    ///
    /// # Errors
    /// When it was not sealed by this KMS, or not for this ring and principal; the error does not distinguish the
    /// cases.
    pub fn open(&self, ring: RingId, principal: Option<&str>, seal: &[u8]) -> Result<Object, SealError> {
        if seal.len() > DATA_SEAL_BYTES_MAX {
            return Err(SealError::Invalid);
        }
        let (kind, rest) = seal.split_first().ok_or(SealError::Invalid)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Invalid)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(SealError::Invalid)?;
        let (kind, owner) = match (*kind, principal) {
            (1, _) => (Kind::Public, ""),
            (2, Some(principal)) => (Kind::Private, principal),
            _ => return Err(SealError::Invalid),
        };
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let aad = additional_data(ring, kind, owner);
        let cipher = self.cipher(nonce);
        cipher
            .decrypt_inout_detached(&Nonce::default(), &aad, opened.as_mut_slice().into(), &Tag::from(*tag))
            .map_err(|_| SealError::Invalid)?;
        let Content { attributes, mut material } = match postcard::take_from_bytes(&opened) {
            Ok((content, [])) => content,
            Ok(_) | Err(_) => return Err(SealError::Invalid),
        };
        let material = match material.is_empty() {
            true => Material::None,
            false => Material::Plaintext(KeyBytes::from(std::mem::take(material.bytes_mut()))),
        };
        Ok(Object { id: None, ring, version: None, attributes, material })
    }

    /// The fingerprint of a key's value: the same for all keys with this value, in whatever ring or session.
    pub fn fingerprint(&self, value: &[u8]) -> Fingerprint {
        Fingerprint(self.mac(b"kms print v1 ", value))
    }

    /// The cipher of one seal. Its key is used once, so the GCM nonce is always zero.
    fn cipher(&self, nonce: &[u8; NONCE_BYTES]) -> Aes256Gcm {
        let key: Zeroizing<[u8; 32]> = Zeroizing::new(self.mac(b"kms seal v1 ", nonce));
        Aes256Gcm::new(<&Key<Aes256Gcm>>::from(&*key))
    }

    /// The MAC of some bytes under the seal key, for a purpose. No purpose is a prefix of another, so MACs of different
    /// purposes cannot be confused.
    fn mac(&self, purpose: &[u8], bytes: &[u8]) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.as_slice())
            .expect("HMAC takes a key of any length");
        mac.update(purpose);
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }
}

/// The additional authenticated data of a seal: its kind, the ring, and the owner's name to the end.
fn additional_data(ring: RingId, kind: Kind, owner: &str) -> Vec<u8> {
    let mut aad = Vec::with_capacity(1 + ring.0.len() + owner.len());
    aad.push(kind as u8);
    aad.extend_from_slice(&ring.0);
    aad.extend_from_slice(owner.as_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use kms_protocol::{Attribute, KeyType};
    use proptest::prelude::*;

    use super::*;

    const RING: RingId = RingId([1; 16]);

    fn seals() -> Seals {
        Seals::new(Zeroizing::new([9; 32]))
    }

    fn attributes(private: bool) -> Template {
        Template(vec![
            Attribute::ulong(AttributeType::CLASS, ObjectClass::SECRET_KEY.0.into()),
            Attribute::ulong(AttributeType::KEY_TYPE, KeyType::AES.0.into()),
            Attribute::bool(AttributeType::PRIVATE, private),
            Attribute::bytes(AttributeType::LABEL, b"session key".as_slice()),
        ])
    }

    fn sealed(private: bool) -> Secret {
        let key = KeyBytes::from(vec![5; 32]);
        seals().seal(RING, Some("user"), &attributes(private), &key, [3; NONCE_BYTES]).unwrap()
    }

    #[test]
    fn a_seal_opens_to_what_was_sealed() {
        let object = seals().open(RING, Some("user"), &sealed(true)).unwrap();
        assert_eq!(object.attributes, attributes(true));
        assert!(matches!(&object.material, Material::Plaintext(key) if key.as_ref() == [5; 32]));
        assert_eq!((object.id, object.ring, object.version), (None, RING, None));
    }

    #[test]
    fn a_seal_opens_only_for_its_ring_and_owner() {
        let open = |ring, principal, private| seals().open(ring, principal, &sealed(private)).map(drop);
        assert_eq!(open(RING, Some("user"), true), Ok(()));
        assert_eq!(open(RING, Some("other"), true), Err(SealError::Invalid));
        assert_eq!(open(RING, Some("use"), true), Err(SealError::Invalid));
        assert_eq!(open(RING, None, true), Err(SealError::Invalid));
        assert_eq!(open(RingId([2; 16]), Some("user"), true), Err(SealError::Invalid));
        assert_eq!(open(RING, None, false), Ok(()));
        assert_eq!(open(RING, Some("other"), false), Ok(()));
        assert_eq!(open(RingId([2; 16]), None, false), Err(SealError::Invalid));
    }

    #[test]
    fn a_fingerprint_depends_on_the_value_and_the_seal_key() {
        let other = Seals::new(Zeroizing::new([8; 32]));
        assert_eq!(seals().fingerprint(&[5; 32]), seals().fingerprint(&[5; 32]));
        assert_ne!(seals().fingerprint(&[5; 32]), seals().fingerprint(&[5; 31]));
        assert_ne!(seals().fingerprint(&[5; 32]), other.fingerprint(&[5; 32]));
    }

    #[test]
    fn another_key_opens_nothing() {
        let other = Seals::new(Zeroizing::new([8; 32]));
        assert!(other.open(RING, Some("user"), &sealed(true)).is_err());
    }

    #[test]
    fn private_objects_without_an_owner_and_large_objects_are_rejected() {
        let key = KeyBytes::from(vec![5; 32]);
        let rejected = seals().seal(RING, None, &attributes(true), &key, [0; NONCE_BYTES]);
        assert_eq!(rejected.map(drop), Err(SealError::NoOwner));
        let large = KeyBytes::from(vec![5; SEAL_BYTES_MAX]);
        let rejected = seals().seal(RING, None, &attributes(false), &large, [0; NONCE_BYTES]);
        assert_eq!(rejected.map(drop), Err(SealError::TooLarge));
        let data = Template(vec![Attribute::ulong(AttributeType::CLASS, ObjectClass::DATA.0.into())]);
        let seal = |bytes| {
            let value = KeyBytes::from(vec![5; bytes]);
            seals().seal(RING, None, &data, &value, [0; NONCE_BYTES])
        };
        assert!(seals().open(RING, None, &seal(DATA_BYTES_MAX).unwrap()).is_ok());
        assert_eq!(seal(DATA_SEAL_BYTES_MAX).map(drop), Err(SealError::TooLarge));
        let empty = seals().seal(RING, None, &Template::default(), &KeyBytes::from(vec![]), [0; NONCE_BYTES]);
        assert!(matches!(seals().open(RING, None, &empty.unwrap()).unwrap().material, Material::None));
    }

    proptest! {
        #[test]
        fn a_changed_seal_does_not_open(at in 0_usize..200, change in 1_u8.., private: bool) {
            let mut seal = sealed(private).to_vec();
            let at = at % seal.len();
            seal[at] ^= change;
            prop_assert_eq!(seals().open(RING, Some("user"), &seal).map(drop), Err(SealError::Invalid));
        }

        #[test]
        fn other_bytes_do_not_open(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(seals().open(RING, Some("user"), &bytes).is_err());
        }
    }

    /// Prints the time to open a seal: `cargo test --release -p kms-core seal::tests::cost -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, not a test"]
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    fn cost() {
        let (seals, seal) = (seals(), sealed(true));
        let start = std::time::Instant::now();
        for _ in 0..100_000 {
            std::hint::black_box(seals.open(RING, Some("user"), std::hint::black_box(&seal)).unwrap());
        }
        println!("open: {:?}", start.elapsed() / 100_000);
    }
}
