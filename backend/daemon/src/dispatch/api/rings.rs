//! Creates, edits and deletes key rings, and counts what a project has.

use kms_core::api::{CreateKeyRing, EditKeyRing, Outcome, RingPath};
use kms_core::audit::Entry;
use kms_protocol::{RingId, RingPolicy};
use kms_store::{IdempotencyKey, NewRing, RingMetadata};
use serde_json::json;
use uuid::Uuid;

use super::audit_events::request_digest;
use super::failure::Failure;
use super::{Dispatch, views};

impl Dispatch {
    pub(super) fn create_key_ring(
        &self,
        project: Uuid,
        request: CreateKeyRing,
        idempotency_key: Option<Uuid>,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        self.check_project(project)?;
        let id = Uuid::new_v4();
        let idempotency = idempotency_key.map(|id| IdempotencyKey {
            project,
            id,
            asked: request_digest(&("ring", &request)),
        });
        entry.resource = RingPath { project, ring: id }.resource();
        entry.details.insert("displayName".to_owned(), json!(request.display_name.as_str()));
        let name = request.display_name.as_str().to_owned();
        let new = NewRing {
            id: RingId(id.into_bytes()),
            label: name.clone(),
            policy: RingPolicy::Strict,
            created: self.clock.seconds(),
            slot: None,
            metadata: RingMetadata {
                project,
                display_name: Some(name),
                description: request.description.text().map(str::to_owned),
            },
            principals: Vec::new(),
            entry: Some(entry),
        };
        let created = self.store.create_ring(new, idempotency)??;
        let resolved = self.resolve_ring(RingPath { project, ring: created })?;
        Ok(Outcome::KeyRing(views::ring(&resolved.ring)))
    }

    pub(super) fn edit_key_ring(
        &self,
        path: RingPath,
        request: EditKeyRing,
        entry: Entry,
    ) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path)?;
        let edit = move |metadata: RingMetadata| RingMetadata {
            display_name: request.display_name.map(|name| name.as_str().to_owned()).or(metadata.display_name),
            description: match request.description {
                Some(description) => description.text().map(str::to_owned),
                None => metadata.description,
            },
            ..metadata
        };
        self.store.edit_ring(resolved.ring.id, edit, entry)?;
        Ok(Outcome::KeyRing(views::ring(&self.resolve_ring(path)?.ring)))
    }

    pub(super) fn delete_key_ring(&self, path: RingPath, entry: Entry) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path)?;
        let deleted = self.store.delete_ring(resolved.ring.id, self.clock.seconds(), entry);
        deleted.map_err(|error| Failure::from(error).not_found_as("key ring"))??;
        Ok(Outcome::Done)
    }

    pub(super) fn amounts(&self, project: Uuid) -> Result<Outcome, Failure> {
        self.check_project(project)?;
        let rings: Vec<RingId> = self.rings_of(project)?.iter().map(|ring| ring.id).collect();
        Ok(Outcome::Amounts(self.store.amounts(&rings, self.clock.seconds())?))
    }
}
