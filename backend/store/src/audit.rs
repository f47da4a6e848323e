//! The rows of the audit log: appended in the transaction of the recorded change, verified, pruned.
//!
//! The head is read from the database for each entry, never cached: so a savepoint that is rolled back removes its
//! entries without a gap, and two processes write one chain.

mod read;
mod restart;
#[cfg(test)]
mod tests;

use kms_core::audit::{self, Chain, ChainFault, ChainVerifier, Entry, Head, Link, Row, Verified};
use kms_core::integrity::{MAC_BYTES, RowKey};
use kms_core::state_digest::{self, StateMark};
use rusqlite::{Connection, OptionalExtension, Row as Sql, params};
use uuid::Uuid;

use super::rows::{bytes, column, invalid, signed, unsigned};
use super::state::TableFault;
use super::writer::WriteTx;
use super::{Store, StoreError, state};

pub use read::{AuditCursor, AuditFilter};

const TABLE: &str = "audit";
const HEAD_TABLE: &str = "audit_head";

/// The columns that are read of an entry.
pub(super) const COLUMNS: &str = "sequence, at, project, body, mac";

/// Entries between two reports of progress.
const PROGRESS_EVERY: u64 = 1024;

/// The maximum number of entries pruned in one transaction, which takes some milliseconds.
const PRUNE_BATCH: u64 = 1000;

/// Appends an entry.
pub(super) fn append(tx: &WriteTx<'_>, entry: &Entry) -> Result<(), StoreError> {
    let chain = Chain::of(tx.key);
    let (head, sealed) = with_changes(tx, &chain)?;
    let (sequence, body) = (head.last.sequence + 1, audit::body(entry));
    let row = Row { sequence: signed(sequence), at: signed(entry.at), project: entry.project, body: &body };
    let mac = chain.mac(&head.last, &row);
    let sql = "INSERT INTO audit (sequence, at, project, body, mac) VALUES (?1, ?2, ?3, ?4, ?5)";
    let project = row.project.as_ref().map(Uuid::as_bytes);
    let values = params![row.sequence, row.at, project, row.body, mac];
    tx.change_log(TABLE, 1, sql, values)?;
    put_head(tx, &chain, &Head { last: Link { sequence, mac }, ..head }, sealed)
}

/// Writes the change of the state digest into the head.
pub(super) fn settle(tx: &WriteTx<'_>) -> Result<(), StoreError> {
    let chain = Chain::of(tx.key);
    let (head, sealed) = with_changes(tx, &chain)?;
    put_head(tx, &chain, &head, sealed)
}

/// Sets the number of the head that is compared with the one in the HSM's token.
pub(super) fn put_counter(tx: &WriteTx<'_>, counter: u64) -> Result<(), StoreError> {
    let chain = Chain::of(tx.key);
    let (head, sealed) = with_changes(tx, &chain)?;
    put_head(tx, &chain, &Head { counter: Some(counter), ..head }, sealed)
}

/// A sealed state digest that is to be written with the head, if it changed.
type Sealed = Option<Vec<u8>>;

/// Returns the head, and the state digest as the changes of this transaction make it.
fn with_changes(tx: &WriteTx<'_>, chain: &Chain) -> Result<(Head, Sealed), StoreError> {
    let head = head(tx.connection, chain)?;
    if tx.change.borrow().is_zero() {
        return Ok((head, None));
    }
    let sealed = sealed_state(tx.connection)?;
    let written = head.state.and_then(|mark| tx.state_key.open(&mark, &sealed));
    let mut state =
        written.ok_or_else(|| StoreError::RowInvalid { table: HEAD_TABLE, id: "1".to_owned() })?;
    state.apply(&tx.change.take());
    let (mark, sealed) = state::seal(tx.state_key, &state)?;
    Ok((Head { state: Some(mark), ..head }, Some(sealed)))
}

fn sealed_state(connection: &Connection) -> Result<Vec<u8>, StoreError> {
    let found = connection.prepare_cached("SELECT state FROM audit_head")?.query_row([], |row| row.get(0));
    Ok(found.optional()?.flatten().unwrap_or_default())
}

/// Takes the rows as they are for what was written: the digest of a database that has none, or whose log begins anew.
fn take_state(tx: &WriteTx<'_>) -> Result<(StateMark, Vec<u8>), StoreError> {
    let scanned = state::scan(tx.connection, tx.state_key)?;
    tx.change.take();
    state::seal(tx.state_key, &scanned)
}

/// Begins the log of a home that has none: with a head, and the state digest in it.
pub(super) fn begin(tx: &WriteTx<'_>) -> Result<(), StoreError> {
    let chain = Chain::of(tx.key);
    if read_head(tx.connection)?.is_none() {
        // A head that is missing while entries exist is not created: `verify` reports it, and nothing can be appended.
        let sql = "SELECT (SELECT count(*) FROM audit) + (SELECT count(*) FROM audit_restarts)";
        if tx.connection.query_row(sql, [], |row| row.get::<_, u64>(0))? > 0 {
            return Ok(());
        }
        insert_head(tx)?;
        put_head(tx, &chain, &Head::START, None)?;
    }
    let Ok(head) = head(tx.connection, &chain) else { return Ok(()) };
    let (mark, sealed) = take_state(tx)?;
    put_head(tx, &chain, &Head { state: Some(mark), ..head }, Some(sealed))
}

/// Inserts the row of the head, whose values are written with [`put_head`], unless there is one.
fn insert_head(tx: &WriteTx<'_>) -> Result<(), StoreError> {
    let count: u64 = tx.connection.query_row("SELECT count(*) FROM audit_head", [], |row| row.get(0))?;
    if count > 0 {
        return Ok(());
    }
    let sql = "INSERT INTO audit_head (one, sequence, link, anchor, anchor_link, mac) VALUES (1, 0, x'', 0, x'', x'')";
    tx.change_log(HEAD_TABLE, 1, sql, [])
}

fn put_head(tx: &WriteTx<'_>, chain: &Chain, head: &Head, sealed: Sealed) -> Result<(), StoreError> {
    let sql = "UPDATE audit_head SET sequence = ?1, link = ?2, anchor = ?3, anchor_link = ?4, mac = ?5, restarted = ?6, \
               counter = ?7, state = coalesce(?8, state)";
    let (last, anchor) = (&head.last, &head.anchor);
    let (last_at, anchor_at) = (signed(last.sequence), signed(anchor.sequence));
    let (mac, counter) = (chain.head_mac(head), head.counter.map(signed));
    let values = params![last_at, last.mac, anchor_at, anchor.mac, mac, head.restarted, counter, sealed];
    tx.sequence.set(head.last.sequence);
    tx.change_log(HEAD_TABLE, 1, sql, values)
}

/// Returns the head with its MAC, unverified; `None` if there is none that can be read.
fn read_head(connection: &Connection) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
    let sql = "SELECT sequence, link, anchor, anchor_link, mac, restarted, counter, state FROM audit_head";
    let found = connection.prepare_cached(sql)?.query_row([], |row| {
        let link = |number, mac| -> Result<Option<Link>, rusqlite::Error> {
            let sequence = unsigned(row.get(number)?);
            let mac: Vec<u8> = row.get(mac)?;
            Ok(<[u8; MAC_BYTES]>::try_from(mac).ok().map(|mac| Link { sequence, mac }))
        };
        let mac: Vec<u8> = row.get(4)?;
        let restarted: Option<Vec<u8>> = row.get(5)?;
        // A value of another length was not written by this program; without it, the head's MAC is invalid.
        let restarted = restarted.and_then(|restarted| restarted.try_into().ok());
        let counter: Option<i64> = row.get(6)?;
        let state = row.get_ref(7)?.as_blob_or_null()?.and_then(state_digest::mark);
        let counter = counter.map(unsigned);
        let head = |(last, anchor)| Head { last, anchor, restarted, state, counter };
        Ok(link(0, 1)?.zip(link(2, 3)?).map(|links| (head(links), mac)))
    });
    Ok(found.optional()?.flatten())
}

/// Returns the head; fails if its MAC is invalid.
pub(super) fn head(connection: &Connection, chain: &Chain) -> Result<Head, StoreError> {
    let invalid = || StoreError::RowInvalid { table: HEAD_TABLE, id: "1".to_owned() };
    let (head, mac) = read_head(connection)?.ok_or_else(invalid)?;
    ChainVerifier::begin(chain, head, &mac).map_err(|_| invalid())?;
    Ok(head)
}

/// Reads one entry and its MAC, as the chain takes them.
fn read<'a>(row: &'a Sql<'_>) -> Result<(Row<'a>, &'a [u8]), StoreError> {
    let project = bytes(row, TABLE, 2)?.map(Uuid::from_slice).transpose().map_err(|_| invalid(TABLE, row))?;
    let body = row.get_ref(3)?.as_str().map_err(|_| invalid(TABLE, row))?;
    let entry = Row { sequence: column(row, TABLE, 0)?, at: column(row, TABLE, 1)?, project, body };
    Ok((entry, bytes(row, TABLE, 4)?.unwrap_or_default()))
}

/// Returns the time of the last entry, in milliseconds since 1970.
pub(super) fn last_at(connection: &Connection) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT at FROM audit ORDER BY sequence DESC LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
}

/// Verifies the whole log, and then the rows of all other tables, in one snapshot of the database.
pub(super) fn verify(
    connection: &Connection,
    key: &RowKey,
    expected: Option<Link>,
    progress: impl FnMut(u64, u64),
) -> Result<Result<Verified, ChainFault>, StoreError> {
    let verified = verify_log(connection, &Chain::of(key), expected, progress)?;
    let Ok(log) = verified else { return Ok(verified) };
    let compared = state::compare(connection, key, &log.head, &sealed_state(connection)?)?;
    Ok(compared.and_then(|faults| faults.first().map_or(Ok(log), |fault| Err(ChainFault::from(fault)))))
}

/// Returns the head, and the tables whose rows are not those that were written, without verifying the log's entries.
pub(super) fn faults(
    connection: &Connection,
    key: &RowKey,
) -> Result<Result<(Head, Vec<TableFault>), ChainFault>, StoreError> {
    match head(connection, &Chain::of(key)) {
        Ok(head) => {
            let compared = state::compare(connection, key, &head, &sealed_state(connection)?)?;
            Ok(compared.map(|faults| (head, faults)))
        }
        Err(StoreError::RowInvalid { .. }) => Ok(Err(ChainFault::HEAD)),
        Err(error) => Err(error),
    }
}

fn verify_log(
    connection: &Connection,
    chain: &Chain,
    expected: Option<Link>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Result<Verified, ChainFault>, StoreError> {
    let Some((head, mac)) = read_head(connection)? else { return Ok(Err(ChainFault::HEAD)) };
    let started = match ChainVerifier::begin(chain, head, &mac) {
        Ok(walk) => restart::check(connection, chain, &head)?
            .map(|(after, restarts)| (walk.begun(after, restarts), after)),
        Err(broken) => Err(broken),
    };
    let started = match (started, expected) {
        (Ok((walk, after)), Some(expected)) if expected.sequence > after => walk.expecting(expected),
        // The expected entry was set aside, or is no longer there.
        (Ok((walk, _)), Some(expected)) if restart::matches_set_aside(connection, &expected)? => Ok(walk),
        (Ok(_), Some(expected)) => {
            Err(ChainFault { sequence: signed(expected.sequence), fault: audit::FaultKind::Replaced })
        }
        (Ok((walk, _)), None) => Ok(walk),
        (Err(broken), _) => Err(broken),
    };
    let mut walk = match started {
        Ok(walk) => walk,
        Err(broken) => return Ok(Err(broken)),
    };
    let (total, mut done) = (head.last.sequence - head.anchor.sequence, 0);
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM audit ORDER BY sequence"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(0)?;
        let stepped = match read(row) {
            Ok((entry, mac)) => walk.step(&entry, mac),
            Err(StoreError::RowInvalid { .. }) => {
                Err(ChainFault { sequence, fault: audit::FaultKind::Changed })
            }
            Err(error) => return Err(error),
        };
        if let Err(broken) = stepped {
            return Ok(Err(broken));
        }
        done += 1;
        if done % PROGRESS_EVERY == 0 {
            progress(done, total);
        }
    }
    progress(done, total);
    Ok(walk.end())
}

/// Removes the oldest entries before `before`, at most [`PRUNE_BATCH`]; returns their number.
fn prune(tx: &WriteTx<'_>, before: i64) -> Result<u64, StoreError> {
    let chain = Chain::of(tx.key);
    let head = head(tx.connection, &chain)?;
    let mut link = head.anchor;
    let sql = format!("SELECT {COLUMNS} FROM audit WHERE sequence > ?1 ORDER BY sequence LIMIT ?2");
    let mut statement = tx.connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![signed(link.sequence), signed(PRUNE_BATCH)])?;
    while let Some(row) = rows.next()? {
        let (entry, mac) = read(row)?;
        // An entry that was tampered with is retained for investigation.
        let expected = chain.mac(&link, &entry);
        if entry.sequence != signed(link.sequence + 1) || expected != *mac {
            return Err(invalid(TABLE, row));
        }
        if entry.at >= before || link.sequence + 1 == head.last.sequence {
            break;
        }
        link = Link { sequence: link.sequence + 1, mac: expected };
    }
    let pruned = link.sequence - head.anchor.sequence;
    if pruned > 0 {
        let sql = "DELETE FROM audit WHERE sequence <= ?1";
        let count = usize::try_from(pruned).unwrap_or(usize::MAX);
        tx.change_log(TABLE, count, sql, [signed(link.sequence)])?;
        put_head(tx, &chain, &Head { anchor: link, ..head }, None)?;
    }
    Ok(pruned)
}

impl Store {
    /// Appends an entry to the audit log, durable when this returns.
    ///
    /// # Errors
    /// When the database fails, or the log's head was changed.
    pub fn record(&self, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| tx.record(&entry))
    }

    /// Appends several in one transaction: all of them or none.
    ///
    /// # Errors
    /// When the database fails, or the log's head was changed.
    pub fn record_all(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        self.writer.write(move |tx| entries.iter().try_for_each(|entry| tx.record(entry)))
    }

    /// Returns the time of the last entry, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_recorded(&self) -> Result<Option<u64>, StoreError> {
        self.readers.read(last_at)
    }

    /// Sets the number that is compared with the one in the HSM's token, to the next after the one that is there and
    /// after `counted`; returns it.
    ///
    /// # Errors
    /// When the database fails, or the log's head was changed.
    pub fn advance_counter(&self, counted: u64) -> Result<u64, StoreError> {
        self.writer.write(move |tx| {
            let found = head(tx.connection, &Chain::of(tx.key))?.counter.unwrap_or(0);
            let next = found.max(counted) + 1;
            put_counter(tx, next)?;
            Ok(next)
        })
    }

    /// Returns where the audit log begins and ends at this moment.
    ///
    /// # Errors
    /// When the database fails, or the head was changed.
    pub fn audit_head(&self) -> Result<Head, StoreError> {
        self.readers.read(|connection| head(connection, &Chain::of(&self.key)))
    }

    /// Whether the log contains an entry, or the entry was pruned.
    ///
    /// # Errors
    /// When the database fails, or the head was changed.
    pub fn audit_holds(&self, link: Link) -> Result<bool, StoreError> {
        self.readers.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let head = head(&snapshot, &Chain::of(&self.key))?;
            if link.sequence == head.anchor.sequence {
                return Ok(link == head.anchor);
            }
            let sql = "SELECT mac FROM audit WHERE sequence = ?1";
            let found = snapshot.prepare_cached(sql)?.query_row([signed(link.sequence)], |row| row.get(0));
            let mac: Option<Vec<u8>> = found.optional()?;
            Ok(link.sequence < head.anchor.sequence || mac.is_some_and(|mac| mac == link.mac))
        })
    }

    /// Verifies the whole audit log while writes continue. `expected` is a head that was stored elsewhere. `progress`
    /// gets the number of verified entries and the total.
    ///
    /// # Errors
    /// When the database fails. A defect of the log is not an error but the result.
    pub fn verify_audit(
        &self,
        expected: Option<Link>,
        progress: impl FnMut(u64, u64),
    ) -> Result<Result<Verified, ChainFault>, StoreError> {
        self.readers.read(|connection| {
            // One snapshot of the database for head and entries.
            let snapshot = connection.unchecked_transaction()?;
            verify(&snapshot, &self.key, expected, progress)
        })
    }

    /// Removes the oldest entries, those before `before` (milliseconds since 1970), but never the last one. Records the
    /// number in `entry`'s details, and returns it.
    ///
    /// # Errors
    /// When the database fails, or an entry was changed; then no more entries are removed.
    pub fn prune_audit(&self, before: u64, entry: &Entry) -> Result<u64, StoreError> {
        let mut pruned = 0;
        loop {
            let batch = self.writer.write(move |tx| prune(tx, signed(before)))?;
            pruned += batch;
            if batch < PRUNE_BATCH {
                break;
            }
        }
        if pruned > 0 {
            let mut entry = entry.clone();
            entry.details.insert("entries".to_owned(), pruned.into());
            self.record(entry)?;
        }
        Ok(pruned)
    }
}
