//! The next version of a key, written as one job inside the writer's transaction.
//!
//! The current version has the key's label (architecture, "Objects"): a search by label finds it alone, and older
//! versions are found by `label#<number>` and their own `CKA_ID`.

use std::sync::Arc;

use kms_core::object::{Draft, KeyVersion, Material, Object};
use kms_protocol::{Attribute, AttributeType, ObjectId};
use rusqlite::params;
use uuid::Uuid;

use super::cache::Invalidation;
use super::change::{allocate_numbers, has_material, key, load, record, size_of_version};
use super::key_rows::KeyRow;
use super::object_rows::{ObjectRow, encode};
use super::rows::signed;
use super::version_rows::{State, VersionRow};
use super::writer::WriteTx;
use super::{NextVersion, StoreError};

/// A day, in seconds.
const DAY_SECONDS: u64 = 24 * 3600;

/// Returns the number of a key's newest version, in any state; 0 if it has none.
pub(super) fn newest(connection: &rusqlite::Connection, key: [u8; 16]) -> Result<u32, StoreError> {
    let sql = "SELECT max(number) FROM versions WHERE key = ?1";
    let number: Option<u32> = connection.prepare_cached(sql)?.query_row([key], |row| row.get(0))?;
    Ok(number.unwrap_or(0))
}

/// Returns the ids of the objects of one version.
pub(super) fn objects_of(
    connection: &rusqlite::Connection,
    version: KeyVersion,
) -> Result<Vec<ObjectId>, StoreError> {
    let sql = "SELECT id FROM objects WHERE key = ?1 AND version = ?2 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let ids = statement.query_map(params![version.key, version.number], |row| row.get::<_, u64>(0))?;
    Ok(ids.map(|id| id.map(ObjectId)).collect::<Result<Vec<_>, _>>()?)
}

/// Stores the next version and makes it current; also the first version of a key that was created without one.
pub(super) fn rotate(
    tx: &WriteTx<'_>,
    next: NextVersion,
    drafts: Vec<Draft>,
) -> Result<Vec<Arc<Object>>, StoreError> {
    // A concurrent rotation took the number that this wrapped material is bound to.
    if newest(tx.connection, next.version.key)? != next.version.number.saturating_sub(1) {
        return Err(StoreError::NotFound);
    }
    let mut row = key(tx, next.version.key)?;
    if row.metadata.deletion_at.is_some() {
        return Err(StoreError::NotFound);
    }
    tx.reserve(row.ring, &size_of_version(Some(&next.wrapped), &drafts)?)?;
    let (version, created, wrapped) = (next.version, signed(next.created), Some(next.wrapped.clone()));
    VersionRow::new(version, wrapped, created).insert(tx)?;
    let count = u64::try_from(drafts.len()).expect("a key has few objects");
    let first = allocate_numbers(tx, "object", count)?;
    let mut objects = Vec::with_capacity(drafts.len());
    for (id, Draft { mut attributes, .. }) in (first..).map(ObjectId).zip(drafts) {
        attributes.set(Attribute::bytes(AttributeType::LABEL, row.label.as_slice()));
        let encoded = encode(&attributes)?;
        ObjectRow::of((id, row.ring, Some(version)), &attributes, &encoded, created).insert(tx)?;
        let material = match has_material(&attributes) {
            true => Material::Wrapped(next.wrapped.clone()),
            false => Material::None,
        };
        let (id, version) = (Some(id), Some(version));
        objects.push(Arc::new(Object { id, ring: row.ring, version, attributes, material }));
    }
    relabel(tx, &row, &next.today)?;
    if let Some(days) = row.metadata.rotation_days {
        row.metadata.rotate_at = Some(next.created.saturating_add(u64::from(days) * DAY_SECONDS));
        row.update(tx)?;
    }
    record(tx, next.entry.as_ref())?;
    Ok(objects)
}

/// Sets the key's label on the objects of its current version, the highest visible one, and on no others.
pub(super) fn relabel(tx: &WriteTx<'_>, row: &KeyRow, today: &[u8; 8]) -> Result<(), StoreError> {
    tx.invalidate(Invalidation::Key(Uuid::from_bytes(row.id)));
    let sql = "SELECT max(number) FROM versions WHERE key = ?1 AND state = ?2 AND withheld IS NULL";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let values = params![row.id, State::Active.number()];
    let Some(current) = statement.query_row(values, |found| found.get::<_, Option<u32>>(0))? else {
        return Ok(());
    };
    let sql = "SELECT id, version FROM objects WHERE ring = ?1 AND label = ?2 AND key = ?3 AND version != ?4";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let values = params![row.ring.0, row.label, row.id, current];
    let found = statement.query_map(values, |found| Ok((found.get::<_, u64>(0)?, found.get(1)?)))?;
    for (id, number) in found.collect::<Result<Vec<_>, _>>()? {
        rename(tx, ObjectId(id), &versioned_label(&row.label, number), EndDate::Set(today))?;
    }
    for id in objects_of(tx.connection, KeyVersion { key: row.id, number: current })? {
        if load(tx, id)?.object.attributes.bytes(AttributeType::LABEL)
            == Some(&versioned_label(&row.label, current))
        {
            rename(tx, id, &row.label, EndDate::Clear)?;
        }
    }
    Ok(())
}

/// Returns the label of an older version.
pub(super) fn versioned_label(label: &[u8], number: u32) -> Vec<u8> {
    [label, format!("#{number}").as_bytes()].concat()
}

/// The change of an object's `CKA_END_DATE`, the day on which its version ceased to be current.
#[derive(Clone, Copy, Debug)]
pub(super) enum EndDate<'a> {
    /// Set to this day, unless a date is set.
    Set(&'a [u8; 8]),
    /// Removed: the version is current.
    Clear,
    /// Unchanged.
    Keep,
}

/// Changes an object's label and end date.
pub(super) fn rename(
    tx: &WriteTx<'_>,
    id: ObjectId,
    label: &[u8],
    end_date: EndDate<'_>,
) -> Result<(), StoreError> {
    let stored = load(tx, id)?;
    let mut attributes = stored.object.attributes.clone();
    attributes.set(Attribute::bytes(AttributeType::LABEL, label));
    let has_end_date = !attributes.bytes(AttributeType::END_DATE).unwrap_or_default().is_empty();
    match end_date {
        EndDate::Set(day) if !has_end_date => {
            attributes.set(Attribute::bytes(AttributeType::END_DATE, day.as_slice()));
        }
        EndDate::Set(_) | EndDate::Keep => {}
        EndDate::Clear => attributes.set(Attribute::bytes(AttributeType::END_DATE, Vec::new())),
    }
    let encoded = encode(&attributes)?;
    let identity = (id, stored.object.ring, stored.object.version);
    let row = ObjectRow::of(identity, &attributes, &encoded, stored.created);
    ObjectRow { destroy_at: stored.destroy_at, wrapped: stored.value, ..row }.update(tx)?;
    tx.invalidate(Invalidation::Object(id));
    Ok(())
}
