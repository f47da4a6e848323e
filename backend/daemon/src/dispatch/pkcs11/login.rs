//! Login and PINs. A caller proves its identity once, and then sends a ticket with each request.

use kms_core::audit::Entry;
use kms_core::object::{Caller, Peer, RingRole};
use kms_core::policy::{self, Claims};
use kms_protocol::{Response, Role, Rv, Ticket};
use kms_store::{Principal, Ring};

use crate::dispatch::accounts::login as account_login;
use crate::dispatch::audit_names::AuditedResource;
use crate::dispatch::pkcs11::audit_events::AuditedFunction;
use crate::dispatch::{Dispatch, TICKET_SECONDS};
use crate::error::Error;
use crate::pins::{self, Attempt};

/// The ring's own user (`CKU_USER`).
pub(crate) const USER: &str = Principal::USER;

/// The ring's security officer (`CKU_SO`).
pub(crate) const OFFICER: &str = "so";

impl Dispatch {
    pub(in crate::dispatch) fn log_in(
        &self,
        ring: &Ring,
        caller: &Caller,
        role: Role,
        pin: &[u8],
    ) -> Result<Response, Error> {
        if let Some(token) = account_login::as_token(role, pin) {
            return self.log_in_account(ring, caller, role, token);
        }
        let (name, pin) = match role {
            Role::Officer => (OFFICER.to_owned(), pin),
            Role::User | Role::Context => self.split_pin(ring, pin)?,
        };
        if role == Role::Context && caller.login.as_ref().is_none_or(|login| login.name != name) {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        let principal = self.store.principal(ring.id, &name)?;
        if name == USER && !principal.as_ref().is_some_and(|user| user.has_pin()) {
            return Err(Rv::USER_PIN_NOT_INITIALIZED.into());
        }
        let attempt = Attempt { ring: ring.id, name, uid: caller.peer.map(|peer| peer.uid) };
        self.pins.check(&attempt, pin, principal.as_ref().map(|principal| principal.pin_hash.as_str()))?;
        let principal = principal.ok_or(Rv::PIN_INCORRECT)?;
        Ok(Response::LoggedIn { ticket: self.issue_for(ring, caller.peer, &principal)? })
    }

    pub(in crate::dispatch) fn init_pin(
        &self,
        ring: &Ring,
        caller: &Caller,
        pin: &[u8],
    ) -> Result<Response, Error> {
        if caller.ring_role() != Some(RingRole::Officer) {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        pins::check_length(pin)?;
        let generation = self.store.principal(ring.id, USER)?.map_or(1, |user| user.generation + 1);
        let entry =
            self.request_entry(ring, caller, AuditedFunction::INIT_PIN, &AuditedResource::Principal(USER));
        self.store_principal(ring, USER, RingRole::Admin, pin, generation, Some(entry))?;
        tracing::info!(ring = ring.label, "the officer set the user's PIN");
        Ok(Response::Done)
    }

    pub(in crate::dispatch) fn set_pin(
        &self,
        ring: &Ring,
        caller: &Caller,
        role: Role,
        old: &[u8],
        new: &[u8],
    ) -> Result<Response, Error> {
        let name = match (&caller.login, role) {
            (Some(login), _) => login.name.clone(),
            (None, Role::Officer) => OFFICER.to_owned(),
            (None, Role::User | Role::Context) => USER.to_owned(),
        };
        pins::check_length(new)?;
        if account_login::is_account(&name) {
            // A token is not a PIN: its account cannot change it.
            return Err(Rv::ACTION_PROHIBITED.into());
        }
        let principal = self.store.principal(ring.id, &name)?.filter(|principal| principal.has_pin());
        let principal = principal.ok_or(Rv::USER_PIN_NOT_INITIALIZED)?;
        // The PIN of a named principal may be given with or without the name before it.
        let prefix = format!("{name}:");
        let old = old.strip_prefix(prefix.as_bytes()).unwrap_or(old);
        let new = new.strip_prefix(prefix.as_bytes()).unwrap_or(new);
        pins::check_length(new)?;
        let attempt = Attempt { ring: ring.id, name, uid: caller.peer.map(|peer| peer.uid) };
        self.pins.check(&attempt, old, Some(&principal.pin_hash))?;
        // The same generation: changing one's own PIN does not end one's own logins (spec, "C_SetPIN").
        let entry = self.request_entry(
            ring,
            caller,
            AuditedFunction::SET_PIN,
            &AuditedResource::Principal(&principal.name),
        );
        self.store_principal(
            ring,
            &principal.name,
            principal.ring_role,
            new,
            principal.generation,
            Some(entry),
        )?;
        tracing::info!(ring = ring.label, principal = principal.name, "PIN changed");
        Ok(Response::Done)
    }

    /// Stores a principal with a new PIN.
    pub(crate) fn store_principal(
        &self,
        ring: &Ring,
        name: &str,
        ring_role: RingRole,
        pin: &[u8],
        generation: u64,
        entry: Option<Entry>,
    ) -> Result<(), Error> {
        let pin_hash = {
            let _turn = self.pins.argon2_turn(None, ring.id)?;
            pins::hash(pin)?
        };
        let name = name.to_owned();
        self.store.put_principal(ring.id, &Principal { name, ring_role, pin_hash, generation }, entry)?;
        Ok(())
    }

    /// Issues a ticket for a principal that has just logged in, or whose ticket is renewed.
    pub(in crate::dispatch) fn issue_for(
        &self,
        ring: &Ring,
        peer: Option<Peer>,
        principal: &Principal,
    ) -> Result<Ticket, Error> {
        let now = self.clock.seconds();
        self.issue(&Claims {
            ring: ring.id,
            name: principal.name.clone(),
            ring_role: principal.ring_role,
            generation: principal.generation,
            uid: peer.map(|peer| peer.uid),
            issued: now,
            expires: now + TICKET_SECONDS,
        })
    }

    /// Issues a ticket with these claims.
    pub(in crate::dispatch) fn issue(&self, claims: &Claims) -> Result<Ticket, Error> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(Error::Random)?;
        Ok(policy::issue(&self.tickets, claims, nonce))
    }

    /// Returns the name of the principal that a login claims to be. It is never part of a PIN that names no principal.
    pub(in crate::dispatch) fn claimed_name(&self, ring: &Ring, role: Role, pin: &[u8]) -> Option<String> {
        if account_login::as_token(role, pin).is_some() {
            return None;
        }
        self.split_pin(ring, pin).ok().map(|(name, _)| name)
    }

    /// Splits `name:secret` if there is a principal of that name; anything else is the user's PIN.
    fn split_pin<'a>(&self, ring: &Ring, pin: &'a [u8]) -> Result<(String, &'a [u8]), Error> {
        let named = pin.iter().position(|byte| *byte == b':').map(|colon| (&pin[..colon], &pin[colon + 1..]));
        if let Some((name, secret)) = named
            && let Ok(name) = std::str::from_utf8(name)
            && name != OFFICER
            && self.store.principal(ring.id, name)?.is_some()
        {
            return Ok((name.to_owned(), secret));
        }
        Ok((USER.to_owned(), pin))
    }
}
