//! Creating and opening the database: it must be one of this program, intact, and of a known version.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kms_core::integrity::RowKey;
use kms_core::object::{MasterVersion, Wrapped};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::{Store, StoreError, schema, unlock, write};

/// All migrations in order; `PRAGMA user_version` counts them. A file that was released is never edited: a new one is
/// added.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_objects.sql"),
    include_str!("schema/0002_values.sql"),
    include_str!("schema/0003_kms.sql"),
    include_str!("schema/0004_accounts.sql"),
    include_str!("schema/0005_audit.sql"),
    include_str!("schema/0006_vectors.sql"),
    include_str!("schema/0007_usage.sql"),
    include_str!("schema/0008_restarts.sql"),
    include_str!("schema/0009_pinned.sql"),
    include_str!("schema/0011_credentials.sql"),
    include_str!("schema/0012_epochs.sql"),
    include_str!("schema/0013_private_objects.sql"),
];

/// The version of the schema since which a home is marked when it is first opened (`unlock`).
const MARKED_SINCE: usize = 9;

/// Marks the file as ours in its header: `kms1`.
const APPLICATION_ID: i32 = 0x6b6d_7331;

/// The maximum wait of a statement for another process's transaction. Those of `kms` take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The first bytes of every SQLite database.
const SQLITE_HEADER: &[u8; 16] = b"SQLite format 3\0";

/// The open database before its row key is unwrapped.
pub struct LockedStore {
    connection: Connection,
    path: PathBuf,
    home: [u8; 16],
    /// The version of the schema in which it was found.
    found: usize,
    /// Service keys that are written with the state digest, once the row key is there.
    service_keys: RefCell<Vec<(String, Wrapped)>>,
}

impl LockedStore {
    /// Creates a new database that only its owner can read. The file must not exist.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|source| {
            let exists = source.kind() == ErrorKind::AlreadyExists;
            if exists { StoreError::Exists(path.to_owned()) } else { io(source) }
        })?;
        file.sync_all().map_err(io)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        // Before the write-ahead log exists, so that the id is in the file itself from the start.
        open(path)?.pragma_update(None, "application_id", APPLICATION_ID)?;
        let mut connection = connect(path)?;
        migrate(&mut connection, path)?;
        let mut home = [0; 16];
        getrandom::fill(&mut home).map_err(|error| io(std::io::Error::other(error.to_string())))?;
        write::change_exactly(&connection, "home", 1, "INSERT INTO home (one, id) VALUES (1, ?1)", [home])?;
        Ok(Self { connection, path: path.to_owned(), home, found: 0, service_keys: RefCell::default() })
    }

    /// Opens a database, and migrates one of an older version.
    pub(super) fn existing(path: &Path) -> Result<Self, StoreError> {
        check_file(path)?;
        let mut connection = connect(path)?;
        let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        migrate(&mut connection, path)?;
        schema::check(&connection)?;
        let home = unlock::home(&connection)?.ok_or_else(|| StoreError::Foreign(path.to_owned()))?;
        Ok(Self { connection, path: path.to_owned(), home, found, service_keys: RefCell::default() })
    }

    /// Returns the home's id: random, and never changed.
    pub fn home(&self) -> [u8; 16] {
        self.home
    }

    /// Stores one of the backend's service keys: at once in a new home, else when the store is unlocked.
    ///
    /// # Errors
    /// When the database fails, or already has one for this purpose.
    pub fn put_service_key(&self, purpose: &str, key: &Wrapped) -> Result<(), StoreError> {
        if self.service_key(purpose)?.is_some() {
            return Err(StoreError::NameInUse(format!("a service key for {purpose}")));
        }
        let sql = "SELECT mac IS NOT NULL FROM home";
        if self.connection.query_row(sql, [], |row| row.get(0))? {
            // From then on, the state digest counts the row.
            self.service_keys.borrow_mut().push((purpose.to_owned(), key.clone()));
            return Ok(());
        }
        let sql = "INSERT INTO service_keys (purpose, master, wrapped) VALUES (?1, ?2, ?3)";
        let values = params![purpose, key.master.0, key.bytes];
        write::change_exactly(&self.connection, "service_keys", 1, sql, values)
    }

    /// Returns one of the backend's service keys, if it exists.
    ///
    /// # Errors
    /// When the database fails.
    pub fn service_key(&self, purpose: &str) -> Result<Option<Wrapped>, StoreError> {
        if let Some((_, key)) = self.service_keys.borrow().iter().find(|(known, _)| known == purpose) {
            return Ok(Some(key.clone()));
        }
        let sql = "SELECT master, wrapped FROM service_keys WHERE purpose = ?1";
        let found = self.connection.query_row(sql, [purpose], |row| {
            Ok(Wrapped { master: MasterVersion(row.get(0)?), bytes: row.get(1)? })
        });
        Ok(found.optional()?)
    }

    /// Whether the hash of any principal's PIN is bound to the HSM. The rows are not verified.
    ///
    /// # Errors
    /// When the database fails.
    pub fn has_bound_pins(&self) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM principals WHERE pin_kind IS NOT NULL)";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// Starts the store with the unwrapped row key.
    ///
    /// # Errors
    /// When its thread cannot be started, or the database fails.
    pub fn unlock(self, key: RowKey) -> Result<Store, StoreError> {
        self.unlock_at(key, None)
    }

    /// Starts the store of a copy that may be old. One of this or the last version has a home that is marked: without the
    /// mark, its log was emptied.
    ///
    /// # Errors
    /// [`StoreError::RowInvalid`] when the mark is missing; as [`LockedStore::unlock`].
    pub fn unlock_copy(self, key: RowKey) -> Result<Store, StoreError> {
        let marked: bool =
            self.connection.query_row("SELECT mac IS NOT NULL FROM home", [], |row| row.get(0))?;
        if !marked && self.found >= MARKED_SINCE {
            return Err(StoreError::RowInvalid { table: "home", id: "1".to_owned() });
        }
        self.unlock_at(key, None)
    }

    /// Starts the store with the unwrapped row key. `counted` is the number in the HSM's token, if it has one.
    ///
    /// # Errors
    /// [`StoreError::OldCopy`] when the database has counted less than the token. When its thread cannot be started, or
    /// the database fails.
    pub fn unlock_at(self, key: RowKey, counted: Option<u64>) -> Result<Store, StoreError> {
        unlock::prepare(&self.connection, &key, &self.service_keys.borrow(), counted)?;
        let store = Store::start(self.connection, self.path, key, counted)?;
        store.mark_private_objects()?;
        Ok(store)
    }
}

/// Opens a connection with the settings that all have: durable at each commit, and waiting when the database is busy.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = open(path)?;
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if journal != "wal" {
        tracing::warn!(
            journal,
            "the file system of the database does not support the write-ahead log; writes will be slower"
        );
    }
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A damaged file must be an error, not a crash or a wrong result.
    connection.pragma_update(None, "cell_size_check", true)?;
    harden(&connection)?;
    // The undo data of savepoints stays in memory, not in a temporary file: each job has a savepoint.
    connection.pragma_update(None, "temp_store", "memory")?;
    // Deleted content is overwritten, not left in a free page.
    connection.pragma_update(None, "secure_delete", true)?;
    // Query plans do not depend on bound values. Without this, SQLite prepares most statements again for each value,
    // which takes four times as long as running them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Switches off what a schema could make a statement do: triggers, views, functions in the schema, writes to the schema's
/// own table. The program uses none of them; a file that has them was changed by somebody (`schema`).
pub(super) fn harden(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "trusted_schema", false)?;
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    ] {
        connection.set_db_config(setting, on)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Checks the file's header before SQLite, and its write-ahead log, touch the file.
fn check_file(path: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let mut header = [0; 100];
    let file = File::open(path).map_err(|source| {
        let missing = source.kind() == ErrorKind::NotFound;
        if missing { StoreError::Missing(path.to_owned()) } else { io(source) }
    })?;
    let mut read = 0;
    let mut file = file.take(100);
    while let Some(rest) = header.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(io)? {
            0 => break,
            more => read += more,
        }
    }
    if read < header.len() || !header.starts_with(SQLITE_HEADER) {
        return Err(StoreError::NotADatabase(path.to_owned()));
    }
    // "Database File Format", "The Database Header": the application id is at offset 68, big endian.
    let id = i32::from_be_bytes(header[68..72].try_into().expect("four bytes"));
    if id == APPLICATION_ID { Ok(()) } else { Err(StoreError::Foreign(path.to_owned())) }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = u32::try_from(MIGRATIONS.len()).expect("few migrations");
    let version =
        |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    if version(connection)? == known {
        return Ok(());
    }
    // Another process may migrate at the same time: the second one finds the work done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: u32 = version(&transaction)?;
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).expect("at most a few")) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    // Before anything is kept: a file with a foreign schema is left as it is.
    schema::check(&transaction)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_in_new_folder(name: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        (folder, path)
    }

    #[test]
    fn a_new_database_opens_again_with_the_same_home_and_keys() {
        let (_folder, path) = path_in_new_folder("kms.db");
        let key = Wrapped { master: MasterVersion(3), bytes: vec![1, 2, 3] };
        let home = {
            let store = LockedStore::create(&path).unwrap();
            store.put_service_key("rows", &key).unwrap();
            assert!(store.put_service_key("rows", &key).is_err());
            store.home()
        };
        let store = LockedStore::existing(&path).unwrap();
        assert_eq!(store.home(), home);
        assert_eq!(store.service_key("rows").unwrap(), Some(key));
        assert_eq!(store.service_key("seals").unwrap(), None);
    }

    #[test]
    fn an_existing_file_is_not_overwritten_and_only_the_owner_can_read_a_new_one() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path) = path_in_new_folder("kms.db");
        drop(LockedStore::create(&path).unwrap());
        assert!(matches!(LockedStore::create(&path), Err(StoreError::Exists(_))));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_another_program_is_reported_and_left_unchanged() {
        let (_folder, path) = path_in_new_folder("other.db");
        assert!(matches!(LockedStore::existing(&path), Err(StoreError::Missing(_))));
        for bytes in
            [b"".as_slice(), b"SQLite", b"a text, and long enough to be a header".repeat(4).as_slice()]
        {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(LockedStore::existing(&path), Err(StoreError::NotADatabase(_))));
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        for id in [0, 7] {
            std::fs::remove_file(&path).unwrap();
            let other = Connection::open(&path).unwrap();
            other.execute_batch("CREATE TABLE t (a)").unwrap();
            other.pragma_update(None, "application_id", id).unwrap();
            drop(other);
            assert!(matches!(LockedStore::existing(&path), Err(StoreError::Foreign(_))));
        }
    }

    #[test]
    fn a_database_of_a_newer_version_is_rejected() {
        let (_folder, path) = path_in_new_folder("kms.db");
        drop(LockedStore::create(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(LockedStore::existing(&path), Err(StoreError::Newer { found: 99, .. })));
    }

    #[test]
    fn a_damaged_database_is_reported_as_damaged() {
        let (_folder, path) = path_in_new_folder("kms.db");
        drop(LockedStore::create(&path).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100..].fill(0x5a);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(LockedStore::existing(&path), Err(StoreError::Damaged(_))));
    }
}
