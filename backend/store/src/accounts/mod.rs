//! Service accounts: what they were given, their tokens, and the keys that sign for them.
//!
//! Whoever authenticates is remembered (`cache`), so a call costs no read of the disk. What is not there is not
//! remembered: whoever guesses would fill the memory.

mod change;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kms_core::api::{Account, Grant};
use kms_core::audit::Entry;
use kms_core::integrity::RowKey;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::check::each;
use super::{Store, StoreError};
use rows::Stored;
pub use rows::{AccountKey, GivenGrant, KeyAlgorithm, ServiceAccount, Token};

/// A service account as authentication needs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Who it is and what it was given.
    pub account: Arc<Account>,
    /// Counts the times that all that was derived from its tokens and keys was ended at once.
    pub generation: u64,
    /// Whether it is shut out.
    pub disabled: bool,
}

/// What became of an assertion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AssertionUse {
    /// It was good, and is so no longer.
    Now,
    /// It had been exchanged before.
    Before,
}

/// An assertion to be exchanged.
#[derive(Clone, Copy, Debug)]
pub struct Assertion {
    /// Who asserts.
    pub account: Uuid,
    /// The digest of its name.
    pub digest: [u8; 32],
    /// When it ends by itself.
    pub expires: u64,
}

/// Whether every row here bears its MAC; counts the accounts.
pub(super) fn check(connection: &Connection, key: &RowKey) -> Result<u64, StoreError> {
    fn table<T: Stored>(connection: &Connection, key: &RowKey) -> Result<u64, StoreError> {
        let sql = format!("SELECT {} FROM {}", T::COLUMNS, T::TABLE);
        each(connection, &sql, &|row| T::read(row, key).map(drop))
    }
    table::<GivenGrant>(connection, key)?;
    table::<Token>(connection, key)?;
    table::<AccountKey>(connection, key)?;
    table::<ServiceAccount>(connection, key)
}

/// All accounts, by address, and why others cannot be read.
pub(super) fn every(
    connection: &Connection,
    key: &RowKey,
) -> Result<(Vec<ServiceAccount>, Vec<StoreError>), StoreError> {
    ServiceAccount::all(connection, key, "ORDER BY email", [])
}

/// What an account has of this kind, and why other rows cannot be read.
pub(super) fn of_account<T: Stored>(
    connection: &Connection,
    key: &RowKey,
    account: Uuid,
) -> Result<(Vec<T>, Vec<StoreError>), StoreError> {
    T::all(connection, key, "WHERE account = ?1 ORDER BY created, id", [account.as_bytes()])
}

impl Store {
    /// All service accounts, by address. One whose row was changed is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub fn accounts(&self) -> Result<Vec<ServiceAccount>, StoreError> {
        self.listed("ORDER BY email", [])
    }

    /// The service account with this address.
    ///
    /// # Errors
    /// When the database fails, or the row was changed.
    pub fn account_named(&self, email: &str) -> Result<Option<ServiceAccount>, StoreError> {
        self.readers
            .read(|connection| ServiceAccount::one(connection, &self.key, "WHERE email = ?1", [email]))
    }

    /// What accounts were given: this one, or all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn grants(&self, account: Option<Uuid>) -> Result<Vec<GivenGrant>, StoreError> {
        let account = account.map(Uuid::into_bytes);
        self.listed("WHERE account = coalesce(?1, account) ORDER BY account, created, id", [account])
    }

    /// The tokens of an account, or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn tokens(&self, account: Option<Uuid>) -> Result<Vec<Token>, StoreError> {
        let account = account.map(Uuid::into_bytes);
        self.listed("WHERE account = coalesce(?1, account) ORDER BY account, created, id", [account])
    }

    /// The public keys of an account, or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn account_keys(&self, account: Option<Uuid>) -> Result<Vec<AccountKey>, StoreError> {
        let account = account.map(Uuid::into_bytes);
        self.listed("WHERE account = coalesce(?1, account) ORDER BY account, created, id", [account])
    }

    /// The public key with this id.
    ///
    /// # Errors
    /// When the database fails, or the row was changed.
    pub fn account_key(&self, id: Uuid) -> Result<Option<AccountKey>, StoreError> {
        let read = |connection: &Connection| {
            AccountKey::one(connection, &self.key, "WHERE id = ?1", [id.as_bytes()])
        };
        self.readers.read(read).inspect_err(|error| self.report(std::slice::from_ref(error)))
    }

    /// When a token was last used, to the hour.
    ///
    /// # Errors
    /// When the database fails.
    pub fn token_used(&self, token: Uuid) -> Result<Option<u64>, StoreError> {
        self.readers.read(|connection| {
            let sql = "SELECT at FROM token_uses WHERE token = ?1";
            Ok(connection.query_row(sql, [token.as_bytes()], |row| row.get(0)).optional()?)
        })
    }

    fn listed<T: Stored>(
        &self,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<T>, StoreError> {
        let (found, refused) =
            self.readers.read(|connection| T::all(connection, &self.key, condition, values))?;
        self.report(&refused);
        Ok(found)
    }

    /// The account with this id, as authentication needs it. A grant whose row was changed does not count.
    ///
    /// # Errors
    /// When the database fails, or the account's row was changed.
    pub fn member(&self, id: Uuid) -> Result<Option<Arc<Member>>, StoreError> {
        let load = || {
            let (found, refused) = self.readers.read(|connection| {
                let values = || [id.into_bytes()];
                let Some(found) = ServiceAccount::one(connection, &self.key, "WHERE id = ?1", values())?
                else {
                    return Ok((None, Vec::new()));
                };
                let (grants, refused) =
                    GivenGrant::all(connection, &self.key, "WHERE account = ?1 ORDER BY id", values())?;
                Ok((Some((found, grants)), refused))
            })?;
            self.report(&refused);
            Ok(found.map(|(found, grants)| Member {
                generation: found.generation,
                disabled: found.disabled.is_some(),
                account: Arc::new(Account {
                    id,
                    email: found.email,
                    grants: grants.into_iter().map(|given| given.grant).collect(),
                }),
            }))
        };
        self.memory.member(id, load).inspect_err(|error| self.report(std::slice::from_ref(error)))
    }

    /// The same, if it is remembered.
    pub fn remembered_member(&self, id: Uuid) -> Option<Arc<Member>> {
        self.memory.remembered_member(id)
    }

    /// The token with this digest.
    ///
    /// # Errors
    /// When the database fails, or the token's row was changed.
    pub fn token(&self, digest: [u8; 32]) -> Result<Option<Arc<Token>>, StoreError> {
        let read = |connection: &Connection| Token::one(connection, &self.key, "WHERE digest = ?1", [digest]);
        let found = self.memory.token(digest, || self.readers.read(read));
        found.inspect_err(|error| self.report(std::slice::from_ref(error)))
    }

    /// The same, if it is remembered.
    pub fn remembered_token(&self, digest: [u8; 32]) -> Option<Arc<Token>> {
        self.memory.remembered_token(digest)
    }

    /// Makes an account with its first grants.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another has the address; [`StoreError::TooMany`].
    pub fn insert_account(
        &self,
        account: ServiceAccount,
        grants: Vec<GivenGrant>,
        entry: Entry,
    ) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::insert_account(tx, &account, &grants)?;
            tx.record(&entry)
        })
    }

    /// Shuts an account out from now on, or lets it in again. Either ends all that was derived from its tokens and keys.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such account.
    pub fn set_account_disabled(
        &self,
        id: Uuid,
        disabled: Option<u64>,
        entry: Entry,
    ) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::end_generation(tx, id, |account| account.disabled = disabled)?;
            tx.record(&entry)
        })
    }

    /// Removes an account with all that it has.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such account.
    pub fn remove_account(&self, id: Uuid, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::remove_account(tx, id)?;
            tx.record(&entry)
        })
    }

    /// Gives an account a role.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when it has it already; [`StoreError::TooMany`].
    pub fn insert_grant(&self, given: GivenGrant, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::insert_grant(tx, &given)?;
            tx.record(&entry)
        })
    }

    /// Takes a role from an account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it does not have it.
    pub fn remove_grant(&self, account: Uuid, grant: Grant, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::remove_grant(tx, account, grant)?;
            tx.record(&entry)
        })
    }

    /// Adds a token.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the account has one of that name; [`StoreError::TooMany`].
    pub fn insert_token(&self, token: Token, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::insert_token(tx, &token)?;
            tx.record(&entry)
        })
    }

    /// Ends a token.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such token.
    pub fn remove_token(&self, id: Uuid, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::remove_token(tx, id)?;
            tx.record(&entry)
        })
    }

    /// Adds a public key.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the account has this very key; [`StoreError::TooMany`].
    pub fn insert_account_key(&self, key: AccountKey, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::insert_key(tx, &key)?;
            tx.record(&entry)
        })
    }

    /// Revokes a public key, and ends all that was derived from its account's tokens and keys.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key, or it is revoked already.
    pub fn revoke_account_key(&self, id: Uuid, now: u64, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::revoke_key(tx, id, now)?;
            tx.record(&entry)
        })
    }

    /// Exchanges an assertion, once: records `done`, or `replayed` where it had been exchanged before.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] when the account has too many that have not ended.
    pub fn spend(
        &self,
        assertion: Assertion,
        now: u64,
        done: Entry,
        replayed: Entry,
    ) -> Result<AssertionUse, StoreError> {
        self.writer.write(move |tx| {
            let spent = change::spend(tx, assertion, now)?;
            tx.record(if spent == AssertionUse::Now { &done } else { &replayed })?;
            Ok(spent)
        })
    }

    /// Notes that a token was used, some time later; whether it will be.
    pub fn note_token_use(&self, token: Uuid, at: u64) -> bool {
        self.writer.post(move |tx| {
            let sql = "INSERT INTO token_uses (token, at) SELECT id, ?2 FROM tokens WHERE id = ?1 \
                       ON CONFLICT (token) DO UPDATE SET at = max(at, ?2)";
            let values = params![token.as_bytes(), super::rows::signed(at)];
            tx.connection.prepare_cached(sql)?.execute(values)?;
            Ok(())
        })
    }
}
