//! A snapshot of the database, read in parts while writes continue.

use std::path::Path;
use std::sync::Arc;

use kms_core::integrity::RowKey;
use kms_core::object::Object;
use kms_protocol::{ObjectId, RingId};
use rusqlite::Connection;
use uuid::Uuid;

use super::accounts::{self, AccountGrant, AccountKey, ServiceAccount, Token};
use super::api::{KeyRecord, Project, all_keys, projects};
use super::log_once::LogOnce;
use super::{Principal, Ring, Store, StoreError, find, open, principals};

/// A snapshot of the database. It has its own connection, so a slow reader takes none from the pool.
pub struct Snapshot {
    connection: Connection,
    key: Arc<RowKey>,
    logged: Arc<LogOnce>,
}

impl Store {
    /// Returns a snapshot of the current state.
    ///
    /// # Errors
    /// When the database cannot be opened again.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::open(self.readers.path(), Arc::clone(&self.key), Arc::clone(&self.logged))
    }
}

impl Snapshot {
    fn open(path: &Path, key: Arc<RowKey>, logged: Arc<LogOnce>) -> Result<Self, StoreError> {
        let connection = open::connect(path)?;
        connection.pragma_update(None, "query_only", true)?;
        // The first read determines the snapshot.
        connection.execute_batch("BEGIN; SELECT count(*) FROM home")?;
        Ok(Self { connection, key, logged })
    }

    /// Logs the rows that cannot be read, and returns the others.
    fn readable<T>(&self, (found, unreadable): (Vec<T>, Vec<StoreError>)) -> Vec<T> {
        self.logged.log(&unreadable);
        found
    }

    /// Returns all projects, the oldest first. Here and below, a row that was changed is omitted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn projects(&self) -> Result<Vec<Project>, StoreError> {
        Ok(self.readable(projects::all(&self.connection, &self.key)?))
    }

    /// Returns all rings, by slot.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rings(&self) -> Result<Vec<Ring>, StoreError> {
        let (rings, unreadable) = find::rings(&self.connection, &self.key)?;
        self.logged.log(&unreadable);
        Ok(rings.list())
    }

    /// Returns the principals of a ring, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn principals(&self, ring: RingId) -> Result<Vec<Principal>, StoreError> {
        Ok(self.readable(principals::ring_principals(&self.connection, &self.key, ring)?))
    }

    /// Returns a page of all keys of a ring, of every kind, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keys(
        &self,
        ring: RingId,
        after: Option<(u64, Uuid)>,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        Ok(self.readable(all_keys(&self.connection, &self.key, ring, (after, limit))?))
    }

    /// Returns an object of a ring, visible to applications or not.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::RowInvalid`] when its row was changed.
    pub fn object(&self, ring: RingId, id: ObjectId) -> Result<Object, StoreError> {
        let found = find::object(&self.connection, &self.key, id)?.object;
        if found.ring == ring { Ok(found) } else { Err(StoreError::NotFound) }
    }

    /// Returns all service accounts, by address.
    ///
    /// # Errors
    /// When the database fails.
    pub fn accounts(&self) -> Result<Vec<ServiceAccount>, StoreError> {
        Ok(self.readable(accounts::all_accounts(&self.connection, &self.key)?))
    }

    /// Returns the grants of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub fn grants(&self, account: Uuid) -> Result<Vec<AccountGrant>, StoreError> {
        Ok(self.readable(accounts::of_account(&self.connection, &self.key, account)?))
    }

    /// Returns the tokens of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub fn tokens(&self, account: Uuid) -> Result<Vec<Token>, StoreError> {
        Ok(self.readable(accounts::of_account(&self.connection, &self.key, account)?))
    }

    /// Returns the public keys of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub fn account_keys(&self, account: Uuid) -> Result<Vec<AccountKey>, StoreError> {
        Ok(self.readable(accounts::of_account(&self.connection, &self.key, account)?))
    }
}
