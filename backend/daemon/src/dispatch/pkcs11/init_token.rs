//! `C_InitToken`: empties a ring, or creates one in the free slot.

use kms_core::object::{Caller, Peer, RingRole};
use kms_protocol::{Response, RingId, RingPolicy, Rv, Slot, SlotId};
use kms_store::{NewRing, Ring, RingMetadata, StoreError};
use uuid::Uuid;

use crate::dispatch::audit_names::AuditedResource;
use crate::dispatch::pkcs11::audit_events::AuditedFunction;
use crate::dispatch::{Dispatch, OFFICER};
use crate::error::Error;
use crate::pins::{self, Attempt};

/// The maximum length of a token's label, in bytes (spec, `CK_TOKEN_INFO`).
const LABEL_BYTES_MAX: usize = 32;

impl Dispatch {
    /// Empties a ring for its security officer: its keys can be restored for 30 days, all other objects are deleted,
    /// and the user has no PIN.
    pub(in crate::dispatch) fn init_token(
        &self,
        ring: &Ring,
        caller: &Caller,
        pin: &[u8],
        label: &str,
    ) -> Result<Response, Error> {
        check_label(label)?;
        let officer = self.store.principal(ring.id, OFFICER)?;
        let uid = caller.peer.map(|peer| peer.uid);
        let attempt = Attempt { ring: ring.id, name: OFFICER.to_owned(), uid };
        self.check_pin(ring, &attempt, pin, officer.as_deref())?;
        let mut entry = self.request_entry(ring, caller, AuditedFunction::INIT_TOKEN, &AuditedResource::Ring);
        entry.details.insert("label".to_owned(), label.into());
        let removed = match self.store.clear_ring(
            ring.id,
            label,
            self.clock.seconds() + self.lifecycle.deletion_seconds,
            Some(entry),
        ) {
            Err(StoreError::NameInUse(_)) => return Err(Rv::FUNCTION_REJECTED.into()),
            removed => removed?,
        };
        removed.iter().for_each(|object| self.keys.forget(*object));
        tracing::warn!(
            ring = ring.label,
            label,
            objects = removed.len(),
            uid,
            "the security officer initialised the token again"
        );
        Ok(Response::Done)
    }

    /// Creates a ring in the free slot, if the configuration offers one. Every process that may connect can do so: the
    /// ring is empty and strict, and the caller sets its officer's PIN.
    pub(in crate::dispatch) fn init_free(
        &self,
        peer: Option<Peer>,
        slot: SlotId,
        pin: &[u8],
        label: &str,
    ) -> Result<Response, Error> {
        if self.free_slot()?.is_none_or(|free| free.id != slot) {
            return Err(Error::NoSuchSlot);
        }
        check_label(label)?;
        pins::check_length(pin)?;
        let (id, label) = (RingId(Uuid::new_v4().into_bytes()), label.to_owned());
        let (policy, created) = (RingPolicy::Strict, self.clock.seconds());
        let metadata = RingMetadata { project: self.home_project()?, ..RingMetadata::default() };
        let principals = vec![self.new_principal(id, OFFICER, RingRole::Officer, pin, 1)?];
        let new_ring =
            Ring { slot, id, label: label.clone(), policy, created, epoch: 0, metadata: metadata.clone() };
        let caller = Caller { peer, login: None, policy };
        let entry = Some(self.request_entry(
            &new_ring,
            &caller,
            AuditedFunction::CREATE_RING,
            &AuditedResource::Ring,
        ));
        let new = NewRing { id, label, policy, created, slot: Some(slot), metadata, principals, entry };
        let ring = match self.store.insert_ring(&new) {
            Err(StoreError::NameInUse(_) | StoreError::TooManyRings(_)) => {
                return Err(Rv::FUNCTION_REJECTED.into());
            }
            Err(StoreError::NotFound) => return Err(Error::NoSuchSlot),
            ring => ring?,
        };
        let uid = peer.map(|peer| peer.uid);
        tracing::info!(ring = ring.label, slot = slot.0, uid, "a ring was created in the free slot");
        Ok(Response::Done)
    }

    /// Returns the slot without a ring that `C_InitToken` can use, if the configuration offers one.
    pub(in crate::dispatch) fn free_slot(&self) -> Result<Option<Slot>, Error> {
        if !self.offers_free_slot {
            return Ok(None);
        }
        Ok(Some(Slot {
            id: self.store.free_slot()?,
            ring: RingId([0; 16]),
            label: String::new(),
            serial: String::new(),
            policy: RingPolicy::Strict,
            user_pin_set: false,
            initialized: false,
        }))
    }
}

/// Checks that a label fits on one line and is not blank.
fn check_label(label: &str) -> Result<(), Rv> {
    let is_valid = (1..=LABEL_BYTES_MAX).contains(&label.len()) && !label.chars().any(char::is_control);
    if is_valid && !label.trim().is_empty() { Ok(()) } else { Err(Rv::ARGUMENTS_BAD) }
}
