//! Rings: made, edited, deleted, counted.

use kms_core::api::{CreateKeyRing, EditKeyRing, Outcome, RingPath};
use kms_core::audit::Entry;
use kms_protocol::{RingId, RingPolicy};
use kms_store::{IdempotencyKey, NewRing, RingMetadata};
use serde_json::json;
use uuid::Uuid;

use super::audit_events::asked;
use super::failure::Failure;
use super::{Dispatch, views};

impl Dispatch {
    pub(super) fn create_key_ring(
        &self,
        project: Uuid,
        ask: CreateKeyRing,
        repeat: Option<Uuid>,
        mut entry: Entry,
    ) -> Result<Outcome, Failure> {
        self.known_project(project)?;
        let id = Uuid::new_v4();
        let repeat = repeat.map(|id| IdempotencyKey { project, id, asked: asked(&("ring", &ask)) });
        entry.resource = RingPath { project, ring: id }.resource();
        entry.details.insert("displayName".to_owned(), json!(ask.display_name.as_str()));
        let name = ask.display_name.as_str().to_owned();
        let new = NewRing {
            id: RingId(id.into_bytes()),
            label: name.clone(),
            policy: RingPolicy::Strict,
            created: self.clock.seconds(),
            slot: None,
            metadata: RingMetadata {
                project: Some(project),
                display_name: Some(name),
                description: ask.description.text().map(str::to_owned),
            },
            entry: Some(entry),
        };
        let made = self.store.create_ring(new, repeat)??;
        let place = self.place(RingPath { project, ring: made })?;
        Ok(Outcome::KeyRing(views::ring(&place.ring)))
    }

    pub(super) fn edit_key_ring(
        &self,
        path: RingPath,
        ask: EditKeyRing,
        entry: Entry,
    ) -> Result<Outcome, Failure> {
        let place = self.place(path)?;
        let edit = move |metadata: RingMetadata| RingMetadata {
            display_name: ask.display_name.map(|name| name.as_str().to_owned()).or(metadata.display_name),
            description: match ask.description {
                Some(description) => description.text().map(str::to_owned),
                None => metadata.description,
            },
            ..metadata
        };
        self.store.edit_ring(place.ring.id, edit, entry)?;
        Ok(Outcome::KeyRing(views::ring(&self.place(path)?.ring)))
    }

    pub(super) fn delete_key_ring(&self, path: RingPath, entry: Entry) -> Result<Outcome, Failure> {
        let place = self.place(path)?;
        let gone = self.store.delete_ring(place.ring.id, self.clock.seconds(), entry);
        gone.map_err(|error| Failure::from(error).naming("key ring"))??;
        Ok(Outcome::Done)
    }

    pub(super) fn amounts(&self, project: Uuid) -> Result<Outcome, Failure> {
        let is_first = self.known_project(project)?;
        let rings: Vec<RingId> = self.rings_of(project, is_first)?.iter().map(|ring| ring.id).collect();
        Ok(Outcome::Amounts(self.store.amounts(&rings, self.clock.seconds())?))
    }
}
