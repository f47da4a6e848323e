//! Who asks over REST: a bearer's text → a service account (docs/decisions/0024).
//!
//! A token that is known costs one SHA-256 and two looks into memory. Whoever is shut out, or whose token was revoked, is
//! so at the next call here, and within a second where another process did it.

pub(in crate::dispatch) mod key_flow;
pub(in crate::dispatch) mod login;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kms_core::api::{Account, Problem, Status};
use kms_core::error_chain;
use kms_core::policy;
use kms_crypto::{Issued, JWT_BYTES_MAX, JwtError, JwtKeys, JwtUse};
use kms_store::{Member, Ring, StoreError, Token};
use moka::sync::Cache;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::TokenLifetimes;
use crate::dispatch::Dispatch;

/// Access tokens whose signature need not be checked again: 100 bytes each.
const VERIFIED_MAX: u64 = 10_000;

/// Tokens whose use this hour is noted.
const USES_MAX: usize = 10_000;

const HOUR: u64 = 3600;

/// What says nothing but that it will not do: who guesses learns nothing.
const UNKNOWN: &str = "the bearer token is not valid here; make one with `kms token create`, or get one with a \
                       service account's key";

const EXPIRED: &str = "the bearer token has expired; get a new one";

/// What is needed to tell whose a bearer's text is.
pub(crate) struct Authenticator {
    pub(in crate::dispatch) keys: JwtKeys,
    pub(in crate::dispatch) lives: TokenLifetimes,
    /// For whom assertions must be meant: this home.
    pub(in crate::dispatch) audience: String,
    verified: Cache<[u8; 32], Issued>,
    /// The hour in which the use of a token was noted last.
    uses: Mutex<HashMap<Uuid, u64>>,
}

impl Authenticator {
    /// Works with a key that only the backends of this home have.
    pub(crate) fn new(key: Zeroizing<[u8; 32]>, home: [u8; 16], lives: TokenLifetimes) -> Self {
        Self {
            keys: JwtKeys::from(key),
            lives,
            audience: format!("urn:kms:{}", Uuid::from_bytes(home)),
            verified: Cache::new(VERIFIED_MAX),
            uses: Mutex::default(),
        }
    }

    /// For whom assertions must be meant: this home.
    pub(crate) fn audience(&self) -> &str {
        &self.audience
    }
}

impl Dispatch {
    /// Whose a bearer's text is at the time `now` (seconds since 1970): a static token's, or an access token's. It may
    /// block: see [`Dispatch::recognise`].
    ///
    /// # Errors
    /// 401 with the same words whatever is wrong, but for a token that has expired; 503 when the database is away.
    pub fn authenticate(&self, bearer: &str, now: u64) -> Result<Arc<Account>, Problem> {
        self.recognise(bearer, now).unwrap_or_else(|| {
            let digest = policy::token_digest(bearer);
            if bearer.starts_with(policy::TOKEN_PREFIX) {
                let token = found(self.store.token(digest))?;
                let member = found(self.store.member(token.account))?;
                return self.holder(&token, &member, now);
            }
            let issued = self.authenticator.keys.check(JwtUse::Access, bearer, now).map_err(refusal_of)?;
            self.authenticator.verified.insert(digest, issued);
            derived(issued, &*found(self.store.member(issued.account))?, now)
        })
    }

    /// The same from memory alone, without waiting for anything; none where that does not suffice.
    pub fn recognise(&self, bearer: &str, now: u64) -> Option<Result<Arc<Account>, Problem>> {
        if bearer.len() > JWT_BYTES_MAX {
            return Some(Err(unknown()));
        }
        let digest = policy::token_digest(bearer);
        if bearer.starts_with(policy::TOKEN_PREFIX) {
            let Some(token) = self.store.remembered_token(digest) else {
                return if policy::is_token(bearer) { None } else { Some(Err(unknown())) };
            };
            let member = self.store.remembered_member(token.account)?;
            return Some(self.holder(&token, &member, now));
        }
        let issued = self.authenticator.verified.get(&digest)?;
        let member = self.store.remembered_member(issued.account)?;
        Some(derived(issued, &member, now))
    }

    /// The project of a ring: one that names none belongs to the first.
    pub(crate) fn project_of(&self, ring: &Ring) -> Result<Uuid, StoreError> {
        if let Some(project) = ring.metadata.project {
            return Ok(project);
        }
        Ok(self.store.projects()?.first().map(|project| project.id).unwrap_or_default())
    }

    /// The account that holds a static token.
    fn holder(&self, token: &Token, member: &Member, now: u64) -> Result<Arc<Account>, Problem> {
        if member.disabled {
            return Err(unknown());
        }
        if token.expires.is_some_and(|end| now >= end) {
            return Err(expired());
        }
        self.note_use(token.id, now);
        Ok(Arc::clone(&member.account))
    }

    /// Notes the use of a token, to the hour, so that nobody waits for a write.
    pub(in crate::dispatch) fn note_use(&self, token: Uuid, now: u64) {
        let hour = now - now % HOUR;
        let mut uses = self.authenticator.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.get(&token) == Some(&hour) {
            return;
        }
        if uses.len() >= USES_MAX {
            uses.clear();
        }
        if self.store.note_token_use(token, hour) {
            uses.insert(token, hour);
        }
    }
}

/// The account of an access token.
fn derived(issued: Issued, member: &Member, now: u64) -> Result<Arc<Account>, Problem> {
    if now >= issued.expires {
        Err(expired())
    } else if member.disabled || member.generation != issued.generation {
        Err(unknown())
    } else {
        Ok(Arc::clone(&member.account))
    }
}

/// What the store found; what is not there, or was changed outside the KMS, is unknown.
fn found<T>(looked: Result<Option<T>, StoreError>) -> Result<T, Problem> {
    match looked {
        Ok(Some(found)) => Ok(found),
        // The store has logged the row.
        Ok(None) | Err(StoreError::RowInvalid { .. }) => Err(unknown()),
        Err(error) => Err(unavailable(&error)),
    }
}

/// 503; the cause is logged here, once.
pub(in crate::dispatch) fn unavailable(error: &StoreError) -> Problem {
    tracing::error!(cause = error_chain(error), "a bearer could not be looked up");
    Problem::new(Status::Unavailable, "the service cannot look up who asks at this moment; try again")
}

fn refusal_of(error: JwtError) -> Problem {
    if error == JwtError::Expired { expired() } else { unknown() }
}

fn unknown() -> Problem {
    Problem::new(Status::Unauthenticated, UNKNOWN)
}

fn expired() -> Problem {
    Problem::new(Status::Unauthenticated, EXPIRED)
}
