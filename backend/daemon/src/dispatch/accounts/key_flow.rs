//! The key flow: exchanges a service account's signed assertion, or a refresh token, for an access token (RFC 7523,
//! RFC 6749).

use std::net::IpAddr;

use kms_core::api::{Problem, Status};
use kms_core::audit::{Entry, Kind};
use kms_crypto::rsa_public_key;
use kms_crypto::{
    ASSERTION_SECONDS_MAX, AssertionAccount, Issued, JwtError, JwtUse, LEEWAY_SECONDS, assertion_key,
    check_assertion,
};
use kms_store::{
    AccountKey, AccountWithGrants, Assertion, AssertionExchange, RefreshExchange, RefreshFamily, RefreshUse,
    StoreError,
};
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

/// The names of a pair of tokens.
#[derive(Clone, Copy)]
struct TokenNames {
    /// The login that they descend from.
    family: Uuid,
    /// The `jti` of the refresh token.
    refresh: Uuid,
}

impl Dispatch {
    /// Exchanges an assertion or a refresh token. It blocks: what was exchanged is recorded on the disk, because each is
    /// good once.
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
            TokenRequest::Refresh(text) => self.refresh(context, text, now, admit),
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
        if self.is_before_restore(asserted.issued, now) {
            return Err(forbidden(
                "the assertion was signed before the database was restored, or does not say when (iat); sign a new one",
            ));
        }
        admit(account.id)?;
        let digest = Sha256::new().chain_update(account.id).chain_update(&asserted.name).finalize();
        let assertion =
            Assertion { account: account.id, digest: digest.into(), expires: asserted.forgotten_at };
        let (success, replay) = (
            self.entry(context, &signer, Kind::AdminActivity, 200),
            self.entry(context, &signer, Kind::PolicyDenied, 403),
        );
        let names = TokenNames { family: Uuid::new_v4(), refresh: Uuid::new_v4() };
        let end = self.refresh_end(&signer, now);
        let family = RefreshFamily::new(names.family, account.id, names.refresh, end);
        match self.store.exchange_assertion(assertion, family, now, success, replay) {
            Ok(AssertionExchange::First) => Ok(self.issue_pair(&signer, names, now)),
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

    /// Whether an assertion may have been exchanged before the database was restored from a copy that does not know it.
    fn is_before_restore(&self, issued: Option<u64>, now: u64) -> bool {
        let Some(restored) = self.restored else { return false };
        let is_recent = now <= restored.saturating_add(ASSERTION_SECONDS_MAX + 2 * LEEWAY_SECONDS);
        is_recent && issued.is_none_or(|issued| issued <= restored.saturating_add(LEEWAY_SECONDS))
    }

    fn refresh(
        &self,
        context: &TokenRequestContext<'_>,
        text: &str,
        now: u64,
        admit: &dyn Fn(Uuid) -> Result<(), Problem>,
    ) -> Result<TokenPair, Problem> {
        let invalid = "the refresh token is not valid here; sign a new assertion";
        let checked = self.authenticator.keys.check_named(JwtUse::Refresh, text, now);
        let (issued, presented) = checked.map_err(|error| {
            let expired = "the refresh token has expired; sign a new assertion";
            forbidden(if error == JwtError::Expired { expired } else { invalid })
        })?;
        let signer = self.signer(issued.key, now)?.ok_or_else(|| forbidden(invalid))?;
        let member = &signer.member;
        if member.account.id != issued.account || member.generation != issued.generation {
            return Err(forbidden(invalid));
        }
        let family = issued.family.ok_or_else(|| forbidden(invalid))?;
        admit(member.account.id)?;
        let names = TokenNames { family, refresh: Uuid::new_v4() };
        let (account, next, expires) = (issued.account, names.refresh, self.refresh_end(&signer, now));
        let token = RefreshUse { family, account, presented, next, expires, now };
        let mut reused = self.entry(context, &signer, Kind::PolicyDenied, 403);
        reused
            .details
            .insert("reason".to_owned(), "a refresh token was used again: its login is ended".into());
        match self.store.rotate_refresh(token, reused) {
            Ok(RefreshExchange::Rotated) => Ok(self.issue_pair(&signer, names, now)),
            Ok(RefreshExchange::Reused) => Err(forbidden(
                "the refresh token was used before, so that all refresh tokens of its login are revoked; sign a new \
                 assertion",
            )),
            // The row was edited outside the KMS; the transaction changed nothing.
            Ok(RefreshExchange::Refused) | Err(StoreError::RowInvalid { .. }) => Err(forbidden(invalid)),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// When a refresh token that is issued now expires: not after the key.
    fn refresh_end(&self, signer: &Signer, now: u64) -> u64 {
        let end = signer.key.valid_until.unwrap_or(u64::MAX);
        (now + self.authenticator.lifetimes.refresh.as_secs()).min(end)
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

    fn issue_pair(&self, signer: &Signer, names: TokenNames, now: u64) -> TokenPair {
        let issue = |kind, expires, name| {
            let (account, generation) = (signer.member.account.id, signer.member.generation);
            let (key, family) = (signer.key.id, Some(names.family));
            let issued = Issued { account, generation, key, issued: now, expires, family };
            self.authenticator.keys.issue(kind, &issued, name)
        };
        // No token is valid longer than the key.
        let end = signer.key.valid_until.unwrap_or(u64::MAX);
        let expires = (now + self.authenticator.lifetimes.access.as_secs()).min(end);
        TokenPair {
            access: issue(JwtUse::Access, expires, Uuid::new_v4()),
            refresh: issue(JwtUse::Refresh, self.refresh_end(signer, now), names.refresh),
            seconds: expires - now,
        }
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
