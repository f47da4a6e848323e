//! The handle of the open database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kms_core::integrity::RowKey;
use rusqlite::{Connection, Error as Sql, ffi};

use super::cache::StoreCache;
use super::capacity::{Capacity, DiskSpace, StoreLimits};
use super::log_once::LogOnce;
use super::readers::Readers;
use super::writer::Writer;
use super::{LockedStore, StoreError, schema};

/// The open database, with the key of its row MACs.
pub struct Store {
    pub(super) key: Arc<RowKey>,
    pub(super) cache: Arc<StoreCache>,
    pub(super) readers: Readers,
    pub(super) writer: Writer,
    pub(super) logged: Arc<LogOnce>,
    /// The number in the HSM's token when the store was opened, if it has one.
    pub(super) counted: Option<u64>,
    pub(super) capacity: Arc<Capacity>,
}

impl Store {
    /// Creates a new database. The file must not exist.
    ///
    /// # Errors
    /// When the file exists or cannot be created.
    pub fn create(path: &Path) -> Result<LockedStore, StoreError> {
        LockedStore::create(path)
    }

    /// Opens the database of a home, and migrates one of an older version.
    ///
    /// # Errors
    /// When it is missing, damaged, another program's, or of a newer version.
    pub fn open_existing(path: &Path) -> Result<LockedStore, StoreError> {
        LockedStore::existing(path)
    }

    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        key: RowKey,
        counted: Option<u64>,
    ) -> Result<Self, StoreError> {
        let (key, cache) = (Arc::new(key), Arc::new(StoreCache::default()));
        let capacity = Arc::new(Capacity::new(&path));
        let readers = Readers::new(path.clone(), Arc::clone(&cache.trust));
        let (of_writer, own) = (Arc::clone(&cache), Arc::clone(&capacity));
        let writer = Writer::start(connection, Arc::clone(&key), of_writer, own, schema::check);
        let writer = writer.map_err(|source| StoreError::Io { path, source })?;
        Ok(Self { key, cache, readers, writer, logged: Arc::default(), counted, capacity })
    }

    /// Sets the limits of rings and the free space that is kept, from now on.
    pub fn set_limits(&self, limits: StoreLimits) {
        self.capacity.set_limits(limits);
    }

    /// Returns the free space on the disk of the database.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn disk(&self) -> Result<DiskSpace, StoreError> {
        self.capacity.disk()
    }

    /// Checks that the database responds, both to a reader and to the writer.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn alive(&self) -> Result<(), StoreError> {
        let read = |connection: &Connection| {
            Ok(connection.query_row("SELECT count(*) FROM home", [], |row| row.get::<_, u64>(0))?)
        };
        self.readers.read(read)?;
        self.writer.write(|_| Ok(()))
    }

    /// Checks that the database's file is intact. Reads all of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the first defect that SQLite found.
    pub fn check(&self) -> Result<(), StoreError> {
        self.readers.read(|connection| {
            let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            let damaged = || Sql::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(found.clone()));
            if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(damaged())) }
        })
    }

    /// Logs rows that cannot be read, each once.
    pub(super) fn log_unreadable(&self, errors: &[StoreError]) {
        self.logged.log(errors);
    }
}
