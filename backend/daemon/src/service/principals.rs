//! Commands on the principals of a ring: users who log in over PKCS#11 with the PIN `name:secret`.

use kms_core::object::RingRole;
use kms_protocol::Secret;
use kms_store::{PinKind, StoreError};
use serde_json::json;

use super::accounts::AccountError;
use super::audited_command::AuditedCommand;
use super::{Backend, ServiceError, check_name};
use crate::dispatch::{OFFICER, USER};
use crate::pins;

/// A principal, as `kms account list` shows it.
#[derive(Clone, Debug)]
pub struct PrincipalInfo {
    /// The label of its ring.
    pub ring: String,
    /// Its name; `user` and `so` are built in.
    pub name: String,
    /// Its role in the ring.
    pub ring_role: RingRole,
    /// Whether a PIN is set, so that it can log in.
    pub has_pin: bool,
    /// Whether the PIN's hash is bound to the HSM, so that a copy of the database is not enough to guess it.
    pub pin_bound: bool,
}

impl Backend {
    /// Adds a named principal to a ring; it logs in with `name:secret`.
    ///
    /// # Errors
    /// When the name or the secret is invalid, there is no such ring, or another principal of it has the name.
    pub fn add_account(
        &self,
        ring: &str,
        name: &str,
        ring_role: RingRole,
        secret: &Secret,
    ) -> Result<(), ServiceError> {
        check_name(name)?;
        pins::check_length(secret).map_err(|_| ServiceError::BadPin)?;
        let ring = self.ring_of(ring)?;
        if self.dispatch.store.principal(ring.id, name)?.is_some() {
            return Err(ServiceError::Exists(name.to_owned()));
        }
        // A name that is added again after its removal must not make the logins of the previous principal valid.
        let generation = self.dispatch.clock.millis();
        let audited = AuditedCommand {
            event: "kms.principal.create",
            command: "kms account add",
            resource: format!("{}/principals/{name}", self.dispatch.ring_path(&ring)),
            project: Some(ring.metadata.project),
        };
        let entry = self.entry(audited, [("standing", json!(format!("{ring_role:?}")))]);
        self.dispatch.store_principal(&ring, name, ring_role, secret, generation, Some(entry))?;
        Ok(())
    }

    /// The principals of one ring, or of all rings.
    ///
    /// # Errors
    /// When there is no such ring.
    pub fn principals(&self, ring: Option<&str>) -> Result<Vec<PrincipalInfo>, ServiceError> {
        let rings = match ring {
            Some(name) => vec![self.ring_of(name)?],
            None => self.dispatch.store.rings()?,
        };
        let mut listed = Vec::new();
        for ring in rings {
            let principals = self.dispatch.store.principals(ring.id)?.into_iter();
            listed.extend(principals.map(|principal| PrincipalInfo {
                ring: ring.label.clone(),
                has_pin: principal.has_pin(),
                pin_bound: principal.pin_kind == PinKind::Bound,
                name: principal.name,
                ring_role: principal.ring_role,
            }));
        }
        Ok(listed)
    }

    /// Removes a principal of a ring; its logins end.
    ///
    /// # Errors
    /// When there is no such principal, or it is built in.
    pub fn remove_principal(&self, ring: &str, name: &str) -> Result<(), ServiceError> {
        if [USER, OFFICER].contains(&name) {
            return Err(AccountError::BuiltIn(name.to_owned()).into());
        }
        let found = self.ring_of(ring)?;
        let audited = AuditedCommand {
            event: "kms.principal.delete",
            command: "kms account remove",
            resource: format!("{}/principals/{name}", self.dispatch.ring_path(&found)),
            project: Some(found.metadata.project),
        };
        let entry = self.entry(audited, [("ring", json!(found.label)), ("name", json!(name))]);
        match self.dispatch.store.remove_principal(found.id, name, entry) {
            Err(StoreError::NotFound) => {
                Err(AccountError::NoSuchPrincipal { ring: found.label, name: name.to_owned() }.into())
            }
            done => Ok(done?),
        }
    }
}
