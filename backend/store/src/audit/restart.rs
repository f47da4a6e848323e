//! The log begun anew: what is there is set aside, byte for byte, and a new chain begins that stands on it.

use kms_core::audit::{Broken, Chain, Entry, Fault, Head, Heap, Link, Restart};
use kms_core::integrity::{Cell, MAC_BYTES};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{HEAD_TABLE, append, put_head, read_head, verify};
use crate::rows::{bytes, column, signed, unsigned};
use crate::writer::WriteTx;
use crate::{Store, StoreError};

const TABLE: &str = "audit_restarts";

/// What is read of a restart.
const COLUMNS: &str = "number, at, name, problem, head, entries, digest, after, mac";

/// Numbers beyond this were given by nobody: a log of ours never comes near.
const SEQUENCE_MAX: i64 = 1 << 62;

/// A restart with the MAC that it bears.
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

/// What stands for all that was set aside by a restart and those before it, and for those; and how many entries this
/// one has set aside. Rows are taken as they are, readable or not.
fn heap(connection: &Connection, number: u64) -> Result<([u8; MAC_BYTES], u64), StoreError> {
    let (mut heap, mut count) = (Heap::default(), 0);
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
                    // STRICT tables have no floating numbers in such columns.
                    ValueRef::Null | ValueRef::Real(_) => Cell::Null,
                });
            }
            heap.add(&cells);
            count += u64::from(cells.first() == Some(&Cell::Integer(signed(number))));
        }
    }
    Ok((heap.digest(), count))
}

/// Whether all that was ever set aside is as it was when the log was begun last. Gives after which number that was, and
/// how often.
pub(super) fn check(
    connection: &Connection,
    chain: &Chain,
    head: &Head,
) -> Result<Result<(u64, u64), Broken>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLE} ORDER BY number DESC LIMIT 1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let broken = |number: u64| Ok(Err(Broken { sequence: signed(number), fault: Fault::SetAside }));
    let Some(row) = rows.next()? else {
        return if head.restarted.is_none() { Ok(Ok((0, 0))) } else { broken(1) };
    };
    let (restart, mac) = match read(row) {
        Err(StoreError::RowInvalid { .. }) => return broken(1),
        read => read?,
    };
    let right = chain.restart_mac(&restart);
    let bound = head.restarted == Some(right) && right.as_slice() == mac.as_slice();
    if !bound || heap(connection, restart.number)? != (restart.digest, restart.entries) {
        return broken(restart.number);
    }
    let count = connection.query_row("SELECT count(*) FROM audit_restarts", [], |row| row.get(0))?;
    Ok(Ok((restart.after, count)))
}

/// Whether an entry that was set aside is the one that a head kept elsewhere names; yes, if it is not there.
pub(super) fn held(connection: &Connection, expected: &Link) -> Result<bool, StoreError> {
    let sql = "SELECT mac FROM audit_set_aside WHERE sequence = ?1 ORDER BY restart DESC LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row([signed(expected.sequence)], |row| row.get(0));
    let mac: Option<Vec<u8>> = found.optional()?;
    Ok(mac.is_none_or(|mac| mac == expected.mac))
}

fn restart(tx: &WriteTx<'_>, problem: String, mut entry: Entry) -> Result<Restart, StoreError> {
    let (connection, chain) = (tx.connection, Chain::of(tx.key));
    let found = read_head(connection)?;
    let whole = found.as_ref().filter(|(head, mac)| chain.head_mac(head).as_slice() == mac.as_slice());
    let last = whole.map(|(head, _)| head.last.sequence);
    let sql = "SELECT max(sequence) FROM audit WHERE sequence BETWEEN 0 AND ?1";
    let highest: Option<i64> = connection.query_row(sql, [SEQUENCE_MAX], |row| row.get(0))?;
    let sql = "SELECT max(number), max(after) FROM audit_restarts WHERE after BETWEEN 0 AND ?1";
    let (before, begun): (Option<u64>, Option<u64>) =
        connection.query_row(sql, [SEQUENCE_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // A restart may be gone of which the entries are there.
    let sql = "SELECT max(restart) FROM audit_set_aside";
    let left: Option<u64> = connection.query_row(sql, [], |row| row.get(0))?;
    let number = before.max(left).map_or(1, |last| last + 1);
    let after = [last, highest.map(unsigned), begun].into_iter().flatten().max().unwrap_or(0);
    // The row that the entries belong to comes first; what stands for them is known when they are there.
    let sql = format!("INSERT INTO {TABLE} ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, 0, x'', ?6, x'')");
    let head = found.map(|(head, _)| head.last.to_string());
    let values = params![signed(number), signed(entry.at), entry.name, problem, head, signed(after)];
    connection.execute(&sql, values)?;
    let sql = "INSERT INTO audit_set_aside (restart, sequence, at, project, body, mac) \
               SELECT ?1, sequence, at, project, body, mac FROM audit";
    connection.execute(sql, [signed(number)])?;
    connection.execute("DELETE FROM audit", [])?;
    let (digest, entries) = heap(connection, number)?;
    let (at, name) = (entry.at, entry.name.clone());
    let restart = Restart { number, at, name, problem, head, entries, digest, after };
    let mac = chain.restart_mac(&restart);
    let sql = format!("UPDATE {TABLE} SET entries = ?2, digest = ?3, mac = ?4 WHERE number = ?1");
    connection.execute(&sql, params![signed(number), signed(entries), digest, mac])?;
    let link = restart.link(mac);
    let sql = format!(
        "INSERT INTO {HEAD_TABLE} (one, sequence, link, anchor, anchor_link, mac) VALUES (1, 0, x'', 0, x'', x'') \
         ON CONFLICT (one) DO NOTHING"
    );
    connection.execute(&sql, [])?;
    put_head(connection, &chain, &Head { last: link, anchor: link, restarted: Some(mac) })?;
    entry.details.insert("restart".to_owned(), number.into());
    entry.details.insert("problem".to_owned(), restart.problem.clone().into());
    entry.details.insert("head".to_owned(), restart.head.clone().into());
    entry.details.insert("entries".to_owned(), entries.into());
    append(tx, &entry)?;
    Ok(restart)
}

impl Store {
    /// Begins the log anew where it is not whole: sets aside what is there, and records that as the new log's first
    /// entry, with `entry`'s details completed. Gives nothing where the log is whole.
    ///
    /// # Errors
    /// When the database fails.
    pub fn restart_audit(&self, entry: Entry) -> Result<Option<Restart>, StoreError> {
        self.writer.write(move |tx| {
            // Under the lock, so that of two who restart at once the second finds it done.
            match verify(tx.connection, &Chain::of(tx.key), None, |_, _| {})? {
                Ok(_) => Ok(None),
                Err(broken) => restart(tx, broken.to_string(), entry).map(Some),
            }
        })
    }

    /// When and why the log was begun anew, the oldest first; those that can be read.
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
                    // That it was changed is for `verify_audit` to tell.
                    Err(StoreError::RowInvalid { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(restarts)
        })
    }
}
