//! The database: SQLite, durable before it answers, its rows bound to their identity by MACs.
//!
//! One thread writes (`writer`), a few connections read (`readers`), and what is in use is remembered (`cache`): a
//! signature asks for ring, principal and object, and none of them costs a read of the disk. Nothing is loaded whole
//! but the list of rings.
//!
//! The room knows of keys what a row says; it cannot open them.

mod accounts;
mod api;
mod audit;
mod backup;
mod cache;
mod change;
mod check;
mod error;
mod find;
mod iv_blocks;
mod key_rows;
mod keys;
mod log_once;
mod object_rows;
mod objects;
mod open;
mod principals;
mod readers;
mod records;
mod rings;
mod rotation;
mod rows;
mod snapshot;
#[cfg(test)]
mod tests;
mod usage;
mod version_rows;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kms_core::integrity::RowKey;
use rusqlite::{Connection, Error as Sql, ffi};

use cache::Memory;
use log_once::Reported;
use readers::Readers;
use writer::Writer;

pub use accounts::{
    AccountKey, Assertion, AssertionUse, GivenGrant, KeyAlgorithm, Member, ServiceAccount, Token,
};
pub use api::{
    Decided, DueRotation, IdempotencyKey, KeyMetadata, KeyRecord, Project, Purged, RingMetadata,
    VersionRecord,
};
pub use audit::{AuditFilter, AuditPlace};
pub use backup::{beside, settle, sync_folder};
pub use check::Checked;
pub use error::StoreError;
pub use open::LockedStore;
pub use records::{KeySummary, NewKey, NewObject, NewRing, NextVersion, Principal, Ring};
pub use snapshot::Snapshot;
pub use usage::{HourUsage, USAGE_HOURS_MAX, UsageOf};

/// The database, with the key of its rows.
pub struct Store {
    key: Arc<RowKey>,
    memory: Arc<Memory>,
    readers: Readers,
    writer: Writer,
    reported: Arc<Reported>,
}

impl Store {
    /// Makes a new database. Nothing may have its name.
    ///
    /// # Errors
    /// When something has, or the file cannot be made.
    pub fn create(path: &Path) -> Result<LockedStore, StoreError> {
        LockedStore::create(path)
    }

    /// Opens the database of a home, and brings one of an older version up to date.
    ///
    /// # Errors
    /// When it is missing, damaged, somebody else's, or of a newer version.
    pub fn open_existing(path: &Path) -> Result<LockedStore, StoreError> {
        LockedStore::existing(path)
    }

    fn start(connection: Connection, path: PathBuf, key: RowKey) -> Result<Self, StoreError> {
        let (key, memory) = (Arc::new(key), Arc::new(Memory::default()));
        let writer = Writer::start(connection, Arc::clone(&key), Arc::clone(&memory));
        let writer = writer.map_err(|source| StoreError::Io { path: path.clone(), source })?;
        Ok(Self { key, memory, readers: Readers::new(path), writer, reported: Arc::default() })
    }

    /// Whether the database answers, a reader and the writer.
    ///
    /// # Errors
    /// When one of them does not.
    pub fn alive(&self) -> Result<(), StoreError> {
        let read = |connection: &Connection| {
            Ok(connection.query_row("SELECT count(*) FROM home", [], |row| row.get::<_, u64>(0))?)
        };
        self.readers.read(read)?;
        self.writer.write(|_| Ok(()))
    }

    /// Whether the database's file is whole. Reads all of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with what SQLite found first.
    pub fn check(&self) -> Result<(), StoreError> {
        self.readers.read(|connection| {
            let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            let damaged = || Sql::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(found.clone()));
            if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(damaged())) }
        })
    }

    /// Logs rows that cannot be read, once each.
    fn report(&self, refused: &[StoreError]) {
        self.reported.tell(refused);
    }
}
