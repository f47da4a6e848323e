//! PKCS#11 login of a service account: its static token is the PIN, and its roles decide what it may do in the ring.
//!
//! The ticket names the account and the token's digest, and each use looks up both: a revoked token, a revoked role or
//! a disabled account ends the login at the next call. The name contains colons, so no principal of a ring can have it.

use std::fmt::Write;
use std::sync::Arc;

use kms_core::object::{Caller, Login, LoginId, RingRole};
use kms_core::policy::{self, Claims};
use kms_protocol::{Response, Role, Rv};
use kms_store::{AccountWithGrants, Ring, StoreError, Token};
use uuid::Uuid;

use crate::dispatch::pkcs11::login::login_id;
use crate::dispatch::{Dispatch, TICKET_SECONDS};
use crate::error::Error;

/// The prefix of the names of these logins.
const PREFIX: &str = "sa:";

/// A valid token, its account, and the role of the account in the ring.
struct AuthorisedToken {
    token: Arc<Token>,
    member: Arc<AccountWithGrants>,
    ring_role: RingRole,
}

/// A token and its account.
type TokenAndMember = (Arc<Token>, Arc<AccountWithGrants>);

/// Whether the name of a login is a service account's.
pub(in crate::dispatch) fn is_account(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Returns the id of the service account in the name of a login.
pub(in crate::dispatch) fn account_id(name: &str) -> Option<Uuid> {
    Uuid::parse_str(name.strip_prefix(PREFIX)?).ok()
}

/// Returns the name of a login from the name in a ticket's claims: without the token's digest.
pub(in crate::dispatch) fn without_digest(name: &str) -> &str {
    match name.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')) {
        Some((account, _)) => name.get(..PREFIX.len() + account.len()).unwrap_or(name),
        None => name,
    }
}

/// Returns a PIN as a token, if it has the form of one.
pub(in crate::dispatch) fn as_token(role: Role, pin: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(pin).ok()?;
    (role != Role::Officer && policy::is_token(text)).then_some(text)
}

impl Dispatch {
    /// Logs a service account in with its token.
    pub(in crate::dispatch) fn log_in_account(
        &self,
        ring: &Ring,
        caller: &Caller,
        role: Role,
        token: &str,
    ) -> Result<Response, Error> {
        let now = self.clock.seconds();
        let authorised =
            self.authorised_token(ring, policy::token_digest(token), now)?.ok_or(Rv::PIN_INCORRECT)?;
        let name = login_name(authorised.member.account.id);
        if role == Role::Context && caller.login.as_ref().is_none_or(|login| login.name != name) {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        self.note_use(authorised.token.id, now);
        let login = login_id(role, caller)?;
        let claims = claims_of(ring, caller.peer.map(|peer| peer.uid), login, &authorised, now);
        Ok(Response::LoggedIn { ticket: self.issue(&claims) })
    }

    /// Checks that the login in a ticket's claims is still valid, and returns it.
    pub(in crate::dispatch) fn account_login(
        &self,
        ring: &Ring,
        claims: &Claims,
        now: u64,
    ) -> Result<AccountLogin, Error> {
        let (account, digest) = parse_claims_name(&claims.name).ok_or(Rv::USER_NOT_LOGGED_IN)?;
        let authorised = self.authorised_token(ring, digest, now)?.ok_or(Rv::USER_NOT_LOGGED_IN)?;
        let unchanged = authorised.member.account.id == account
            && authorised.member.generation == claims.generation
            && authorised.ring_role == claims.ring_role;
        if !unchanged {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        let (id, name, ring_role) = (claims.login, login_name(account), authorised.ring_role);
        // A token is not changed, only revoked, which ends the login.
        let login = Login::new(id, ring.id, name, ring_role);
        Ok(AccountLogin { login, next: claims_of(ring, claims.uid, id, &authorised, now) })
    }

    /// Returns a valid token and its account, if the account has a role in the ring.
    fn authorised_token(
        &self,
        ring: &Ring,
        digest: [u8; 32],
        now: u64,
    ) -> Result<Option<AuthorisedToken>, Error> {
        let lookup = || -> Result<Option<TokenAndMember>, StoreError> {
            let Some(token) = self.store.token(digest)? else { return Ok(None) };
            let member = self.store.member(token.account)?;
            Ok(member.map(|member| (token, member)))
        };
        let found = match lookup() {
            // The row was edited outside the KMS; the store has logged it.
            Err(StoreError::RowInvalid { .. }) => return Ok(None),
            result => result?,
        };
        let is_valid =
            |(token, member): &TokenAndMember| !member.disabled && token.expires.is_none_or(|end| now < end);
        let Some((token, member)) = found.filter(is_valid) else { return Ok(None) };
        let id = Uuid::from_bytes(ring.id.0);
        let ring_role = policy::ring_role(&member.account.grants, ring.metadata.project, id);
        Ok(ring_role.map(|ring_role| AuthorisedToken { token, member, ring_role }))
    }
}

/// A valid login, and the claims of its next ticket.
pub(in crate::dispatch) struct AccountLogin {
    pub(in crate::dispatch) login: Login,
    pub(in crate::dispatch) next: Claims,
}

fn claims_of(
    ring: &Ring,
    uid: Option<u32>,
    login: LoginId,
    authorised: &AuthorisedToken,
    now: u64,
) -> Claims {
    let account = &authorised.member.account;
    let mut name = login_name(account.id);
    name.push(':');
    for byte in authorised.token.digest {
        write!(name, "{byte:02x}").expect("writing to a string does not fail");
    }
    Claims {
        login,
        ring: ring.id,
        name,
        ring_role: authorised.ring_role,
        generation: authorised.member.generation,
        uid,
        issued: now,
        expires: (now + TICKET_SECONDS).min(authorised.token.expires.unwrap_or(u64::MAX)),
    }
}

fn login_name(account: Uuid) -> String {
    format!("{PREFIX}{account}")
}

/// Parses the account and the token's digest from the name in a ticket's claims.
fn parse_claims_name(name: &str) -> Option<(Uuid, [u8; 32])> {
    let (account, digits) = name.strip_prefix(PREFIX)?.split_once(':')?;
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, offset) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(offset..offset + 2)?, 16).ok()?;
    }
    Some((Uuid::parse_str(account).ok()?, digest))
}
