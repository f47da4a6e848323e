//! The cache of opened keys: bounded, wiped on eviction; a key is opened once for all callers that wait for it.
//!
//! No other module opens keys, and it needs a `Permit`. A key is cached under its object's id, together with the
//! identity of the wrapped bytes that it was opened from: after a row was wrapped again or replaced, the old key is not
//! used.

use std::fmt;
use std::sync::Arc;

use kms_core::integrity;
use kms_core::object::{KeyBytes, MasterVersion, Material, Object, Wrapped};
use kms_core::policy::Permit;
use kms_crypto::{CryptoError, OpenedKey};
use kms_hsm::{Hsm, HsmError};
use kms_protocol::{AttributeType, KeyType, ObjectClass, ObjectId};
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use crate::config::KeyCache;

/// Why a key is not opened. Shared by all callers that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeysError {
    /// The permit is for another object, which is a bug.
    #[error("the permit is for another object")]
    Unpermitted,
    /// The object is not a key, or has no secret.
    #[error("the object has no secret key to open")]
    NoMaterial,
    /// The HSM did not unwrap the key.
    #[error("the HSM did not unwrap it")]
    Hsm(#[source] Arc<HsmError>),
    /// The unwrapped bytes are not a key of the object's type.
    #[error("the unwrapped bytes are not a key of its type")]
    Crypto(#[source] Arc<CryptoError>),
}

impl From<HsmError> for KeysError {
    fn from(error: HsmError) -> Self {
        Self::Hsm(Arc::new(error))
    }
}

impl From<CryptoError> for KeysError {
    fn from(error: CryptoError) -> Self {
        Self::Crypto(Arc::new(error))
    }
}

/// The identity of wrapped bytes: the version of the master key, the random IV at their start, and the tag over all of
/// them at their end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct WrapId {
    master: MasterVersion,
    ends: [u8; 28],
}

impl WrapId {
    fn of(wrapped: &Wrapped) -> Option<Self> {
        let (iv, tag) = (wrapped.bytes.first_chunk::<12>()?, wrapped.bytes.last_chunk::<16>()?);
        let mut ends = [0; 28];
        ends[..12].copy_from_slice(iv);
        ends[12..].copy_from_slice(tag);
        Some(Self { master: wrapped.master, ends })
    }
}

/// The key of a cache entry.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum CacheKey {
    /// A token object's id.
    Token(ObjectId),
    /// The digest of a session object's class, type and material: to parse a private key takes longer than to hash it.
    Session([u8; 32]),
}

/// The cache of opened keys.
pub struct Keys {
    hsm: Hsm,
    opened: Cache<CacheKey, (Option<WrapId>, Arc<OpenedKey>)>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} opened)", self.opened.entry_count())
    }
}

impl Keys {
    /// Creates an empty cache.
    pub fn new(hsm: Hsm, bounds: &KeyCache) -> Self {
        let opened = Cache::builder().max_capacity(bounds.entries).time_to_live(bounds.lifetime).build();
        Self { hsm, opened }
    }

    /// Returns the approximate number of cached keys: those evicted a moment ago may still be counted.
    pub fn opened(&self) -> u64 {
        self.opened.entry_count()
    }

    /// Opens a key for the use that the permit allows.
    ///
    /// # Errors
    /// When it cannot be unwrapped, or is not a key.
    pub fn open(&self, permit: &Permit, object: &Object) -> Result<Arc<OpenedKey>, KeysError> {
        let (class, kind) = permitted(permit, object)?;
        match &object.material {
            Material::None => Err(KeysError::NoMaterial),
            Material::Wrapped(wrapped) => self.open_wrapped(object, wrapped, class, kind),
            // Not cached: opening a secret key takes less time than the lookup.
            Material::Plaintext(bytes) if class == ObjectClass::SECRET_KEY => {
                Ok(Arc::new(OpenedKey::open(class, kind, bytes)?))
            }
            Material::Plaintext(bytes) => {
                let cache_key = CacheKey::Session(digest(class, kind, bytes));
                let open = || Ok((None, Arc::new(OpenedKey::open(class, kind, bytes)?)));
                let (_, key) = self
                    .opened
                    .try_get_with(cache_key, open)
                    .map_err(|error: Arc<KeysError>| shared(&error))?;
                Ok(key)
            }
        }
    }

    /// Returns the value of a key or of a data object, for callers that may see or export it. It is not cached.
    ///
    /// # Errors
    /// When it cannot be unwrapped, or is not a key.
    pub fn material(&self, permit: &Permit, object: &Object) -> Result<KeyBytes, KeysError> {
        match &object.material {
            _ if permit.object() != object.id => Err(KeysError::Unpermitted),
            Material::None => Err(KeysError::NoMaterial),
            Material::Wrapped(wrapped) if object.version.is_none() => {
                let name = object.attributes.bytes(AttributeType::UNIQUE_ID).unwrap_or_default();
                let identity = integrity::value_identity(object.ring, name);
                Ok(self.hsm.unwrap(wrapped.master, &identity, &wrapped.bytes)?)
            }
            Material::Wrapped(wrapped) => {
                let (class, kind) = permitted(permit, object)?;
                self.unwrap(object, wrapped, class, kind)
            }
            Material::Plaintext(bytes) => Ok(KeyBytes::from(bytes.as_ref().to_vec())),
        }
    }

    /// Whether a token object's key is cached, so that its use does not wait for the HSM.
    pub fn is_open(&self, id: ObjectId) -> bool {
        self.opened.contains_key(&CacheKey::Token(id))
    }

    /// Removes a key that was destroyed, disabled or changed. It is wiped when its last user has finished.
    pub fn forget(&self, id: ObjectId) {
        self.opened.invalidate(&CacheKey::Token(id));
    }

    /// Wipes keys whose lifetime has ended. The cache itself does so only while it is used.
    pub fn wipe_expired(&self) {
        self.opened.run_pending_tasks();
    }

    fn open_wrapped(
        &self,
        object: &Object,
        wrapped: &Wrapped,
        class: ObjectClass,
        kind: KeyType,
    ) -> Result<Arc<OpenedKey>, KeysError> {
        let cache_key = CacheKey::Token(object.id.ok_or(KeysError::NoMaterial)?);
        let wrap_id = WrapId::of(wrapped);
        let open = || {
            let bytes = self.unwrap(object, wrapped, class, kind)?;
            Ok((wrap_id, Arc::new(OpenedKey::open(class, kind, &bytes)?)))
        };
        let cached =
            self.opened.try_get_with(cache_key, open).map_err(|error: Arc<KeysError>| shared(&error))?;
        if cached.0 == wrap_id {
            return Ok(cached.1);
        }
        // The row was wrapped again since. A caller with the older row gets here as well, and its key is not cached.
        self.opened.invalidate(&cache_key);
        let (_, key) = open()?;
        Ok(key)
    }

    fn unwrap(
        &self,
        object: &Object,
        wrapped: &Wrapped,
        class: ObjectClass,
        kind: KeyType,
    ) -> Result<KeyBytes, KeysError> {
        let version = object.version.ok_or(KeysError::NoMaterial)?;
        let identity = integrity::identity(object.ring, version, class, kind);
        Ok(self.hsm.unwrap(wrapped.master, &identity, &wrapped.bytes)?)
    }
}

/// Returns the class and type of the key, if the permit is for it.
fn permitted(permit: &Permit, object: &Object) -> Result<(ObjectClass, KeyType), KeysError> {
    if permit.object() != object.id {
        return Err(KeysError::Unpermitted);
    }
    object.class().zip(object.key_type()).ok_or(KeysError::NoMaterial)
}

fn shared(error: &Arc<KeysError>) -> KeysError {
    KeysError::clone(error)
}

fn digest(class: ObjectClass, kind: KeyType, bytes: &KeyBytes) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(class.0.to_le_bytes());
    digest.update(kind.0.to_le_bytes());
    digest.update(bytes);
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use kms_core::object::{Caller, KeyVersion, Login, LoginId, RingRole};
    use kms_core::policy::{self, Usage};
    use kms_protocol::{
        Attribute, AttributeType, Mechanism, MechanismType, RingId, RingPolicy, Secret, Template,
    };

    use super::*;
    use crate::config::{Config, FILE_NAME};
    use crate::test_home;

    const RING: RingId = RingId([1; 16]);
    const VERSION: KeyVersion = KeyVersion { key: [2; 16], number: 1 };
    const MASTER: MasterVersion = MasterVersion(1);

    fn keys(test: &str) -> Option<Keys> {
        let home = test_home::home_in_child(&format!("keys::tests::{test}"))?;
        let hsm = Hsm::open(&Config::read(&home.join(FILE_NAME)).unwrap().hsm()).unwrap();
        hsm.create_master(MASTER).unwrap();
        Some(Keys::new(hsm, &KeyCache { entries: 100, lifetime: Duration::from_secs(300) }))
    }

    fn object(id: Option<u64>, material: Material) -> Object {
        let attributes = Template(vec![
            Attribute::ulong(AttributeType::CLASS, ObjectClass::SECRET_KEY.0.into()),
            Attribute::ulong(AttributeType::KEY_TYPE, KeyType::AES.0.into()),
            Attribute::ulong(AttributeType::VALUE_LEN, 32),
            Attribute::bool(AttributeType::PRIVATE, true),
            Attribute::bool(AttributeType::ENCRYPT, true),
        ]);
        Object { id: id.map(ObjectId), ring: RING, version: Some(VERSION), attributes, material }
    }

    fn wrapped(keys: &Keys, id: u64, value: u8) -> Object {
        let identity = integrity::identity(RING, VERSION, ObjectClass::SECRET_KEY, KeyType::AES);
        let bytes = keys.hsm.wrap(MASTER, &identity, &[value; 32]).unwrap();
        object(Some(id), Material::Wrapped(Wrapped { master: MASTER, bytes }))
    }

    fn permit(object: &Object) -> Permit {
        let login = Some(Login::new(LoginId::default(), RING, "user".to_owned(), RingRole::Admin));
        let caller = Caller { peer: None, login, policy: RingPolicy::Compat };
        policy::permit(&caller, Usage::Encrypt, &Mechanism::plain(MechanismType::AES_ECB), object).unwrap()
    }

    fn encrypted(keys: &Keys, object: &Object) -> Secret {
        let (permit, mechanism) = (permit(object), Mechanism::plain(MechanismType::AES_ECB));
        kms_crypto::encrypt(&permit, &keys.open(&permit, object).unwrap(), &mechanism, &[0; 16]).unwrap()
    }

    #[test]
    fn a_key_is_opened_once_and_again_after_it_was_rewrapped() {
        let Some(keys) = keys("a_key_is_opened_once_and_again_after_it_was_rewrapped") else { return };
        let (first, rewrapped, other) = (wrapped(&keys, 1, 7), wrapped(&keys, 1, 7), wrapped(&keys, 1, 8));
        let open = |object| keys.open(&permit(object), object).unwrap();
        let opened = open(&first);
        assert!(Arc::ptr_eq(&opened, &open(&first)));
        assert!(!Arc::ptr_eq(&opened, &open(&rewrapped)));
        assert_eq!(encrypted(&keys, &first), encrypted(&keys, &rewrapped));
        // Neither is the new key used for the old row, which a caller may still hold, nor the old key for the new row.
        assert_ne!(encrypted(&keys, &first), encrypted(&keys, &other));
        assert_eq!(encrypted(&keys, &first), encrypted(&keys, &rewrapped));
        let before = open(&first);
        keys.forget(ObjectId(1));
        assert!(!Arc::ptr_eq(&before, &open(&first)));
    }

    #[test]
    fn all_callers_that_wait_get_the_same_opened_key() {
        let Some(keys) = keys("all_callers_that_wait_get_the_same_opened_key") else { return };
        let object = wrapped(&keys, 1, 7);
        let start = Barrier::new(8);
        let opened: Vec<_> = std::thread::scope(|scope| {
            let wait = || {
                start.wait();
                keys.open(&permit(&object), &object).unwrap()
            };
            let callers: Vec<_> = (0..8).map(|_| scope.spawn(wait)).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        assert!(opened.iter().all(|key| Arc::ptr_eq(key, &opened[0])));
    }

    #[test]
    fn a_mismatched_permit_or_row_opens_nothing() {
        let Some(keys) = keys("a_mismatched_permit_or_row_opens_nothing") else { return };
        let object = wrapped(&keys, 1, 7);
        let other = wrapped(&keys, 2, 7);
        assert!(matches!(keys.open(&permit(&other), &object), Err(KeysError::Unpermitted)));
        assert!(matches!(keys.material(&permit(&other), &object), Err(KeysError::Unpermitted)));
        let Material::Wrapped(wrapped) = &object.material else { panic!("it is wrapped") };
        for moved in [
            Object { ring: RingId([9; 16]), ..self::object(Some(3), Material::Wrapped(wrapped.clone())) },
            Object { version: None, ..self::object(Some(3), Material::Wrapped(wrapped.clone())) },
            self::object(Some(3), Material::None),
            self::object(Some(3), Material::Wrapped(Wrapped { master: MASTER, bytes: vec![0; 60] })),
            self::object(Some(3), Material::Wrapped(Wrapped { master: MasterVersion(2), ..wrapped.clone() })),
            self::object(Some(3), Material::Wrapped(Wrapped { master: MASTER, bytes: vec![] })),
        ] {
            assert!(keys.open(&permit(&moved), &moved).is_err(), "{moved:?}");
        }
        assert_eq!(keys.material(&permit(&object), &object).unwrap().as_ref(), [7; 32]);
    }

    #[test]
    fn a_session_key_is_the_value_in_its_seal() {
        let Some(keys) = keys("a_session_key_is_the_value_in_its_seal") else { return };
        let (stored, sealed) =
            (wrapped(&keys, 1, 7), object(None, Material::Plaintext(KeyBytes::from(vec![7; 32]))));
        assert_eq!(encrypted(&keys, &stored), encrypted(&keys, &sealed));
    }
}
