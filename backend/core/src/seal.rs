//! Session objects under the backends' seal (architecture D4). Pure: randomness is an argument.
//!
//! A session object lives in the provider's memory, which may be an attacker's: the provider can neither read it, nor
//! change it, nor use it in another ring, nor, if it is private, under another principal's login. Any backend that
//! has the seals' key opens it.
//!
//! A seal is `form ‖ nonce ‖ AES-256-GCM(attributes, material)`. Each seal has a key of its own, HMAC-SHA-256 of the
//! nonce under the seals' key: with 24 random bytes no two seals ever share one, however many there are.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use hmac::{Hmac, Mac};
use kms_protocol::{AttributeType, DATA_BYTES_MAX, ObjectClass, RingId, Secret, Template, frame};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::object::{KeyBytes, Material, Object};

/// The random bytes of a seal.
pub const NONCE_BYTES: usize = 24;

/// The longest seal of a key: an RSA-4096 key takes 2.4 KiB and its attributes as much. A frame has room for it and for
/// the data of the call.
pub const SEAL_BYTES_MAX: usize = 32 << 10;

/// The longest seal of a data object, which no call has other data beside: its value and its attributes.
pub const DATA_SEAL_BYTES_MAX: usize = DATA_BYTES_MAX + SEAL_BYTES_MAX;

const TAG_BYTES: usize = 16;

/// What stands in front of the ciphertext.
const HEAD_BYTES: usize = 1 + NONCE_BYTES;

/// Why there is no seal, or none that opens.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// Not made here, changed since, or made for another ring or another principal.
    #[error("it was not sealed here, or for another ring or login")]
    Invalid,
    /// The object does not fit.
    #[error(
        "a session object is larger than {SEAL_BYTES_MAX} bytes, or a data object than {DATA_SEAL_BYTES_MAX}"
    )]
    TooLarge,
    /// A private object needs a principal to belong to.
    #[error("a private session object is made without a login")]
    NoOwner,
}

/// For whom a seal opens: its first byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// For everybody in the ring.
    Public = 1,
    /// For one principal of the ring.
    Private = 2,
}

/// What is inside, as it is read.
#[derive(serde::Deserialize)]
struct Sealed {
    attributes: Template,
    material: Secret,
}

/// The same as it is written.
#[derive(serde::Serialize)]
struct Sealing<'a> {
    attributes: &'a Template,
    material: &'a Secret,
}

/// Room for the attributes of most keys: a seal that takes more is moved once while it is written.
const ROOM_BYTES: usize = 1 << 10;

/// A name for a key's value that tells nothing of it to who lacks the seals' key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fingerprint(pub [u8; 32]);

/// Seals, and opens what it sealed.
pub struct Seals(Zeroizing<[u8; 32]>);

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seals")
    }
}

impl Seals {
    /// Works with a key that only the backends have.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// Seals an object for a ring, and a private one for `principal` too. `nonce` is random.
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
        let (form, owner) = match (attributes.bool(AttributeType::PRIVATE), principal) {
            (Some(true), None) => return Err(SealError::NoOwner),
            (Some(true), Some(principal)) => (Form::Private, principal),
            (Some(false) | None, _) => (Form::Public, ""),
        };
        let most = match attributes.class() {
            Some(ObjectClass::DATA) => DATA_SEAL_BYTES_MAX,
            _ => SEAL_BYTES_MAX,
        };
        let mut seal = Zeroizing::new(Vec::with_capacity(ROOM_BYTES + material.as_ref().len()));
        seal.push(form as u8);
        seal.extend_from_slice(&nonce);
        let sealing = Sealing { attributes, material: &Secret::from(material.as_ref()) };
        frame::append(&sealing, &mut seal).map_err(|_| SealError::TooLarge)?;
        if seal.len() + TAG_BYTES > most {
            return Err(SealError::TooLarge);
        }
        let bound = bound(ring, form, owner);
        let inside = &mut seal[HEAD_BYTES..];
        let tag = self.cipher(&nonce).encrypt_inout_detached(&Nonce::default(), &bound, inside.into());
        let tag = tag.map_err(|_| SealError::TooLarge)?;
        // From here on there is nothing to hide: it may grow where it likes.
        seal.extend_from_slice(&tag);
        Ok(Secret::from(std::mem::take(&mut *seal)))
    }

    /// Opens a seal shown in a ring by a principal, if the caller is one.
    ///
    /// # Errors
    /// When it is no seal of ours, or not for this ring and principal; which of them is not told.
    pub fn open(&self, ring: RingId, principal: Option<&str>, seal: &[u8]) -> Result<Object, SealError> {
        if seal.len() > DATA_SEAL_BYTES_MAX {
            return Err(SealError::Invalid);
        }
        let (form, rest) = seal.split_first().ok_or(SealError::Invalid)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Invalid)?;
        let (inside, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(SealError::Invalid)?;
        let (form, owner) = match (*form, principal) {
            (1, _) => (Form::Public, ""),
            (2, Some(principal)) => (Form::Private, principal),
            _ => return Err(SealError::Invalid),
        };
        let mut opened = Zeroizing::new(inside.to_vec());
        let bound = bound(ring, form, owner);
        let cipher = self.cipher(nonce);
        cipher
            .decrypt_inout_detached(&Nonce::default(), &bound, opened.as_mut_slice().into(), &Tag::from(*tag))
            .map_err(|_| SealError::Invalid)?;
        let Sealed { attributes, mut material } = match postcard::take_from_bytes(&opened) {
            Ok((sealed, [])) => sealed,
            Ok(_) | Err(_) => return Err(SealError::Invalid),
        };
        let material = match material.is_empty() {
            true => Material::None,
            false => Material::Open(KeyBytes::from(std::mem::take(material.bytes_mut()))),
        };
        Ok(Object { id: None, ring, version: None, attributes, material })
    }

    /// The fingerprint of a key's value: the same for all keys with this value, in whatever ring or session.
    pub fn fingerprint(&self, value: &[u8]) -> Fingerprint {
        Fingerprint(self.mac(b"kms print v1 ", value))
    }

    /// The cipher of one seal alone, which is why its own nonce is always zero.
    fn cipher(&self, nonce: &[u8; NONCE_BYTES]) -> Aes256Gcm {
        let key: Zeroizing<[u8; 32]> = Zeroizing::new(self.mac(b"kms seal v1 ", nonce));
        Aes256Gcm::new(<&Key<Aes256Gcm>>::from(&*key))
    }

    /// What the seals' key says of some bytes. No purpose is the beginning of another, so none answers for another.
    fn mac(&self, purpose: &[u8], bytes: &[u8]) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.as_slice())
            .expect("HMAC takes a key of any length");
        mac.update(purpose);
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }
}

/// What is authenticated with the inside: the form, the ring, and the owner's name to the end.
fn bound(ring: RingId, form: Form, owner: &str) -> Vec<u8> {
    let mut bound = Vec::with_capacity(1 + ring.0.len() + owner.len());
    bound.push(form as u8);
    bound.extend_from_slice(&ring.0);
    bound.extend_from_slice(owner.as_bytes());
    bound
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
        assert!(matches!(&object.material, Material::Open(key) if key.as_ref() == [5; 32]));
        assert_eq!((object.id, object.ring, object.version), (None, RING, None));
    }

    #[test]
    fn a_seal_opens_for_its_ring_and_owner_alone() {
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
    fn a_print_names_a_value_under_one_key() {
        let others = Seals::new(Zeroizing::new([8; 32]));
        assert_eq!(seals().fingerprint(&[5; 32]), seals().fingerprint(&[5; 32]));
        assert_ne!(seals().fingerprint(&[5; 32]), seals().fingerprint(&[5; 31]));
        assert_ne!(seals().fingerprint(&[5; 32]), others.fingerprint(&[5; 32]));
    }

    #[test]
    fn another_key_opens_nothing() {
        let others = Seals::new(Zeroizing::new([8; 32]));
        assert!(others.open(RING, Some("user"), &sealed(true)).is_err());
    }

    #[test]
    fn a_private_object_needs_an_owner_and_a_large_one_has_no_seal() {
        let key = KeyBytes::from(vec![5; 32]);
        let none = seals().seal(RING, None, &attributes(true), &key, [0; NONCE_BYTES]);
        assert_eq!(none.map(drop), Err(SealError::NoOwner));
        let large = KeyBytes::from(vec![5; SEAL_BYTES_MAX]);
        let none = seals().seal(RING, None, &attributes(false), &large, [0; NONCE_BYTES]);
        assert_eq!(none.map(drop), Err(SealError::TooLarge));
        let data = Template(vec![Attribute::ulong(AttributeType::CLASS, ObjectClass::DATA.0.into())]);
        let seal = |bytes| {
            let value = KeyBytes::from(vec![5; bytes]);
            seals().seal(RING, None, &data, &value, [0; NONCE_BYTES])
        };
        assert!(seals().open(RING, None, &seal(DATA_BYTES_MAX).unwrap()).is_ok());
        assert_eq!(seal(DATA_SEAL_BYTES_MAX).map(drop), Err(SealError::TooLarge));
        let nothing =
            seals().seal(RING, None, &Template::default(), &KeyBytes::from(vec![]), [0; NONCE_BYTES]);
        assert!(matches!(seals().open(RING, None, &nothing.unwrap()).unwrap().material, Material::None));
    }

    proptest! {
        #[test]
        fn no_changed_seal_opens(at in 0_usize..200, change in 1_u8.., private: bool) {
            let mut seal = sealed(private).to_vec();
            let at = at % seal.len();
            seal[at] ^= change;
            prop_assert_eq!(seals().open(RING, Some("user"), &seal).map(drop), Err(SealError::Invalid));
        }

        #[test]
        fn no_bytes_of_somebody_elses_open(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(seals().open(RING, Some("user"), &bytes).is_err());
        }
    }

    /// Not a test of time: `cargo test --release -p kms-core seal::tests::cost -- --ignored --nocapture` prints it.
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
