//! Authentication of service accounts: from a bearer token to its account (docs/decisions/0024).
//!
//! A cached token costs one SHA-256 and two lookups in memory. A disabled account or a revoked token takes effect at
//! the next call, or within a second if another process changed it.
//!
//! - `mod` (this file): bearer tokens of the REST API, static tokens as well as access tokens.
//! - `key_flow`: exchanges a signed assertion or a refresh token for an access token (`POST /token`).
//! - `login`: logs a service account in to a ring over PKCS#11, with its static token as the PIN.

pub(in crate::dispatch) mod key_flow;
pub(in crate::dispatch) mod login;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kms_core::api::{Account, Problem, Status};
use kms_core::error_chain;
use kms_core::policy;
use kms_crypto::{Issued, JWT_BYTES_MAX, JwtError, JwtKeys, JwtUse};
use kms_store::{AccountWithGrants, StoreError, Token};
use moka::sync::Cache;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::TokenLifetimes;
use crate::dispatch::Dispatch;

/// The maximum number of access tokens whose signature was checked and is not checked again: 100 bytes each.
const VERIFIED_MAX: u64 = 10_000;

/// The maximum number of static tokens whose last use is kept in memory.
const USES_MAX: usize = 10_000;

const HOUR: u64 = 3600;

/// The one message for every invalid token, so that guessing reveals nothing.
const INVALID: &str = "the bearer token is not valid here; make one with `kms token create`, or get one with a \
                       service account's key";

const EXPIRED: &str = "the bearer token has expired; get a new one";

/// The keys and caches for the authentication of bearer tokens.
pub(crate) struct Authenticator {
    pub(in crate::dispatch) keys: JwtKeys,
    pub(in crate::dispatch) lifetimes: TokenLifetimes,
    /// The audience that assertions must name: this home.
    pub(in crate::dispatch) audience: String,
    verified: Cache<[u8; 32], Issued>,
    /// The hour of the last recorded use of each token.
    uses: Mutex<HashMap<Uuid, u64>>,
}

impl Authenticator {
    /// Creates it with a key that only the backends of this home have.
    pub(crate) fn new(key: Zeroizing<[u8; 32]>, home: [u8; 16], lifetimes: TokenLifetimes) -> Self {
        Self {
            keys: JwtKeys::from(key),
            lifetimes,
            audience: format!("urn:kms:{}", Uuid::from_bytes(home)),
            verified: Cache::new(VERIFIED_MAX),
            uses: Mutex::default(),
        }
    }

    /// The audience that assertions must name: this home.
    pub(crate) fn audience(&self) -> &str {
        &self.audience
    }
}

impl Dispatch {
    /// Returns the account of a bearer token, static or access token, at the time `now` (seconds since 1970). It may
    /// block; see [`Dispatch::authenticate_cached`].
    ///
    /// # Errors
    /// 401 with the same message for every invalid token, and another for an expired one; 503 when the database is
    /// unavailable.
    pub fn authenticate(&self, bearer: &str, now: u64) -> Result<Arc<Account>, Problem> {
        self.authenticate_cached(bearer, now).unwrap_or_else(|| {
            let digest = policy::token_digest(bearer);
            if bearer.starts_with(policy::TOKEN_PREFIX) {
                let token = found(self.store.token(digest))?;
                let member = found(self.store.member(token.account))?;
                return self.account_of_static_token(&token, &member, now);
            }
            let issued = self.authenticator.keys.check(JwtUse::Access, bearer, now).map_err(jwt_problem)?;
            self.authenticator.verified.insert(digest, issued);
            account_of_access_token(issued, &*found(self.store.member(issued.account))?, now)
        })
    }

    /// Does the same from memory only, without blocking; returns `None` when the caches do not suffice.
    pub fn authenticate_cached(&self, bearer: &str, now: u64) -> Option<Result<Arc<Account>, Problem>> {
        if bearer.len() > JWT_BYTES_MAX {
            return Some(Err(invalid()));
        }
        let digest = policy::token_digest(bearer);
        if bearer.starts_with(policy::TOKEN_PREFIX) {
            let Some(token) = self.store.cached_token(digest) else {
                return if policy::is_token(bearer) { None } else { Some(Err(invalid())) };
            };
            let member = self.store.cached_account(token.account)?;
            return Some(self.account_of_static_token(&token, &member, now));
        }
        let issued = self.authenticator.verified.get(&digest)?;
        let member = self.store.cached_account(issued.account)?;
        Some(account_of_access_token(issued, &member, now))
    }

    /// Returns the project in which commands and `C_InitToken` create rings: the oldest. The first ring of a home
    /// without projects makes the implied one.
    pub(crate) fn home_project(&self) -> Result<Uuid, StoreError> {
        Ok(self.store.projects()?.first().map(|project| project.id).unwrap_or_default())
    }

    /// Returns the account of a static token.
    fn account_of_static_token(
        &self,
        token: &Token,
        member: &AccountWithGrants,
        now: u64,
    ) -> Result<Arc<Account>, Problem> {
        if member.disabled {
            return Err(invalid());
        }
        if token.expires.is_some_and(|end| now >= end) {
            return Err(expired());
        }
        self.note_use(token.id, now);
        Ok(Arc::clone(&member.account))
    }

    /// Queues a record of the use of a token, to the hour; no caller waits for the write.
    pub(in crate::dispatch) fn note_use(&self, token: Uuid, now: u64) {
        let hour = now - now % HOUR;
        let mut uses = self.authenticator.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.get(&token) == Some(&hour) {
            return;
        }
        if uses.len() >= USES_MAX {
            uses.clear();
        }
        if self.store.record_token_use(token, hour) {
            uses.insert(token, hour);
        }
    }
}

/// Returns the account of an access token.
fn account_of_access_token(
    issued: Issued,
    member: &AccountWithGrants,
    now: u64,
) -> Result<Arc<Account>, Problem> {
    if now >= issued.expires {
        Err(expired())
    } else if member.disabled || member.generation != issued.generation {
        Err(invalid())
    } else {
        Ok(Arc::clone(&member.account))
    }
}

/// Returns what the store found; a row that is missing or was edited outside the KMS is an invalid token.
fn found<T>(lookup: Result<Option<T>, StoreError>) -> Result<T, Problem> {
    match lookup {
        Ok(Some(found)) => Ok(found),
        // The store has logged the row.
        Ok(None) | Err(StoreError::RowInvalid { .. }) => Err(invalid()),
        Err(error) => Err(unavailable(&error)),
    }
}

/// Returns 503, and logs the cause once.
pub(in crate::dispatch) fn unavailable(error: &StoreError) -> Problem {
    tracing::error!(cause = error_chain(error), "a bearer token could not be looked up");
    Problem::new(Status::Unavailable, "the service cannot authenticate the caller at this moment; try again")
}

fn jwt_problem(error: JwtError) -> Problem {
    if error == JwtError::Expired { expired() } else { invalid() }
}

fn invalid() -> Problem {
    Problem::new(Status::Unauthenticated, INVALID)
}

fn expired() -> Problem {
    Problem::new(Status::Unauthenticated, EXPIRED)
}
