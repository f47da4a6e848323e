//! What a restore must not take back, and what it renews in the copy before the copy becomes the database
//! (docs/decisions/0051).

use std::collections::HashMap;

use kms_core::audit::Entry;
use kms_core::integrity::{Cell, RowKey};
use kms_core::object::Wrapped;
use kms_protocol::RingId;
use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use uuid::Uuid;

use super::cache::Invalidation;
use super::rows::{PRINCIPAL_COLUMNS, bytes, check_mac, column, signed, unsigned};
use super::writer::WriteTx;
use super::{Principal, Ring, Store, StoreError, accounts, find};

/// How far the number of the next object jumps ahead if nobody knows how many were created since the copy: an application
/// that runs on must not find another object under the number that it remembers.
const OBJECTS_AHEAD: u64 = 1 << 32;

/// The same for slots, of which there are few.
const SLOTS_AHEAD: u64 = 1 << 10;

/// A row of `vectors`: key, version, and the number of initialisation vectors.
type VersionCount = ([u8; 16], u32, u64);

/// A row of `assertions`: digest, account and end.
type SpentAssertion = ([u8; 32], [u8; 16], i64);

/// The numbers of a database that only grow.
#[derive(Clone, Debug, Default)]
pub struct HighWaterMarks {
    counters: Vec<(String, u64)>,
    versions: Vec<VersionCount>,
    values: Vec<(Vec<u8>, u64)>,
    assertions: Vec<SpentAssertion>,
    epochs: Vec<(RingId, u64)>,
    principals: Vec<(RingId, String, u64)>,
    accounts: Vec<(Uuid, u64)>,
    iv_blocks: u64,
}

/// What a restore changes in the copy.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The time of the restore, in seconds since 1970.
    pub at: u64,
    /// The numbers of the database that the copy replaces; none if it cannot be read.
    pub marks: Option<HighWaterMarks>,
    /// The blocks of initialisation vectors that each key counts as used.
    pub iv_blocks: u64,
    /// Whether all logins and access tokens end.
    pub end_logins: bool,
    /// The service keys that are replaced, by their purposes.
    pub service_keys: Vec<(String, Wrapped)>,
    /// The static tokens that end.
    pub tokens: Vec<Uuid>,
    /// The account keys that are revoked.
    pub account_keys: Vec<Uuid>,
    /// The entry in the audit log.
    pub entry: Entry,
}

/// What the restores that made a database have in common.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Restores {
    /// The time of the last one, in seconds since 1970.
    pub last: Option<u64>,
    /// The blocks of initialisation vectors that each key counts as used.
    pub iv_blocks: u64,
}

impl Store {
    /// Returns the numbers that must not go back when a copy replaces this database.
    ///
    /// # Errors
    /// When the database fails.
    pub fn high_water_marks(&self) -> Result<HighWaterMarks, StoreError> {
        let key = &self.key;
        self.readers.read(|connection| {
            let (rings, _) = find::rings(connection, key)?;
            let rings = rings.list();
            let mut principals = Vec::new();
            for ring in &rings {
                let (found, _) = super::principals::ring_principals(connection, key, ring.id)?;
                principals.extend(found.into_iter().map(|found| (ring.id, found.name, found.generation)));
            }
            let (accounts, _) = accounts::all_accounts(connection, key)?;
            Ok(HighWaterMarks {
                counters: all(connection, "SELECT name, next FROM counters", |row| {
                    Ok((row.get(0)?, unsigned(row.get(1)?)))
                })?,
                versions: all(connection, "SELECT key, number, taken FROM vectors", |row| {
                    Ok((row.get(0)?, row.get(1)?, unsigned(row.get(2)?)))
                })?,
                values: all(connection, "SELECT print, blocks FROM vector_blocks", |row| {
                    Ok((row.get(0)?, unsigned(row.get(1)?)))
                })?,
                assertions: all(connection, "SELECT digest, account, expires FROM assertions", |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?,
                epochs: rings.iter().map(|ring| (ring.id, ring.epoch)).collect(),
                principals,
                accounts: accounts.into_iter().map(|account| (account.id, account.generation)).collect(),
                iv_blocks: restores(connection, key)?.0.iv_blocks,
            })
        })
    }

    /// Changes a copy that is about to become the database, in one transaction.
    ///
    /// # Errors
    /// When the database fails; then nothing is changed.
    pub fn renew(&self, renewal: Renewal) -> Result<(), StoreError> {
        self.writer.write(move |tx| renew(tx, &renewal))
    }

    /// Returns what the restores of this database have in common. A row that was changed outside the KMS counts no blocks.
    ///
    /// # Errors
    /// When the database fails.
    pub fn restores(&self) -> Result<Restores, StoreError> {
        let (found, unreadable) = self.readers.read(|connection| restores(connection, &self.key))?;
        self.log_unreadable(&unreadable);
        Ok(found)
    }
}

/// Verifies the MACs of all rows of restores.
pub(super) fn check(connection: &Connection, key: &RowKey) -> Result<(), StoreError> {
    restores(connection, key)?.1.into_iter().next().map_or(Ok(()), Err)
}

fn restores(connection: &Connection, key: &RowKey) -> Result<(Restores, Vec<StoreError>), StoreError> {
    let mut statement = connection.prepare("SELECT number, at, blocks, mac FROM restores ORDER BY number")?;
    let (mut rows, mut unreadable) = (statement.query([])?, Vec::new());
    let mut found = Restores::default();
    while let Some(row) = rows.next()? {
        match read(row, key) {
            Ok((at, blocks)) => {
                found.last = found.last.max(Some(at));
                found.iv_blocks = found.iv_blocks.saturating_add(blocks);
            }
            Err(error @ StoreError::RowInvalid { .. }) => unreadable.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((found, unreadable))
}

const TABLE: &str = "restores";

fn cells(number: i64, at: i64, blocks: i64) -> [(&'static str, Cell<'static>); 3] {
    [("number", Cell::Integer(number)), ("at", Cell::Integer(at)), ("blocks", Cell::Integer(blocks))]
}

fn read(row: &Row<'_>, key: &RowKey) -> Result<(u64, u64), StoreError> {
    let (number, at, blocks) = (column(row, TABLE, 0)?, column(row, TABLE, 1)?, column(row, TABLE, 2)?);
    check_mac(key, TABLE, &cells(number, at, blocks), bytes(row, TABLE, 3)?.unwrap_or_default(), row)?;
    Ok((unsigned(at), unsigned(blocks)))
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn renew(tx: &WriteTx<'_>, renewal: &Renewal) -> Result<(), StoreError> {
    match &renewal.marks {
        Some(marks) => raise(tx, marks)?,
        None => jump_ahead(tx)?,
    }
    for (purpose, key) in &renewal.service_keys {
        let wrapped =
            [("master", Cell::Integer(i64::from(key.master.0))), ("wrapped", Cell::Bytes(&key.bytes))];
        tx.update("service_keys", &[("purpose", Cell::Text(purpose))], &wrapped)?;
    }
    if renewal.end_logins {
        end_logins(tx, renewal.marks.as_ref())?;
    }
    for token in &renewal.tokens {
        accounts::end_token(tx, *token)?;
    }
    for key in &renewal.account_keys {
        accounts::revoke_key(tx, *key, renewal.at)?;
    }
    // Those that earlier restores of the replaced database counted are not forgotten with it.
    let own = restores(tx.connection, tx.key)?.0.iv_blocks;
    let replaced = renewal.marks.as_ref().map_or(0, |marks| marks.iv_blocks);
    let blocks = renewal.iv_blocks.saturating_add(replaced.saturating_sub(own));
    let next = "SELECT coalesce(max(number), 0) + 1 FROM restores";
    let number: i64 = tx.connection.query_row(next, [], |row| row.get(0))?;
    let (at, blocks) = (signed(renewal.at), signed(blocks));
    let columns = cells(number, at, blocks);
    let mac = tx.key.mac(TABLE, &columns);
    tx.insert(TABLE, &[&columns[..], &[("mac", Cell::Bytes(&mac))]].concat())?;
    tx.invalidate(Invalidation::All);
    tx.record(&renewal.entry)
}

/// Raises the numbers of the copy to those of the database that it replaces.
fn raise(tx: &WriteTx<'_>, marks: &HighWaterMarks) -> Result<(), StoreError> {
    let higher = |sql: &str, key: &[&dyn ToSql], number: u64| -> Result<Option<i64>, StoreError> {
        let found: Option<i64> =
            tx.connection.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
        Ok(Some(signed(number)).filter(|number| found.is_none_or(|found| found < *number)))
    };
    for (name, next) in &marks.counters {
        let sql = "SELECT next FROM counters WHERE name = ?1";
        if let Some(next) = higher(sql, &[name], *next)? {
            tx.update("counters", &[("name", Cell::Text(name))], &[("next", Cell::Integer(next))])?;
        }
    }
    for (key, number, taken) in &marks.versions {
        let sql = "SELECT taken FROM vectors WHERE key = ?1 AND number = ?2";
        if let Some(taken) = higher(sql, &[key, number], *taken)? {
            let version = [("key", Cell::Bytes(key)), ("number", Cell::Integer(i64::from(*number)))];
            tx.put("vectors", &version, &[("taken", Cell::Integer(taken))])?;
        }
    }
    for (print, blocks) in &marks.values {
        let sql = "SELECT blocks FROM vector_blocks WHERE print = ?1";
        if let Some(blocks) = higher(sql, &[print], *blocks)? {
            tx.put("vector_blocks", &[("print", Cell::Bytes(print))], &[("blocks", Cell::Integer(blocks))])?;
        }
    }
    for (digest, account, expires) in &marks.assertions {
        // An assertion that the copy knows already is not changed.
        let sql = "SELECT expires FROM assertions WHERE digest = ?1";
        let known = tx.connection.prepare_cached(sql)?.exists([digest])?;
        if !known {
            let (account, expires) = (Cell::Bytes(account), Cell::Integer(*expires));
            let columns = [("digest", Cell::Bytes(digest)), ("account", account), ("expires", expires)];
            tx.insert("assertions", &columns)?;
        }
    }
    for ring in find::rings(tx.connection, tx.key)?.0.list() {
        let epoch = marks.epochs.iter().find(|(id, _)| *id == ring.id).map_or(0, |(_, epoch)| *epoch);
        if epoch > ring.epoch {
            Ring { epoch, ..ring }.update(tx)?;
        }
    }
    Ok(())
}

/// Lets the numbers jump ahead, because those of the database that the copy replaces are not known.
fn jump_ahead(tx: &WriteTx<'_>) -> Result<(), StoreError> {
    for (name, ahead) in [("object", OBJECTS_AHEAD), ("slot", SLOTS_AHEAD)] {
        let sql = "SELECT next FROM counters WHERE name = ?1";
        let next: i64 = tx.connection.prepare_cached(sql)?.query_row([name], |row| row.get(0))?;
        let next = Cell::Integer(next.saturating_add(signed(ahead)));
        tx.update("counters", &[("name", Cell::Text(name))], &[("next", next)])?;
    }
    Ok(())
}

/// Gives all principals and accounts a generation that neither database has had.
fn end_logins(tx: &WriteTx<'_>, marks: Option<&HighWaterMarks>) -> Result<(), StoreError> {
    let sql = format!("SELECT {PRINCIPAL_COLUMNS} FROM principals");
    let mut statement = tx.connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut principals = Vec::new();
    while let Some(row) = rows.next()? {
        principals.push((RingId(column(row, "principals", 1)?), Principal::read(row, tx.key)?));
    }
    let replaced = marks.map_or(&[][..], |marks| &marks.principals);
    let replaced: HashMap<_, _> =
        replaced.iter().map(|(ring, name, generation)| ((*ring, name.as_str()), *generation)).collect();
    for (ring, principal) in principals {
        let before = replaced.get(&(ring, principal.name.as_str())).copied().unwrap_or(0);
        let generation = principal.generation.max(before) + 1;
        Principal { generation, ..principal }.put(ring, tx)?;
    }
    let replaced: HashMap<_, _> = marks.map_or(&[][..], |marks| &marks.accounts).iter().copied().collect();
    accounts::end_generations(tx, |id| replaced.get(&id).copied().unwrap_or(0))
}
