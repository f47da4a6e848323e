//! The key flow: exchanges a service account's signed assertion, or a refresh token, for an access token (RFC 7523,
//! RFC 6749).

use std::net::IpAddr;

use kms_core::api::{Problem, Status};
use kms_core::audit::{Entry, Kind};
use kms_crypto::rsa_public_key;
use kms_crypto::{AssertionAccount, Issued, JwtError, JwtUse, assertion_key, check_assertion};
use kms_store::{AccountKey, AccountWithGrants, Assertion, AssertionExchange, StoreError};
use serde_json::Map;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::dispatch::Dispatch;
use crate::dispatch::accounts::unavailable;

/// What a client exchanges for tokens.
#[derive(Clone, Copy)]
pub enum TokenRequest<'a> {
    /// An assertion that a service account's key has signed.
    Assertion(&'a str),
    /// A refresh token.
    Refresh(&'a str),
}

/// The context of a token request, for the audit log.
#[derive(Clone, Debug)]
pub struct TokenRequestContext<'a> {
    /// The address of the client.
    pub source: Option<IpAddr>,
    /// The client's `User-Agent`; the listener limits its length.
    pub agent: &'a str,
    /// The trace id of the request.
    pub trace: Option<Uuid>,
}

/// The tokens that a client gets.
pub struct TokenPair {
    /// The access token.
    pub access: Zeroizing<String>,
    /// The refresh token.
    pub refresh: Zeroizing<String>,
    /// Lifetime of the access token, in seconds.
    pub seconds: u64,
}

/// The account key that an assertion or token names, and its account.
struct Signer {
    key: AccountKey,
    member: std::sync::Arc<AccountWithGrants>,
}

impl Dispatch {
    /// Exchanges an assertion or a refresh token. It blocks: each exchanged assertion is recorded on the disk.
    ///
    /// # Errors
    /// 403 with the reason when the assertion or token is invalid; 503 when the database is unavailable.
    pub fn exchange(
        &self,
        context: &TokenRequestContext<'_>,
        request: TokenRequest<'_>,
    ) -> Result<TokenPair, Problem> {
        self.exchange_if(context, request, &|_| Ok(()))
    }

    /// The same if `admit` lets the account have another pair. It is asked before anything is written.
    ///
    /// # Errors
    /// As [`Dispatch::exchange`], and those of `admit`.
    pub(crate) fn exchange_if(
        &self,
        context: &TokenRequestContext<'_>,
        request: TokenRequest<'_>,
        admit: &dyn Fn(Uuid) -> Result<(), Problem>,
    ) -> Result<TokenPair, Problem> {
        let now = self.clock.seconds();
        match request {
            TokenRequest::Assertion(text) => self.exchange_assertion(context, text, now, admit),
            TokenRequest::Refresh(text) => self.refresh(text, now, admit),
        }
    }

    fn exchange_assertion(
        &self,
        context: &TokenRequestContext<'_>,
        text: &str,
        now: u64,
        admit: &dyn Fn(Uuid) -> Result<(), Problem>,
    ) -> Result<TokenPair, Problem> {
        let key = assertion_key(text).ok_or_else(|| {
            forbidden("the assertion is not a JWT signed with RS512 whose header names its key (kid)")
        })?;
        let signer = self.signer(key, now)?.ok_or_else(|| invalid_assertion(JwtError::Invalid))?;
        let account = &signer.member.account;
        let public = rsa_public_key(&signer.key.public).map_err(|_| invalid_assertion(JwtError::Invalid))?;
        let asserter = AssertionAccount { id: account.id, email: &account.email, public: &public };
        let asserted =
            check_assertion(text, asserter, &self.authenticator.audience, now).map_err(invalid_assertion)?;
        admit(account.id)?;
        let digest = Sha256::new().chain_update(account.id).chain_update(&asserted.name).finalize();
        let assertion =
            Assertion { account: account.id, digest: digest.into(), expires: asserted.forgotten_at };
        let (success, replay) = (
            self.entry(context, &signer, Kind::AdminActivity, 200),
            self.entry(context, &signer, Kind::PolicyDenied, 403),
        );
        match self.store.exchange_assertion(assertion, now, success, replay) {
            Ok(AssertionExchange::First) => self.issue_pair(&signer, now),
            Ok(AssertionExchange::Replayed) => {
                Err(forbidden("the assertion was exchanged before: each needs a jti of its own"))
            }
            Err(StoreError::TooMany { most, .. }) => {
                let message = format!("{most} assertions of this account have not ended; use refresh tokens");
                Err(Problem::new(Status::TooMany, message))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    fn refresh(
        &self,
        text: &str,
        now: u64,
        admit: &dyn Fn(Uuid) -> Result<(), Problem>,
    ) -> Result<TokenPair, Problem> {
        let invalid = "the refresh token is not valid here; sign a new assertion";
        let issued = self.authenticator.keys.check(JwtUse::Refresh, text, now).map_err(|error| {
            let expired = "the refresh token has expired; sign a new assertion";
            forbidden(if error == JwtError::Expired { expired } else { invalid })
        })?;
        let signer = self.signer(issued.key, now)?.ok_or_else(|| forbidden(invalid))?;
        let member = &signer.member;
        if member.account.id != issued.account || member.generation != issued.generation {
            return Err(forbidden(invalid));
        }
        admit(member.account.id)?;
        self.issue_pair(&signer, now)
    }

    /// Returns the account key and its account, if the key is active and the account is not disabled.
    fn signer(&self, key: Uuid, now: u64) -> Result<Option<Signer>, Problem> {
        let lookup = || -> Result<Option<Signer>, StoreError> {
            let Some(key) = self.store.account_key(key)?.filter(|key| key.is_active(now)) else {
                return Ok(None);
            };
            let member = self.store.member(key.account)?.filter(|member| !member.disabled);
            Ok(member.map(|member| Signer { key, member }))
        };
        match lookup() {
            // The row was edited outside the KMS; the store has logged it.
            Err(StoreError::RowInvalid { .. }) => Ok(None),
            result => result.map_err(|error| unavailable(&error)),
        }
    }

    fn issue_pair(&self, signer: &Signer, now: u64) -> Result<TokenPair, Problem> {
        // No token is valid longer than the key.
        let end = signer.key.valid_until.unwrap_or(u64::MAX);
        let until = |lifetime: std::time::Duration| (now + lifetime.as_secs()).min(end);
        let lifetimes = self.authenticator.lifetimes;
        let issue = |kind, expires| {
            let (account, generation) = (signer.member.account.id, signer.member.generation);
            let issued = Issued { account, generation, key: signer.key.id, issued: now, expires };
            self.authenticator.keys.issue(kind, &issued, Uuid::new_v4())
        };
        let expires = until(lifetimes.access);
        Ok(TokenPair {
            access: issue(JwtUse::Access, expires),
            refresh: issue(JwtUse::Refresh, until(lifetimes.refresh)),
            seconds: expires - now,
        })
    }

    fn entry(&self, context: &TokenRequestContext<'_>, signer: &Signer, kind: Kind, status: u16) -> Entry {
        let account = &signer.member.account;
        let mut details = Map::new();
        details.insert("keyId".to_owned(), signer.key.id.to_string().into());
        Entry {
            at: self.clock.millis(),
            event: "kms.access-token.create",
            kind,
            project: None,
            resource: format!("accounts/{}", account.id),
            initiator: Some(account.id),
            name: account.email.clone(),
            endpoint: "POST /token".to_owned(),
            source: context.source,
            agent: context.agent.to_owned(),
            trace: context.trace,
            status,
            details,
        }
    }
}

fn invalid_assertion(error: JwtError) -> Problem {
    forbidden(format!("the assertion is rejected: {error}"))
}

fn forbidden(message: impl Into<String>) -> Problem {
    Problem::new(Status::Forbidden, message)
}
