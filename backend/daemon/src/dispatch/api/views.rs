//! What the store knows, as the API says it.

use std::collections::BTreeMap;

use kms_core::api::{
    DisplayName, Key, KeyRing, Problem, Protection, Time, Version, VersionState, WrappingKey,
    WrappingKeyState,
};
use kms_core::object::Object;
use kms_crypto::public_key_pem;
use kms_protocol::{AttributeType, ObjectId, RingId, Template};
use kms_store::{KeyRecord, Ring, StoreError, VersionRecord};
use uuid::Uuid;

use super::Dispatch;
use super::failure::Failure;

/// A ring.
pub(super) fn ring(ring: &Ring) -> KeyRing {
    let nearest = || DisplayName::nearest(ring.label.as_bytes()).as_str().to_owned();
    KeyRing {
        id: Uuid::from_bytes(ring.id.0),
        display_name: ring.metadata.display_name.clone().unwrap_or_else(nearest),
        description: ring.metadata.description.clone(),
        state: "active",
        created_at: Time(ring.created),
    }
}

/// A key that the API has a name for.
pub(super) fn key(known: &KeyRecord) -> Result<Key, Failure> {
    let metadata = &known.metadata;
    let algorithm = metadata.algorithm.ok_or_else(|| Problem::not_found("key"))?;
    Ok(Key {
        id: known.id,
        key_ring_id: Uuid::from_bytes(known.ring.0),
        display_name: name_of(known),
        description: metadata.description.clone(),
        state: known.state(),
        created_at: Time(known.created),
        deletion_date: metadata.deletion_at.map(Time),
        import_only: metadata.import_only,
        protection: Protection::Software.name(),
        purpose: algorithm.purpose(),
        algorithm,
        access_scope: metadata.access_scope,
        tags: tags_of(known),
        rotation_days: metadata.rotation_days,
        next_rotation_at: metadata.rotate_at.filter(|_| !known.is_deleted()).map(Time),
    })
}

/// A key's name in the API.
fn name_of(known: &KeyRecord) -> String {
    let nearest = || DisplayName::nearest(&known.label).as_str().to_owned();
    known.metadata.display_name.clone().unwrap_or_else(nearest)
}

fn tags_of(known: &KeyRecord) -> BTreeMap<String, String> {
    let tags = known.metadata.tags.as_deref().and_then(|text| serde_json::from_str(text).ok());
    tags.unwrap_or_default()
}

/// The public half among the attributes of a private key's object, PEM.
fn pem_of(attributes: &Template) -> Option<String> {
    let info = attributes.bytes(AttributeType::PUBLIC_KEY_INFO).filter(|info| !info.is_empty())?;
    public_key_pem(info)
}

/// A version of a key; `object` finds the object that has its public half.
pub(super) fn version(
    known: &KeyRecord,
    version: &VersionRecord,
    object: &dyn Fn(RingId, ObjectId) -> Result<Object, StoreError>,
) -> Result<Version, Failure> {
    let (public_key, readable) = match version.hidden {
        None => (None, true),
        Some(id) => match object(known.ring, id) {
            Ok(object) => (pem_of(&object.attributes), true),
            Err(StoreError::RowInvalid { .. } | StoreError::NotFound) => (None, false),
            Err(error) => return Err(error.into()),
        },
    };
    let state = if readable { version.state() } else { VersionState::KeyMaterialInvalid };
    Ok(Version {
        number: version.number,
        key_id: known.id,
        key_ring_id: Uuid::from_bytes(known.ring.0),
        state,
        disabled: version.life.is_some_and(|life| life.is_disabled()),
        created_at: Time(version.created),
        destroy_date: version.life.and_then(|life| life.destroy_date()).map(Time),
        public_key,
    })
}

/// A wrapping key as it is at a time, in seconds since 1970.
pub(super) fn wrapping_key(
    known: &KeyRecord,
    now: u64,
    object: &dyn Fn(RingId, ObjectId) -> Result<Object, StoreError>,
) -> Result<WrappingKey, Failure> {
    let metadata = &known.metadata;
    let (algorithm, purpose) = metadata.wrapping.ok_or_else(|| Problem::not_found("wrapping key"))?;
    let expires = metadata.expires_at.unwrap_or(known.created);
    let public_key = match known.versions.first() {
        Some(first) => version(known, first, object)?.public_key,
        None => None,
    };
    let state = if expires <= now {
        WrappingKeyState::Expired
    } else if public_key.is_none() {
        WrappingKeyState::KeyMaterialUnavailable
    } else {
        WrappingKeyState::Active
    };
    Ok(WrappingKey {
        id: known.id,
        key_ring_id: Uuid::from_bytes(known.ring.0),
        display_name: name_of(known),
        description: metadata.description.clone(),
        state,
        created_at: Time(known.created),
        expires_at: Time(expires),
        protection: Protection::Software.name(),
        purpose,
        algorithm,
        access_scope: metadata.access_scope,
        public_key,
    })
}

impl Dispatch {
    /// A version of a key, as it is now.
    pub(super) fn view_of(&self, known: &KeyRecord, version: &VersionRecord) -> Result<Version, Failure> {
        self::version(known, version, &|ring, id| self.store.hidden_object(ring, id))
    }

    /// A wrapping key, as it is now.
    pub(super) fn wrapping_view(&self, known: &KeyRecord) -> Result<WrappingKey, Failure> {
        wrapping_key(known, self.clock.seconds(), &|ring, id| self.store.hidden_object(ring, id))
    }
}
