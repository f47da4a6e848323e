//! The token as a whole: `C_InitToken`, which empties a ring or makes one of the free slot.

use kms_core::object::{Caller, Peer, RingRole};
use kms_protocol::{Response, RingId, RingPolicy, Rv, Slot, SlotId};
use kms_store::{NewRing, Ring, RingMetadata, StoreError};
use uuid::Uuid;

use crate::dispatch::audit_events::{About, Act};
use crate::dispatch::{Dispatch, OFFICER};
use crate::error::Error;
use crate::pins::{self, Attempt};

/// The longest label of a token, in bytes (spec, `CK_TOKEN_INFO`).
const LABEL_BYTES_MAX: usize = 32;

impl Dispatch {
    /// Empties a ring for its security officer: its keys can be restored for 30 days, all else is gone, and the user
    /// has no PIN.
    pub(in crate::dispatch) fn init_token(
        &self,
        ring: &Ring,
        caller: &Caller,
        pin: &[u8],
        label: &str,
    ) -> Result<Response, Error> {
        acceptable(label)?;
        let officer = self.store.principal(ring.id, OFFICER)?;
        let uid = caller.peer.map(|peer| peer.uid);
        let attempt = Attempt { ring: ring.id, name: OFFICER.to_owned(), uid };
        self.pins.check(&attempt, pin, officer.as_ref().map(|officer| officer.pin_hash.as_str()))?;
        let mut entry = self.entry_of(ring, caller, Act::INIT_TOKEN, &About::Ring);
        entry.details.insert("label".to_owned(), label.into());
        let left = match self.store.clear_ring(
            ring.id,
            label,
            self.clock.seconds() + self.lifecycle.deletion_seconds,
            Some(entry),
        ) {
            Err(StoreError::Taken(_)) => return Err(Rv::FUNCTION_REJECTED.into()),
            left => left?,
        };
        left.iter().for_each(|object| self.keys.forget(*object));
        tracing::warn!(
            ring = ring.label,
            label,
            objects = left.len(),
            uid,
            "the officer initialised the token anew"
        );
        Ok(Response::Done)
    }

    /// Makes a ring of the free slot, where the configuration offers one. Whoever may connect may do it: the ring is
    /// empty, strict, and its officer's.
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
        acceptable(label)?;
        pins::acceptable(pin)?;
        let (id, label) = (RingId(Uuid::new_v4().into_bytes()), label.to_owned());
        let (policy, created) = (RingPolicy::Strict, self.clock.seconds());
        let (at, metadata) = (Some(slot), RingMetadata::default());
        let future = Ring { slot, id, label: label.clone(), policy, created, metadata: metadata.clone() };
        let caller = Caller { peer, login: None, policy };
        let entry = Some(self.entry_of(&future, &caller, Act::MAKE_RING, &About::Ring));
        let new = NewRing { id, label, policy, created, slot: at, metadata, entry };
        let ring = match self.store.insert_ring(&new) {
            Err(StoreError::Taken(_) | StoreError::TooManyRings(_)) => {
                return Err(Rv::FUNCTION_REJECTED.into());
            }
            Err(StoreError::NotFound) => return Err(Error::NoSuchSlot),
            ring => ring?,
        };
        self.put(&ring, OFFICER, RingRole::Officer, pin, 1, None)?;
        let uid = peer.map(|peer| peer.uid);
        tracing::info!(ring = ring.label, slot = slot.0, uid, "a ring was made of the free slot");
        Ok(Response::Done)
    }

    /// The slot that waits for `C_InitToken`, where the configuration offers one.
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

/// A label that can be shown on one line, and told from no label.
fn acceptable(label: &str) -> Result<(), Rv> {
    let legal = (1..=LABEL_BYTES_MAX).contains(&label.len()) && !label.chars().any(char::is_control);
    if legal && !label.trim().is_empty() { Ok(()) } else { Err(Rv::ARGUMENTS_BAD) }
}
