//! Login and PINs. A caller proves its identity once, and then sends a ticket with each request.

use kms_core::audit::Entry;
use kms_core::error_chain;
use kms_core::object::{Caller, LoginId, Peer, RingRole};
use kms_core::policy::{self, Claims};
use kms_protocol::{Response, RingId, Role, Rv, Ticket};
use kms_store::{PinKind, Principal, Ring};

use crate::dispatch::accounts::login as account_login;
use crate::dispatch::audit_names::AuditedResource;
use crate::dispatch::pkcs11::audit_events::AuditedFunction;
use crate::dispatch::{Dispatch, TICKET_SECONDS};
use crate::error::Error;
use crate::pins::{self, Attempt, FailureStore, is_principal_name};

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
        let Claim { name, counted_as, pin } = match role {
            Role::Officer => Claim { name: OFFICER.to_owned(), counted_as: OFFICER.to_owned(), pin },
            Role::User | Role::Context => self.claim_of(ring, pin)?,
        };
        if role == Role::Context && caller.login.as_ref().is_none_or(|login| login.name != name) {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        let principal = self.store.principal(ring.id, &name)?;
        let principal = principal.filter(|principal| principal.has_pin());
        // Not for a name that no principal has: that would tell it from one that a principal has.
        if counted_as == USER && principal.is_none() {
            return Err(Rv::USER_PIN_NOT_INITIALIZED.into());
        }
        let attempt = Attempt { ring: ring.id, name: counted_as, uid: caller.peer.map(|peer| peer.uid) };
        self.check_pin(ring, &attempt, pin, principal.as_deref())?;
        let principal = principal.ok_or(Rv::PIN_INCORRECT)?;
        let ticket = self.issue_for(ring, caller.peer, &principal, login_id(role, caller)?)?;
        Ok(Response::LoggedIn { ticket })
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
        self.pins.check(&self.failures(), &attempt, old, Some(&principal))?;
        // The same generation: changing one's own PIN does not end one's own logins (spec, "C_SetPIN"). It ends the
        // session objects of all logins but this one.
        let entry = self.request_entry(
            ring,
            caller,
            AuditedFunction::SET_PIN,
            &AuditedResource::Principal(&principal.name),
        );
        let login = caller.login.as_ref().map(|login| login.id);
        let pin_hash = self.pins.bound.hash(ring.id, &principal.name, new)?;
        let changed = Principal::clone(&principal).with_changed_pin(pin_hash, PinKind::Bound, login);
        self.store.put_principal(ring.id, &changed, Some(entry))?;
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
        let principal = self.new_principal(ring.id, name, ring_role, pin, generation)?;
        Ok(self.store.put_principal(ring.id, &principal, entry)?)
    }

    /// Returns a principal of a ring with this PIN.
    pub(crate) fn new_principal(
        &self,
        ring: RingId,
        name: &str,
        ring_role: RingRole,
        pin: &[u8],
        generation: u64,
    ) -> Result<Principal, Error> {
        let pin_hash = {
            let _turn = self.pins.argon2_turn(None, ring)?;
            self.pins.bound.hash(ring, name, pin)?
        };
        Ok(Principal::new(name.to_owned(), ring_role, pin_hash, PinKind::Bound, generation))
    }

    /// Checks a PIN; a hash of an earlier version, which is not bound to the HSM, is then replaced by one that is.
    pub(in crate::dispatch) fn check_pin(
        &self,
        ring: &Ring,
        attempt: &Attempt,
        pin: &[u8],
        principal: Option<&Principal>,
    ) -> Result<(), Error> {
        self.pins.check(&self.failures(), attempt, pin, principal)?;
        if let Some(unbound) = principal.filter(|principal| principal.pin_kind == PinKind::Plain) {
            let hash = self.pins.bound.hash(ring.id, &unbound.name, pin)?;
            let (ring, principal) = (&ring.label, &unbound.name);
            match self.store.bind_pin(attempt.ring, unbound, hash) {
                Ok(true) => tracing::info!(ring, principal, "the PIN's hash is now bound to the HSM"),
                Ok(false) => {}
                // The PIN was right: a full disk does not prevent the login, and the next one tries again.
                Err(error) => {
                    let cause = error_chain(&error);
                    tracing::warn!(ring, principal, cause, "the PIN's hash could not be bound to the HSM");
                }
            }
        }
        Ok(())
    }

    /// Issues a ticket for a principal that has just logged in, or whose ticket is renewed.
    pub(in crate::dispatch) fn issue_for(
        &self,
        ring: &Ring,
        peer: Option<Peer>,
        principal: &Principal,
        login: LoginId,
    ) -> Result<Ticket, Error> {
        let now = self.clock.seconds();
        Ok(self.issue(&Claims {
            login,
            ring: ring.id,
            name: principal.name.clone(),
            ring_role: principal.ring_role,
            generation: principal.generation,
            uid: peer.map(|peer| peer.uid),
            issued: now,
            expires: now + TICKET_SECONDS,
        }))
    }

    /// Issues a ticket with these claims.
    pub(in crate::dispatch) fn issue(&self, claims: &Claims) -> Ticket {
        policy::issue(&self.tickets, claims)
    }

    /// Returns the name of the principal that a login claims to be. It is never part of a PIN that names no principal.
    pub(in crate::dispatch) fn claimed_name(&self, ring: &Ring, role: Role, pin: &[u8]) -> Option<String> {
        if account_login::as_token(role, pin).is_some() {
            return None;
        }
        self.claim_of(ring, pin).ok().map(|claim| claim.name)
    }

    /// The database in which wrong PINs are counted.
    fn failures(&self) -> FailureStore<'_> {
        FailureStore { store: &self.store, now: Box::new(|| self.clock.millis()) }
    }

    /// Splits `name:secret` if there is a principal of that name; anything else is the user's PIN, which may contain a
    /// colon. It is counted under the name before the colon in both cases, so that the delays are the same.
    fn claim_of<'a>(&self, ring: &Ring, pin: &'a [u8]) -> Result<Claim<'a>, Error> {
        let of_user =
            |counted_as: &str| Claim { name: USER.to_owned(), counted_as: counted_as.to_owned(), pin };
        let named = pin.iter().position(|byte| *byte == b':').map(|colon| (&pin[..colon], &pin[colon + 1..]));
        let named = named.and_then(|(name, secret)| Some((std::str::from_utf8(name).ok()?, secret)));
        match named.filter(|(name, _)| is_principal_name(name)) {
            None => Ok(of_user(USER)),
            // The officer has a login of its own; guesses at this name are not counted as its failures.
            Some((OFFICER, _)) => Ok(of_user(":so")),
            Some((name, secret)) if self.store.principal(ring.id, name)?.is_some() => {
                Ok(Claim { name: name.to_owned(), counted_as: name.to_owned(), pin: secret })
            }
            Some((name, _)) => Ok(of_user(name)),
        }
    }
}

/// Who a login claims to be.
struct Claim<'a> {
    /// The principal whose PIN is checked.
    name: String,
    /// The name under which a failure is counted.
    counted_as: String,
    /// The PIN to check.
    pin: &'a [u8],
}

/// Returns the number of a login that has just succeeded: a new one, but that of the caller's login for the context-specific
/// login (`CKU_CONTEXT_SPECIFIC`), which is part of it.
pub(in crate::dispatch) fn login_id(role: Role, caller: &Caller) -> Result<LoginId, Error> {
    if let (Role::Context, Some(login)) = (role, &caller.login) {
        return Ok(login.id);
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(Error::Random)?;
    Ok(LoginId(id))
}
