//! Queries: rings, principals, objects, listings, and the search by attributes.

use std::sync::Arc;

use kms_core::integrity::RowKey;
use kms_core::object::Object;
use kms_protocol::{AttributeType, ObjectId, RingId, Template};
use rusqlite::types::Value;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::api::projects;
use super::cache::Rings;
use super::key_rows::{KEY_COLUMNS, KEY_COLUMNS_COUNT, KeyRow};
use super::object_rows::{OBJECT_COLUMNS, OBJECT_JOIN, StoredObject};
use super::rows::{PRINCIPAL_COLUMNS, RING_COLUMNS, signed};
use super::version_rows::State;
use super::{KeySummary, Principal, Ring, StoreError};

/// One page of a search as the database returns it.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The rows that can be read, visible or not.
    pub(super) stored: Vec<StoredObject>,
    /// The errors of the rows that cannot.
    pub(super) unreadable: Vec<StoreError>,
    /// The last object of this page, if it is full: the next page begins after it.
    pub(super) next: Option<ObjectId>,
}

/// The condition of a search that an index serves; the rest of the template is compared afterwards.
#[derive(Debug)]
pub(super) struct IndexFilter {
    index: &'static str,
    condition: &'static str,
    value: Value,
    public_only: bool,
}

impl IndexFilter {
    /// Chooses the most selective index: a label or an id is nearly unique to a key, a class is not.
    ///
    /// With `public_only`, private objects are left out before their rows are read.
    pub(super) fn by(template: &Template, public_only: bool) -> Self {
        if let Some(label) = template.bytes(AttributeType::LABEL) {
            return Self {
                index: "objects_by_label",
                condition: "o.label = ?2",
                value: Value::Blob(label.to_vec()),
                public_only,
            };
        }
        if let Some(id) = template.bytes(AttributeType::ID) {
            return Self {
                index: "objects_by_ckid",
                condition: "o.ckid = ?2",
                value: Value::Blob(id.to_vec()),
                public_only,
            };
        }
        if public_only {
            let (index, condition) = ("objects_public", "?2 IS NULL");
            return Self { index, condition, value: Value::Null, public_only };
        }
        if let Some(class) = template.ulong(AttributeType::CLASS) {
            return Self {
                index: "objects_by_class",
                condition: "o.class = ?2",
                value: Value::Integer(signed(class)),
                public_only,
            };
        }
        Self { index: "objects_by_ring", condition: "?2 IS NULL", value: Value::Null, public_only }
    }

    /// Returns the query; its parameters are ring, value, the object before the page, and the page's size. The index
    /// also gives the order.
    pub(super) fn sql(&self) -> String {
        let Self { index, condition, public_only, .. } = self;
        let public = if *public_only { "AND o.private IS NOT 1 " } else { "" };
        format!(
            "SELECT {OBJECT_COLUMNS} FROM objects o INDEXED BY {index} {OBJECT_JOIN} \
             WHERE o.ring = ?1 AND {condition} {public}AND o.id > ?3 ORDER BY o.id LIMIT ?4"
        )
    }
}

/// Returns one page of the objects that a template may match.
pub(super) fn page(
    connection: &Connection,
    key: &RowKey,
    ring: RingId,
    filter: &IndexFilter,
    (after, limit): (Option<ObjectId>, usize),
) -> Result<Page, StoreError> {
    let mut statement = connection.prepare_cached(&filter.sql())?;
    let after = after.map_or(-1, |after| signed(after.0));
    let mut rows = statement.query(params![ring.0, filter.value, after, limit])?;
    let mut page = Page::default();
    let (mut last, mut count) = (None, 0);
    while let Some(row) = rows.next()? {
        last = Some(ObjectId(row.get(0)?));
        count += 1;
        match StoredObject::read(row, key) {
            Ok(stored) => page.stored.push(stored),
            Err(error @ StoreError::RowInvalid { .. }) => page.unreadable.push(error),
            Err(error) => return Err(error),
        }
    }
    page.next = last.filter(|_| count == limit);
    Ok(page)
}

/// Returns one object, visible or not.
pub(super) fn object(
    connection: &Connection,
    key: &RowKey,
    id: ObjectId,
) -> Result<StoredObject, StoreError> {
    let sql = format!("SELECT {OBJECT_COLUMNS} FROM objects o {OBJECT_JOIN} WHERE o.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([signed(id.0)])?;
    StoredObject::read(rows.next()?.ok_or(StoreError::NotFound)?, key)
}

/// Returns the object if it is visible to applications.
pub(super) fn visible(stored: StoredObject) -> Result<Arc<Object>, StoreError> {
    if stored.is_visible() { Ok(Arc::new(stored.object)) } else { Err(StoreError::NotFound) }
}

/// Returns all rings that can be read and whose project is there, and the errors of the others.
pub(super) fn rings(connection: &Connection, key: &RowKey) -> Result<(Rings, Vec<StoreError>), StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {RING_COLUMNS} FROM rings"))?;
    let (mut rings, mut unreadable) = (Vec::new(), Vec::new());
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match Ring::read(row, key) {
            Ok(ring) => rings.push(ring),
            Err(error @ StoreError::RowInvalid { .. }) => unreadable.push(error),
            Err(error) => return Err(error),
        }
    }
    let (projects, errors) = projects::all(connection, key)?;
    unreadable.splice(0..0, errors);
    rings.retain(|ring| {
        let is_known = projects.iter().any(|project| project.id == ring.metadata.project);
        if !is_known {
            let (ring, project) = (Uuid::from_bytes(ring.id.0), ring.metadata.project);
            let (ring, project) = (ring.to_string(), project.to_string());
            unreadable.push(StoreError::ProjectMissing { ring, project });
        }
        is_known
    });
    Ok((Rings::new(rings, projects), unreadable))
}

/// Returns a principal of a ring, if one has that name.
pub(super) fn principal(
    connection: &Connection,
    key: &RowKey,
    ring: RingId,
    name: &str,
) -> Result<Option<Principal>, StoreError> {
    let sql = format!("SELECT {PRINCIPAL_COLUMNS} FROM principals WHERE ring = ?1 AND name = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![ring.0, name])?;
    rows.next()?.map(|row| Principal::read(row, key)).transpose()
}

/// Counts the keys of a ring that are neither destroyed nor scheduled for destruction.
pub(super) fn count_keys(connection: &Connection, ring: RingId) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM keys k WHERE k.ring = ?1 \
               AND EXISTS (SELECT 1 FROM versions v WHERE v.key = k.id AND v.state <= ?2)";
    let values = params![ring.0, State::Disabled.number()];
    Ok(connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
}

/// Returns the keys of a ring, the oldest first, and the errors of those that cannot be read.
pub(super) fn keys(
    connection: &Connection,
    key: &RowKey,
    ring: RingId,
) -> Result<(Vec<KeySummary>, Vec<StoreError>), StoreError> {
    let sql = format!(
        "SELECT {KEY_COLUMNS}, (SELECT count(*) FROM versions v WHERE v.key = keys.id), \
         (SELECT min(v.state) FROM versions v WHERE v.key = keys.id) \
         FROM keys WHERE ring = ?1 ORDER BY created, id"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let (mut keys, mut unreadable) = (Vec::new(), Vec::new());
    let mut rows = statement.query([ring.0])?;
    while let Some(row) = rows.next()? {
        match KeyRow::read(row, key) {
            Ok(KeyRow { id, label, algorithm, created, .. }) => {
                let versions = row.get(KEY_COLUMNS_COUNT)?;
                let state = state_name(row.get(KEY_COLUMNS_COUNT + 1)?).to_owned();
                let created = u64::try_from(created).unwrap_or(0);
                keys.push(KeySummary { id, label, algorithm, versions, state, created });
            }
            Err(error @ StoreError::RowInvalid { .. }) => unreadable.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((keys, unreadable))
}

/// The name of a key's state: that of its most usable version.
fn state_name(state: Option<i64>) -> &'static str {
    match state.and_then(State::of) {
        Some(State::Active) => "active",
        Some(State::Disabled) => "disabled",
        Some(State::DestructionScheduled | State::Destroyed) | None => "destroyed",
    }
}
