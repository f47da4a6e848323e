//! Seals: encrypted session objects (architecture D4). Pure: randomness is an argument.
//!
//! A session object is stored in the provider's memory, which an attacker may control: the provider can neither read
//! nor change it, nor use it in another ring, nor, if it is private, under another login. Any backend that has the seal
//! key can open it. A seal ends by itself (docs/decisions/0050), because nobody can take it back: see [`SealContext`].
//!
//! A seal is `kind ‖ nonce ‖ AES-256-GCM(bounds, attributes, material)`. Each seal has a key of its own, HMAC-SHA-256 of
//! the nonce under the seal key: with 24 random bytes no two seals ever share a key, however many there are.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use hmac::{Hmac, Mac};
use kms_protocol::{AttributeType, DATA_BYTES_MAX, ObjectClass, ObjectId, RingId, Secret, Template, frame};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::object::{KeyBytes, Login, LoginId, Material, Object};

/// The number of random bytes in a seal.
pub const NONCE_BYTES: usize = 24;

/// How long a public session object can be used by callers without the login that created it, in seconds. It is the
/// lifetime of a ticket: a private object can be used as long as its login, which ends when it is not used for as long.
pub const PUBLIC_SEAL_SECONDS: u64 = 30 * 24 * 3600;

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
    /// Not sealed by this KMS, changed since, or sealed for another ring or another login, or before the ring was
    /// initialised again.
    #[error(
        "the session object was not sealed by this KMS, or it was sealed for another login or ring, or before the ring \
         was initialised again"
    )]
    Invalid,
    /// It has ended.
    #[error("the session object has ended: {0}")]
    Ended(SealEnd),
    /// The object does not fit.
    #[error(
        "a session object is larger than {SEAL_BYTES_MAX} bytes, or a data object larger than {DATA_SEAL_BYTES_MAX} bytes"
    )]
    TooLarge,
    /// The object is private, and there is no principal that it could belong to.
    #[error("a private session object cannot be created without a login")]
    NoOwner,
}

/// Why a session object has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealEnd {
    /// Its time is over.
    #[error("it is public and was sealed more than 30 days ago, by another login or by none")]
    Time,
    /// The principal has changed its PIN.
    #[error("its principal's PIN was changed by another login")]
    Pin,
    /// It is a copy, and the original was disabled, or its destruction was scheduled.
    #[error("the token object that it is a copy of is not active")]
    Origin,
}

/// Who seals or opens, and when. What is sealed in one context opens in another only if the ring and its epoch are the
/// same, and, if the object is private, the principal's name and the login too.
#[derive(Clone, Copy, Debug)]
pub struct SealContext<'a> {
    /// The ring.
    pub ring: RingId,
    /// How often the ring was initialised again.
    pub epoch: u64,
    /// The caller's login.
    pub login: Option<&'a Login>,
    /// The present time, in seconds since 1970.
    pub now: u64,
}

/// What ends a seal besides its context.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct SealBounds {
    /// When the object was created, in seconds since 1970.
    sealed: u64,
    /// The login that created it.
    login: Option<[u8; 16]>,
    /// How often the login's principal had changed its PIN.
    pin_changes: u64,
    /// The token object that it is a copy of.
    origin: Option<u64>,
}

impl SealBounds {
    /// Those of an object that is created now; `origin` is the token object that it is a copy of.
    pub fn of(context: &SealContext<'_>, origin: Option<ObjectId>) -> Self {
        Self {
            sealed: context.now,
            login: context.login.map(|login| login.id.0),
            pin_changes: context.login.map_or(0, |login| login.pin_changes),
            origin: origin.map(|origin| origin.0),
        }
    }

    /// The token object that it is a copy of: whoever opens the seal must check that it is still active.
    pub fn origin(&self) -> Option<ObjectId> {
        self.origin.map(ObjectId)
    }

    fn check(&self, context: &SealContext<'_>, kind: Kind) -> Result<(), SealEnd> {
        let login = context.login.filter(|login| Some(login.id.0) == self.login);
        match (kind, login) {
            (Kind::Private, Some(login)) if self.pin_changes < login.objects_from => Err(SealEnd::Pin),
            (Kind::Public, None) if context.now.saturating_sub(self.sealed) >= PUBLIC_SEAL_SECONDS => {
                Err(SealEnd::Time)
            }
            _ => Ok(()),
        }
    }
}

/// A session object that was opened.
#[derive(Debug)]
pub struct OpenedSeal {
    /// The object.
    pub object: Object,
    /// What ends its seal: to seal it anew.
    pub bounds: SealBounds,
}

/// The kind of a seal, its first byte: who may open it. Earlier releases, whose seals ended with nothing, wrote 1 and 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// All callers of the ring.
    Public = 3,
    /// One login to the ring.
    Private = 4,
}

/// The plaintext of a seal, for reading.
#[derive(serde::Deserialize)]
struct Content {
    bounds: SealBounds,
    attributes: Template,
    material: Secret,
}

/// The plaintext of a seal, for writing.
#[derive(serde::Serialize)]
struct ContentRef<'a> {
    bounds: &'a SealBounds,
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
pub struct Seals {
    key: Zeroizing<[u8; 32]>,
    /// Another key, because the counts by fingerprint must outlive the seals.
    fingerprint_key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seals")
    }
}

impl Seals {
    /// Creates it with the seal key and the key of the fingerprints, which only the backend has.
    pub fn new(key: Zeroizing<[u8; 32]>, fingerprint_key: Zeroizing<[u8; 32]>) -> Self {
        Self { key, fingerprint_key }
    }

    /// Seals an object. `nonce` is random.
    ///
    /// # Errors
    /// When the object is too large, or private without a login.
    pub fn seal(
        &self,
        context: &SealContext<'_>,
        bounds: &SealBounds,
        attributes: &Template,
        material: &KeyBytes,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Secret, SealError> {
        let kind = match attributes.bool(AttributeType::PRIVATE) {
            Some(true) => Kind::Private,
            Some(false) | None => Kind::Public,
        };
        let aad = additional_data(context, kind).ok_or(SealError::NoOwner)?;
        let max_bytes = match attributes.class() {
            Some(ObjectClass::DATA) => DATA_SEAL_BYTES_MAX,
            _ => SEAL_BYTES_MAX,
        };
        let mut seal = Zeroizing::new(Vec::with_capacity(INITIAL_BYTES + material.as_ref().len()));
        seal.push(kind as u8);
        seal.extend_from_slice(&nonce);
        let content = ContentRef { bounds, attributes, material: &Secret::from(material.as_ref()) };
        frame::append(&content, &mut seal).map_err(|_| SealError::TooLarge)?;
        if seal.len() + TAG_BYTES > max_bytes {
            return Err(SealError::TooLarge);
        }
        let content = &mut seal[HEADER_BYTES..];
        let tag = self.cipher(&nonce).encrypt_inout_detached(&Nonce::default(), &aad, content.into());
        let tag = tag.map_err(|_| SealError::TooLarge)?;
        // The buffer holds no plaintext any more, so it may be reallocated.
        seal.extend_from_slice(&tag);
        Ok(Secret::from(std::mem::take(&mut *seal)))
    }

    /// Opens a seal that a caller sent. The caller of this function checks that [`SealBounds::origin`] is active.
    ///
    /// # Errors
    /// When it was not sealed by this KMS, or not in this context, which the error does not distinguish; or when it has
    /// ended.
    pub fn open(&self, context: &SealContext<'_>, seal: &[u8]) -> Result<OpenedSeal, SealError> {
        if seal.len() > DATA_SEAL_BYTES_MAX {
            return Err(SealError::Invalid);
        }
        let (kind, rest) = seal.split_first().ok_or(SealError::Invalid)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Invalid)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(SealError::Invalid)?;
        let kind = [Kind::Public, Kind::Private].into_iter().find(|known| *known as u8 == *kind);
        let kind = kind.ok_or(SealError::Invalid)?;
        let aad = additional_data(context, kind).ok_or(SealError::Invalid)?;
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let cipher = self.cipher(nonce);
        cipher
            .decrypt_inout_detached(&Nonce::default(), &aad, opened.as_mut_slice().into(), &Tag::from(*tag))
            .map_err(|_| SealError::Invalid)?;
        let Content { bounds, attributes, mut material } = match postcard::take_from_bytes(&opened) {
            Ok((content, [])) => content,
            Ok(_) | Err(_) => return Err(SealError::Invalid),
        };
        bounds.check(context, kind).map_err(SealError::Ended)?;
        let material = match material.is_empty() {
            true => Material::None,
            false => Material::Plaintext(KeyBytes::from(std::mem::take(material.bytes_mut()))),
        };
        let object = Object { id: None, ring: context.ring, version: None, attributes, material };
        Ok(OpenedSeal { object, bounds })
    }

    /// The fingerprint of a key's value: the same for all keys with this value, in whatever ring or session.
    pub fn fingerprint(&self, value: &[u8]) -> Fingerprint {
        Fingerprint(mac(&self.fingerprint_key, b"kms print v1 ", value))
    }

    /// The cipher of one seal. Its key is used once, so the GCM nonce is always zero.
    fn cipher(&self, nonce: &[u8; NONCE_BYTES]) -> Aes256Gcm {
        let key: Zeroizing<[u8; 32]> = Zeroizing::new(mac(&self.key, b"kms seal v1 ", nonce));
        Aes256Gcm::new(<&Key<Aes256Gcm>>::from(&*key))
    }
}

/// The MAC of some bytes, for a purpose. No purpose is a prefix of another, so MACs of different purposes cannot be
/// confused: homes of earlier releases have one key for both.
fn mac(key: &[u8; 32], purpose: &[u8], bytes: &[u8]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
    mac.update(purpose);
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

/// The additional authenticated data of a seal: its kind, the ring and its epoch; if it is private, the login, and the
/// principal's name to the end. None for a private seal without a login.
fn additional_data(context: &SealContext<'_>, kind: Kind) -> Option<Vec<u8>> {
    let mut aad = vec![kind as u8];
    aad.extend_from_slice(&context.ring.0);
    aad.extend_from_slice(&context.epoch.to_be_bytes());
    if kind == Kind::Private {
        let Login { id: LoginId(id), name, .. } = context.login?;
        aad.extend_from_slice(id);
        aad.extend_from_slice(name.as_bytes());
    }
    Some(aad)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod measurement {
    use super::*;

    /// Prints the time to open a seal: `cargo test --release -p kms-core seal::measurement -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, not a test"]
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    fn cost() {
        let seals = Seals::new(Zeroizing::new([9; 32]), Zeroizing::new([10; 32]));
        let context = SealContext { ring: RingId([1; 16]), epoch: 0, login: None, now: 0 };
        let (bounds, value) = (SealBounds::of(&context, None), KeyBytes::from(vec![5; 32]));
        let seal = seals.seal(&context, &bounds, &Template::default(), &value, [3; NONCE_BYTES]).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..100_000 {
            std::hint::black_box(seals.open(&context, std::hint::black_box(&seal)).unwrap());
        }
        println!("open: {:?}", start.elapsed() / 100_000);
    }
}
