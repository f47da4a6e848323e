//! Writes of rings, keys and objects, each as one job inside the writer's transaction.

use std::sync::Arc;

use kms_core::audit::Entry;
use kms_core::integrity::Cell;
use kms_core::object::{Draft, KeyVersion, Material, Object, Wrapped, ck_date};
use kms_protocol::{AttributeType, ObjectClass, ObjectId, RequestId, RingId, SLOTS_MAX, SlotId, Template};
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::api::projects;
use super::cache::Invalidation;
use super::capacity::Size;
use super::key_rows::{KEY_COLUMNS, KeyRow};
use super::object_rows::{OBJECT_COLUMNS, OBJECT_JOIN, ObjectRow, StoredObject, encode};
use super::rows::signed;
use super::version_rows::{State, VersionRow};
use super::writer::WriteTx;
use super::{NewKey, NewObject, NewRing, PinKind, Principal, Ring, StoreError, find, rotation};

/// How long a request is stored. A provider stops repeating one after seconds.
const REQUEST_SECONDS: i64 = 3600;

/// The maximum number of old requests deleted with each new one: enough to catch up with any backlog, too few to slow
/// the write.
const REQUESTS_DELETED_MAX: u32 = 16;

/// Creates a ring in the next free slot.
pub(super) fn insert_ring(tx: &WriteTx<'_>, new: &NewRing) -> Result<Ring, StoreError> {
    tx.check_disk()?;
    let count = |sql, label: &str| tx.connection.query_row(sql, [label], |row| row.get::<_, usize>(0));
    if count("SELECT count(*) FROM rings WHERE label = ?1", &new.label)? > 0 {
        return Err(StoreError::NameInUse(new.label.clone()));
    }
    if count("SELECT count(*) FROM rings WHERE ?1 IS NOT NULL", "")? >= SLOTS_MAX {
        return Err(StoreError::TooManyRings(SLOTS_MAX));
    }
    let slot = SlotId(allocate_numbers(tx, "slot", 1)?);
    // A caller that requires a slot gets that one or none: another caller may have taken it.
    if new.slot.is_some_and(|required| required != slot) {
        return Err(StoreError::NotFound);
    }
    let (label, metadata) = (new.label.clone(), new.metadata.clone());
    let ring = Ring { slot, id: new.id, label, policy: new.policy, created: new.created, epoch: 0, metadata };
    projects::check_clock(tx, new.created)?;
    projects::require(tx, ring.metadata.project)?;
    ring.insert(tx)?;
    for principal in &new.principals {
        principal.put(ring.id, tx)?;
        tx.invalidate(Invalidation::Principal(ring.id, principal.name.clone()));
    }
    record(tx, new.entry.as_ref())?;
    tx.invalidate(Invalidation::Rings);
    Ok(ring)
}

/// Stores a new key with its objects; or returns what the same request created before.
pub(super) fn insert(
    tx: &WriteTx<'_>,
    request: RequestId,
    new: NewKey,
    drafts: Vec<Draft>,
) -> Result<Vec<Arc<Object>>, StoreError> {
    if let Some(objects) = earlier_result(tx, new.ring, request)? {
        return Ok(objects);
    }
    let count = u64::try_from(drafts.len()).expect("a key has few objects");
    let size = Size { keys: 1, ..size_of_version(new.wrapped.as_ref(), &drafts)? };
    tx.reserve(new.ring, &size)?;
    let first = allocate_numbers(tx, "object", count)?;
    let (ring, created, metadata) = (new.ring, signed(new.created), new.metadata);
    KeyRow { id: new.key, ring, label: new.label, algorithm: new.algorithm, created, metadata }.insert(tx)?;
    let version = KeyVersion { key: new.key, number: 1 };
    // An import-only key begins without a version.
    if !drafts.is_empty() {
        VersionRow::new(version, new.wrapped.clone(), created).insert(tx)?;
    }
    let mut objects = Vec::with_capacity(drafts.len());
    for (id, Draft { attributes, .. }) in (first..).map(ObjectId).zip(drafts) {
        let encoded = encode(&attributes)?;
        ObjectRow::of((id, ring, Some(version)), &attributes, &encoded, created).insert(tx)?;
        let material = match &new.wrapped {
            Some(wrapped) if has_material(&attributes) => Material::Wrapped(wrapped.clone()),
            Some(_) | None => Material::None,
        };
        objects.push(Arc::new(Object { id: Some(id), ring, version: Some(version), attributes, material }));
    }
    record_request(tx, (ring, request), first, count, created)?;
    record(tx, new.entry.as_ref())?;
    Ok(objects)
}

/// Returns the size of a version's row and its objects.
pub(super) fn size_of_version(wrapped: Option<&Wrapped>, drafts: &[Draft]) -> Result<Size, StoreError> {
    let mut bytes = wrapped.map_or(0, |wrapped| wrapped.bytes.len());
    for draft in drafts {
        bytes += encode(&draft.attributes)?.len();
    }
    let objects = length(drafts.len());
    Ok(Size { keys: 0, versions: u64::from(objects > 0), objects, bytes: length(bytes) })
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Stores an object that is not a key, or a public key without a private key; or returns what the same request created
/// before.
pub(super) fn insert_object(
    tx: &WriteTx<'_>,
    request: RequestId,
    new: NewObject,
    draft: Draft,
) -> Result<Arc<Object>, StoreError> {
    if let Some(objects) = earlier_result(tx, new.ring, request)? {
        return objects.into_iter().next().ok_or(StoreError::NotFound);
    }
    let (ring, created, attributes) = (new.ring, signed(new.created), draft.attributes);
    let encoded = encode(&attributes)?;
    let value = new.value.as_ref().map_or(0, |value| value.bytes.len());
    let size = Size { objects: 1, bytes: length(encoded.len() + value), ..Size::default() };
    tx.reserve(ring, &size)?;
    let id = ObjectId(allocate_numbers(tx, "object", 1)?);
    let row = ObjectRow::of((id, ring, None), &attributes, &encoded, created);
    ObjectRow { wrapped: new.value.clone(), ..row }.insert(tx)?;
    record_request(tx, (ring, request), id.0, 1, created)?;
    record(tx, new.entry.as_ref())?;
    let material = new.value.map_or(Material::None, Material::Wrapped);
    Ok(Arc::new(Object { id: Some(id), ring, version: None, attributes, material }))
}

/// Writes an object's new attributes. `decide` sees the object inside this transaction, so a concurrent change cannot
/// reverse a one-way attribute (`CKA_SENSITIVE`).
pub(super) fn update<E>(
    tx: &WriteTx<'_>,
    ring: RingId,
    id: ObjectId,
    decide: impl FnOnce(&Object) -> Result<Template, E>,
) -> Result<Result<Arc<Object>, E>, StoreError> {
    let stored = load(tx, id)?;
    if !stored.is_visible() || stored.object.ring != ring {
        return Err(StoreError::NotFound);
    }
    let attributes = match decide(&stored.object) {
        Ok(attributes) => attributes,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let encoded = encode(&attributes)?;
    let before = encode(&stored.object.attributes)?;
    if encoded.len() > before.len() {
        let size = Size { bytes: length(encoded.len() - before.len()), ..Size::default() };
        tx.reserve(ring, &size)?;
    }
    let version = stored.object.version;
    let row = ObjectRow::of((id, ring, version), &attributes, &encoded, stored.created);
    ObjectRow { wrapped: stored.value, ..row }.update(tx)?;
    let label = attributes.bytes(AttributeType::LABEL).unwrap_or_default();
    if let Some(version) = version
        && has_material(&attributes)
        && stored.object.attributes.bytes(AttributeType::LABEL) != Some(label)
    {
        // The key has the label of its current version.
        let row = key(tx, version.key)?;
        if stored.object.attributes.bytes(AttributeType::LABEL).unwrap_or_default() == row.label {
            KeyRow { label: label.to_vec(), ..row }.update(tx)?;
        }
        tx.invalidate(Invalidation::Key(Uuid::from_bytes(version.key)));
    }
    tx.invalidate(Invalidation::Object(id));
    Ok(Ok(Arc::new(Object { attributes, ..stored.object })))
}

/// Fills in the column `private` of some objects after `last` that lack it. Returns the last one, or none if there are no
/// more.
pub(super) fn mark_private_objects(tx: &WriteTx<'_>, last: ObjectId) -> Result<Option<ObjectId>, StoreError> {
    let sql = "SELECT id FROM objects INDEXED BY objects_unmarked WHERE private IS NULL AND id > ?1 ORDER BY id LIMIT 500";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let ids = statement.query_map([signed(last.0)], |row| row.get::<_, u64>(0))?;
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    for id in &ids {
        let stored = match load(tx, ObjectId(*id)) {
            Ok(stored) => stored,
            // A row that was edited must not get a MAC that is valid.
            Err(StoreError::NotFound | StoreError::RowInvalid { .. }) => continue,
            Err(error) => return Err(error),
        };
        let encoded = encode(&stored.object.attributes)?;
        let identity = (ObjectId(*id), stored.object.ring, stored.object.version);
        let row = ObjectRow::of(identity, &stored.object.attributes, &encoded, stored.created);
        ObjectRow { destroy_at: stored.destroy_at, wrapped: stored.value, ..row }.update(tx)?;
    }
    Ok(ids.last().copied().map(ObjectId))
}

/// Hides an object from applications until it is erased at `at`; returns the objects that were hidden. A secret or
/// private key hides all objects of its version. A public key is hidden alone: its private key continues to sign. An
/// object that belongs to no key is deleted.
pub(super) fn schedule_destruction(
    tx: &WriteTx<'_>,
    (ring, request): (RingId, RequestId),
    id: ObjectId,
    (now, at): (u64, u64),
) -> Result<Vec<ObjectId>, StoreError> {
    let stored = load(tx, id)?;
    if stored.object.ring != ring {
        return Err(StoreError::NotFound);
    }
    if !stored.is_visible() {
        return if stored.is_destruction_scheduled() { Ok(Vec::new()) } else { Err(StoreError::NotFound) };
    }
    // A deleted object leaves no row; the stored request shows, when it is repeated, that the object was deleted.
    if stored.version.is_none() {
        record_request(tx, (ring, request), id.0, 0, signed(now))?;
    }
    let of_version = stored.version.as_ref().map(|version| version.version.key);
    let hidden = hide(tx, stored, at)?;
    if let Some(key_id) = of_version {
        rotation::relabel(tx, &key(tx, key_id)?, &ck_date(now))?;
    }
    for id in &hidden {
        tx.invalidate(Invalidation::Object(*id));
    }
    Ok(hidden)
}

/// Hides a visible object, without the changes that follow from it.
fn hide(tx: &WriteTx<'_>, stored: StoredObject, at: u64) -> Result<Vec<ObjectId>, StoreError> {
    let destroy_at = Some(signed(at));
    let is_public = stored.object.class() == Some(ObjectClass::PUBLIC_KEY);
    let id = stored.object.id.ok_or(StoreError::NotFound)?;
    match stored.version {
        None => {
            tx.delete_one(ObjectRow::TABLE, &[("id", Cell::Integer(signed(id.0)))])?;
            tx.released(stored.object.ring);
            Ok(vec![id])
        }
        Some(version) if !is_public || version.wrapped.is_none() => {
            let id = version.version;
            VersionRow { state: State::DestructionScheduled.number(), destroy_at, ..version }.update(tx)?;
            let sql = "SELECT id FROM objects WHERE key = ?1 AND version = ?2";
            let mut statement = tx.connection.prepare_cached(sql)?;
            let ids = statement.query_map(params![id.key, id.number], |row| row.get::<_, u64>(0))?;
            Ok(ids.map(|id| id.map(ObjectId)).collect::<Result<Vec<_>, _>>()?)
        }
        Some(_) => {
            let encoded = encode(&stored.object.attributes)?;
            let identity = (id, stored.object.ring, stored.object.version);
            let row = ObjectRow::of(identity, &stored.object.attributes, &encoded, stored.created);
            ObjectRow { destroy_at, ..row }.update(tx)?;
            Ok(vec![id])
        }
    }
}

/// Empties a ring and changes its label: hides all its objects and removes its user's PIN. Returns the hidden objects.
pub(super) fn clear_ring(
    tx: &WriteTx<'_>,
    ring: RingId,
    label: &str,
    at: u64,
) -> Result<Vec<ObjectId>, StoreError> {
    let sql = "SELECT count(*) FROM rings WHERE label = ?1 AND id != ?2";
    if tx.connection.query_row(sql, params![label, ring.0], |row| row.get::<_, u64>(0))? > 0 {
        return Err(StoreError::NameInUse(label.to_owned()));
    }
    let (rings, _) = find::rings(tx.connection, tx.key)?;
    let found = rings.list().into_iter().find(|known| known.id == ring).ok_or(StoreError::NotFound)?;
    let mut statement = tx.connection.prepare_cached("SELECT id FROM objects WHERE ring = ?1 ORDER BY id")?;
    let ids = statement.query_map([ring.0], |row| row.get::<_, u64>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut hidden = Vec::new();
    for id in ids {
        match load(tx, ObjectId(id)) {
            // Hidden with another object of its version, or before.
            Ok(stored) if !stored.is_visible() => {}
            Ok(stored) => hidden.extend(hide(tx, stored, at)?),
            // Not visible: deleted meanwhile, or a row that was edited.
            Err(StoreError::NotFound | StoreError::RowInvalid { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // Session objects of the ring end, public ones and those of other principals too.
    Ring { label: label.to_owned(), epoch: found.epoch + 1, ..found }.update(tx)?;
    if let Some(user) = find::principal(tx.connection, tx.key, ring, Principal::USER)? {
        let generation = user.generation + 1;
        Principal::new(user.name, user.ring_role, String::new(), PinKind::Plain, generation).put(ring, tx)?;
    }
    tx.invalidate(Invalidation::All);
    Ok(hidden)
}

/// Appends the audit entry of a change, if it has one.
pub(super) fn record(tx: &WriteTx<'_>, entry: Option<&Entry>) -> Result<(), StoreError> {
    entry.map_or(Ok(()), |entry| tx.record(entry))
}

/// The counters, each with the query for the highest number in use.
const COUNTERS: [(&str, &str); 2] =
    [("slot", "SELECT max(slot) FROM rings"), ("object", "SELECT max(id) FROM objects")];

/// Allocates the next `count` numbers of a counter; returns the first.
///
/// # Errors
/// [`StoreError::CounterBehind`] when the number is in use: what bears it is never replaced.
pub(super) fn allocate_numbers(tx: &WriteTx<'_>, name: &'static str, count: u64) -> Result<u64, StoreError> {
    let mut statement = tx.connection.prepare_cached("SELECT next FROM counters WHERE name = ?1")?;
    let next: u64 = statement.query_row([name], |row| row.get(0))?;
    let (_, sql) = COUNTERS.iter().find(|(known, _)| *known == name).ok_or(StoreError::NotFound)?;
    let highest: Option<i64> = tx.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    if highest.is_some_and(|highest| highest >= signed(next)) {
        return Err(StoreError::CounterBehind { name, next });
    }
    let after = Cell::Integer(signed(next.saturating_add(count)));
    tx.update("counters", &[("name", Cell::Text(name))], &[("next", after)])?;
    Ok(next)
}

/// Returns what a request created, if it is a repetition.
fn earlier_result(
    tx: &WriteTx<'_>,
    ring: RingId,
    request: RequestId,
) -> Result<Option<Vec<Arc<Object>>>, StoreError> {
    let sql = "SELECT first, count FROM requests WHERE ring = ?1 AND id = ?2";
    let mut statement = tx.connection.prepare_cached(sql)?;
    let found = statement.query_row(params![ring.0, request.0], |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((first, count)): Option<(u64, u64)> = found.optional()? else { return Ok(None) };
    let load = |id| {
        let stored = load(tx, ObjectId(id))?;
        let visible = stored.is_visible() && stored.object.ring == ring;
        if visible { Ok(Arc::new(stored.object)) } else { Err(StoreError::NotFound) }
    };
    (first..first.saturating_add(count)).map(load).collect::<Result<_, _>>().map(Some)
}

/// Stores what a request created, and deletes some old requests.
fn record_request(
    tx: &WriteTx<'_>,
    (ring, request): (RingId, RequestId),
    first: u64,
    count: u64,
    created: i64,
) -> Result<(), StoreError> {
    // An API whose requests are not repeated passes no request id.
    if request == RequestId::default() {
        return Ok(());
    }
    let columns = [
        ("ring", Cell::Bytes(&ring.0)),
        ("id", Cell::Bytes(&request.0)),
        ("first", Cell::Integer(signed(first))),
        ("count", Cell::Integer(signed(count))),
        ("made", Cell::Integer(created)),
    ];
    tx.insert("requests", &columns)?;
    let old = "(ring, id) IN (SELECT ring, id FROM requests WHERE made < ?1 ORDER BY made LIMIT ?2)";
    tx.delete_where("requests", old, params![created - REQUEST_SECONDS, REQUESTS_DELETED_MAX])?;
    Ok(())
}

/// Returns an object as the transaction sees it.
pub(super) fn load(tx: &WriteTx<'_>, id: ObjectId) -> Result<StoredObject, StoreError> {
    let sql = format!("SELECT {OBJECT_COLUMNS} FROM objects o {OBJECT_JOIN} WHERE o.id = ?1");
    let mut statement = tx.connection.prepare_cached(&sql)?;
    let mut rows = statement.query([signed(id.0)])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    StoredObject::read(row, tx.key)
}

/// Returns a key as the transaction sees it.
pub(super) fn key(tx: &WriteTx<'_>, id: [u8; 16]) -> Result<KeyRow, StoreError> {
    let sql = format!("SELECT {KEY_COLUMNS} FROM keys WHERE id = ?1");
    let mut statement = tx.connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    KeyRow::read(row, tx.key)
}

/// Whether the object holds the version's material: public keys do not.
pub(super) fn has_material(attributes: &Template) -> bool {
    matches!(attributes.class(), Some(ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY))
}
