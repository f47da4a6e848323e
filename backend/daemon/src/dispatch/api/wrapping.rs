//! Wrapping keys, and the import of material that is wrapped under them.

use std::sync::Arc;

use kms_core::api::{
    CreateWrappingKey, ImportKey, KeyPath, Outcome, Problem, RequestContext, RingPath, Subject,
    WrappingKeyPath,
};
use kms_core::audit::Entry;
use kms_core::object::{KeyVersion, RingRole};
use kms_core::policy::Usage;
use kms_protocol::{ObjectRef, Rv};
use kms_store::{IdempotencyKey, KeyMetadata, KeyRecord, NewKey};
use serde_json::json;
use uuid::Uuid;

use super::audit_events::request_digest;
use super::failure::Failure;
use super::key_drafts::unwrapping;
use super::keys::check_not_deleted;
use super::{Dispatch, ResolvedRing, caller};
use crate::dispatch::open_key::PermittedKey;
use crate::error::Error;

/// How often an import is attempted while other callers add versions at the same time.
const IMPORT_ATTEMPTS: u32 = 32;

impl Dispatch {
    /// Returns a wrapping key of a ring.
    pub(super) fn wrapping_key(&self, resolved: &ResolvedRing, id: Uuid) -> Result<Arc<KeyRecord>, Failure> {
        let record = self.store.known(resolved.ring.id, id);
        let record = record.map_err(|error| Failure::from(error).not_found_as("wrapping key"))?;
        if record.metadata.wrapping.is_some() {
            Ok(record)
        } else {
            Err(Problem::not_found("wrapping key").into())
        }
    }

    pub(super) fn create_wrapping_key(
        &self,
        context: &RequestContext,
        path: RingPath,
        request: CreateWrappingKey,
        idempotency_key: Option<Uuid>,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path)?;
        let (id, now) = (Uuid::new_v4(), self.clock.seconds());
        let asked = request_digest(&(path, &request));
        let idempotency = idempotency_key.map(|id| IdempotencyKey { project: resolved.project, id, asked });
        entry.resource = Subject::WrappingKey(WrappingKeyPath { ring: path, key: id }).resource();
        entry.details.insert("displayName".to_owned(), json!(request.display_name.as_str()));
        entry.details.insert("algorithm".to_owned(), json!(request.algorithm.name()));
        let label = request.display_name.as_str();
        let metadata = KeyMetadata {
            wrapping: Some((request.algorithm, request.purpose)),
            display_name: Some(label.to_owned()),
            description: request.description.text().map(str::to_owned),
            access_scope: request.access_scope,
            expires_at: Some(now.saturating_add(self.lifecycle.wrapping_seconds)),
            ..KeyMetadata::default()
        };
        let by = caller(context, &resolved.ring, RingRole::Admin);
        let draft = self.generate_wrapping_draft(&by, label, request.algorithm)?;
        let (drafts, wrapped) = self.name_and_wrap(&resolved.ring, id, Some(draft))?;
        let new = NewKey {
            ring: resolved.ring.id,
            key: id.into_bytes(),
            label: label.as_bytes().to_vec(),
            algorithm: format!("wrapping-rsa-{}", request.algorithm.bits()),
            wrapped,
            created: now,
            metadata,
            entry: Some(entry),
        };
        let created = self.store.create_key(new, drafts, idempotency)??;
        let record = self.wrapping_key(&resolved, created)?;
        Ok(Outcome::WrappingKey(self.wrapping_key_view(&record)?))
    }

    pub(super) fn delete_wrapping_key(
        &self,
        path: WrappingKeyPath,
        entry: Entry,
    ) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path.ring)?;
        let record = self.wrapping_key(&resolved, path.key)?;
        let deleted = self.store.delete_wrapping_key(resolved.ring.id, path.key, entry);
        deleted.map_err(|error| Failure::from(error).not_found_as("wrapping key"))?;
        record
            .versions
            .iter()
            .filter_map(|version| version.hidden)
            .for_each(|object| self.keys.forget(object));
        Ok(Outcome::Done)
    }

    pub(super) fn import_key(
        &self,
        context: &RequestContext,
        path: KeyPath,
        request: &ImportKey,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path.ring)?;
        let record = self.key(&resolved, path.key)?;
        check_not_deleted(&record)?;
        let by = caller(context, &resolved.ring, RingRole::Admin);
        let algorithm = record.metadata.algorithm.ok_or(Error::NoSuchObject)?;
        let label = String::from_utf8_lossy(&record.label).into_owned();
        entry.details.insert("wrappingKeyId".to_owned(), json!(request.wrapping_key));
        for _ in 0..IMPORT_ATTEMPTS {
            let material = self.unwrap_import(context, &resolved, &record, request)?;
            let draft = self.import_draft(&by, &label, algorithm, material)?;
            let number = self.key(&resolved, path.key)?.next_number();
            let version = KeyVersion { key: record.id.into_bytes(), number };
            entry.details.insert("versionNumber".to_owned(), json!(number));
            let added =
                self.add_version(&resolved.ring, version, &draft.material, draft.drafts, Some(entry.clone()));
            match added {
                Ok(()) => return self.new_version(&resolved, path.key, number),
                // Another caller added that version first, or deleted the key.
                Err(Error::NoSuchObject) => check_not_deleted(&*self.key(&resolved, path.key)?)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::conflict("other callers add versions to the key at the same time; try again").into())
    }

    /// Unwraps the material of an import request with its wrapping key.
    fn unwrap_import(
        &self,
        context: &RequestContext,
        resolved: &ResolvedRing,
        record: &KeyRecord,
        request: &ImportKey,
    ) -> Result<kms_core::object::KeyBytes, Failure> {
        let wrapping = self.wrapping_key(resolved, request.wrapping_key)?;
        let (wrapping_algorithm, purpose) = wrapping.metadata.wrapping.ok_or(Error::NoSuchObject)?;
        let algorithm = record.metadata.algorithm.ok_or(Error::NoSuchObject)?;
        if !purpose.accepts(algorithm.purpose()) {
            let message = format!("the wrapping key's purpose does not fit a key of {}", algorithm.name());
            return Err(Problem::malformed(message).into());
        }
        if wrapping.metadata.expires_at.is_some_and(|at| at <= self.clock.seconds()) {
            return Err(Problem::conflict("the wrapping key has expired; create a new one").into());
        }
        let (_, hidden) = self.usable_version(&wrapping, 1)?;
        let mechanism = unwrapping(wrapping_algorithm);
        let caller = caller(context, &resolved.ring, RingRole::Admin);
        let object = ObjectRef::Token(hidden);
        let PermittedKey { permit, key, .. } =
            self.open_object(&resolved.ring, &caller, Usage::Unwrap, &object, &mechanism)?;
        let (class, kind) = (algorithm.class(), algorithm.key_type());
        kms_crypto::unwrap(&permit, &key, &mechanism, &request.wrapped, class, kind).map_err(|rv| match rv {
            Rv::WRAPPED_KEY_INVALID | Rv::WRAPPED_KEY_LEN_RANGE => {
                let message = format!(
                    "wrappedKey does not open: it must be wrapped with {} under this wrapping key's publicKey, and hold \
                     {}",
                    wrapping_algorithm.name(),
                    match class {
                        kms_protocol::ObjectClass::PRIVATE_KEY => "a private key in PKCS #8, DER",
                        _ => "the key's bytes",
                    }
                );
                Failure::from(Problem::malformed(message))
            }
            other => Failure::from(other),
        })
    }
}
