//! Background jobs: erases what is due, and rotates keys whose rotation period has ended.

use kms_core::api::{KeyPath, RingPath, Subject};
use kms_core::error_chain;
use kms_protocol::RingId;
use kms_store::{DueRotation, Purged};
use uuid::Uuid;

use super::Dispatch;
use super::audit_events::{purge_entry, system_entry};
use super::failure::Failure;
use crate::error::Error;

impl Dispatch {
    /// Runs the jobs that are due. Failures are logged; what failed is due again at the next call.
    pub(crate) fn run_due_jobs(&self) {
        if let Err(failure) = self.purge_due().and_then(|()| self.rotate_due()) {
            let problem = failure.problem("kms.scheduler", "");
            tracing::error!(cause = problem.message, "a background job failed; it is tried again");
        }
    }

    fn purge_due(&self) -> Result<(), Failure> {
        loop {
            let (now, at) = (self.clock.seconds(), self.clock.millis());
            let projects = self.projects_of_rings()?;
            let entry = move |what: &Purged| {
                let (Purged::Key { ring, .. }
                | Purged::Version { ring, .. }
                | Purged::WrappingKey { ring, .. }) = what;
                let project = projects.iter().find(|(id, _)| id == ring).map(|(_, project)| *project);
                purge_entry(at, project, what)
            };
            let erased = self.store.purge(now, entry)?;
            if erased.is_empty() {
                return Ok(());
            }
            tracing::info!(count = erased.len(), "key material was erased");
        }
    }

    /// Returns every ring with its project.
    fn projects_of_rings(&self) -> Result<Vec<(RingId, Uuid)>, Failure> {
        let rings = self.store.rings()?;
        Ok(rings.iter().map(|ring| (ring.id, ring.metadata.project)).collect())
    }

    fn rotate_due(&self) -> Result<(), Failure> {
        let due = self.store.due(self.clock.seconds())?;
        let projects = self.projects_of_rings()?;
        for DueRotation { ring: id, key } in due {
            let Some(ring) = self.store.ring_of(id)? else { continue };
            let project = projects.iter().find(|(ring, _)| *ring == id).map(|(_, project)| *project);
            let path = RingPath { project: project.unwrap_or_default(), ring: Uuid::from_bytes(id.0) };
            let resource = Subject::Key(KeyPath { ring: path, key }).resource();
            let entry = system_entry(self.clock.millis(), "kms.key.rotate", project, resource);
            match self.rotate(&ring, key.into_bytes(), Some(entry)) {
                Ok(_) | Err(Error::NoSuchObject) => {}
                Err(error) => {
                    tracing::error!(%key, cause = error_chain(&error), "a key could not be rotated")
                }
            }
        }
        Ok(())
    }
}
