//! Creates, edits, rotates, deletes and restores keys.

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

use super::audit_events::request_digest;
use super::failure::Failure;
use super::key_drafts::KeyDraft;
use super::{Dispatch, ResolvedRing, caller, views};
use crate::dispatch::object_ids::assign_ids;
use crate::error::Error;

/// A day, in seconds.
const DAY_SECONDS: u64 = 24 * 3600;

/// How often a rotation is attempted while other callers add versions at the same time.
const ROTATION_ATTEMPTS: u32 = 32;

impl Dispatch {
    /// Returns a key of a ring, if it has an algorithm of the API.
    pub(super) fn key(&self, resolved: &ResolvedRing, id: Uuid) -> Result<Arc<KeyRecord>, Failure> {
        let record = self.store.known(resolved.ring.id, id);
        let record = record.map_err(|error| Failure::from(error).not_found_as("key"))?;
        if record.metadata.algorithm.is_none() { Err(Problem::not_found("key").into()) } else { Ok(record) }
    }

    pub(super) fn create_key(
        &self,
        context: &RequestContext,
        path: RingPath,
        request: CreateKey,
        idempotency_key: Option<Uuid>,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path)?;
        let (id, now) = (Uuid::new_v4(), self.clock.seconds());
        let asked = request_digest(&(path, &request));
        let idempotency = idempotency_key.map(|id| IdempotencyKey { project: resolved.project, id, asked });
        let rotate_at = next_rotation(request.rotation_days, now)?;
        if request.import_only && request.rotation_days.is_some() {
            return Err(Problem::malformed("rotationDays and importOnly exclude each other").into());
        }
        entry.resource = Subject::Key(KeyPath { ring: path, key: id }).resource();
        entry.details.insert("displayName".to_owned(), json!(request.display_name.as_str()));
        entry.details.insert("algorithm".to_owned(), json!(request.algorithm.name()));
        entry.details.insert("importOnly".to_owned(), json!(request.import_only));
        let label = request.display_name.as_str();
        let metadata = KeyMetadata {
            algorithm: Some(request.algorithm),
            display_name: Some(label.to_owned()),
            description: request.description.text().map(str::to_owned),
            import_only: request.import_only,
            access_scope: request.access_scope,
            rotation_days: request.rotation_days,
            rotate_at,
            tags: tags_text(&request.tags),
            ..KeyMetadata::default()
        };
        let draft = if request.import_only {
            None
        } else {
            Some(self.generate_draft(
                &caller(context, &resolved.ring, RingRole::Admin),
                label,
                request.algorithm,
            )?)
        };
        let (drafts, wrapped) = self.name_and_wrap(&resolved.ring, id, draft)?;
        let new = NewKey {
            ring: resolved.ring.id,
            key: id.into_bytes(),
            label: label.as_bytes().to_vec(),
            algorithm: request.algorithm.name().to_owned(),
            wrapped,
            created: now,
            metadata,
            entry: Some(entry),
        };
        let created = self.store.create_key(new, drafts, idempotency)??;
        Ok(Outcome::Key(views::key(&*self.key(&resolved, created)?)?))
    }

    /// Assigns ids to a new key's objects, and wraps its material in the HSM.
    pub(super) fn name_and_wrap(
        &self,
        ring: &Ring,
        id: Uuid,
        draft: Option<KeyDraft>,
    ) -> Result<(Vec<Draft>, Option<Wrapped>), Failure> {
        let Some(KeyDraft { mut drafts, material }) = draft else { return Ok((Vec::new(), None)) };
        let version = KeyVersion { key: id.into_bytes(), number: 1 };
        drafts.iter_mut().for_each(|draft| assign_ids(draft, version));
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
        let class_and_type = first.and_then(|first| first.class().zip(first.key_type()));
        let (class, kind) = class_and_type.ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
        let identity = integrity::identity(ring.id, version, class, kind);
        Ok(self.wrap_under_master(&identity, material.as_ref())?)
    }

    pub(super) fn edit_key(&self, path: KeyPath, request: EditKey, entry: Entry) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path.ring)?;
        self.key(&resolved, path.key)?;
        let now = self.clock.seconds();
        let edit = move |metadata: &KeyMetadata| edited(metadata, request, now);
        self.store.edit_key(resolved.ring.id, path.key, edit, entry)??;
        Ok(Outcome::Key(views::key(&*self.key(&resolved, path.key)?)?))
    }

    pub(super) fn delete_key(&self, path: KeyPath, entry: Entry) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path.ring)?;
        self.key(&resolved, path.key)?;
        let at = self.clock.seconds().saturating_add(self.lifecycle.deletion_seconds);
        self.store.schedule_deletion(resolved.ring.id, path.key, at, entry)??;
        self.forget_key(&resolved.ring, path.key);
        Ok(Outcome::Done)
    }

    pub(super) fn restore_key(&self, path: KeyPath, entry: Entry) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path.ring)?;
        self.key(&resolved, path.key)?;
        let restored = self.store.restore_key(resolved.ring.id, path.key, self.clock.seconds(), entry);
        restored.map_err(|error| Failure::from(error).not_found_as("key"))??;
        Ok(Outcome::Done)
    }

    pub(super) fn rotate_key(
        &self,
        context: &RequestContext,
        path: KeyPath,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path.ring)?;
        for _ in 0..ROTATION_ATTEMPTS {
            let record = self.key(&resolved, path.key)?;
            check_not_deleted(&record)?;
            if record.metadata.import_only {
                let message = "the key is import-only: its versions are imported, not made";
                return Err(Problem::new(Status::Forbidden, message).into());
            }
            entry.details.insert("versionNumber".to_owned(), json!(record.next_number()));
            let number = match record.versions.iter().any(|version| version.hidden.is_some()) {
                true => self.rotate(&resolved.ring, path.key.into_bytes(), Some(entry.clone())),
                // All versions have been erased, so there are no attributes to copy.
                false => self.generate_version(context, &resolved, &record, entry.clone()),
            };
            match number {
                Ok(number) => return self.new_version(&resolved, path.key, number),
                // Another caller added that version first.
                Err(Error::NoSuchObject) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::conflict("other callers rotate the key at the same time; try again").into())
    }

    /// Generates the next version of a key without any material, from its algorithm.
    fn generate_version(
        &self,
        context: &RequestContext,
        resolved: &ResolvedRing,
        record: &KeyRecord,
        entry: Entry,
    ) -> Result<u32, Error> {
        let algorithm = record.metadata.algorithm.ok_or(Error::NoSuchObject)?;
        let label = String::from_utf8_lossy(&record.label).into_owned();
        let by = caller(context, &resolved.ring, RingRole::Admin);
        let draft = self.generate_draft(&by, &label, algorithm).map_err(|failure| match failure {
            Failure::Error(error) => error,
            Failure::Problem(_) => Error::Rejected(Rv::FUNCTION_FAILED),
        })?;
        let version = KeyVersion { key: record.id.into_bytes(), number: record.next_number() };
        self.add_version(&resolved.ring, version, &draft.material, draft.drafts, Some(entry))?;
        Ok(version.number)
    }

    /// Returns a version that was just added.
    pub(super) fn new_version(
        &self,
        resolved: &ResolvedRing,
        key: Uuid,
        number: u32,
    ) -> Result<Outcome, Failure> {
        let record = self.key(resolved, key)?;
        let version = record.version(number).ok_or(Error::NoSuchObject)?;
        Ok(Outcome::Version(self.version_view(&record, version)?))
    }

    /// Removes all versions of a key from the cache of opened keys.
    pub(super) fn forget_key(&self, ring: &Ring, id: Uuid) {
        let record = match self.store.known(ring.id, id) {
            Ok(record) => record,
            Err(StoreError::NotFound) => return,
            Err(error) => {
                tracing::warn!(%error, "a key's versions could not be read, so they stay in the cache of opened keys");
                return;
            }
        };
        record
            .versions
            .iter()
            .filter_map(|version| version.hidden)
            .for_each(|object| self.keys.forget(object));
    }
}

/// Fails with 409 if a key is deleted.
pub(super) fn check_not_deleted(record: &KeyRecord) -> Result<(), Problem> {
    if record.is_deleted() {
        return Err(Problem::conflict("the key is deleted; restore it first"));
    }
    Ok(())
}

/// Returns the time of the next rotation of a key with this period.
fn next_rotation(days: Option<u32>, now: u64) -> Result<Option<u64>, Problem> {
    match days {
        None => Ok(None),
        Some(days @ 1..=ROTATION_DAYS_MAX) => Ok(Some(now + u64::from(days) * DAY_SECONDS)),
        Some(other) => {
            let message = format!("rotationDays must be 1 to {ROTATION_DAYS_MAX}, not {other}");
            Err(Problem::malformed(message))
        }
    }
}

fn tags_text(tags: &kms_core::api::Tags) -> Option<String> {
    let map = tags.as_map();
    if map.is_empty() { None } else { Some(serde_json::to_string(map).expect("strings serialise")) }
}

fn edited(metadata: &KeyMetadata, request: EditKey, now: u64) -> Result<KeyMetadata, Problem> {
    let mut metadata = metadata.clone();
    if let Some(name) = request.display_name {
        metadata.display_name = Some(name.as_str().to_owned());
    }
    if let Some(description) = request.description {
        metadata.description = description.text().map(str::to_owned);
    }
    if let Some(tags) = request.tags {
        metadata.tags = tags_text(&tags);
    }
    if let Some(days) = request.rotation_days {
        if days.is_some() && metadata.import_only {
            return Err(Problem::malformed("an import-only key cannot be rotated"));
        }
        metadata.rotate_at = next_rotation(days, now)?;
        metadata.rotation_days = days;
    }
    Ok(metadata)
}
