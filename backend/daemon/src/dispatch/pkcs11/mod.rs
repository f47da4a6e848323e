//! The requests of PKCS#11 providers.

pub(in crate::dispatch) mod generate;
pub(in crate::dispatch) mod imports;
pub(in crate::dispatch) mod init_token;
pub(in crate::dispatch) mod login;
pub(in crate::dispatch) mod objects;
pub(in crate::dispatch) mod operations;
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
    /// Answers one request. Whatever goes wrong is logged here, once, and becomes a code.
    pub fn answer(&self, peer: Option<Peer>, ask: RequestEnvelope, memory: &mut Memory) -> ResponseEnvelope {
        let (slot, name, object) = (ask.slot, ask.request.name(), subject(&ask.request));
        match self.try_answer(peer, ask, memory) {
            Ok((response, ticket)) => ResponseEnvelope { ticket, result: Ok(response) },
            Err(error) => {
                let rv = error.rv();
                let (uid, pid) = peer.map_or((None, None), |peer| (Some(peer.uid), Some(peer.pid)));
                let cause = error_chain(&error);
                if error.is_ours() {
                    tracing::error!(slot = slot.0, request = name, object, uid, pid, %rv, cause, "failed");
                } else {
                    tracing::info!(slot = slot.0, request = name, object, uid, pid, %rv, "refused");
                }
                ResponseEnvelope { ticket: None, result: Err(rv) }
            }
        }
    }

    fn try_answer(
        &self,
        peer: Option<Peer>,
        ask: RequestEnvelope,
        memory: &mut Memory,
    ) -> Result<(Response, Option<Ticket>), Error> {
        if let Request::Slots = ask.request {
            return Ok((self.slots()?, None));
        }
        let ring = match (self.store.ring(ask.slot)?, &ask.request) {
            (Some(ring), _) => ring,
            (None, Request::InitToken { pin, label }) => {
                return Ok((self.init_free(peer, ask.slot, pin, label)?, None));
            }
            (None, _) => return Err(Error::NoSuchSlot),
        };
        let (login, renewed) = match (&ask.ticket, &ask.request) {
            // Who logs in anew may still show the ticket of a login that has ended.
            (_, Request::Login { role: Role::User | Role::Officer, .. }) | (None, _) => (None, None),
            (Some(ticket), _) => self.login_of(&ring, peer, ticket, memory)?,
        };
        let caller = Caller { peer, login, policy: ring.policy };
        let asked = self.asked(&ring, &caller, &ask.request);
        let response = self.respond(&ring, &caller, ask);
        let response = self.told(&ring, &caller, &asked, response)?;
        Ok((response, renewed))
    }

    fn respond(&self, ring: &Ring, caller: &Caller, ask: RequestEnvelope) -> Result<Response, Error> {
        let id = ask.id;
        match ask.request {
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
        }
    }

    fn slots(&self) -> Result<Response, Error> {
        let mut slots = Vec::new();
        for ring in self.store.rings()? {
            // An edited row of one ring's user shuts that user out, at login; it must not hide every token.
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

    /// Who a ticket proves to be asking, and a fresh ticket if this one is old.
    fn login_of(
        &self,
        ring: &Ring,
        peer: Option<Peer>,
        ticket: &Ticket,
        memory: &mut Memory,
    ) -> Result<(Option<Login>, Option<Ticket>), Error> {
        let now = self.clock.seconds();
        let claims = match &memory.checked {
            Some((known, claims)) if known == ticket && now < claims.expires => claims.clone(),
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
            let old = claims.expires.saturating_sub(now) < TICKET_SECONDS / 2;
            let renewed = if old && next.expires > claims.expires { Some(self.issue(&next)?) } else { None };
            return Ok((Some(login), renewed));
        }
        // A changed PIN or a removed principal ends the logins made before, at the next use.
        let principal = self.store.principal(ring.id, &claims.name)?.ok_or(Rv::USER_NOT_LOGGED_IN)?;
        if principal.generation != claims.generation || principal.ring_role != claims.ring_role {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        let renewed = if claims.expires.saturating_sub(now) < TICKET_SECONDS / 2 {
            Some(self.issue_for(ring, peer, &principal)?)
        } else {
            None
        };
        let login = Login { ring: ring.id, name: claims.name, ring_role: claims.ring_role };
        Ok((Some(login), renewed))
    }
}

/// The slot a ring is.
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

/// A token's serial number: 16 hexadecimal digits of the ring's id. The id is a random UUID; its digits 13 and 17,
/// which are the same in every one, are left out.
pub(crate) fn serial_of(ring: [u8; 16]) -> String {
    let digits: String = ring.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}{}", &digits[..12], &digits[28..])
}

/// Which token object a request is about, for the log.
pub(in crate::dispatch) fn subject(request: &Request) -> Option<u64> {
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
