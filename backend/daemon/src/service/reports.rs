//! Reports on a home: export, amounts, usage.

use std::io::Write;

use kms_core::api::{Amounts, Problem, Usage};
use uuid::Uuid;

use super::{Backend, ServiceError};
use crate::dispatch::MasterUse;

impl Backend {
    /// Writes what is needed to recreate the architecture of one project, or of all projects, without key material.
    ///
    /// # Errors
    /// When there is no such project, or the export cannot be read or written.
    pub fn export(&self, project: Option<Uuid>, out: &mut dyn Write) -> Result<(), ServiceError> {
        Ok(self.dispatch.export(project)?.write(out)?)
    }

    /// Counts what a project contains; without an id, the first project.
    ///
    /// # Errors
    /// When there is no such project, or the database fails.
    pub fn amounts(&self, project: Option<Uuid>) -> Result<Amounts, ServiceError> {
        let first = || self.dispatch.home_project();
        let project = project.map_or_else(first, Ok)?;
        self.dispatch.amounts_of(project).map_err(failed)
    }

    /// How much the master key has wrapped.
    ///
    /// # Errors
    /// When the database fails.
    pub fn master_use(&self) -> Result<MasterUse, ServiceError> {
        Ok(self.dispatch.master_use()?)
    }

    /// The number of keys with `access_scope: SNA`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn sna_keys(&self) -> Result<u64, ServiceError> {
        Ok(self.dispatch.store.sna_keys()?)
    }

    /// The number of key versions that were available in each hour, of one project or of all.
    ///
    /// # Errors
    /// When there is no such project, or the database fails.
    pub fn usage(&self, project: Option<Uuid>, range: (u64, u64)) -> Result<Usage, ServiceError> {
        self.dispatch.usage_of(project, range).map_err(failed)
    }
}

fn failed(problem: Problem) -> ServiceError {
    ServiceError::Export(problem.into())
}

#[cfg(test)]
mod tests {
    use kms_protocol::{RingPolicy, Secret};
    use serde_json::Value;

    use super::*;
    use crate::config::{self, Config};
    use crate::service::NewRing;
    use crate::test_home;

    #[test]
    fn an_export_is_reproducible_json_of_all_rings_without_secrets() {
        let name = "service::reports::tests::an_export_is_reproducible_json_of_all_rings_without_secrets";
        let Some(home) = test_home::home_in_child(name) else { return };
        let config = Config::read(&home.join(config::FILE_NAME)).unwrap();
        let backend = Backend::create(&config).unwrap();
        for name in ["first", "second"] {
            let pin = |pin: &[u8]| Secret::from(pin);
            let (user_pin, so_pin) = (pin(b"secret-of-user"), pin(b"secret-of-officer"));
            let policy = RingPolicy::Strict;
            backend.create_ring(NewRing { name: name.to_owned(), policy, user_pin, so_pin }).unwrap();
        }
        let export = || {
            let mut out = Vec::new();
            backend.export(None, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(!text.contains("secret") && !text.contains("argon2"), "{text}");
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let (mut one, mut two) = (export(), export());
        assert_eq!(one["format"], 1);
        for value in [&mut one, &mut two] {
            value["exportedAt"] = Value::Null;
        }
        assert_eq!(one, two);
        let rings = one["projects"][0]["keyRings"].as_array().unwrap();
        let labels: Vec<_> = rings.iter().map(|ring| ring["label"].as_str().unwrap()).collect();
        assert_eq!(labels, ["first", "second"]);
        assert_eq!(rings[0]["principals"].as_array().unwrap().len(), 2);
        let mut none = Vec::new();
        assert!(backend.export(Some(Uuid::from_u128(77)), &mut none).is_err());
        assert_eq!(backend.amounts(None).unwrap().key_rings, 2);
        assert!(backend.usage(None, (0, u64::MAX)).unwrap().hours.is_empty());
    }
}
