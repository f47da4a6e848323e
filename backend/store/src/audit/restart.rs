//! Restarting the log: the existing entries are set aside, byte for byte, and a new chain begins that is linked to
//! them.

use kms_core::audit::{Chain, ChainFault, Entry, FaultKind, Head, Link, Restart, RowsDigest};
use kms_core::integrity::{Cell, MAC_BYTES};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{append, insert_head, put_head, read_head, take_state, verify};
use crate::rows::{bytes, column, signed, unsigned};
use crate::writer::WriteTx;
use crate::{Store, StoreError};

const TABLE: &str = "audit_restarts";

/// The columns that are read of a restart.
const COLUMNS: &str = "number, at, name, problem, head, entries, digest, after, mac";

/// The maximum sequence number that a log can plausibly have; larger ones were not assigned by this program.
const SEQUENCE_MAX: i64 = 1 << 62;

/// Reads a restart with its MAC.
fn read(row: &Row<'_>) -> Result<(Restart, Vec<u8>), StoreError> {
    let restart = Restart {
        number: unsigned(column(row, TABLE, 0)?),
        at: unsigned(column(row, TABLE, 1)?),
        name: column(row, TABLE, 2)?,
        problem: column(row, TABLE, 3)?,
        head: column(row, TABLE, 4)?,
        entries: unsigned(column(row, TABLE, 5)?),
        digest: column(row, TABLE, 6)?,
        after: unsigned(column(row, TABLE, 7)?),
    };
    Ok((restart, bytes(row, TABLE, 8)?.unwrap_or_default().to_vec()))
}

/// Returns the digest over all entries set aside by a restart and by those before it, and over the earlier restarts;
/// and the number of entries that this restart has set aside. Rows are taken as they are, readable or not.
fn set_aside_digest(connection: &Connection, number: u64) -> Result<([u8; MAC_BYTES], u64), StoreError> {
    let (mut digest, mut count) = (RowsDigest::default(), 0);
    let queries = [
        format!("SELECT {COLUMNS} FROM {TABLE} WHERE number < ?1 ORDER BY number"),
        "SELECT restart, sequence, at, project, body, mac FROM audit_set_aside WHERE restart <= ?1 \
         ORDER BY restart, sequence"
            .to_owned(),
    ];
    for sql in queries {
        let mut statement = connection.prepare_cached(&sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([signed(number)])?;
        while let Some(row) = rows.next()? {
            let mut cells = Vec::with_capacity(columns);
            for index in 0..columns {
                cells.push(match row.get_ref(index)? {
                    ValueRef::Integer(number) => Cell::Integer(number),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cell::Bytes(bytes),
                    // STRICT tables have no floating-point numbers in these columns.
                    ValueRef::Null | ValueRef::Real(_) => Cell::Null,
                });
            }
            digest.add(&cells);
            count += u64::from(cells.first() == Some(&Cell::Integer(signed(number))));
        }
    }
    Ok((digest.digest(), count))
}

/// Verifies that everything set aside is unchanged since the last restart. Returns the number after which that restart
/// began the log, and the number of restarts.
pub(super) fn check(
    connection: &Connection,
    chain: &Chain,
    head: &Head,
) -> Result<Result<(u64, u64), ChainFault>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} ORDER BY number DESC LIMIT 1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let broken = |number: u64| Ok(Err(ChainFault { sequence: signed(number), fault: FaultKind::SetAside }));
    // An entry that no restart has set aside was added from outside.
    let sql =
        "SELECT min(restart) FROM audit_set_aside WHERE restart NOT IN (SELECT number FROM audit_restarts)";
    let stray: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    if let Some(stray) = stray {
        return broken(unsigned(stray));
    }
    let Some(row) = rows.next()? else {
        return if head.restarted.is_none() { Ok(Ok((0, 0))) } else { broken(1) };
    };
    let (restart, mac) = match read(row) {
        Err(StoreError::RowInvalid { .. }) => return broken(1),
        read => read?,
    };
    let expected = chain.restart_mac(&restart);
    let valid = head.restarted == Some(expected) && expected.as_slice() == mac.as_slice();
    if !valid || set_aside_digest(connection, restart.number)? != (restart.digest, restart.entries) {
        return broken(restart.number);
    }
    let count = connection.query_row("SELECT count(*) FROM audit_restarts", [], |row| row.get(0))?;
    Ok(Ok((restart.after, count)))
}

/// Whether the entry that a head stored elsewhere names was set aside unchanged; true if there is no such entry.
pub(super) fn matches_set_aside(connection: &Connection, expected: &Link) -> Result<bool, StoreError> {
    let sql = "SELECT mac FROM audit_set_aside WHERE sequence = ?1 ORDER BY restart DESC LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row([signed(expected.sequence)], |row| row.get(0));
    let mac: Option<Vec<u8>> = found.optional()?;
    Ok(mac.is_none_or(|mac| mac == expected.mac))
}

fn restart(
    tx: &WriteTx<'_>,
    problem: String,
    counted: Option<u64>,
    mut entry: Entry,
) -> Result<Restart, StoreError> {
    let (connection, chain) = (tx.connection, Chain::of(tx.key));
    let found = read_head(connection)?;
    let valid = found.as_ref().filter(|(head, mac)| chain.head_mac(head).as_slice() == mac.as_slice());
    let (last, counter) =
        (valid.map(|(head, _)| head.last.sequence), valid.and_then(|(head, _)| head.counter).max(counted));
    let sql = "SELECT max(sequence) FROM audit WHERE sequence BETWEEN 0 AND ?1";
    let highest: Option<i64> = connection.query_row(sql, [SEQUENCE_MAX], |row| row.get(0))?;
    let sql = "SELECT max(number), max(after) FROM audit_restarts WHERE after BETWEEN 0 AND ?1";
    let (last_restart, last_after): (Option<u64>, Option<u64>) =
        connection.query_row(sql, [SEQUENCE_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // The row of a restart may be missing while its entries exist.
    let sql = "SELECT max(restart) FROM audit_set_aside";
    let last_set_aside: Option<u64> = connection.query_row(sql, [], |row| row.get(0))?;
    let number = last_restart.max(last_set_aside).map_or(1, |last| last + 1);
    let after = [last, highest.map(unsigned), last_after].into_iter().flatten().max().unwrap_or(0);
    // The row that the entries reference is inserted first; their digest is known once they are inserted.
    let sql = format!("INSERT INTO {TABLE} ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, 0, x'', ?6, x'')");
    let head = found.map(|(head, _)| head.last.to_string());
    let values = params![signed(number), signed(entry.at), entry.name, problem, head, signed(after)];
    tx.change_log(TABLE, 1, &sql, values)?;
    let count: usize = connection.query_row("SELECT count(*) FROM audit", [], |row| row.get(0))?;
    let sql = "INSERT INTO audit_set_aside (restart, sequence, at, project, body, mac) \
               SELECT ?1, sequence, at, project, body, mac FROM audit";
    tx.change_log("audit_set_aside", count, sql, [signed(number)])?;
    tx.change_log("audit", count, "DELETE FROM audit", [])?;
    let (digest, entries) = set_aside_digest(connection, number)?;
    let (at, name) = (entry.at, entry.name.clone());
    let restart = Restart { number, at, name, problem, head, entries, digest, after };
    let mac = chain.restart_mac(&restart);
    let sql = format!("UPDATE {TABLE} SET entries = ?2, digest = ?3, mac = ?4 WHERE number = ?1");
    tx.change_log(TABLE, 1, &sql, params![signed(number), signed(entries), digest, mac])?;
    let link = restart.link(mac);
    insert_head(tx)?;
    // The rows are taken as they are: the operator has decided to go on with them, and the entry says what was wrong.
    let (mark, sealed) = take_state(tx)?;
    let new = Head { last: link, anchor: link, restarted: Some(mac), state: Some(mark), counter };
    put_head(tx, &chain, &new, Some(sealed))?;
    entry.details.insert("restart".to_owned(), number.into());
    entry.details.insert("problem".to_owned(), restart.problem.clone().into());
    entry.details.insert("head".to_owned(), restart.head.clone().into());
    entry.details.insert("entries".to_owned(), entries.into());
    append(tx, &entry)?;
    Ok(restart)
}

impl Store {
    /// Restarts the log if it is broken: sets its entries aside, and records that as the new log's first entry, with
    /// `entry`'s details completed. Returns `None` if the log is intact.
    ///
    /// # Errors
    /// When the database fails.
    pub fn restart_audit(&self, entry: Entry) -> Result<Option<Restart>, StoreError> {
        let counted = self.counted;
        self.writer.write(move |tx| {
            // Verified inside the write transaction, so that of two concurrent restarts the second finds the log
            // intact.
            match verify(tx.connection, tx.key, None, |_, _| {})? {
                Ok(_) => Ok(None),
                Err(broken) => restart(tx, broken.to_string(), counted, entry).map(Some),
            }
        })
    }

    /// Returns the restarts of the log that can be read, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn audit_restarts(&self) -> Result<Vec<Restart>, StoreError> {
        self.readers.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM {TABLE} ORDER BY number");
            let mut statement = connection.prepare_cached(&sql)?;
            let (mut rows, mut restarts) = (statement.query([])?, Vec::new());
            while let Some(row) = rows.next()? {
                match read(row) {
                    Ok((restart, _)) => restarts.push(restart),
                    // `verify_audit` reports that it was changed.
                    Err(StoreError::RowInvalid { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(restarts)
        })
    }
}
