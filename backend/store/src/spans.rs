//! The spans of time in which key versions are available, which are billed (docs/decisions/0028): written with each
//! change of a version, in its transaction. They take their time from SQLite, as the triggers did that wrote them before
//! schema 9.

use kms_core::integrity::Cell;
use rusqlite::{OptionalExtension, params};

use super::StoreError;
use super::version_rows::VersionRow;
use super::writer::WriteTx;

const TABLE: &str = "spans";

/// Begins or ends the span of a version that was inserted or updated. Wrapping keys and lone public keys have none.
pub(super) fn follow(tx: &WriteTx<'_>, version: &VersionRow) -> Result<(), StoreError> {
    let (key, number) = (version.version.key, i64::from(version.version.number));
    let sql = "SELECT count(*) FROM spans WHERE key = ?1 AND number = ?2 AND until IS NULL";
    let open: u64 = tx.connection.prepare_cached(sql)?.query_row(params![key, number], |row| row.get(0))?;
    match (version.is_available(), open > 0) {
        (true, false) => begin(tx, &key, number),
        (false, true) => end(tx, &key, number),
        (true, true) | (false, false) => Ok(()),
    }
}

/// Ends the spans of all versions of a key.
pub(super) fn end_all(tx: &WriteTx<'_>, key: &[u8; 16]) -> Result<(), StoreError> {
    let sql = "SELECT DISTINCT number FROM spans WHERE key = ?1 AND until IS NULL";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let numbers = statement.query_map([key], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
    numbers.into_iter().try_for_each(|number| end(tx, key, number))
}

fn begin(tx: &WriteTx<'_>, key: &[u8; 16], number: i64) -> Result<(), StoreError> {
    let sql = "SELECT rings.project, unixepoch() FROM keys JOIN rings ON rings.id = keys.ring \
               WHERE keys.id = ?1 AND keys.kind IS NULL";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let found: Option<([u8; 16], i64)> = statement.query_row([key], read).optional()?;
    let Some((project, now)) = found else { return Ok(()) };
    let columns = [
        ("key", Cell::Bytes(key)),
        ("number", Cell::Integer(number)),
        ("project", Cell::Bytes(&project)),
        ("since", Cell::Integer(now)),
    ];
    tx.insert(TABLE, &columns)
}

fn end(tx: &WriteTx<'_>, key: &[u8; 16], number: i64) -> Result<(), StoreError> {
    let now: i64 = tx.connection.prepare_cached("SELECT unixepoch()")?.query_row([], |row| row.get(0))?;
    let open = [("key", Cell::Bytes(key)), ("number", Cell::Integer(number)), ("until", Cell::Null)];
    tx.update(TABLE, &open, &[("until", Cell::Integer(now))])
}
