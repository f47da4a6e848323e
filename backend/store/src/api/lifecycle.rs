//! The lifecycle of keys and versions. Each step is decided inside the transaction that writes it, so that no decision
//! uses a state that another step has changed.

use kms_core::api::{Change, Life, Problem};
use kms_core::audit::Entry;
use kms_core::object::{Draft, KeyVersion, ck_date};
use kms_protocol::RingId;
use rusqlite::params;
use uuid::Uuid;

use super::{ApiResult, IdempotencyKey, KeyMetadata};
use crate::cache::Invalidation;
use crate::change;
use crate::key_rows::KeyRow;
use crate::rotation::{EndDate, objects_of, relabel, rename, versioned_label};
use crate::version_rows::{VERSION_COLUMNS, VersionRow};
use crate::writer::WriteTx;
use crate::{NewKey, Store, StoreError};

/// Returns a version as the transaction sees it.
fn version(tx: &WriteTx<'_>, version: KeyVersion) -> Result<VersionRow, StoreError> {
    let sql =
        format!("SELECT v.number, {VERSION_COLUMNS} FROM versions v WHERE v.key = ?1 AND v.number = ?2");
    let mut statement = tx.connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![version.key, version.number])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    VersionRow::read(row, 1, version, tx.key)
}

/// Returns a key of a ring as the transaction sees it.
fn key_of(tx: &WriteTx<'_>, ring: RingId, id: Uuid) -> Result<KeyRow, StoreError> {
    let row = change::key(tx, id.into_bytes())?;
    if row.ring == ring { Ok(row) } else { Err(StoreError::NotFound) }
}

/// Invalidates a key and the objects of all its versions in the cache.
fn invalidate_key(tx: &WriteTx<'_>, id: Uuid) -> Result<(), StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT id FROM objects WHERE key = ?1")?;
    let ids = statement.query_map([id.as_bytes()], |row| row.get::<_, u64>(0))?;
    for object in ids.collect::<Result<Vec<_>, _>>()? {
        tx.invalidate(Invalidation::Object(kms_protocol::ObjectId(object)));
    }
    tx.invalidate(Invalidation::Key(id));
    Ok(())
}

/// Sets whether a key's versions are withheld.
fn withhold(tx: &WriteTx<'_>, id: Uuid, withheld: bool) -> Result<(), StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT number FROM versions WHERE key = ?1")?;
    let numbers = statement.query_map([id.as_bytes()], |row| row.get::<_, u32>(0))?;
    for number in numbers.collect::<Result<Vec<_>, _>>()? {
        match version(tx, KeyVersion { key: id.into_bytes(), number }) {
            Ok(row) => VersionRow { withheld, ..row }.update(tx)?,
            // A row that was edited stays unchanged: it cannot be used anyway.
            Err(StoreError::RowInvalid { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    invalidate_key(tx, id)
}

impl Store {
    /// Stores a key of the REST API with its objects; without objects, it begins without a version.
    ///
    /// # Errors
    /// When the database fails. Rejects an idempotency key that was used with a different request.
    pub fn create_key(
        &self,
        new: NewKey,
        drafts: Vec<Draft>,
        idempotency: Option<IdempotencyKey>,
    ) -> ApiResult<Uuid> {
        self.writer.write(move |tx| {
            let id = Uuid::from_bytes(new.key);
            let at = new.created;
            match idempotency.as_ref().map(|key| key.earlier_result(tx)).transpose() {
                Err(rejection) => return rejection.map(Err),
                Ok(Some(Some(created))) => return Ok(Ok(created)),
                Ok(Some(None) | None) => {}
            }
            change::insert(tx, kms_protocol::RequestId::default(), new, drafts)?;
            idempotency.map_or(Ok(()), |key| key.record(tx, id, at))?;
            Ok(Ok(id))
        })
    }

    /// Changes the lifecycle state of a version; `at` is when it would be erased.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such version. Rejects a change that its state does not allow.
    pub fn change_version(
        &self,
        ring: RingId,
        id: KeyVersion,
        change: Change,
        (now, at): (u64, u64),
        entry: Entry,
    ) -> ApiResult<()> {
        self.writer.write(move |tx| {
            let key = key_of(tx, ring, Uuid::from_bytes(id.key))?;
            let row = version(tx, id)?;
            if key.metadata.deletion_at.is_some() {
                return Ok(Err(deleted()));
            }
            // A version that is due counts as erased, whether or not the background job has erased it.
            let life = match row.life().ok_or(StoreError::NotFound)? {
                Life::Leaving { disabled, at } if at <= now => Life::Erased { disabled, at },
                life @ (Life::Active | Life::Disabled | Life::Leaving { .. } | Life::Erased { .. }) => life,
            };
            let next = match life.after(change, at) {
                Ok(next) => next,
                Err(problem) => return Ok(Err(problem)),
            };
            if next != life {
                row.with_life(next).update(tx)?;
                for object in objects_of(tx.connection, id)? {
                    tx.invalidate(Invalidation::Object(object));
                }
                relabel(tx, &key, &ck_date(now))?;
            }
            tx.record(&entry)?;
            Ok(Ok(()))
        })
    }

    /// Schedules a key's deletion: none of its versions can be used.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key. Rejects one whose deletion is scheduled already.
    pub fn schedule_deletion(&self, ring: RingId, id: Uuid, at: u64, entry: Entry) -> ApiResult<()> {
        self.writer.write(move |tx| {
            let mut row = key_of(tx, ring, id)?;
            if row.metadata.deletion_at.is_some() {
                let message =
                    "the key's deletion is scheduled already; it can be restored until its deletionDate";
                return Ok(Err(Problem::malformed(message)));
            }
            row.metadata.deletion_at = Some(at);
            row.update(tx)?;
            withhold(tx, id, true)?;
            tx.record(&entry)?;
            Ok(Ok(()))
        })
    }

    /// Cancels a key's scheduled deletion.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key. Rejects one whose deletion is not scheduled.
    pub fn restore_key(&self, ring: RingId, id: Uuid, now: u64, entry: Entry) -> ApiResult<()> {
        self.writer.write(move |tx| {
            let mut row = key_of(tx, ring, id)?;
            // A key that is due counts as deleted, whether or not the background job has erased it.
            if row.metadata.deletion_at.is_some_and(|at| at <= now) {
                return Err(StoreError::NotFound);
            }
            if row.metadata.deletion_at.take().is_none() {
                let message = "the key is not deleted, so there is nothing to restore";
                return Ok(Err(Problem::conflict(message)));
            }
            row.update(tx)?;
            withhold(tx, id, false)?;
            tx.record(&entry)?;
            Ok(Ok(()))
        })
    }

    /// Sets a key's metadata to what `decide` returns. If the PKCS#11 label was the display name, it changes with it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key. Rejects what `decide` rejects.
    pub fn edit_key(
        &self,
        ring: RingId,
        id: Uuid,
        decide: impl FnOnce(&KeyMetadata) -> Result<KeyMetadata, Problem> + Send + 'static,
        entry: Entry,
    ) -> ApiResult<()> {
        self.writer.write(move |tx| {
            let mut row = key_of(tx, ring, id)?;
            if row.metadata.deletion_at.is_some() {
                return Ok(Err(deleted()));
            }
            let metadata = match decide(&row.metadata) {
                Ok(metadata) => metadata,
                Err(problem) => return Ok(Err(problem)),
            };
            let (before, after) = (row.metadata.display_name.as_deref(), metadata.display_name.as_deref());
            if before != after && before.map(str::as_bytes) == Some(row.label.as_slice()) {
                let label = after.unwrap_or_default().as_bytes().to_vec();
                relabel_objects(tx, &row, &label)?;
                row.label = label;
            }
            row.metadata = metadata;
            row.update(tx)?;
            invalidate_key(tx, id)?;
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

/// Changes the labels of a key's objects with the key's: those with its label, and older versions with their number.
fn relabel_objects(tx: &WriteTx<'_>, row: &KeyRow, label: &[u8]) -> Result<(), StoreError> {
    let sql = "SELECT id, version, label FROM objects WHERE key = ?1";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let found = statement.query_map([row.id], |found| {
        Ok((found.get::<_, u64>(0)?, found.get::<_, u32>(1)?, found.get::<_, Option<Vec<u8>>>(2)?))
    })?;
    for (id, number, current) in found.collect::<Result<Vec<_>, _>>()? {
        let id = kms_protocol::ObjectId(id);
        if current.as_deref() == Some(row.label.as_slice()) {
            rename(tx, id, label, EndDate::Keep)?;
        } else if current == Some(versioned_label(&row.label, number)) {
            rename(tx, id, &versioned_label(label, number), EndDate::Keep)?;
        }
    }
    Ok(())
}

fn deleted() -> Problem {
    Problem::conflict("the key is deleted; restore it first")
}
