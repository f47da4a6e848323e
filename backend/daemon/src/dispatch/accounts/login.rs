//! A service account logs in to a ring over PKCS #11: its token is the PIN, and its roles say what it may do there.
//!
//! The ticket names the account and the token's digest, and both are looked up at each use: a revoked token, a role taken
//! away or an account shut out ends the login at the next call. No principal of a ring has such a name: it has colons.

use std::fmt::Write;
use std::sync::Arc;

use kms_core::object::{Caller, Login, RingRole};
use kms_core::policy::{self, Claims};
use kms_protocol::{Response, Role, Rv};
use kms_store::{Member, Ring, StoreError, Token};
use uuid::Uuid;

use crate::dispatch::{Dispatch, TICKET_SECONDS};
use crate::error::Error;

/// What the names of these logins begin with.
const PREFIX: &str = "sa:";

/// A token in use, its account, and what that may do in the ring.
struct Known {
    token: Arc<Token>,
    member: Arc<Member>,
    ring_role: RingRole,
}

/// A token and its account.
type Holder = (Arc<Token>, Arc<Member>);

/// Whether a login's name is a service account's.
pub(in crate::dispatch) fn is_account(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The service account that a login's name names.
pub(in crate::dispatch) fn account_in(name: &str) -> Option<Uuid> {
    Uuid::parse_str(name.strip_prefix(PREFIX)?).ok()
}

/// The login's name in the name that a ticket's claims have: without the token's digest.
pub(in crate::dispatch) fn shown(name: &str) -> &str {
    match name.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')) {
        Some((account, _)) => name.get(..PREFIX.len() + account.len()).unwrap_or(name),
        None => name,
    }
}

/// The token that a PIN is, if it is one.
pub(in crate::dispatch) fn token_in(role: Role, pin: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(pin).ok()?;
    (role != Role::Officer && policy::is_token(text)).then_some(text)
}

impl Dispatch {
    /// Logs in with a token.
    pub(in crate::dispatch) fn log_in_account(
        &self,
        ring: &Ring,
        caller: &Caller,
        role: Role,
        token: &str,
    ) -> Result<Response, Error> {
        let now = self.clock.seconds();
        let known = self.known(ring, policy::token_digest(token), now)?.ok_or(Rv::PIN_INCORRECT)?;
        let name = login_name(known.member.account.id);
        if role == Role::Context && caller.login.as_ref().is_none_or(|login| login.name != name) {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        self.note_use(known.token.id, now);
        let claims = claims_of(ring, caller.peer.map(|peer| peer.uid), &known, now);
        Ok(Response::LoggedIn { ticket: self.issue(&claims)? })
    }

    /// Whether such a login still holds, and what it is.
    pub(in crate::dispatch) fn account_login(
        &self,
        ring: &Ring,
        claims: &Claims,
        now: u64,
    ) -> Result<AccountLogin, Error> {
        let (account, digest) = parts(&claims.name).ok_or(Rv::USER_NOT_LOGGED_IN)?;
        let known = self.known(ring, digest, now)?.ok_or(Rv::USER_NOT_LOGGED_IN)?;
        let same = known.member.account.id == account
            && known.member.generation == claims.generation
            && known.ring_role == claims.ring_role;
        if !same {
            return Err(Rv::USER_NOT_LOGGED_IN.into());
        }
        let login = Login { ring: ring.id, name: login_name(account), ring_role: known.ring_role };
        Ok(AccountLogin { login, next: claims_of(ring, claims.uid, &known, now) })
    }

    /// The account of a token that holds, if its roles count in the ring.
    fn known(&self, ring: &Ring, digest: [u8; 32], now: u64) -> Result<Option<Known>, Error> {
        let look = || -> Result<Option<Holder>, StoreError> {
            let Some(token) = self.store.token(digest)? else { return Ok(None) };
            let member = self.store.member(token.account)?;
            Ok(member.map(|member| (token, member)))
        };
        let found = match look() {
            // Changed outside the KMS: the store has logged the row.
            Err(StoreError::RowInvalid { .. }) => return Ok(None),
            looked => looked?,
        };
        let holds = |(token, member): &Holder| !member.disabled && token.expires.is_none_or(|end| now < end);
        let Some((token, member)) = found.filter(holds) else { return Ok(None) };
        let id = Uuid::from_bytes(ring.id.0);
        let ring_role = policy::ring_role(&member.account.grants, self.project_of(ring)?, id);
        Ok(ring_role.map(|ring_role| Known { token, member, ring_role }))
    }
}

/// A login that holds, and what the next ticket would say.
pub(in crate::dispatch) struct AccountLogin {
    pub(in crate::dispatch) login: Login,
    pub(in crate::dispatch) next: Claims,
}

fn claims_of(ring: &Ring, uid: Option<u32>, known: &Known, now: u64) -> Claims {
    let account = &known.member.account;
    let mut name = login_name(account.id);
    name.push(':');
    for byte in known.token.digest {
        write!(name, "{byte:02x}").expect("a string takes what is written");
    }
    Claims {
        ring: ring.id,
        name,
        ring_role: known.ring_role,
        generation: known.member.generation,
        uid,
        issued: now,
        expires: (now + TICKET_SECONDS).min(known.token.expires.unwrap_or(u64::MAX)),
    }
}

fn login_name(account: Uuid) -> String {
    format!("{PREFIX}{account}")
}

/// Account and token's digest in the name of a ticket's claims.
fn parts(name: &str) -> Option<(Uuid, [u8; 32])> {
    let (account, digits) = name.strip_prefix(PREFIX)?.split_once(':')?;
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some((Uuid::parse_str(account).ok()?, digest))
}
