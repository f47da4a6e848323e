//! Keys and versions through their lives. Each step is judged inside the transaction that makes it, so that none is
//! judged by what was before another.

use kms_core::api::{Change, Life, Problem};
use kms_core::audit::Entry;
use kms_core::object::{Draft, KeyVersion, day_of};
use kms_protocol::RingId;
use rusqlite::params;
use uuid::Uuid;

use super::{Decided, IdempotencyKey, KeyMetadata};
use crate::cache::Stale;
use crate::change;
use crate::key_rows::KeyRow;
use crate::rotation::{Ends, numbered, objects_of, relabel, rename};
use crate::version_rows::{VERSION_COLUMNS, VersionRow};
use crate::writer::WriteTx;
use crate::{NewKey, Store, StoreError};

/// One version as the transaction sees it.
fn version(tx: &WriteTx<'_>, version: KeyVersion) -> Result<VersionRow, StoreError> {
    let sql =
        format!("SELECT v.number, {VERSION_COLUMNS} FROM versions v WHERE v.key = ?1 AND v.number = ?2");
    let mut statement = tx.connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![version.key, version.number])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    VersionRow::read(row, 1, version, tx.key)
}

/// A key of a ring as the transaction sees it.
fn key_of(tx: &WriteTx<'_>, ring: RingId, id: Uuid) -> Result<KeyRow, StoreError> {
    let row = change::key(tx, id.into_bytes())?;
    if row.ring == ring { Ok(row) } else { Err(StoreError::NotFound) }
}

/// Lets the objects of all versions of a key be read anew.
fn forget_all(tx: &WriteTx<'_>, id: Uuid) -> Result<(), StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT id FROM objects WHERE key = ?1")?;
    let ids = statement.query_map([id.as_bytes()], |row| row.get::<_, u64>(0))?;
    for object in ids.collect::<Result<Vec<_>, _>>()? {
        tx.forget(Stale::Object(kms_protocol::ObjectId(object)));
    }
    tx.forget(Stale::Key(id));
    Ok(())
}

/// Sets whether a key's versions are withheld.
fn withhold(tx: &WriteTx<'_>, id: Uuid, withheld: bool) -> Result<(), StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT number FROM versions WHERE key = ?1")?;
    let numbers = statement.query_map([id.as_bytes()], |row| row.get::<_, u32>(0))?;
    for number in numbers.collect::<Result<Vec<_>, _>>()? {
        match version(tx, KeyVersion { key: id.into_bytes(), number }) {
            Ok(row) => VersionRow { withheld, ..row }.put(tx)?,
            // What was edited stays as it is: it cannot be used anyway.
            Err(StoreError::RowInvalid { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    forget_all(tx, id)
}

impl Store {
    /// Stores a key that was asked for over the API, with its objects; without any, it begins without a version.
    ///
    /// # Errors
    /// When the database fails. It refuses a repetition that asks for something else.
    pub fn create_key(
        &self,
        new: NewKey,
        drafts: Vec<Draft>,
        repeat: Option<IdempotencyKey>,
    ) -> Decided<Uuid> {
        self.writer.write(move |tx| {
            let id = Uuid::from_bytes(new.key);
            let at = new.created;
            match repeat.as_ref().map(|repeat| repeat.before(tx)).transpose() {
                Err(refused) => return refused.map(Err),
                Ok(Some(Some(made))) => return Ok(Ok(made)),
                Ok(Some(None) | None) => {}
            }
            change::insert(tx, kms_protocol::RequestId::default(), new, drafts)?;
            repeat.map_or(Ok(()), |repeat| repeat.remember(tx, id, at))?;
            Ok(Ok(id))
        })
    }

    /// Changes where a version stands; `at` is when it would be erased.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such version. It refuses what does not follow.
    pub fn change_version(
        &self,
        ring: RingId,
        name: KeyVersion,
        change: Change,
        (now, at): (u64, u64),
        entry: Entry,
    ) -> Decided<()> {
        self.writer.write(move |tx| {
            let key = key_of(tx, ring, Uuid::from_bytes(name.key))?;
            let row = version(tx, name)?;
            if key.metadata.deletion_at.is_some() {
                return Ok(Err(deleted()));
            }
            // What is due is gone, whether or not the job that erases it has come round.
            let life = match row.life().ok_or(StoreError::NotFound)? {
                Life::Leaving { disabled, at } if at <= now => Life::Erased { disabled, at },
                life @ (Life::Active | Life::Disabled | Life::Leaving { .. } | Life::Erased { .. }) => life,
            };
            let next = match life.after(change, at) {
                Ok(next) => next,
                Err(refused) => return Ok(Err(refused)),
            };
            if next != life {
                row.living(next).put(tx)?;
                for object in objects_of(tx.connection, name)? {
                    tx.forget(Stale::Object(object));
                }
                relabel(tx, &key, &day_of(now))?;
            }
            tx.record(&entry)?;
            Ok(Ok(()))
        })
    }

    /// Schedules a key's deletion: none of its versions can be used any more.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key. It refuses one whose deletion is scheduled.
    pub fn schedule_deletion(&self, ring: RingId, id: Uuid, at: u64, entry: Entry) -> Decided<()> {
        self.writer.write(move |tx| {
            let mut row = key_of(tx, ring, id)?;
            if row.metadata.deletion_at.is_some() {
                let said =
                    "the key's deletion is scheduled already; it can be restored until its deletionDate";
                return Ok(Err(Problem::malformed(said)));
            }
            row.metadata.deletion_at = Some(at);
            row.put(tx)?;
            withhold(tx, id, true)?;
            tx.record(&entry)?;
            Ok(Ok(()))
        })
    }

    /// Takes a key's deletion back.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key. It refuses one whose deletion is not scheduled.
    pub fn restore_key(&self, ring: RingId, id: Uuid, now: u64, entry: Entry) -> Decided<()> {
        self.writer.write(move |tx| {
            let mut row = key_of(tx, ring, id)?;
            // What is due is gone, whether or not the job that erases it has come round.
            if row.metadata.deletion_at.is_some_and(|at| at <= now) {
                return Err(StoreError::NotFound);
            }
            if row.metadata.deletion_at.take().is_none() {
                let said = "the key is not deleted, so there is nothing to restore";
                return Ok(Err(Problem::conflict(said)));
            }
            row.put(tx)?;
            withhold(tx, id, false)?;
            tx.record(&entry)?;
            Ok(Ok(()))
        })
    }

    /// Gives a key the metadata that `judge` finds for it. Where the label over PKCS #11 was the display name, it follows.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key. It refuses what `judge` refuses.
    pub fn edit_key(
        &self,
        ring: RingId,
        id: Uuid,
        judge: impl FnOnce(&KeyMetadata) -> Result<KeyMetadata, Problem> + Send + 'static,
        entry: Entry,
    ) -> Decided<()> {
        self.writer.write(move |tx| {
            let mut row = key_of(tx, ring, id)?;
            if row.metadata.deletion_at.is_some() {
                return Ok(Err(deleted()));
            }
            let metadata = match judge(&row.metadata) {
                Ok(metadata) => metadata,
                Err(refused) => return Ok(Err(refused)),
            };
            let (before, after) = (row.metadata.display_name.as_deref(), metadata.display_name.as_deref());
            if before != after && before.map(str::as_bytes) == Some(row.label.as_slice()) {
                let label = after.unwrap_or_default().as_bytes().to_vec();
                follow(tx, &row, &label)?;
                row.label = label;
            }
            row.metadata = metadata;
            row.put(tx)?;
            forget_all(tx, id)?;
            tx.record(&entry)?;
            Ok(Ok(()))
        })
    }

    /// Deletes a wrapping key at once.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such wrapping key.
    pub fn delete_wrapping_key(&self, ring: RingId, id: Uuid, entry: Entry) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            let row = key_of(tx, ring, id)?;
            if row.metadata.wrapping.is_none() {
                return Err(StoreError::NotFound);
            }
            super::purge::erase_key(tx, row.id)?;
            tx.record(&entry)
        })
    }
}

/// Renames a key's objects with it: those that bear its label, and the older ones that bear it with their number.
fn follow(tx: &WriteTx<'_>, row: &KeyRow, label: &[u8]) -> Result<(), StoreError> {
    let sql = "SELECT id, version, label FROM objects WHERE key = ?1";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let found = statement.query_map([row.id], |found| {
        Ok((found.get::<_, u64>(0)?, found.get::<_, u32>(1)?, found.get::<_, Option<Vec<u8>>>(2)?))
    })?;
    for (id, number, worn) in found.collect::<Result<Vec<_>, _>>()? {
        let id = kms_protocol::ObjectId(id);
        if worn.as_deref() == Some(row.label.as_slice()) {
            rename(tx, id, label, Ends::AsBefore)?;
        } else if worn == Some(numbered(&row.label, number)) {
            rename(tx, id, &numbered(label, number), Ends::AsBefore)?;
        }
    }
    Ok(())
}

fn deleted() -> Problem {
    Problem::conflict("the key is deleted; restore it first")
}
