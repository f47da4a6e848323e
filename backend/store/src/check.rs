//! Whether a copy of the database is whole: the file, what its rows say of each other, the MAC of every row that bears
//! one, the audit log.

use std::path::Path;

use kms_core::audit::{Broken, Chain, Verified};
use kms_core::integrity::RowKey;
use kms_core::object::KeyVersion;
use rusqlite::{Connection, Error as Sql, OpenFlags, Row, ffi};

use super::key_rows::{KEY_COLUMNS, KeyRow};
use super::object_rows::{OBJECT_COLUMNS, OBJECT_JOIN, Stored};
use super::rows::{PRINCIPAL_COLUMNS, column};
use super::version_rows::{VERSION_COLUMNS, VersionRow};
use super::{Principal, Store, StoreError, accounts, audit, find};

/// What was found of a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checked {
    /// Rings whose rows bear their MACs.
    pub rings: u64,
    /// Who may log in to them, likewise.
    pub principals: u64,
    /// Keys, likewise.
    pub keys: u64,
    /// Their versions, likewise.
    pub versions: u64,
    /// Objects, likewise.
    pub objects: u64,
    /// Service accounts, likewise; and what each was given, its tokens and its keys.
    pub accounts: u64,
    /// The audit log.
    pub audit: Result<Verified, Broken>,
}

impl Store {
    /// Whether a copy of this database is whole.
    ///
    /// # Errors
    /// When the file is damaged, or a row does not bear its MAC. What is wrong with the audit log is told.
    pub fn check_copy(&self, path: &Path) -> Result<Checked, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        file(&connection)?;
        let key = &self.key;
        // Projects come with them.
        let (rings, refused) = find::rings(&connection, key)?;
        refused.into_iter().next().map_or(Ok(()), Err)?;
        let each =
            |sql: String, read: &dyn Fn(&Row<'_>) -> Result<(), StoreError>| each(&connection, &sql, read);
        Ok(Checked {
            rings: u64::try_from(rings.list().len()).unwrap_or(u64::MAX),
            principals: each(format!("SELECT {PRINCIPAL_COLUMNS} FROM principals"), &|row| {
                Principal::read(row, key).map(drop)
            })?,
            keys: each(format!("SELECT {KEY_COLUMNS} FROM keys"), &|row| KeyRow::read(row, key).map(drop))?,
            versions: each(format!("SELECT v.key, v.number, {VERSION_COLUMNS} FROM versions v"), &|row| {
                version(row, key)
            })?,
            objects: each(format!("SELECT {OBJECT_COLUMNS} FROM objects o {OBJECT_JOIN}"), &|row| {
                Stored::read(row, key).map(drop)
            })?,
            accounts: accounts::check(&connection, key)?,
            audit: audit::verify(&connection, &Chain::of(key), None, |_, _| {})?,
        })
    }
}

/// Whether the file is whole, and no row names another that is not there.
fn file(connection: &Connection) -> Result<(), StoreError> {
    let damaged =
        |what| StoreError::Damaged(Sql::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(what)));
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(damaged(found));
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
    Err(damaged(format!("a row of {table} belongs to one of {parent} that is not there")))
}

fn version(row: &Row<'_>, key: &RowKey) -> Result<(), StoreError> {
    let version = KeyVersion { key: column(row, "versions", 0)?, number: column(row, "versions", 1)? };
    VersionRow::read(row, 2, version, key).map(drop)
}

/// Reads every row of a query; counts them.
pub(super) fn each(
    connection: &Connection,
    sql: &str,
    read: &dyn Fn(&Row<'_>) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let (mut rows, mut count) = (statement.query([])?, 0);
    while let Some(row) = rows.next()? {
        read(row)?;
        count += 1;
    }
    Ok(count)
}
