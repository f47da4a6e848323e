//! Versions: seen, enabled, disabled, destroyed, restored.

use kms_core::api::{Change, Outcome, Problem, Version, VersionPath};
use kms_core::audit::Entry;
use kms_core::object::KeyVersion;
use kms_protocol::ObjectId;
use kms_store::{KeyRecord, VersionRecord};

use super::failure::Failure;
use super::keys::usable;
use super::{Dispatch, Place};

impl Dispatch {
    pub(super) fn version_view(&self, path: VersionPath) -> Result<Version, Failure> {
        let place = self.place(path.key.ring)?;
        let known = self.key(&place, path.key.key)?;
        self.view_of(&known, named(&known, path.number)?)
    }

    /// Changes where a version stands in its life.
    pub(super) fn change(&self, path: VersionPath, change: Change, entry: Entry) -> Result<Outcome, Failure> {
        let place = self.place(path.key.ring)?;
        let known = self.key(&place, path.key.key)?;
        let version = named(&known, path.number)?;
        usable(&known)?;
        let name = KeyVersion { key: known.id.into_bytes(), number: version.number };
        let now = self.clock.seconds();
        let at = now.saturating_add(self.lifecycle.deletion_seconds);
        let changed = self.store.change_version(place.ring.id, name, change, (now, at), entry);
        changed.map_err(|error| Failure::from(error).naming("version"))??;
        version.hidden.iter().for_each(|object| self.keys.forget(*object));
        Ok(Outcome::Done)
    }

    /// A version that can be used, with its objects: that of the secret, and that of the public half.
    pub(super) fn ready_version<'a>(
        &self,
        known: &'a KeyRecord,
        number: i64,
    ) -> Result<(&'a VersionRecord, ObjectId), Failure> {
        let version = named(known, number)?;
        usable(known)?;
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

    /// The current version of a key.
    pub(super) fn current<'a>(&self, known: &'a KeyRecord) -> Result<&'a VersionRecord, Failure> {
        usable(known)?;
        let none = || Problem::conflict("the key has no active version; rotate it, or enable one");
        Ok(known.current().ok_or_else(none)?)
    }

    /// The key that a version's path names.
    pub(super) fn key_of(
        &self,
        path: kms_core::api::KeyPath,
    ) -> Result<(Place, std::sync::Arc<KeyRecord>), Failure> {
        let place = self.place(path.ring)?;
        let known = self.key(&place, path.key)?;
        Ok((place, known))
    }
}

/// The version with this number; 0 and negative numbers are no version's.
fn named(known: &KeyRecord, number: i64) -> Result<&VersionRecord, Problem> {
    let found = u32::try_from(number).ok().and_then(|number| known.version(number));
    found.ok_or_else(|| Problem::not_found("version"))
}
