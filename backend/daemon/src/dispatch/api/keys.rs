//! Keys: made, edited, rotated, deleted, restored.

use std::sync::Arc;

use kms_core::api::{
    CreateKey, EditKey, KeyPath, Outcome, Problem, ROTATION_DAYS_MAX, RequestContext, RingPath, Status,
    Subject,
};
use kms_core::audit::Entry;
use kms_core::integrity;
use kms_core::object::{Draft, KeyBytes, KeyVersion, RingRole, Wrapped};
use kms_protocol::Rv;
use kms_store::{IdempotencyKey, KeyMetadata, KeyRecord, NewKey, Ring, StoreError};
use serde_json::json;
use uuid::Uuid;

use super::audit_events::asked;
use super::failure::Failure;
use super::material::Fresh;
use super::{Dispatch, Place, caller, views};
use crate::error::Error;

/// A day, in seconds.
const DAY_SECONDS: u64 = 24 * 3600;

/// How often the next version is tried for while others are faster.
const ROTATIONS_TRIED: u32 = 32;

impl Dispatch {
    /// A key of a ring that the API has a name for.
    pub(super) fn key(&self, place: &Place, id: Uuid) -> Result<Arc<KeyRecord>, Failure> {
        let known = self.store.known(place.ring.id, id);
        let known = known.map_err(|error| Failure::from(error).naming("key"))?;
        if known.metadata.algorithm.is_none() { Err(Problem::not_found("key").into()) } else { Ok(known) }
    }

    pub(super) fn create_key(
        &self,
        context: &RequestContext,
        path: RingPath,
        ask: CreateKey,
        repeat: Option<Uuid>,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        let place = self.place(path)?;
        let (id, now) = (Uuid::new_v4(), self.clock.seconds());
        let repeat =
            repeat.map(|id| IdempotencyKey { project: place.project, id, asked: asked(&(path, &ask)) });
        let rotate_at = next_rotation(ask.rotation_days, now)?;
        if ask.import_only && ask.rotation_days.is_some() {
            return Err(Problem::malformed("rotationDays and importOnly exclude each other").into());
        }
        entry.resource = Subject::Key(KeyPath { ring: path, key: id }).resource();
        entry.details.insert("displayName".to_owned(), json!(ask.display_name.as_str()));
        entry.details.insert("algorithm".to_owned(), json!(ask.algorithm.name()));
        entry.details.insert("importOnly".to_owned(), json!(ask.import_only));
        let label = ask.display_name.as_str();
        let metadata = KeyMetadata {
            algorithm: Some(ask.algorithm),
            display_name: Some(label.to_owned()),
            description: ask.description.text().map(str::to_owned),
            import_only: ask.import_only,
            access_scope: ask.access_scope,
            rotation_days: ask.rotation_days,
            rotate_at,
            tags: tags_text(&ask.tags),
            ..KeyMetadata::default()
        };
        let fresh = if ask.import_only {
            None
        } else {
            Some(self.fresh(&caller(context, &place.ring, RingRole::Admin), label, ask.algorithm)?)
        };
        let (drafts, wrapped) = self.ready(&place.ring, id, fresh)?;
        let new = NewKey {
            ring: place.ring.id,
            key: id.into_bytes(),
            label: label.as_bytes().to_vec(),
            algorithm: ask.algorithm.name().to_owned(),
            wrapped,
            created: now,
            metadata,
            entry: Some(entry),
        };
        let made = self.store.create_key(new, drafts, repeat)??;
        Ok(Outcome::Key(views::key(&*self.key(&place, made)?)?))
    }

    /// Names a new key's objects, and wraps its material in the HSM.
    pub(super) fn ready(
        &self,
        ring: &Ring,
        id: Uuid,
        fresh: Option<Fresh>,
    ) -> Result<(Vec<Draft>, Option<Wrapped>), Failure> {
        let Some(Fresh { mut drafts, material }) = fresh else { return Ok((Vec::new(), None)) };
        let version = KeyVersion { key: id.into_bytes(), number: 1 };
        drafts.iter_mut().for_each(|draft| crate::dispatch::new_keys::name(draft, version));
        let wrapped = self.wrap_first(ring, version, &drafts, &material)?;
        Ok((drafts, Some(wrapped)))
    }

    fn wrap_first(
        &self,
        ring: &Ring,
        version: KeyVersion,
        drafts: &[Draft],
        material: &KeyBytes,
    ) -> Result<Wrapped, Failure> {
        let first = drafts.first().map(|draft| &draft.attributes);
        let named = first.and_then(|first| first.class().zip(first.key_type()));
        let (class, kind) = named.ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
        let identity = integrity::identity(ring.id, version, class, kind);
        let bytes = self.hsm.wrap(self.master, &identity, material.as_ref())?;
        Ok(Wrapped { master: self.master, bytes })
    }

    pub(super) fn edit_key(&self, path: KeyPath, ask: EditKey, entry: Entry) -> Result<Outcome, Failure> {
        let place = self.place(path.ring)?;
        self.key(&place, path.key)?;
        let now = self.clock.seconds();
        let judge = move |metadata: &KeyMetadata| edited(metadata, ask, now);
        self.store.edit_key(place.ring.id, path.key, judge, entry)??;
        Ok(Outcome::Key(views::key(&*self.key(&place, path.key)?)?))
    }

    pub(super) fn delete_key(&self, path: KeyPath, entry: Entry) -> Result<Outcome, Failure> {
        let place = self.place(path.ring)?;
        self.key(&place, path.key)?;
        let at = self.clock.seconds().saturating_add(self.lifecycle.deletion_seconds);
        self.store.schedule_deletion(place.ring.id, path.key, at, entry)??;
        self.forget_key(&place.ring, path.key);
        Ok(Outcome::Done)
    }

    pub(super) fn restore_key(&self, path: KeyPath, entry: Entry) -> Result<Outcome, Failure> {
        let place = self.place(path.ring)?;
        self.key(&place, path.key)?;
        let restored = self.store.restore_key(place.ring.id, path.key, self.clock.seconds(), entry);
        restored.map_err(|error| Failure::from(error).naming("key"))??;
        Ok(Outcome::Done)
    }

    pub(super) fn rotate_key(
        &self,
        context: &RequestContext,
        path: KeyPath,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        let place = self.place(path.ring)?;
        for _ in 0..ROTATIONS_TRIED {
            let known = self.key(&place, path.key)?;
            usable(&known)?;
            if known.metadata.import_only {
                let said = "the key is import-only: its versions are imported, not made";
                return Err(Problem::new(Status::Forbidden, said).into());
            }
            entry.details.insert("versionNumber".to_owned(), json!(known.next_number()));
            let made = match known.versions.iter().any(|version| version.hidden.is_some()) {
                true => self.rotate(&place.ring, path.key.into_bytes(), Some(entry.clone())),
                // Nothing is left to make it like: all versions have been erased.
                false => self.remake(context, &place, &known, entry.clone()),
            };
            match made {
                Ok(number) => return self.new_version(&place, path.key, number),
                // Another caller made that version first.
                Err(Error::NoSuchObject) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::conflict("other callers rotate the key as well; try again").into())
    }

    fn remake(
        &self,
        context: &RequestContext,
        place: &Place,
        known: &KeyRecord,
        entry: Entry,
    ) -> Result<u32, Error> {
        let algorithm = known.metadata.algorithm.ok_or(Error::NoSuchObject)?;
        let label = String::from_utf8_lossy(&known.label).into_owned();
        let by = caller(context, &place.ring, RingRole::Admin);
        let fresh = self.fresh(&by, &label, algorithm).map_err(|failure| match failure {
            Failure::Ours(error) => error,
            Failure::Refused(_) => Error::Refused(Rv::FUNCTION_FAILED),
        })?;
        let version = KeyVersion { key: known.id.into_bytes(), number: known.next_number() };
        self.add_version(&place.ring, version, &fresh.material, fresh.drafts, Some(entry))?;
        Ok(version.number)
    }

    /// A version that was made just now.
    pub(super) fn new_version(&self, place: &Place, key: Uuid, number: u32) -> Result<Outcome, Failure> {
        let known = self.key(place, key)?;
        let version = known.version(number).ok_or(Error::NoSuchObject)?;
        Ok(Outcome::Version(self.view_of(&known, version)?))
    }

    /// Forgets the opened keys of all versions of a key.
    pub(super) fn forget_key(&self, ring: &Ring, id: Uuid) {
        let known = match self.store.known(ring.id, id) {
            Ok(known) => known,
            Err(StoreError::NotFound) => return,
            Err(error) => {
                tracing::warn!(%error, "a key's versions could not be read to forget them");
                return;
            }
        };
        known
            .versions
            .iter()
            .filter_map(|version| version.hidden)
            .for_each(|object| self.keys.forget(object));
    }
}

/// Says that a key is deleted, if it is.
pub(super) fn usable(known: &KeyRecord) -> Result<(), Problem> {
    if known.is_deleted() {
        return Err(Problem::conflict("the key is deleted; restore it first"));
    }
    Ok(())
}

/// When a key with this period is rotated next.
fn next_rotation(days: Option<u32>, now: u64) -> Result<Option<u64>, Problem> {
    match days {
        None => Ok(None),
        Some(days @ 1..=ROTATION_DAYS_MAX) => Ok(Some(now + u64::from(days) * DAY_SECONDS)),
        Some(other) => {
            let said = format!("rotationDays must be 1 to {ROTATION_DAYS_MAX}, not {other}");
            Err(Problem::malformed(said))
        }
    }
}

fn tags_text(tags: &kms_core::api::Tags) -> Option<String> {
    let map = tags.as_map();
    if map.is_empty() { None } else { Some(serde_json::to_string(map).expect("strings can be written")) }
}

fn edited(metadata: &KeyMetadata, ask: EditKey, now: u64) -> Result<KeyMetadata, Problem> {
    let mut metadata = metadata.clone();
    if let Some(name) = ask.display_name {
        metadata.display_name = Some(name.as_str().to_owned());
    }
    if let Some(description) = ask.description {
        metadata.description = description.text().map(str::to_owned);
    }
    if let Some(tags) = ask.tags {
        metadata.tags = tags_text(&tags);
    }
    if let Some(days) = ask.rotation_days {
        if days.is_some() && metadata.import_only {
            return Err(Problem::malformed("an import-only key cannot be rotated"));
        }
        metadata.rotate_at = next_rotation(days, now)?;
        metadata.rotation_days = days;
    }
    Ok(metadata)
}
