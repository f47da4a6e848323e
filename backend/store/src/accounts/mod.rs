//! Service accounts with their grants, tokens and public keys.
//!
//! Accounts that authenticate are cached (`cache`), so a call costs no read of the disk. Missing accounts and tokens
//! are not cached: a caller that guesses would fill the cache.

mod change;
mod refresh;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kms_core::api::{Account, Grant};
use kms_core::audit::Entry;
use kms_core::integrity::{Cell, RowKey};
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::api::projects::check_clock;
use super::check::count_readable;
use super::writer::WriteTx;
use super::{Store, StoreError};
pub use refresh::{RefreshExchange, RefreshFamily, RefreshUse};
use rows::AccountRow;
pub use rows::{AccountGrant, AccountKey, KeyAlgorithm, ServiceAccount, Token};

/// A service account as authentication needs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountWithGrants {
    /// The account with its grants.
    pub account: Arc<Account>,
    /// Incremented to end all logins and access tokens derived from its tokens and keys.
    pub generation: u64,
    /// Whether it is disabled.
    pub disabled: bool,
}

/// The result of exchanging an assertion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AssertionExchange {
    /// It was exchanged now.
    First,
    /// It was exchanged before, which is a replay.
    Replayed,
}

/// An assertion to be exchanged.
#[derive(Clone, Copy, Debug)]
pub struct Assertion {
    /// The account that signed it.
    pub account: Uuid,
    /// A digest of the account's id and the assertion's id (`jti`).
    pub digest: [u8; 32],
    /// From when it is rejected as expired, so that it need not be stored any longer.
    pub expires: u64,
}

/// Verifies the MACs of all rows of accounts; returns the number of accounts.
pub(super) fn check(connection: &Connection, key: &RowKey) -> Result<u64, StoreError> {
    fn table<T: AccountRow>(connection: &Connection, key: &RowKey) -> Result<u64, StoreError> {
        let sql = format!("SELECT {} FROM {}", T::COLUMNS, T::TABLE);
        count_readable(connection, &sql, &|row| T::read(row, key).map(drop))
    }
    table::<AccountGrant>(connection, key)?;
    table::<Token>(connection, key)?;
    table::<RefreshFamily>(connection, key)?;
    table::<AccountKey>(connection, key)?;
    table::<ServiceAccount>(connection, key)
}

/// Counts the rows of a table of accounts that cannot be read; none of another table.
pub(super) fn unreadable(connection: &Connection, key: &RowKey, table: &str) -> Result<u64, StoreError> {
    fn count<T: AccountRow>(connection: &Connection, key: &RowKey) -> Result<u64, StoreError> {
        Ok(u64::try_from(T::all(connection, key, "", [])?.1.len()).unwrap_or(u64::MAX))
    }
    match table {
        ServiceAccount::TABLE => count::<ServiceAccount>(connection, key),
        AccountGrant::TABLE => count::<AccountGrant>(connection, key),
        Token::TABLE => count::<Token>(connection, key),
        AccountKey::TABLE => count::<AccountKey>(connection, key),
        _ => Ok(0),
    }
}

/// Returns all accounts, by address, and the errors of those that cannot be read.
pub(super) fn all_accounts(
    connection: &Connection,
    key: &RowKey,
) -> Result<(Vec<ServiceAccount>, Vec<StoreError>), StoreError> {
    ServiceAccount::all(connection, key, "ORDER BY email", [])
}

/// Returns an account's rows of this type, and the errors of those that cannot be read.
pub(super) fn of_account<T: AccountRow>(
    connection: &Connection,
    key: &RowKey,
    account: Uuid,
) -> Result<(Vec<T>, Vec<StoreError>), StoreError> {
    T::all(connection, key, "WHERE account = ?1 ORDER BY created, id", [account.as_bytes()])
}

/// Gives all accounts a new generation, above their own and what `replaced` returns, so that all logins and access tokens
/// derived from their tokens and keys end.
pub(super) fn end_generations(tx: &WriteTx<'_>, replaced: impl Fn(Uuid) -> u64) -> Result<(), StoreError> {
    let (accounts, unreadable) = all_accounts(tx.connection, tx.key)?;
    unreadable.into_iter().next().map_or(Ok(()), Err)?;
    for account in accounts {
        change::end_generation(tx, account.id, |changed| {
            changed.generation = changed.generation.max(replaced(account.id) + 1);
        })?;
    }
    Ok(())
}

/// Ends a static token.
pub(super) fn end_token(tx: &WriteTx<'_>, id: Uuid) -> Result<(), StoreError> {
    change::remove_token(tx, id)
}

/// Revokes an account key.
pub(super) fn revoke_key(tx: &WriteTx<'_>, id: Uuid, now: u64) -> Result<(), StoreError> {
    change::revoke_key(tx, id, now)
}

impl Store {
    /// Returns all service accounts, by address. An account whose row was changed is omitted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn accounts(&self) -> Result<Vec<ServiceAccount>, StoreError> {
        self.list("ORDER BY email", [])
    }

    /// Returns the service account with this address.
    ///
    /// # Errors
    /// When the database fails, or the row was changed.
    pub fn account_named(&self, email: &str) -> Result<Option<ServiceAccount>, StoreError> {
        self.readers
            .read(|connection| ServiceAccount::one(connection, &self.key, "WHERE email = ?1", [email]))
    }

    /// Whether other accounts than this one have a grant in a project, or in one of its rings. An account with a grant
    /// for every project does not count.
    ///
    /// # Errors
    /// When the database fails.
    pub fn has_other_callers(&self, project: Uuid, account: Uuid) -> Result<bool, StoreError> {
        let disabled = self.accounts()?.into_iter().filter(|account| account.disabled.is_some());
        let disabled: Vec<Uuid> = disabled.map(|account| account.id).collect();
        let grants = self.grants(None)?;
        Ok(grants.iter().any(|other| {
            other.grant.project == Some(project)
                && other.account != account
                && !disabled.contains(&other.account)
        }))
    }

    /// Returns the grants of an account, or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn grants(&self, account: Option<Uuid>) -> Result<Vec<AccountGrant>, StoreError> {
        let account = account.map(Uuid::into_bytes);
        self.list("WHERE account = coalesce(?1, account) ORDER BY account, created, id", [account])
    }

    /// Returns the tokens of an account, or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn tokens(&self, account: Option<Uuid>) -> Result<Vec<Token>, StoreError> {
        let account = account.map(Uuid::into_bytes);
        self.list("WHERE account = coalesce(?1, account) ORDER BY account, created, id", [account])
    }

    /// Returns the public keys of an account, or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn account_keys(&self, account: Option<Uuid>) -> Result<Vec<AccountKey>, StoreError> {
        let account = account.map(Uuid::into_bytes);
        self.list("WHERE account = coalesce(?1, account) ORDER BY account, created, id", [account])
    }

    /// Returns the public key with this id.
    ///
    /// # Errors
    /// When the database fails, or the row was changed.
    pub fn account_key(&self, id: Uuid) -> Result<Option<AccountKey>, StoreError> {
        let read = |connection: &Connection| {
            AccountKey::one(connection, &self.key, "WHERE id = ?1", [id.as_bytes()])
        };
        self.readers.read(read).inspect_err(|error| self.log_unreadable(std::slice::from_ref(error)))
    }

    /// Returns when a token was last used, to the hour.
    ///
    /// # Errors
    /// When the database fails.
    pub fn token_used(&self, token: Uuid) -> Result<Option<u64>, StoreError> {
        self.readers.read(|connection| {
            let sql = "SELECT at FROM token_uses WHERE token = ?1";
            Ok(connection.query_row(sql, [token.as_bytes()], |row| row.get(0)).optional()?)
        })
    }

    fn list<T: AccountRow>(
        &self,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<T>, StoreError> {
        let (found, unreadable) =
            self.readers.read(|connection| T::all(connection, &self.key, condition, values))?;
        self.log_unreadable(&unreadable);
        Ok(found)
    }

    /// Returns the account with this id, as authentication needs it. A grant whose row was changed is ignored.
    ///
    /// # Errors
    /// When the database fails, or the account's row was changed.
    pub fn member(&self, id: Uuid) -> Result<Option<Arc<AccountWithGrants>>, StoreError> {
        let load = || {
            let (found, unreadable) = self.readers.read(|connection| {
                let values = || [id.into_bytes()];
                let Some(found) = ServiceAccount::one(connection, &self.key, "WHERE id = ?1", values())?
                else {
                    return Ok((None, Vec::new()));
                };
                let (grants, unreadable) =
                    AccountGrant::all(connection, &self.key, "WHERE account = ?1 ORDER BY id", values())?;
                Ok((Some((found, grants)), unreadable))
            })?;
            self.log_unreadable(&unreadable);
            Ok(found.map(|(found, grants)| AccountWithGrants {
                generation: found.generation,
                disabled: found.disabled.is_some(),
                account: Arc::new(Account {
                    id,
                    email: found.email,
                    grants: grants.into_iter().map(|given| given.grant).collect(),
                }),
            }))
        };
        self.cache.member(id, load).inspect_err(|error| self.log_unreadable(std::slice::from_ref(error)))
    }

    /// Returns the same if it is cached.
    pub fn cached_account(&self, id: Uuid) -> Option<Arc<AccountWithGrants>> {
        self.cache.cached_member(id)
    }

    /// Returns the token with this digest.
    ///
    /// # Errors
    /// When the database fails, or the token's row was changed.
    pub fn token(&self, digest: [u8; 32]) -> Result<Option<Arc<Token>>, StoreError> {
        let read = |connection: &Connection| Token::one(connection, &self.key, "WHERE digest = ?1", [digest]);
        let found = self.cache.token(digest, || self.readers.read(read));
        found.inspect_err(|error| self.log_unreadable(std::slice::from_ref(error)))
    }

    /// Returns the same if it is cached.
    pub fn cached_token(&self, digest: [u8; 32]) -> Option<Arc<Token>> {
        self.cache.cached_token(digest)
    }

    /// Creates an account with its first grants.
    ///
    /// # Errors
    /// [`StoreError::NameInUse`] when another has the address; [`StoreError::TooMany`].
    pub fn insert_account(
        &self,
        account: ServiceAccount,
        grants: Vec<AccountGrant>,
        entry: Entry,
    ) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            check_clock(tx, account.created)?;
            change::insert_account(tx, &account, &grants)?;
            tx.record(&entry)
        })
    }

    /// Disables an account, or enables it again. Either ends all logins and access tokens derived from its tokens and
    /// keys.
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

    /// Removes an account with its grants, tokens and keys.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such account.
    pub fn remove_account(&self, id: Uuid, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::remove_account(tx, id)?;
            tx.record(&entry)
        })
    }

    /// Grants a role to an account.
    ///
    /// # Errors
    /// [`StoreError::NameInUse`] when it has it already; [`StoreError::TooMany`].
    pub fn insert_grant(&self, given: AccountGrant, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            check_clock(tx, given.created)?;
            change::insert_grant(tx, &given)?;
            tx.record(&entry)
        })
    }

    /// Revokes a role of an account.
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
    /// [`StoreError::NameInUse`] when the account has one of that name; [`StoreError::TooMany`].
    pub fn insert_token(&self, token: Token, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            check_clock(tx, token.created)?;
            change::insert_token(tx, &token)?;
            tx.record(&entry)
        })
    }

    /// Revokes a token.
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
    /// [`StoreError::NameInUse`] when the account has this very key; [`StoreError::TooMany`].
    pub fn insert_account_key(&self, key: AccountKey, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            check_clock(tx, key.created)?;
            change::insert_key(tx, &key)?;
            tx.record(&entry)
        })
    }

    /// Revokes a public key, and ends all logins and access tokens derived from its account's tokens and keys.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key, or it is revoked already.
    pub fn revoke_account_key(&self, id: Uuid, now: u64, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            change::revoke_key(tx, id, now)?;
            tx.record(&entry)
        })
    }

    /// Exchanges an assertion, once: records `done`, or `replayed` if it was exchanged before.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] when the account has too many assertions that have not expired.
    pub fn exchange_assertion(
        &self,
        assertion: Assertion,
        family: RefreshFamily,
        now: u64,
        done: Entry,
        replayed: Entry,
    ) -> Result<AssertionExchange, StoreError> {
        self.writer.write(move |tx| {
            let spent = change::exchange_assertion(tx, assertion, now)?;
            if spent == AssertionExchange::First {
                refresh::begin(tx, &family, now)?;
            }
            tx.record(if spent == AssertionExchange::First { &done } else { &replayed })?;
            Ok(spent)
        })
    }

    /// Uses a refresh token, durably before this returns. One that was used before revokes the login that it descends
    /// from, and `reused` is recorded.
    ///
    /// # Errors
    /// When the database fails, or the login's row was changed.
    pub fn rotate_refresh(&self, token: RefreshUse, reused: Entry) -> Result<RefreshExchange, StoreError> {
        self.writer.write(move |tx| {
            let exchange = refresh::rotate(tx, &token)?;
            if exchange == RefreshExchange::Reused {
                tx.record(&reused)?;
            }
            Ok(exchange)
        })
    }

    /// Queues a record of a token's use; returns false if the queue is full.
    pub fn record_token_use(&self, token: Uuid, at: u64) -> bool {
        self.writer.write_later(move |tx| {
            let sql = "SELECT (SELECT count(*) FROM tokens WHERE id = ?1), \
                       (SELECT max(at) FROM token_uses WHERE token = ?1)";
            let mut statement = tx.connection.prepare_cached(sql)?;
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let (tokens, before): (u64, Option<i64>) = statement.query_row([token.as_bytes()], read)?;
            let at = super::rows::signed(at);
            if tokens == 0 || before.is_some_and(|before| before >= at) {
                return Ok(());
            }
            let key = [("token", Cell::Bytes(token.as_bytes()))];
            tx.put("token_uses", &key, &[("at", Cell::Integer(at))])
        })
    }
}
