//! Opened keys in memory: bounded, wiped when they leave, each opened once for all who wait for it.
//!
//! Only here is a key opened, and only for a `Permit`. A key is remembered under its object's number, together with
//! a print of what it was opened from: a row that was wrapped anew, or replaced, never answers with the old key.

use std::fmt;
use std::sync::Arc;

use kms_protocol::{KeyType, ObjectClass, ObjectId};
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use crate::config::KeyCache;
use crate::crypto::{CryptoError, OpenedKey};
use crate::hsm::{Hsm, HsmError};
use crate::integrity;
use crate::object::{KeyBytes, MasterVersion, Material, Object, Wrapped};
use crate::policy::Permit;

/// Why a key is not opened. Shared by all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeysError {
    /// The permit is for another object; a bug.
    #[error("the permit is for another object")]
    Unpermitted,
    /// The object is no key, or has no secret.
    #[error("the object has no secret key to open")]
    NoMaterial,
    /// The HSM does not unwrap it.
    #[error("the HSM did not unwrap it")]
    Hsm(#[source] Arc<HsmError>),
    /// Its bytes are no such key.
    #[error("its bytes are no key of its type")]
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

/// What a key was opened from. Wrapped bytes begin with a random IV and end with the tag over all of them, so both
/// together name them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Print {
    master: MasterVersion,
    ends: [u8; 28],
}

impl Print {
    fn of(wrapped: &Wrapped) -> Option<Self> {
        let (head, tail) = (wrapped.bytes.first_chunk::<12>()?, wrapped.bytes.last_chunk::<16>()?);
        let mut ends = [0; 28];
        ends[..12].copy_from_slice(head);
        ends[12..].copy_from_slice(tail);
        Some(Self { master: wrapped.master, ends })
    }
}

/// What an opened key is remembered under.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Name {
    /// A token object's number.
    Token(ObjectId),
    /// A session object's digest over class, type and material: a private key takes longer to parse than to hash.
    Session([u8; 32]),
}

/// The opened keys.
pub struct Keys {
    hsm: Hsm,
    opened: Cache<Name, (Option<Print>, Arc<OpenedKey>)>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} opened)", self.opened.entry_count())
    }
}

impl Keys {
    /// None is open yet.
    pub fn new(hsm: Hsm, bounds: &KeyCache) -> Self {
        let opened = Cache::builder().max_capacity(bounds.entries).time_to_live(bounds.lifetime).build();
        Self { hsm, opened }
    }

    /// The key, opened for the use that is permitted.
    ///
    /// # Errors
    /// When it cannot be unwrapped, or is no key.
    pub fn open(&self, permit: &Permit, object: &Object) -> Result<Arc<OpenedKey>, KeysError> {
        let (class, kind) = permitted(permit, object)?;
        match &object.material {
            Material::None => Err(KeysError::NoMaterial),
            Material::Wrapped(wrapped) => self.open_wrapped(object, wrapped, class, kind),
            // A secret key is prepared faster than it is looked up.
            Material::Open(bytes) if class == ObjectClass::SECRET_KEY => {
                Ok(Arc::new(OpenedKey::open(class, kind, bytes)?))
            }
            Material::Open(bytes) => {
                let name = Name::Session(digest(class, kind, bytes));
                let open = || Ok((None, Arc::new(OpenedKey::open(class, kind, bytes)?)));
                let (_, key) =
                    self.opened.try_get_with(name, open).map_err(|error: Arc<KeysError>| shared(&error))?;
                Ok(key)
            }
        }
    }

    /// The key's bytes themselves, for who may see them. They are not remembered.
    ///
    /// # Errors
    /// When it cannot be unwrapped, or is no key.
    pub fn material(&self, permit: &Permit, object: &Object) -> Result<KeyBytes, KeysError> {
        let (class, kind) = permitted(permit, object)?;
        match &object.material {
            Material::None => Err(KeysError::NoMaterial),
            Material::Wrapped(wrapped) => self.unwrap(object, wrapped, class, kind),
            Material::Open(bytes) => Ok(KeyBytes::from(bytes.as_ref().to_vec())),
        }
    }

    /// Forgets a key that is destroyed, disabled or changed; it is wiped when its last user is done.
    pub fn forget(&self, id: ObjectId) {
        self.opened.invalidate(&Name::Token(id));
    }

    fn open_wrapped(
        &self,
        object: &Object,
        wrapped: &Wrapped,
        class: ObjectClass,
        kind: KeyType,
    ) -> Result<Arc<OpenedKey>, KeysError> {
        let name = Name::Token(object.id.ok_or(KeysError::NoMaterial)?);
        let print = Print::of(wrapped);
        let open = || {
            let bytes = self.unwrap(object, wrapped, class, kind)?;
            Ok((print, Arc::new(OpenedKey::open(class, kind, &bytes)?)))
        };
        let remembered =
            self.opened.try_get_with(name, open).map_err(|error: Arc<KeysError>| shared(&error))?;
        if remembered.0 == print {
            return Ok(remembered.1);
        }
        // The row was wrapped anew since. A caller with the older row gets here as well, and opens it for itself alone.
        self.opened.invalidate(&name);
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

/// What kind of key the object is, if the permit is for it.
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
