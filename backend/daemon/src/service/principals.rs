//! The principals of a ring as its owner handles them: who logs in over PKCS #11 with the PIN `name:secret`.

use kms_core::object::RingRole;
use kms_protocol::Secret;
use kms_store::StoreError;
use serde_json::json;

use super::accounts::AccountError;
use super::operator::Command;
use super::{Backend, ServiceError, check_name};
use crate::dispatch::{OFFICER, USER};
use crate::pins;

/// A principal, as listed.
#[derive(Clone, Debug)]
pub struct PrincipalInfo {
    /// The label of its ring.
    pub ring: String,
    /// Its name; `user` and `so` are the ring's own.
    pub name: String,
    /// What it may do.
    pub ring_role: RingRole,
    /// Whether it has a PIN to log in with.
    pub has_pin: bool,
}

impl Backend {
    /// Adds a named principal to a ring, who logs in with `name:secret`.
    ///
    /// # Errors
    /// When the name or the secret will not do, or the name is taken.
    pub fn add_account(
        &self,
        ring: &str,
        name: &str,
        ring_role: RingRole,
        secret: &Secret,
    ) -> Result<(), ServiceError> {
        check_name(name)?;
        pins::acceptable(secret).map_err(|_| ServiceError::BadPin)?;
        let ring = self.ring_named(ring)?;
        if self.dispatch.store.principal(ring.id, name)?.is_some() {
            return Err(ServiceError::Exists(name.to_owned()));
        }
        // A name that was removed and comes back must not revive the logins of who bore it before.
        let generation = self.dispatch.clock.millis();
        let command = Command {
            event: "kms.principal.create",
            typed: "kms account add",
            resource: format!("{}/principals/{name}", self.dispatch.ring_path(&ring)),
            project: Some(self.dispatch.project_of(&ring)?),
        };
        let entry = self.entry(command, [("standing", json!(format!("{ring_role:?}")))]);
        self.dispatch.store_principal(&ring, name, ring_role, secret, generation, Some(entry))?;
        Ok(())
    }

    /// The principals of a ring, or of all.
    ///
    /// # Errors
    /// When there is no such ring.
    pub fn principals(&self, ring: Option<&str>) -> Result<Vec<PrincipalInfo>, ServiceError> {
        let rings = match ring {
            Some(name) => vec![self.ring_named(name)?],
            None => self.dispatch.store.rings()?,
        };
        let mut listed = Vec::new();
        for ring in rings {
            let principals = self.dispatch.store.principals(ring.id)?.into_iter();
            listed.extend(principals.map(|principal| PrincipalInfo {
                ring: ring.label.clone(),
                has_pin: principal.has_pin(),
                name: principal.name,
                ring_role: principal.ring_role,
            }));
        }
        Ok(listed)
    }

    /// Removes a principal of a ring; the logins it made end.
    ///
    /// # Errors
    /// When there is none of that name, or it is the ring's own.
    pub fn remove_principal(&self, ring: &str, name: &str) -> Result<(), ServiceError> {
        if [USER, OFFICER].contains(&name) {
            return Err(AccountError::BuiltIn(name.to_owned()).into());
        }
        let found = self.ring_named(ring)?;
        let command = Command {
            event: "kms.principal.delete",
            typed: "kms account remove",
            resource: format!("{}/principals/{name}", self.dispatch.ring_path(&found)),
            project: Some(self.dispatch.project_of(&found)?),
        };
        let entry = self.entry(command, [("ring", json!(ring)), ("name", json!(name))]);
        match self.dispatch.store.remove_principal(found.id, name, entry) {
            Err(StoreError::NotFound) => {
                Err(AccountError::NoSuchPrincipal { ring: ring.to_owned(), name: name.to_owned() }.into())
            }
            done => Ok(done?),
        }
    }
}
