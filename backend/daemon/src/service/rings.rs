//! Rings: created and listed.

use kms_core::object::RingRole;
use kms_protocol::{RingId, RingPolicy, Secret};
use kms_store::{NewRing as StoredRing, RingMetadata};
use uuid::Uuid;

use super::operator::Command;
use super::{Backend, ServiceError};
use crate::dispatch::{self, OFFICER, USER};
use crate::pins;

/// A ring to be made.
pub struct NewRing {
    /// Its name: the token's label.
    pub name: String,
    /// What it allows.
    pub policy: RingPolicy,
    /// The user's PIN.
    pub user_pin: Secret,
    /// The security officer's PIN.
    pub so_pin: Secret,
}

impl NewRing {
    /// Whether name and PINs will do, without asking whether the name is free.
    ///
    /// # Errors
    /// When one of them will not do.
    pub fn check(&self) -> Result<(), ServiceError> {
        check_name(&self.name)?;
        for pin in [&self.user_pin, &self.so_pin] {
            pins::acceptable(pin).map_err(|_| ServiceError::BadPin)?;
        }
        Ok(())
    }
}

/// A ring, as listed.
#[derive(Clone, Debug)]
pub struct RingInfo {
    /// Its id.
    pub id: Uuid,
    /// Its slot.
    pub slot: u64,
    /// The token's label.
    pub label: String,
    /// The token's serial number.
    pub serial: String,
    /// What it allows.
    pub policy: RingPolicy,
    /// How many keys it has.
    pub keys: u64,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

impl Backend {
    /// Makes a ring with its user and its security officer.
    ///
    /// # Errors
    /// When the name or a PIN will not do, or the name is taken.
    pub fn create_ring(&self, ring: NewRing) -> Result<RingInfo, ServiceError> {
        ring.check()?;
        let store = &self.dispatch.store;
        if store.rings()?.iter().any(|known| known.label == ring.name) {
            return Err(ServiceError::Exists(ring.name));
        }
        let id = Uuid::new_v4();
        let project = store.projects()?.first().map(|project| project.id).unwrap_or_default();
        let command = Command {
            event: "kms.keyring.create",
            typed: "kms ring create",
            resource: format!("projects/{project}/keyrings/{id}"),
            project: Some(project),
        };
        let entry = Some(self.entry(command, [("label", ring.name.as_str().into())]));
        let made = store.insert_ring(&StoredRing {
            id: RingId(id.into_bytes()),
            label: ring.name,
            policy: ring.policy,
            created: self.dispatch.clock.seconds(),
            slot: None,
            metadata: RingMetadata::default(),
            entry,
        })?;
        self.dispatch.store_principal(&made, USER, RingRole::Admin, &ring.user_pin, 1, None)?;
        self.dispatch.store_principal(&made, OFFICER, RingRole::Officer, &ring.so_pin, 1, None)?;
        Ok(self.describe(&made, 0))
    }

    /// All rings, by slot.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rings(&self) -> Result<Vec<RingInfo>, ServiceError> {
        let store = &self.dispatch.store;
        store.rings()?.iter().map(|ring| Ok(self.describe(ring, store.count_keys(ring.id)?))).collect()
    }

    pub(super) fn ring_named(&self, name: &str) -> Result<kms_store::Ring, ServiceError> {
        let rings = self.dispatch.store.rings()?;
        rings
            .into_iter()
            .find(|ring| ring.label == name)
            .ok_or_else(|| ServiceError::NoSuchRing(name.to_owned()))
    }

    fn describe(&self, ring: &kms_store::Ring, keys: u64) -> RingInfo {
        let slot = dispatch::slot_of(ring, true);
        RingInfo {
            id: Uuid::from_bytes(ring.id.0),
            slot: slot.id.0,
            label: slot.label,
            serial: slot.serial,
            policy: slot.policy,
            keys,
            created: ring.created,
        }
    }
}

/// The name of a ring or a principal: it fits in a token's label, in a URI and before the colon of `name:secret`.
pub(super) fn check_name(name: &str) -> Result<(), ServiceError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=32).contains(&name.len()) && name.chars().all(legal) {
        Ok(())
    } else {
        Err(ServiceError::BadName(name.to_owned()))
    }
}
