//! Verification of a copy of the database: the file, its foreign keys, the MAC of every row that has one, the audit
//! log.

use std::path::Path;

use kms_core::audit::{ChainFault, Verified};
use kms_core::integrity::RowKey;
use kms_core::object::KeyVersion;
use rusqlite::{Connection, Error as Sql, OpenFlags, Row, ffi};

use super::api::projects;
use super::key_rows::{KEY_COLUMNS, KeyRow};
use super::object_rows::{OBJECT_COLUMNS, OBJECT_JOIN, ObjectRow, StoredObject};
use super::rows::{PRINCIPAL_COLUMNS, RING_COLUMNS, column};
use super::version_rows::{VERSION_COLUMNS, VersionRow};
use super::{
    Principal, Ring, Store, StoreError, accounts, audit, find, login_failures, open, restore, schema,
};

/// The result of verifying a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckReport {
    /// The number of rings whose MACs are valid.
    pub rings: u64,
    /// The number of principals, likewise.
    pub principals: u64,
    /// The number of keys, likewise.
    pub keys: u64,
    /// The number of key versions, likewise.
    pub versions: u64,
    /// The number of objects, likewise.
    pub objects: u64,
    /// The number of service accounts, likewise; their grants, tokens and keys are verified too.
    pub accounts: u64,
    /// The result of verifying the audit log.
    pub audit: Result<Verified, ChainFault>,
}

impl Store {
    /// Verifies a copy of this database.
    ///
    /// # Errors
    /// When the file is damaged, or the MAC of a row is invalid. A defect of the audit log is part of the result.
    pub fn check_copy(&self, path: &Path) -> Result<CheckReport, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        open::harden(&connection)?;
        schema::check(&connection)?;
        check_file(&connection)?;
        let key = &self.key;
        // This verifies the projects, too.
        let (rings, unreadable) = find::rings(&connection, key)?;
        unreadable.into_iter().next().map_or(Ok(()), Err)?;
        let count = |sql: String, read: &dyn Fn(&Row<'_>) -> Result<(), StoreError>| {
            count_readable(&connection, &sql, read)
        };
        login_failures::check(&connection, key)?;
        restore::check(&connection, key)?;
        Ok(CheckReport {
            rings: u64::try_from(rings.list().len()).unwrap_or(u64::MAX),
            principals: count(format!("SELECT {PRINCIPAL_COLUMNS} FROM principals"), &|row| {
                Principal::read(row, key).map(drop)
            })?,
            keys: count(format!("SELECT {KEY_COLUMNS} FROM keys"), &|row| KeyRow::read(row, key).map(drop))?,
            versions: count(format!("SELECT v.key, v.number, {VERSION_COLUMNS} FROM versions v"), &|row| {
                read_version(row, key)
            })?,
            objects: count(format!("SELECT {OBJECT_COLUMNS} FROM objects o {OBJECT_JOIN}"), &|row| {
                StoredObject::read(row, key).map(drop)
            })?,
            accounts: accounts::check(&connection, key)?,
            audit: audit::verify(&connection, key, None, |_, _| {})?,
        })
    }
}

/// Checks that the file is intact, and that no row references a missing one.
fn check_file(connection: &Connection) -> Result<(), StoreError> {
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
    Err(damaged(format!("a row of {table} references a missing row of {parent}")))
}

/// Counts the rows of a table that this home did not write, or that were edited since.
pub(super) fn unreadable(connection: &Connection, key: &RowKey, table: &str) -> Result<u64, StoreError> {
    let count = |sql: String, read: &dyn Fn(&Row<'_>) -> Result<(), StoreError>| {
        let mut statement = connection.prepare(&sql)?;
        let (mut rows, mut count) = (statement.query([])?, 0);
        while let Some(row) = rows.next()? {
            count += u64::from(read(row).is_err());
        }
        Ok(count)
    };
    match table {
        Ring::TABLE => {
            count(format!("SELECT {RING_COLUMNS} FROM rings"), &|row| Ring::read(row, key).map(drop))
        }
        Principal::TABLE => count(format!("SELECT {PRINCIPAL_COLUMNS} FROM principals"), &|row| {
            Principal::read(row, key).map(drop)
        }),
        KeyRow::TABLE => {
            count(format!("SELECT {KEY_COLUMNS} FROM keys"), &|row| KeyRow::read(row, key).map(drop))
        }
        VersionRow::TABLE => {
            count(format!("SELECT v.key, v.number, {VERSION_COLUMNS} FROM versions v"), &|row| {
                read_version(row, key)
            })
        }
        ObjectRow::TABLE => count(format!("SELECT {OBJECT_COLUMNS} FROM objects o {OBJECT_JOIN}"), &|row| {
            StoredObject::read(row, key).map(drop)
        }),
        "projects" => Ok(u64::try_from(projects::all(connection, key)?.1.len()).unwrap_or(u64::MAX)),
        _ => accounts::unreadable(connection, key, table),
    }
}

fn read_version(row: &Row<'_>, key: &RowKey) -> Result<(), StoreError> {
    let version = KeyVersion { key: column(row, "versions", 0)?, number: column(row, "versions", 1)? };
    VersionRow::read(row, 2, version, key).map(drop)
}

/// Reads every row of a query; returns their number.
pub(super) fn count_readable(
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
