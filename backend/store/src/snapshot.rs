//! One state of the database, read piece by piece for as long as that takes, while others go on writing.

use std::path::Path;
use std::sync::Arc;

use kms_core::integrity::RowKey;
use kms_core::object::Object;
use kms_protocol::{ObjectId, RingId};
use rusqlite::Connection;
use uuid::Uuid;

use super::accounts::{self, AccountKey, GivenGrant, ServiceAccount, Token};
use super::api::{KeyRecord, Project, all_keys, projects};
use super::log_once::Reported;
use super::{Principal, Ring, Store, StoreError, find, open, principals};

/// One state of the database. It has a connection of its own: a reader that is slow takes none from the others.
pub struct Snapshot {
    connection: Connection,
    key: Arc<RowKey>,
    reported: Arc<Reported>,
}

impl Store {
    /// The database as it is now.
    ///
    /// # Errors
    /// When it cannot be opened once more.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Snapshot::open(self.readers.path(), Arc::clone(&self.key), Arc::clone(&self.reported))
    }
}

impl Snapshot {
    fn open(path: &Path, key: Arc<RowKey>, reported: Arc<Reported>) -> Result<Self, StoreError> {
        let connection = open::connect(path)?;
        connection.pragma_update(None, "query_only", true)?;
        // The first read settles which state it is.
        connection.execute_batch("BEGIN; SELECT count(*) FROM home")?;
        Ok(Self { connection, key, reported })
    }

    fn told<T>(&self, (found, refused): (Vec<T>, Vec<StoreError>)) -> Vec<T> {
        self.reported.tell(&refused);
        found
    }

    /// All projects, the oldest first.
    ///
    /// # Errors
    /// When the database fails, or a project's row was changed.
    pub fn projects(&self) -> Result<Vec<Project>, StoreError> {
        projects(&self.connection, &self.key)
    }

    /// All rings, by slot. One whose row was changed is left out, as everything below.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rings(&self) -> Result<Vec<Ring>, StoreError> {
        let (rings, refused) = find::rings(&self.connection, &self.key)?;
        self.reported.tell(&refused);
        Ok(rings.list())
    }

    /// Who may log in to a ring, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn principals(&self, ring: RingId) -> Result<Vec<Principal>, StoreError> {
        Ok(self.told(principals::of(&self.connection, &self.key, ring)?))
    }

    /// A page of all keys of a ring, whatever they are, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keys(
        &self,
        ring: RingId,
        after: Option<(u64, Uuid)>,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        Ok(self.told(all_keys(&self.connection, &self.key, ring, (after, limit))?))
    }

    /// An object of a ring, whether applications see it or not.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::RowInvalid`] when its row was changed.
    pub fn object(&self, ring: RingId, id: ObjectId) -> Result<Object, StoreError> {
        let found = find::object(&self.connection, &self.key, id)?.object;
        if found.ring == ring { Ok(found) } else { Err(StoreError::NotFound) }
    }

    /// All service accounts, by address.
    ///
    /// # Errors
    /// When the database fails.
    pub fn accounts(&self) -> Result<Vec<ServiceAccount>, StoreError> {
        Ok(self.told(accounts::every(&self.connection, &self.key)?))
    }

    /// What an account was given.
    ///
    /// # Errors
    /// When the database fails.
    pub fn grants(&self, account: Uuid) -> Result<Vec<GivenGrant>, StoreError> {
        Ok(self.told(accounts::of_account(&self.connection, &self.key, account)?))
    }

    /// An account's tokens.
    ///
    /// # Errors
    /// When the database fails.
    pub fn tokens(&self, account: Uuid) -> Result<Vec<Token>, StoreError> {
        Ok(self.told(accounts::of_account(&self.connection, &self.key, account)?))
    }

    /// An account's public keys.
    ///
    /// # Errors
    /// When the database fails.
    pub fn account_keys(&self, account: Uuid) -> Result<Vec<AccountKey>, StoreError> {
        Ok(self.told(accounts::of_account(&self.connection, &self.key, account)?))
    }
}
