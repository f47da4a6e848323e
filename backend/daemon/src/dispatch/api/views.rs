//! The API's response types, from the records of the store.

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

/// Returns a ring.
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

/// Returns a key with an algorithm of the API.
pub(super) fn key(record: &KeyRecord) -> Result<Key, Failure> {
    let metadata = &record.metadata;
    let algorithm = metadata.algorithm.ok_or_else(|| Problem::not_found("key"))?;
    Ok(Key {
        id: record.id,
        key_ring_id: Uuid::from_bytes(record.ring.0),
        display_name: name_of(record),
        description: metadata.description.clone(),
        state: record.state(),
        created_at: Time(record.created),
        deletion_date: metadata.deletion_at.map(Time),
        import_only: metadata.import_only,
        protection: Protection::Software.name(),
        purpose: algorithm.purpose(),
        algorithm,
        access_scope: metadata.access_scope,
        tags: tags_of(record),
        rotation_days: metadata.rotation_days,
        next_rotation_at: metadata.rotate_at.filter(|_| !record.is_deleted()).map(Time),
    })
}

/// Returns a key's display name: the stored one, or one derived from its label.
fn name_of(record: &KeyRecord) -> String {
    let nearest = || DisplayName::nearest(&record.label).as_str().to_owned();
    record.metadata.display_name.clone().unwrap_or_else(nearest)
}

fn tags_of(record: &KeyRecord) -> BTreeMap<String, String> {
    let tags = record.metadata.tags.as_deref().and_then(|text| serde_json::from_str(text).ok());
    tags.unwrap_or_default()
}

/// Returns the public key among the attributes of a private key, as PEM.
fn pem_of(attributes: &Template) -> Option<String> {
    let info = attributes.bytes(AttributeType::PUBLIC_KEY_INFO).filter(|info| !info.is_empty())?;
    public_key_pem(info)
}

/// Returns a version of a key; `object` reads the object that has its public key.
pub(super) fn version(
    record: &KeyRecord,
    version: &VersionRecord,
    object: &dyn Fn(RingId, ObjectId) -> Result<Object, StoreError>,
) -> Result<Version, Failure> {
    let (public_key, is_readable) = match version.hidden {
        None => (None, true),
        Some(id) => match object(record.ring, id) {
            Ok(object) => (pem_of(&object.attributes), true),
            Err(StoreError::RowInvalid { .. } | StoreError::NotFound) => (None, false),
            Err(error) => return Err(error.into()),
        },
    };
    let state = if is_readable { version.state() } else { VersionState::KeyMaterialInvalid };
    Ok(Version {
        number: version.number,
        key_id: record.id,
        key_ring_id: Uuid::from_bytes(record.ring.0),
        state,
        disabled: version.life.is_some_and(|life| life.is_disabled()),
        created_at: Time(version.created),
        destroy_date: version.life.and_then(|life| life.destroy_date()).map(Time),
        public_key,
    })
}

/// Returns a wrapping key with its state at the time `now`, in seconds since 1970.
pub(super) fn wrapping_key(
    record: &KeyRecord,
    now: u64,
    object: &dyn Fn(RingId, ObjectId) -> Result<Object, StoreError>,
) -> Result<WrappingKey, Failure> {
    let metadata = &record.metadata;
    let (algorithm, purpose) = metadata.wrapping.ok_or_else(|| Problem::not_found("wrapping key"))?;
    let expires = metadata.expires_at.unwrap_or(record.created);
    let public_key = match record.versions.first() {
        Some(first) => version(record, first, object)?.public_key,
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
        id: record.id,
        key_ring_id: Uuid::from_bytes(record.ring.0),
        display_name: name_of(record),
        description: metadata.description.clone(),
        state,
        created_at: Time(record.created),
        expires_at: Time(expires),
        protection: Protection::Software.name(),
        purpose,
        algorithm,
        access_scope: metadata.access_scope,
        public_key,
    })
}

impl Dispatch {
    /// Returns a version of a key in its current state.
    pub(super) fn version_view(
        &self,
        record: &KeyRecord,
        version: &VersionRecord,
    ) -> Result<Version, Failure> {
        self::version(record, version, &|ring, id| self.store.object_in_any_state(ring, id))
    }

    /// Returns a wrapping key in its current state.
    pub(super) fn wrapping_key_view(&self, record: &KeyRecord) -> Result<WrappingKey, Failure> {
        wrapping_key(record, self.clock.seconds(), &|ring, id| self.store.object_in_any_state(ring, id))
    }
}
