//! The requests of PKCS#11 providers. This file finds the ring, verifies the ticket and passes each request on:
//!
//! - `login`: `Login`, `InitPin`, `SetPin`; `init_token`: `InitToken`, and the free slot.
//! - `proofs`: `ProveUse`, `SignProven`, `DecryptProven`.
//! - `objects`: `Find`, `Attributes`, `Reveal`, `SetAttributes`, `Destroy`.
//! - `generate`: `Generate`, `GeneratePair`; `imports`: `Create`, `Copy`, and storing what `wrap_derive` produces.
//! - `operations`: `Encrypt`, `Decrypt`, `Sign`, `Verify`, `EncryptMessage`.
//! - `wrap_derive`: `Wrap`, `Unwrap`, `Derive`, `Encapsulate`, `Decapsulate`.
//! - `new_keys`: stores a new key; `algorithm_name`: its algorithm in listings.
//! - `audit_events`: the audit entries of these requests.

mod algorithm_name;
mod audit_events;
pub(in crate::dispatch) mod generate;
pub(in crate::dispatch) mod imports;
pub(in crate::dispatch) mod init_token;
pub(in crate::dispatch) mod login;
mod new_keys;
pub(in crate::dispatch) mod objects;
pub(in crate::dispatch) mod operations;
mod proofs;
#[cfg(test)]
mod tests;
pub(in crate::dispatch) mod wrap_derive;

use kms_core::error_chain;
use kms_core::object::{Caller, Login, Peer};
use kms_core::policy;
use kms_protocol::{
    ObjectRef, Request, RequestEnvelope, Response, ResponseEnvelope, Role, Rv, SLOTS_MAX, Slot, SlotId,
    Ticket,
};
use kms_store::{Ring, StoreError};

use super::accounts::login::{self as account_login, AccountLogin};
use super::{Dispatch, Memory, TICKET_SECONDS};
use crate::error::Error;

pub(crate) use login::USER;

impl Dispatch {
    /// Responds to one request. Every error is logged here, once, and becomes a return value (`CKR_…`).
    pub fn answer(
        &self,
        peer: Option<Peer>,
        envelope: RequestEnvelope,
        memory: &mut Memory,
    ) -> ResponseEnvelope {
        let request = &envelope.request;
        let (slot, name, object) = (envelope.slot, request.name(), token_object_of(request));
        match self.try_answer(peer, envelope, memory) {
            Ok((response, ticket)) => ResponseEnvelope { ticket, result: Ok(response) },
            Err(error) => {
                let rv = error.rv();
                let (uid, pid) = peer.map_or((None, None), |peer| (Some(peer.uid), Some(peer.pid)));
                let cause = error_chain(&error);
                if error.is_internal() {
                    tracing::error!(slot = slot.0, request = name, object, uid, pid, %rv, cause, "failed");
                } else {
                    tracing::info!(slot = slot.0, request = name, object, uid, pid, %rv, "rejected");
                }
                ResponseEnvelope { ticket: None, result: Err(rv) }
            }
        }
    }

    fn try_answer(
        &self,
        peer: Option<Peer>,
        envelope: RequestEnvelope,
        memory: &mut Memory,
    ) -> Result<(Response, Option<Ticket>), Error> {
        if let Request::Slots = envelope.request {
            return Ok((self.slots()?, None));
        }
        let ring = match (self.store.ring(envelope.slot)?, &envelope.request) {
            (Some(ring), _) => ring,
            (None, Request::InitToken { pin, label }) => {
                return Ok((self.init_free(peer, envelope.slot, pin, label)?, None));
            }
            (None, _) => return Err(Error::NoSuchSlot),
        };
        let (login, renewed) = match (&envelope.ticket, &envelope.request) {
            // A new login may still carry the ticket of a login that has ended.
            (_, Request::Login { role: Role::User | Role::Officer, .. }) | (None, _) => (None, None),
            (Some(ticket), _) => self.verify_ticket(&ring, peer, ticket, memory)?,
        };
        let caller = Caller { peer, login, policy: ring.policy };
        let audited = self.audited_request(&ring, &caller, &envelope.request);
        let result = match self.turn(&ring, &caller, &envelope.request) {
            Ok(_turn) => self.perform_request(&ring, &caller, envelope),
            Err(error) => Err(error),
        };
        let response = self.record_outcome(&ring, &caller, &audited, result)?;
        Ok((response, renewed))
    }

    fn perform_request(
        &self,
        ring: &Ring,
        caller: &Caller,
        envelope: RequestEnvelope,
    ) -> Result<Response, Error> {
        let id = envelope.id;
        match envelope.request {
            Request::Slots => self.slots(),
            Request::Login { role, pin } => self.log_in(ring, caller, role, &pin),
            Request::InitPin { pin } => self.init_pin(ring, caller, &pin),
            Request::SetPin { role, old, new } => self.set_pin(ring, caller, role, &old, &new),
            Request::Find { template, after } => self.find(ring, caller, &template, after),
            Request::Attributes { object } => self.attributes(ring, caller, &object),
            Request::Reveal { object } => self.reveal(ring, caller, &object),
            Request::SetAttributes { object, template } => {
                self.set_attributes(ring, caller, &object, &template)
            }
            Request::Destroy { object } => self.destroy(ring, caller, id, &object),
            Request::Generate { mechanism, template } => {
                self.generate(ring, caller, id, &mechanism, &template)
            }
            Request::GeneratePair { mechanism, public, private } => {
                self.generate_pair(ring, caller, id, &mechanism, &public, &private)
            }
            Request::Encrypt { key, mechanism, data } => self.encrypt(ring, caller, &key, &mechanism, &data),
            Request::Decrypt { key, mechanism, data } => self.decrypt(ring, caller, &key, &mechanism, &data),
            Request::Sign { key, mechanism, data } => self.sign(ring, caller, &key, &mechanism, &data),
            Request::Verify { key, mechanism, data, signature } => {
                self.verify(ring, caller, &key, &mechanism, &data, &signature)
            }
            Request::Create { template } => self.create(ring, caller, id, &template),
            Request::Copy { object, template } => self.copy(ring, caller, id, &object, &template),
            Request::Wrap { mechanism, wrapping, key } => {
                self.wrap(ring, caller, &mechanism, &wrapping, &key)
            }
            Request::Unwrap { mechanism, unwrapping, wrapped, template } => {
                self.unwrap((ring, caller, id), &mechanism, &unwrapping, &wrapped, &template)
            }
            Request::Derive { mechanism, base, template } => {
                self.derive((ring, caller, id), &mechanism, &base, &template)
            }
            Request::Encapsulate { mechanism, public, template } => {
                self.encapsulate((ring, caller, id), &mechanism, &public, &template)
            }
            Request::Decapsulate { mechanism, private, ciphertext, template } => {
                self.decapsulate((ring, caller, id), &mechanism, &private, &ciphertext, &template)
            }
            Request::EncryptMessage { key, mechanism, data } => {
                self.encrypt_message(ring, caller, &key, &mechanism, &data)
            }
            Request::InitToken { pin, label } => self.init_token(ring, caller, &pin, &label),
            Request::ProveUse { key, pin } => self.prove_use(ring, caller, &key, &pin),
            Request::SignProven { key, mechanism, data, proof } => {
                self.sign_proven(ring, caller, &key, &mechanism, (&data, &proof))
            }
            Request::DecryptProven { key, mechanism, data, proof } => {
                self.decrypt_proven(ring, caller, &key, &mechanism, (&data, &proof))
            }
        }
    }

    fn slots(&self) -> Result<Response, Error> {
        let mut slots = Vec::new();
        for ring in self.store.rings()? {
            // An edited row of a ring's user prevents that user's login; it must not hide every token.
            let user_pin_set = match self.store.principal(ring.id, USER) {
                Ok(user) => user.is_some_and(|user| user.has_pin()),
                Err(StoreError::RowInvalid { .. }) => true,
                Err(error) => return Err(error.into()),
            };
            slots.push(slot_of(&ring, user_pin_set));
        }
        slots.extend(self.free_slot()?.filter(|_| slots.len() < SLOTS_MAX));
        Ok(Response::Slots(slots))
    }

    /// Returns the login that a ticket proves, and a new ticket if this one is in the second half of its lifetime.
    fn verify_ticket(
        &self,
        ring: &Ring,
        peer: Option<Peer>,
        ticket: &Ticket,
        memory: &mut Memory,
    ) -> Result<(Option<Login>, Option<Ticket>), Error> {
        let now = self.clock.seconds();
        let claims = match &memory.checked {
            Some((checked, claims)) if checked == ticket && now < claims.expires => claims.clone(),
            _ => {
                let claims = policy::check(&self.tickets, ticket, now, peer.map(|peer| peer.uid))?;
                memory.checked = Some((ticket.clone(), claims.clone()));
                claims
            }
        };
        if claims.ring != ring.id {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        if account_login::is_account(&claims.name) {
            let AccountLogin { login, next } = self.account_login(ring, &claims, now)?;
            let is_old = claims.expires.saturating_sub(now) < TICKET_SECONDS / 2;
            let renewed =
                if is_old && next.expires > claims.expires { Some(self.issue(&next)) } else { None };
            return Ok((Some(login), renewed));
        }
        // A changed PIN or a removed principal ends earlier logins at their next use.
        let principal = self.store.principal(ring.id, &claims.name)?.ok_or(Rv::USER_NOT_LOGGED_IN)?;
        if principal.generation != claims.generation || principal.ring_role != claims.ring_role {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        let renewed = if claims.expires.saturating_sub(now) < TICKET_SECONDS / 2 {
            Some(self.issue_for(ring, peer, &principal, claims.login)?)
        } else {
            None
        };
        let login = Login {
            id: claims.login,
            pin_changes: principal.pin_changes,
            objects_from: principal.objects_from(claims.login),
            ring: ring.id,
            name: claims.name,
            ring_role: claims.ring_role,
        };
        Ok((Some(login), renewed))
    }
}

/// Returns the slot of a ring.
pub(crate) fn slot_of(ring: &Ring, user_pin_set: bool) -> Slot {
    Slot {
        id: SlotId(ring.slot.0),
        ring: ring.id,
        label: ring.label.clone(),
        serial: serial_of(ring.id.0),
        policy: ring.policy,
        user_pin_set,
        initialized: true,
    }
}

/// Returns the serial number of a token: 16 hexadecimal digits of the ring's id. The id is a random UUID; its digits 13
/// and 17, which do not vary as the others do, are left out.
pub(crate) fn serial_of(ring: [u8; 16]) -> String {
    let digits: String = ring.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}{}", &digits[..12], &digits[28..])
}

/// Returns the token object that a request uses, for the log.
pub(in crate::dispatch) fn token_object_of(request: &Request) -> Option<u64> {
    let object = match request {
        Request::Attributes { object }
        | Request::Reveal { object }
        | Request::SetAttributes { object, .. }
        | Request::Copy { object, .. }
        | Request::Destroy { object } => object,
        Request::Encrypt { key, .. }
        | Request::Decrypt { key, .. }
        | Request::Sign { key, .. }
        | Request::EncryptMessage { key, .. }
        | Request::Wrap { key, .. }
        | Request::Unwrap { unwrapping: key, .. }
        | Request::Derive { base: key, .. }
        | Request::Encapsulate { public: key, .. }
        | Request::Decapsulate { private: key, .. }
        | Request::ProveUse { key, .. }
        | Request::SignProven { key, .. }
        | Request::DecryptProven { key, .. }
        | Request::Verify { key, .. } => key,
        Request::Slots | Request::Login { .. } | Request::InitPin { .. } | Request::SetPin { .. } => {
            return None;
        }
        Request::Create { .. } | Request::InitToken { .. } => return None,
        Request::Find { .. } | Request::Generate { .. } | Request::GeneratePair { .. } => return None,
    };
    match object {
        ObjectRef::Token(id) => Some(id.0),
        ObjectRef::Session(_) => None,
    }
}
