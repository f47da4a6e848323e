//! Rings: created and listed.

use kms_core::object::RingRole;
use kms_protocol::{RingId, RingPolicy, Secret};
use kms_store::{NewRing as StoredRing, Ring, RingMetadata};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::audited_command::AuditedCommand;
use super::{Backend, ServiceError};
use crate::dispatch::{self, OFFICER, USER};
use crate::pins;

/// A ring to create.
pub struct NewRing {
    /// The ring's name: the label of its token.
    pub name: String,
    /// The policy.
    pub policy: RingPolicy,
    /// The user's PIN.
    pub user_pin: Secret,
    /// The security officer's PIN.
    pub so_pin: Secret,
}

impl NewRing {
    /// Checks name and PINs, but not whether the name is already used.
    ///
    /// # Errors
    /// When one of them is invalid.
    pub fn check(&self) -> Result<(), ServiceError> {
        check_name(&self.name)?;
        for pin in [&self.user_pin, &self.so_pin] {
            pins::check_length(pin).map_err(|_| ServiceError::BadPin)?;
        }
        Ok(())
    }
}

/// A ring, as `kms ring list` shows it.
#[derive(Clone, Debug)]
pub struct RingInfo {
    /// The ring's id.
    pub id: Uuid,
    /// The slot of its token.
    pub slot: u64,
    /// The token's label.
    pub label: String,
    /// The token's serial number.
    pub serial: String,
    /// The policy.
    pub policy: RingPolicy,
    /// The number of its keys.
    pub keys: u64,
    /// The time of its creation, in seconds since 1970.
    pub created: u64,
}

impl Backend {
    /// Creates a ring with its user and its security officer.
    ///
    /// # Errors
    /// When the name or a PIN is invalid, or another ring has the name.
    pub fn create_ring(&self, ring: NewRing) -> Result<RingInfo, ServiceError> {
        ring.check()?;
        let store = &self.dispatch.store;
        if store.rings()?.iter().any(|known| known.label == ring.name) {
            return Err(ServiceError::Exists(ring.name));
        }
        let id = Uuid::new_v4();
        let project = self.dispatch.home_project()?;
        let of = RingId(id.into_bytes());
        let principals = vec![
            self.dispatch.new_principal(of, USER, RingRole::Admin, &ring.user_pin, 1)?,
            self.dispatch.new_principal(of, OFFICER, RingRole::Officer, &ring.so_pin, 1)?,
        ];
        let audited = AuditedCommand {
            event: "kms.keyring.create",
            command: "kms ring create",
            resource: format!("projects/{project}/keyrings/{id}"),
            project: Some(project),
        };
        let entry = Some(self.entry(audited, [("label", ring.name.as_str().into())]));
        let created = store.insert_ring(&StoredRing {
            id: of,
            label: ring.name,
            policy: ring.policy,
            created: self.dispatch.clock.seconds(),
            slot: None,
            metadata: RingMetadata { project, ..RingMetadata::default() },
            principals,
            entry,
        })?;
        Ok(self.describe(&created, 0))
    }

    /// All rings, by slot.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rings(&self) -> Result<Vec<RingInfo>, ServiceError> {
        let store = &self.dispatch.store;
        store.rings()?.iter().map(|ring| Ok(self.describe(ring, store.count_keys(ring.id)?))).collect()
    }

    /// The name of the ring with this name or id.
    ///
    /// # Errors
    /// When there is no such ring, or the database fails.
    pub fn ring_name(&self, ring: &str) -> Result<String, ServiceError> {
        Ok(self.ring_of(ring)?.label)
    }

    /// The ring with this name or id.
    pub(super) fn ring_of(&self, ring: &str) -> Result<Ring, ServiceError> {
        let id = ring_id(ring).map(|id| RingId(id.into_bytes()));
        let mut rings = self.dispatch.store.rings()?.into_iter();
        let found = rings.find(|known| known.label == ring || Some(known.id) == id);
        found.ok_or_else(|| ServiceError::NoSuchRing(ring.to_owned()))
    }

    fn describe(&self, ring: &Ring, keys: u64) -> RingInfo {
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

/// Parses the id of a ring, with hyphens. It has 36 characters and a name at most 32, so that no name is an id.
pub fn ring_id(text: &str) -> Option<Uuid> {
    Some(text).filter(|text| text.len() == Hyphenated::LENGTH).and_then(|text| Uuid::parse_str(text).ok())
}

/// Checks the name of a ring or a principal, which must fit in a token's label, in a URI and before the colon of
/// `name:secret`.
pub(super) fn check_name(name: &str) -> Result<(), ServiceError> {
    if pins::is_principal_name(name) { Ok(()) } else { Err(ServiceError::BadName(name.to_owned())) }
}
