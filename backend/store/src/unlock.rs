//! From the opened file to the store: what needs the row key before anything is read. A home of an earlier version gets
//! here what no migration can give it, because its rows are under MACs.

use kms_core::integrity::{Cell, RowKey};
use kms_core::object::Wrapped;
use kms_core::state_digest::StateKey;
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::api::{Project, projects};
use super::rows::{RING_COLUMNS, bytes, check_mac};
use super::writer::WriteTx;
use super::{Ring, StoreError, audit, write};

const HOME: &str = "home";

/// Makes the database ready for the row key, in one transaction: writes the service keys that were made since it was
/// opened, and marks a home whose log was never begun. `counted` is the number in the HSM's token.
pub(super) fn prepare(
    connection: &Connection,
    key: &RowKey,
    service_keys: &[(String, Wrapped)],
    counted: Option<u64>,
) -> Result<(), StoreError> {
    let state_key = StateKey::of(key);
    let begun = is_begun(connection, key)?;
    if begun && service_keys.is_empty() {
        return check_counter(connection, key, counted);
    }
    connection.prepare_cached("BEGIN IMMEDIATE")?.raw_execute()?;
    let tx = WriteTx::new(connection, key, &state_key);
    let done = begin(&tx, service_keys, counted);
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    connection.prepare_cached(end)?.raw_execute()?;
    done
}

fn begin(
    tx: &WriteTx<'_>,
    service_keys: &[(String, Wrapped)],
    counted: Option<u64>,
) -> Result<(), StoreError> {
    for (purpose, wrapped) in service_keys {
        let columns = [
            ("purpose", Cell::Text(purpose)),
            ("master", Cell::Integer(wrapped.master.0.into())),
            ("wrapped", Cell::Bytes(&wrapped.bytes)),
        ];
        tx.insert("service_keys", &columns)?;
    }
    // Another process may have marked it meanwhile.
    if !is_begun(tx.connection, tx.key)? {
        // The token counts for homes that were marked only: this file is older than its mark, or the mark was taken away.
        if let Some(counted) = counted {
            return Err(StoreError::OldCopy { counted, found: 0 });
        }
        name_projects(tx)?;
        mark(tx)?;
        audit::begin(tx)?;
    }
    tx.settle()?;
    check_counter(tx.connection, tx.key, counted)
}

/// Whether the home's row says that its log was begun.
fn is_begun(connection: &Connection, key: &RowKey) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached("SELECT one, id, begun, mac FROM home")?;
    let mut rows = statement.query([])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    let Some(mac) = bytes(row, HOME, 3)? else { return Ok(false) };
    let columns = [
        ("one", write::cell(row.get_ref(0)?)),
        ("id", write::cell(row.get_ref(1)?)),
        ("begun", write::cell(row.get_ref(2)?)),
    ];
    check_mac(key, HOME, &columns, mac, row)?;
    Ok(true)
}

fn mark(tx: &WriteTx<'_>) -> Result<(), StoreError> {
    let id: [u8; 16] = tx.connection.query_row("SELECT id FROM home", [], |row| row.get(0))?;
    let (one, begun) = (("one", Cell::Integer(1)), ("begun", Cell::Integer(1)));
    let mac = tx.key.mac(HOME, &[one, ("id", Cell::Bytes(&id)), begun]);
    tx.update(HOME, &[one], &[begun, ("mac", Cell::Bytes(&mac))])
}

/// Writes into each ring, and into each span of usage, the project that it belonged to because it named none: the oldest.
fn name_projects(tx: &WriteTx<'_>) -> Result<(), StoreError> {
    let sql = format!("SELECT {RING_COLUMNS} FROM rings WHERE project IS NULL");
    let mut statement = tx.connection.prepare(&sql)?;
    let (mut rows, mut rings) = (statement.query([])?, Vec::new());
    let (known, unreadable) = projects::all(tx.connection, tx.key)?;
    // Which project is the oldest follows from all of them.
    unreadable.into_iter().next().map_or(Ok(()), Err)?;
    let oldest = known.first().map_or(Uuid::nil(), |project| project.id);
    while let Some(row) = rows.next()? {
        match Ring::read_without_project(row, tx.key, oldest) {
            Ok(ring) => rings.push(ring),
            // A row that was edited is no ring, before and after.
            Err(StoreError::RowInvalid { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    drop(rows);
    if known.is_empty() && !rings.is_empty() {
        Project::implied().insert(tx)?;
    }
    for ring in rings {
        ring.update(tx)?;
    }
    let sql = "SELECT count(*) FROM spans WHERE project IS NULL";
    let spans: usize = tx.connection.query_row(sql, [], |row| row.get(0))?;
    // The digest of the rows is taken after this.
    let sql = "UPDATE spans SET project = ?1 WHERE project IS NULL";
    write::change_exactly(tx.connection, "spans", spans, sql, [oldest.as_bytes()])
}

/// Compares the number in the head with the one in the token: a database that counted less is an old copy. Of a database
/// whose head cannot be read, no age is known; its log says so.
fn check_counter(connection: &Connection, key: &RowKey, counted: Option<u64>) -> Result<(), StoreError> {
    let Some(counted) = counted else { return Ok(()) };
    let head = match audit::head(connection, &kms_core::audit::Chain::of(key)) {
        Ok(head) => head,
        Err(StoreError::RowInvalid { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    match head.counter.unwrap_or(0) {
        found if found < counted => Err(StoreError::OldCopy { counted, found }),
        _ => Ok(()),
    }
}

/// Returns the home's id, if there is a home.
pub(super) fn home(connection: &Connection) -> Result<Option<[u8; 16]>, StoreError> {
    Ok(connection.query_row("SELECT id FROM home", [], |row| row.get(0)).optional()?)
}
