//! Commands on the credentials of service accounts: static tokens and account keys.

use std::time::Duration;

use kms_core::policy;
use kms_crypto::PublicKeyError;
use kms_store::{AccountKey, KeyAlgorithm, StoreError, Token};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::accounts::AccountError;
use super::projects::check_label;
use super::{Backend, ServiceError};
use crate::error::Error;

/// A token that was just created: the only time that it can be read.
pub struct NewToken {
    /// The token's id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The token itself.
    pub text: Zeroizing<String>,
    /// The time at which it expires, if it does.
    pub expires: Option<u64>,
}

/// A token, as `kms token list` shows it.
#[derive(Clone, Debug)]
pub struct TokenInfo {
    /// The token's id.
    pub id: Uuid,
    /// Its account's address.
    pub account: String,
    /// Its name.
    pub name: String,
    /// The time of its creation, in seconds since 1970.
    pub created: u64,
    /// The time at which it expires, if it does.
    pub expires: Option<u64>,
    /// The time of its last use, to the hour.
    pub used: Option<u64>,
}

/// A key of a service account, as `kms account key list` shows it.
#[derive(Clone, Debug)]
pub struct AccountKeyInfo {
    /// The key's id: the `kid` of assertions.
    pub id: Uuid,
    /// Its account's id.
    pub account: Uuid,
    /// Its account's address.
    pub email: String,
    /// `RSA_2048` or `RSA_4096`.
    pub algorithm: &'static str,
    /// Whether the backend generated the key pair.
    pub generated: bool,
    /// The time at which it was added, in seconds since 1970.
    pub created: u64,
    /// The time at which it expires, if it does.
    pub valid_until: Option<u64>,
    /// The time at which it was revoked, if it was.
    pub revoked: Option<u64>,
    /// Whether it is valid now.
    pub active: bool,
    /// The public key, PEM.
    pub public: String,
    /// The audience (`aud`) that its assertions must name.
    pub audience: String,
}

impl Backend {
    /// Creates a token for a service account.
    ///
    /// # Errors
    /// When the name is invalid or the account already has a token of that name, or there is no such account.
    pub fn create_token(
        &self,
        account: &str,
        name: &str,
        lifetime: Option<Duration>,
    ) -> Result<NewToken, ServiceError> {
        check_label(name)?;
        let account = self.account_of(account)?;
        let mut secret = Zeroizing::new([0; policy::TOKEN_SECRET_BYTES]);
        getrandom::fill(secret.as_mut_slice()).map_err(Error::Random)?;
        let text = policy::token_of(&secret);
        let created = self.dispatch.clock.seconds();
        let token = Token {
            id: Uuid::new_v4(),
            account: account.id,
            name: name.to_owned(),
            digest: policy::token_digest(&text),
            created,
            expires: lifetime.map(|lifetime| created.saturating_add(lifetime.as_secs())),
        };
        let details = [("token", json!(token.id)), ("name", json!(name)), ("expires", json!(token.expires))];
        let entry = self.account_entry("kms.token.create", "kms token create", &account, details);
        let (id, expires) = (token.id, token.expires);
        match self.dispatch.store.insert_token(token, entry) {
            Err(StoreError::NameInUse(name)) => Err(ServiceError::Exists(name)),
            done => {
                done?;
                Ok(NewToken { id, name: name.to_owned(), text, expires })
            }
        }
    }

    /// The tokens of one service account, or of all.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn tokens(&self, account: Option<&str>) -> Result<Vec<TokenInfo>, ServiceError> {
        let store = &self.dispatch.store;
        let only = account.map(|account| self.account_of(account)).transpose()?;
        let accounts = store.accounts()?;
        let mut listed = Vec::new();
        for token in store.tokens(only.map(|account| account.id))? {
            let Some(account) = accounts.iter().find(|account| account.id == token.account) else { continue };
            listed.push(TokenInfo {
                id: token.id,
                account: account.email.clone(),
                name: token.name,
                created: token.created,
                expires: token.expires,
                used: store.token_used(token.id)?,
            });
        }
        Ok(listed)
    }

    /// Revokes the token with this name or id.
    ///
    /// # Errors
    /// When the account has no such token.
    pub fn revoke_token(&self, account: &str, token: &str) -> Result<(), ServiceError> {
        let account = self.account_of(account)?;
        let tokens = self.dispatch.store.tokens(Some(account.id))?;
        let found = tokens.iter().find(|known| known.name == token || known.id.to_string() == token);
        let found = found.ok_or_else(|| AccountError::NoSuchToken {
            account: account.email.clone(),
            token: token.to_owned(),
        })?;
        let details = [("token", json!(found.id)), ("name", json!(found.name))];
        let entry = self.account_entry("kms.token.delete", "kms token revoke", &account, details);
        Ok(self.dispatch.store.remove_token(found.id, entry)?)
    }

    /// Generates a key pair for a service account and stores the public key. The private key is returned and cannot be
    /// read again.
    ///
    /// # Errors
    /// When there is no such account, or the key pair cannot be generated.
    pub fn create_account_key(
        &self,
        account: &str,
        algorithm: KeyAlgorithm,
        lifetime: Option<Duration>,
    ) -> Result<(AccountKeyInfo, Zeroizing<String>), ServiceError> {
        self.account_of(account)?;
        let pair = kms_crypto::generate_account_key_pair(algorithm.bits(), &self.dispatch.random)
            .map_err(Error::from)?;
        let key =
            self.store_key(account, algorithm, (pair.public, true), lifetime, "kms account key create")?;
        Ok((key, pair.private))
    }

    /// Adds the public key of a key pair that the user of a service account generated.
    ///
    /// # Errors
    /// When the text contains no public key that an account may have, or there is no such account.
    pub fn add_account_key(
        &self,
        account: &str,
        pem: &str,
        lifetime: Option<Duration>,
    ) -> Result<AccountKeyInfo, ServiceError> {
        let (public, bits) = kms_crypto::read_public_key(pem).map_err(AccountError::from)?;
        let algorithm = KeyAlgorithm::ALL.into_iter().find(|algorithm| algorithm.bits() == bits);
        let algorithm = algorithm.ok_or(PublicKeyError::Length(bits)).map_err(AccountError::from)?;
        self.store_key(account, algorithm, (public, false), lifetime, "kms account key add")
    }

    fn store_key(
        &self,
        account: &str,
        algorithm: KeyAlgorithm,
        (public, generated): (Vec<u8>, bool),
        lifetime: Option<Duration>,
        command: &'static str,
    ) -> Result<AccountKeyInfo, ServiceError> {
        let account = self.account_of(account)?;
        let created = self.dispatch.clock.seconds();
        let key = AccountKey {
            id: Uuid::new_v4(),
            account: account.id,
            algorithm,
            public,
            generated,
            created,
            valid_until: lifetime.map(|lifetime| created.saturating_add(lifetime.as_secs())),
            revoked: None,
        };
        let details = [("key", json!(key.id)), ("algorithm", json!(algorithm.name()))];
        let entry = self.account_entry("kms.account.key.create", command, &account, details);
        match self.dispatch.store.insert_account_key(key.clone(), entry) {
            Err(StoreError::NameInUse(what)) => Err(ServiceError::Exists(what)),
            done => {
                done?;
                Ok(self.key_info(key, account.email))
            }
        }
    }

    /// The keys of one service account, or of all.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn account_keys(&self, account: Option<&str>) -> Result<Vec<AccountKeyInfo>, ServiceError> {
        let store = &self.dispatch.store;
        let only = account.map(|account| self.account_of(account)).transpose()?;
        let accounts = store.accounts()?;
        let keys = store.account_keys(only.map(|account| account.id))?.into_iter();
        let listed = keys.filter_map(|key| {
            let account = accounts.iter().find(|account| account.id == key.account)?;
            Some(self.key_info(key, account.email.clone()))
        });
        Ok(listed.collect())
    }

    /// Revokes a key, and invalidates all access tokens that were issued for the keys of its account.
    ///
    /// # Errors
    /// When there is no such active key.
    pub fn revoke_account_key(&self, id: &str) -> Result<(), ServiceError> {
        let missing = || AccountError::NoSuchKey(id.to_owned());
        let kid = Uuid::parse_str(id).map_err(|_| missing())?;
        let store = &self.dispatch.store;
        let key = store.account_key(kid)?.ok_or_else(missing)?;
        let account = self.account_of(&key.account.to_string())?;
        let details = [("key", json!(key.id))];
        let entry = self.account_entry("kms.account.key.delete", "kms account key revoke", &account, details);
        match store.revoke_account_key(kid, self.dispatch.clock.seconds(), entry) {
            Err(StoreError::NotFound) => Err(missing().into()),
            done => Ok(done?),
        }
    }

    fn key_info(&self, key: AccountKey, email: String) -> AccountKeyInfo {
        AccountKeyInfo {
            id: key.id,
            account: key.account,
            email,
            algorithm: key.algorithm.name(),
            generated: key.generated,
            created: key.created,
            valid_until: key.valid_until,
            revoked: key.revoked,
            active: key.is_active(self.dispatch.clock.seconds()),
            public: kms_crypto::public_key_pem(&key.public).unwrap_or_default(),
            audience: self.dispatch.authenticator.audience().to_owned(),
        }
    }
}
