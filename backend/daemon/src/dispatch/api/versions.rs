//! Reads, enables, disables, destroys and restores versions of keys.

use kms_core::api::{Change, Outcome, Problem, Version, VersionPath};
use kms_core::audit::Entry;
use kms_core::object::KeyVersion;
use kms_protocol::ObjectId;
use kms_store::{KeyRecord, VersionRecord};

use super::failure::Failure;
use super::keys::check_not_deleted;
use super::{Dispatch, ResolvedRing};

impl Dispatch {
    pub(super) fn version(&self, path: VersionPath) -> Result<Version, Failure> {
        let resolved = self.resolve_ring(path.key.ring)?;
        let record = self.key(&resolved, path.key.key)?;
        self.version_view(&record, find_version(&record, path.number)?)
    }

    /// Changes the state of a version.
    pub(super) fn change(&self, path: VersionPath, change: Change, entry: Entry) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path.key.ring)?;
        let record = self.key(&resolved, path.key.key)?;
        let version = find_version(&record, path.number)?;
        check_not_deleted(&record)?;
        let key_version = KeyVersion { key: record.id.into_bytes(), number: version.number };
        let now = self.clock.seconds();
        let erase_at = now.saturating_add(self.lifecycle.deletion_seconds);
        let changed =
            self.store.change_version(resolved.ring.id, key_version, change, (now, erase_at), entry);
        changed.map_err(|error| Failure::from(error).not_found_as("version"))??;
        version.hidden.iter().for_each(|object| self.keys.forget(*object));
        Ok(Outcome::Done)
    }

    /// Returns a version that can be used, and its secret or private key object.
    pub(super) fn usable_version<'a>(
        &self,
        record: &'a KeyRecord,
        number: i64,
    ) -> Result<(&'a VersionRecord, ObjectId), Failure> {
        let version = find_version(record, number)?;
        check_not_deleted(record)?;
        let number = version.number;
        let life = version.life.ok_or_else(|| {
            Problem::conflict(format!(
                "key_material_invalid: version {number} was changed and cannot be used"
            ))
        })?;
        if life.destroy_date().is_some() {
            return Err(Problem::conflict(format!("version {number} is destroyed")).into());
        }
        if life.is_disabled() {
            return Err(Problem::conflict(format!("version {number} is disabled; enable it first")).into());
        }
        let hidden = version.hidden.ok_or_else(|| Problem::not_found("version"))?;
        Ok((version, hidden))
    }

    /// Returns the current version of a key.
    pub(super) fn current<'a>(&self, record: &'a KeyRecord) -> Result<&'a VersionRecord, Failure> {
        check_not_deleted(record)?;
        let none = || Problem::conflict("the key has no active version; rotate it, or enable one");
        Ok(record.current().ok_or_else(none)?)
    }

    /// Returns the ring and the key that a path names.
    pub(super) fn resolve_key(
        &self,
        path: kms_core::api::KeyPath,
    ) -> Result<(ResolvedRing, std::sync::Arc<KeyRecord>), Failure> {
        let resolved = self.resolve_ring(path.ring)?;
        let record = self.key(&resolved, path.key)?;
        Ok((resolved, record))
    }
}

/// Returns the version with this number; no version has a number below 1.
fn find_version(record: &KeyRecord, number: i64) -> Result<&VersionRecord, Problem> {
    let found = u32::try_from(number).ok().and_then(|number| record.version(number));
    found.ok_or_else(|| Problem::not_found("version"))
}
