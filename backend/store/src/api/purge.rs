//! Work that is due: material to be erased, keys to be rotated.

use kms_core::api::Life;
use kms_core::audit::Entry;
use kms_core::integrity::Cell;
use kms_core::object::KeyVersion;
use kms_protocol::{ObjectId, RingId};
use rusqlite::{Rows, params};
use uuid::Uuid;

use crate::cache::Invalidation;
use crate::key_rows::{KEY_COLUMNS, KeyRow, WRAPPING};
use crate::object_rows::ObjectRow;
use crate::rotation::objects_of;
use crate::rows::signed;
use crate::spans;
use crate::version_rows::{State, VERSION_COLUMNS, VersionRow};
use crate::writer::WriteTx;
use crate::{Store, StoreError};

/// The maximum number of rows of each kind in one transaction, so that other writers do not notice the delay.
const BATCH_MAX: u32 = 64;

/// A key or version that was erased.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Purged {
    /// A key with all its versions and objects.
    Key {
        /// Its ring.
        ring: RingId,
        /// Its id.
        key: Uuid,
    },
    /// The material of a version.
    Version {
        /// Its ring.
        ring: RingId,
        /// Its key.
        key: Uuid,
        /// Its number.
        number: u32,
    },
    /// The material of an expired wrapping key.
    WrappingKey {
        /// Its ring.
        ring: RingId,
        /// Its id.
        key: Uuid,
    },
}

/// A key whose rotation is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DueRotation {
    /// Its ring.
    pub ring: RingId,
    /// Its id.
    pub key: Uuid,
}

impl Store {
    /// Erases what is due, up to a bounded number; `entry` returns the audit entry for each. When it returns none,
    /// nothing more is due.
    ///
    /// # Errors
    /// When the database fails.
    pub fn purge(
        &self,
        now: u64,
        entry: impl Fn(&Purged) -> Entry + Send + 'static,
    ) -> Result<Vec<Purged>, StoreError> {
        self.writer.write(move |tx| {
            let mut purged = purge_keys(tx, now)?;
            purged.extend(purge_versions(tx, now)?);
            purged.extend(purge_expired_wrapping_keys(tx, now)?);
            purge_public_keys(tx, now)?;
            for one in &purged {
                let (Purged::Key { ring, .. }
                | Purged::Version { ring, .. }
                | Purged::WrappingKey { ring, .. }) = one;
                tx.released(*ring);
                tx.record(&entry(one))?;
            }
            Ok(purged)
        })
    }

    /// Returns keys whose rotation is due, up to a bounded number.
    ///
    /// # Errors
    /// When the database fails.
    pub fn due(&self, now: u64) -> Result<Vec<DueRotation>, StoreError> {
        self.readers.read(|connection| {
            let sql = format!(
                "SELECT {KEY_COLUMNS} FROM keys INDEXED BY keys_to_rotate \
                 WHERE rotate_at <= ?1 AND deletion_at IS NULL ORDER BY rotate_at LIMIT ?2"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![signed(now), BATCH_MAX])?;
            let mut due = Vec::new();
            while let Some(row) = rows.next()? {
                // A row that was edited is skipped: it must not cause anything.
                match KeyRow::read(row, &self.key) {
                    Ok(key) => due.push(DueRotation { ring: key.ring, key: Uuid::from_bytes(key.id) }),
                    Err(StoreError::RowInvalid { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(due)
        })
    }
}

/// Deletes a key with all its versions and objects.
pub(super) fn erase_key(tx: &WriteTx<'_>, key: [u8; 16]) -> Result<(), StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT id FROM objects WHERE key = ?1")?;
    let objects = statement.query_map([key], |row| row.get::<_, u64>(0))?.collect::<Result<Vec<_>, _>>()?;
    for id in objects {
        tx.invalidate(Invalidation::Object(ObjectId(id)));
    }
    let of_key = [("key", Cell::Bytes(&key))];
    for table in [ObjectRow::TABLE, "vectors", VersionRow::TABLE] {
        tx.delete(table, &of_key)?;
    }
    spans::end_all(tx, &key)?;
    tx.delete_one(KeyRow::TABLE, &[("id", Cell::Bytes(&key))])?;
    tx.invalidate(Invalidation::Key(Uuid::from_bytes(key)));
    Ok(())
}

/// Erases the material of a version; the version itself is still listed.
fn erase_version(tx: &WriteTx<'_>, row: VersionRow) -> Result<(), StoreError> {
    let version = row.version;
    for id in objects_of(tx.connection, version)? {
        tx.invalidate(Invalidation::Object(id));
    }
    let of_version = [("key", Cell::Bytes(&version.key)), ("version", Cell::Integer(version.number.into()))];
    tx.delete(ObjectRow::TABLE, &of_version)?;
    let (disabled, at) = (row.disabled, row.life().and_then(Life::destroy_date).unwrap_or(0));
    VersionRow { wrapped: None, ..row.with_life(Life::Erased { disabled, at }) }.update(tx)?;
    tx.invalidate(Invalidation::Key(Uuid::from_bytes(version.key)));
    Ok(())
}

fn purge_keys(tx: &WriteTx<'_>, now: u64) -> Result<Vec<Purged>, StoreError> {
    let sql = "SELECT id, ring FROM keys INDEXED BY keys_to_delete WHERE deletion_at <= ?1 LIMIT ?2";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, [u8; 16]>(0)?, RingId(row.get(1)?)));
    let found = statement.query_map(params![signed(now), BATCH_MAX], read)?.collect::<Result<Vec<_>, _>>()?;
    let mut purged = Vec::new();
    for (id, ring) in found {
        // A row that was edited must not cause anything, least of all the erasure of a key.
        match crate::change::key(tx, id) {
            Ok(row) if row.metadata.deletion_at.is_some_and(|at| at <= now) => {}
            Ok(_) | Err(StoreError::RowInvalid { .. }) => continue,
            Err(error) => return Err(error),
        }
        erase_key(tx, id)?;
        purged.push(Purged::Key { ring, key: Uuid::from_bytes(id) });
    }
    Ok(purged)
}

/// Reads versions with their rings from rows of number, [`VERSION_COLUMNS`], key and ring. A row that was edited is
/// skipped: it must not cause anything.
fn read_due(tx: &WriteTx<'_>, mut rows: Rows<'_>) -> Result<Vec<(VersionRow, RingId)>, StoreError> {
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        let id = KeyVersion { key: row.get(10)?, number: row.get(0)? };
        match VersionRow::read(row, 1, id, tx.key) {
            Ok(version) => due.push((version, RingId(row.get(11)?))),
            Err(StoreError::RowInvalid { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(due)
}

fn purge_versions(tx: &WriteTx<'_>, now: u64) -> Result<Vec<Purged>, StoreError> {
    let sql = format!(
        "SELECT v.number, {VERSION_COLUMNS}, v.key, k.ring FROM versions v INDEXED BY versions_to_destroy \
         JOIN keys k ON k.id = v.key WHERE v.destroy_at IS NOT NULL AND v.state = 3 AND v.destroy_at <= ?1 LIMIT ?2"
    );
    let mut statement = tx.connection.prepare_cached(&sql)?;
    let rows = statement.query(params![signed(now), BATCH_MAX])?;
    let mut purged = Vec::new();
    for (version, ring) in read_due(tx, rows)? {
        let KeyVersion { key, number } = version.version;
        erase_version(tx, version)?;
        purged.push(Purged::Version { ring, key: Uuid::from_bytes(key), number });
    }
    Ok(purged)
}

/// Erases expired wrapping keys, so that material wrapped under them can no longer be unwrapped.
fn purge_expired_wrapping_keys(tx: &WriteTx<'_>, now: u64) -> Result<Vec<Purged>, StoreError> {
    let sql = format!(
        "SELECT v.number, {VERSION_COLUMNS}, v.key, k.ring FROM keys k INDEXED BY keys_to_expire \
         JOIN versions v ON v.key = k.id \
         WHERE k.expires_at IS NOT NULL AND k.expires_at <= ?1 AND k.kind = ?3 AND v.state != ?4 LIMIT ?2"
    );
    let mut statement = tx.connection.prepare_cached(&sql)?;
    let rows = statement.query(params![signed(now), BATCH_MAX, WRAPPING, State::Destroyed.number()])?;
    let mut purged = Vec::new();
    for (version, ring) in read_due(tx, rows)? {
        let id = version.version.key;
        // The date in the row that the query read is not authenticated: the key's own row decides.
        match crate::change::key(tx, id) {
            Ok(row)
                if row.metadata.wrapping.is_some() && row.metadata.expires_at.is_some_and(|at| at <= now) => {
            }
            Ok(_) | Err(StoreError::RowInvalid { .. }) => continue,
            Err(error) => return Err(error),
        }
        erase_version(tx, version)?;
        purged.push(Purged::WrappingKey { ring, key: Uuid::from_bytes(id) });
    }
    Ok(purged)
}

/// Deletes public keys that were destroyed separately from their private keys.
fn purge_public_keys(tx: &WriteTx<'_>, now: u64) -> Result<(), StoreError> {
    let sql = "SELECT id FROM objects INDEXED BY objects_to_destroy \
               WHERE destroy_at IS NOT NULL AND destroy_at <= ?1 LIMIT ?2";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let due = statement.query_map(params![signed(now), BATCH_MAX], |row| row.get::<_, u64>(0))?;
    for id in due.collect::<Result<Vec<_>, _>>()? {
        // As for keys: an edited row must not cause an erasure.
        match crate::change::load(tx, ObjectId(id)) {
            Ok(stored) if stored.destroy_at.is_some_and(|at| at <= signed(now)) => {}
            Ok(_) | Err(StoreError::RowInvalid { .. }) => continue,
            Err(error) => return Err(error),
        }
        tx.delete_one(ObjectRow::TABLE, &[("id", Cell::Integer(signed(id)))])?;
        tx.invalidate(Invalidation::Object(ObjectId(id)));
    }
    Ok(())
}
