//! The next version of a key, written as one job inside the writer's transaction.
//!
//! The label follows the current version (architecture, "Objects"): a search by label finds the new one alone, and the
//! older ones go on under `label#<number>` and their own `CKA_ID`.

use std::sync::Arc;

use kms_protocol::{Attribute, AttributeType, ObjectId};
use rusqlite::params;

use super::cache::Stale;
use super::change::{has_material, key, load, numbers};
use super::object_rows::{ObjectRow, State, VersionRow, encode};
use super::rows::signed;
use super::writer::Desk;
use super::{NextVersion, StoreError};
use crate::object::{Draft, KeyVersion, Material, Object};

/// The number of a key's newest version, whatever its state.
pub(super) fn newest(connection: &rusqlite::Connection, key: [u8; 16]) -> Result<u32, StoreError> {
    let sql = "SELECT max(number) FROM versions WHERE key = ?1";
    let number: Option<u32> = connection.prepare_cached(sql)?.query_row([key], |row| row.get(0))?;
    number.ok_or(StoreError::NotFound)
}

/// The numbers of the objects of one version.
pub(super) fn objects_of(
    connection: &rusqlite::Connection,
    version: KeyVersion,
) -> Result<Vec<ObjectId>, StoreError> {
    let sql = "SELECT id FROM objects WHERE key = ?1 AND version = ?2 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let ids = statement.query_map(params![version.key, version.number], |row| row.get::<_, u64>(0))?;
    Ok(ids.map(|id| id.map(ObjectId)).collect::<Result<Vec<_>, _>>()?)
}

/// Makes the next version current.
pub(super) fn rotate(
    desk: &Desk<'_>,
    next: NextVersion,
    drafts: Vec<Draft>,
) -> Result<Vec<Arc<Object>>, StoreError> {
    let before = KeyVersion { number: next.version.number.saturating_sub(1), ..next.version };
    // Somebody else was faster: what was wrapped is bound to a number that is taken.
    if newest(desk.connection, next.version.key)? != before.number {
        return Err(StoreError::NotFound);
    }
    let row = key(desk, next.version.key)?;
    for id in objects_of(desk.connection, before)? {
        step_back(desk, id, before.number, &next.today)?;
    }
    let (version, created, wrapped) = (next.version, signed(next.created), Some(next.wrapped.clone()));
    let (state, protection) = (State::Active.number(), super::change::SOFTWARE);
    VersionRow { version, state, destroy_at: None, protection, wrapped, created }.put(desk)?;
    let count = u64::try_from(drafts.len()).expect("a key has few objects");
    let first = numbers(desk, "object", count)?;
    let mut made = Vec::with_capacity(drafts.len());
    for (id, Draft { attributes, .. }) in (first..).map(ObjectId).zip(drafts) {
        let encoded = encode(&attributes)?;
        ObjectRow::of((id, row.ring, Some(version)), &attributes, &encoded, created).put(desk)?;
        let material = match has_material(&attributes) {
            true => Material::Wrapped(next.wrapped.clone()),
            false => Material::None,
        };
        let (id, version) = (Some(id), Some(version));
        made.push(Arc::new(Object { id, ring: row.ring, version, attributes, material }));
    }
    Ok(made)
}

/// Renames an object of the version that was current until now.
fn step_back(desk: &Desk<'_>, id: ObjectId, number: u32, today: &[u8; 8]) -> Result<(), StoreError> {
    let stored = load(desk, id)?;
    let mut attributes = stored.object.attributes.clone();
    let mut label = attributes.bytes(AttributeType::LABEL).unwrap_or_default().to_vec();
    label.extend_from_slice(format!("#{number}").as_bytes());
    attributes.set(Attribute::bytes(AttributeType::LABEL, label));
    if attributes.bytes(AttributeType::END_DATE).unwrap_or_default().is_empty() {
        attributes.set(Attribute::bytes(AttributeType::END_DATE, today.as_slice()));
    }
    let encoded = encode(&attributes)?;
    let name = (id, stored.object.ring, stored.object.version);
    let row = ObjectRow::of(name, &attributes, &encoded, stored.created);
    ObjectRow { destroy_at: stored.destroy_at, wrapped: stored.value, ..row }.put(desk)?;
    desk.forget(Stale::Object(id));
    Ok(())
}
