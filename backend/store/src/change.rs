//! What is written, each as one job inside the writer's transaction.

use std::sync::Arc;

use kms_core::audit::Entry;
use kms_core::object::{Draft, KeyVersion, Material, Object, day_of};
use kms_protocol::{AttributeType, ObjectClass, ObjectId, RequestId, RingId, SLOTS_MAX, SlotId, Template};
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::cache::Stale;
use super::key_rows::{KEY_COLUMNS, KeyRow};
use super::object_rows::{OBJECT_COLUMNS, OBJECT_JOIN, ObjectRow, Stored, encode};
use super::rows::signed;
use super::version_rows::{State, VersionRow};
use super::writer::WriteTx;
use super::{NewKey, NewObject, NewRing, Principal, Ring, StoreError, find, rotation};

/// How long a request is remembered. A provider gives up repeating one after seconds.
const REQUEST_SECONDS: i64 = 3600;

/// Requests forgotten with each new one, at most: enough to catch up with any number, too few to be felt.
const REQUESTS_FORGOTTEN: u32 = 16;

/// Makes a ring in the next free slot.
pub(super) fn insert_ring(tx: &WriteTx<'_>, new: &NewRing) -> Result<Ring, StoreError> {
    let count = |sql, label: &str| tx.connection.query_row(sql, [label], |row| row.get::<_, usize>(0));
    if count("SELECT count(*) FROM rings WHERE label = ?1", &new.label)? > 0 {
        return Err(StoreError::Taken(new.label.clone()));
    }
    if count("SELECT count(*) FROM rings WHERE ?1 IS NOT NULL", "")? >= SLOTS_MAX {
        return Err(StoreError::TooManyRings(SLOTS_MAX));
    }
    let slot = SlotId(numbers(tx, "slot", 1)?);
    // Who asked for the free slot gets that one or none: somebody else may have been faster.
    if new.slot.is_some_and(|wanted| wanted != slot) {
        return Err(StoreError::NotFound);
    }
    let (label, metadata) = (new.label.clone(), new.metadata.clone());
    let ring = Ring { slot, id: new.id, label, policy: new.policy, created: new.created, metadata };
    ring.put(tx)?;
    record(tx, new.entry.as_ref())?;
    tx.forget(Stale::Rings);
    Ok(ring)
}

/// Stores a new key with its objects; or gives back what the same request made before.
pub(super) fn insert(
    tx: &WriteTx<'_>,
    request: RequestId,
    new: NewKey,
    drafts: Vec<Draft>,
) -> Result<Vec<Arc<Object>>, StoreError> {
    if let Some(made) = made_before(tx, new.ring, request)? {
        return Ok(made);
    }
    let count = u64::try_from(drafts.len()).expect("a key has few objects");
    let first = numbers(tx, "object", count)?;
    let (ring, created, metadata) = (new.ring, signed(new.created), new.metadata);
    KeyRow { id: new.key, ring, label: new.label, algorithm: new.algorithm, created, metadata }.put(tx)?;
    let version = KeyVersion { key: new.key, number: 1 };
    // A key whose versions come from outside begins with none.
    if !drafts.is_empty() {
        VersionRow::new(version, new.wrapped.clone(), created).put(tx)?;
    }
    let mut made = Vec::with_capacity(drafts.len());
    for (id, Draft { attributes, .. }) in (first..).map(ObjectId).zip(drafts) {
        let encoded = encode(&attributes)?;
        ObjectRow::of((id, ring, Some(version)), &attributes, &encoded, created).put(tx)?;
        let material = match &new.wrapped {
            Some(wrapped) if has_material(&attributes) => Material::Wrapped(wrapped.clone()),
            Some(_) | None => Material::None,
        };
        made.push(Arc::new(Object { id: Some(id), ring, version: Some(version), attributes, material }));
    }
    remember(tx, (ring, request), first, count, created)?;
    record(tx, new.entry.as_ref())?;
    Ok(made)
}

/// Stores an object that is no key, or a lone public one; or gives back what the same request made before.
pub(super) fn insert_object(
    tx: &WriteTx<'_>,
    request: RequestId,
    new: NewObject,
    draft: Draft,
) -> Result<Arc<Object>, StoreError> {
    if let Some(made) = made_before(tx, new.ring, request)? {
        return made.into_iter().next().ok_or(StoreError::NotFound);
    }
    let id = ObjectId(numbers(tx, "object", 1)?);
    let (ring, created, attributes) = (new.ring, signed(new.created), draft.attributes);
    let encoded = encode(&attributes)?;
    let row = ObjectRow::of((id, ring, None), &attributes, &encoded, created);
    ObjectRow { wrapped: new.value.clone(), ..row }.put(tx)?;
    remember(tx, (ring, request), id.0, 1, created)?;
    record(tx, new.entry.as_ref())?;
    let material = new.value.map_or(Material::None, Material::Wrapped);
    Ok(Arc::new(Object { id: Some(id), ring, version: None, attributes, material }))
}

/// Writes an object's new attributes, judged by what the object is inside this very transaction: attributes that go
/// one way only (`CKA_SENSITIVE`) cannot be turned back by a change that was judged before another.
pub(super) fn update<E>(
    tx: &WriteTx<'_>,
    ring: RingId,
    id: ObjectId,
    judge: impl FnOnce(&Object) -> Result<Template, E>,
) -> Result<Result<Arc<Object>, E>, StoreError> {
    let stored = load(tx, id)?;
    if !stored.is_visible() || stored.object.ring != ring {
        return Err(StoreError::NotFound);
    }
    let attributes = match judge(&stored.object) {
        Ok(attributes) => attributes,
        Err(refused) => return Ok(Err(refused)),
    };
    let encoded = encode(&attributes)?;
    let version = stored.object.version;
    let row = ObjectRow::of((id, ring, version), &attributes, &encoded, stored.created);
    ObjectRow { wrapped: stored.value, ..row }.put(tx)?;
    let label = attributes.bytes(AttributeType::LABEL).unwrap_or_default();
    if let Some(version) = version
        && has_material(&attributes)
        && stored.object.attributes.bytes(AttributeType::LABEL) != Some(label)
    {
        // The key is called what its current version is called.
        let row = key(tx, version.key)?;
        if stored.object.attributes.bytes(AttributeType::LABEL).unwrap_or_default() == row.label {
            KeyRow { label: label.to_vec(), ..row }.put(tx)?;
        }
        tx.forget(Stale::Key(Uuid::from_bytes(version.key)));
    }
    tx.forget(Stale::Object(id));
    Ok(Ok(Arc::new(Object { attributes, ..stored.object })))
}

/// Takes an object out of the applications' view until `at`; returns the objects that left. A secret or private key
/// takes the version's other half with it. A public half goes alone: its private key goes on signing. What belongs to
/// no key is deleted.
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
        return if stored.is_leaving() { Ok(Vec::new()) } else { Err(StoreError::NotFound) };
    }
    // Of what is deleted nothing is left to say so to who asks again.
    if stored.version.is_none() {
        remember(tx, (ring, request), id.0, 0, signed(now))?;
    }
    let of_version = stored.version.as_ref().map(|version| version.version.key);
    let left = leave(tx, stored, at)?;
    if let Some(key_id) = of_version {
        rotation::relabel(tx, &key(tx, key_id)?, &day_of(now))?;
    }
    for id in &left {
        tx.forget(Stale::Object(*id));
    }
    Ok(left)
}

/// Does so with an object that is there.
pub(super) fn leave(tx: &WriteTx<'_>, stored: Stored, at: u64) -> Result<Vec<ObjectId>, StoreError> {
    let destroy_at = Some(signed(at));
    let public_half = stored.object.class() == Some(ObjectClass::PUBLIC_KEY);
    let id = stored.object.id.ok_or(StoreError::NotFound)?;
    match stored.version {
        None => {
            tx.connection.prepare_cached("DELETE FROM objects WHERE id = ?1")?.execute([signed(id.0)])?;
            Ok(vec![id])
        }
        Some(version) if !public_half || version.wrapped.is_none() => {
            let name = version.version;
            VersionRow { state: State::Leaving.number(), destroy_at, ..version }.put(tx)?;
            let sql = "SELECT id FROM objects WHERE key = ?1 AND version = ?2";
            let mut statement = tx.connection.prepare_cached(sql)?;
            let ids = statement.query_map(params![name.key, name.number], |row| row.get::<_, u64>(0))?;
            Ok(ids.map(|id| id.map(ObjectId)).collect::<Result<Vec<_>, _>>()?)
        }
        Some(_) => {
            let encoded = encode(&stored.object.attributes)?;
            let name = (id, stored.object.ring, stored.object.version);
            let row = ObjectRow::of(name, &stored.object.attributes, &encoded, stored.created);
            ObjectRow { destroy_at, ..row }.put(tx)?;
            Ok(vec![id])
        }
    }
}

/// Empties a ring and gives it another label: whatever it holds leaves, and its user has no PIN. Returns what left.
pub(super) fn clear_ring(
    tx: &WriteTx<'_>,
    ring: RingId,
    label: &str,
    at: u64,
) -> Result<Vec<ObjectId>, StoreError> {
    let sql = "SELECT count(*) FROM rings WHERE label = ?1 AND id != ?2";
    if tx.connection.query_row(sql, params![label, ring.0], |row| row.get::<_, u64>(0))? > 0 {
        return Err(StoreError::Taken(label.to_owned()));
    }
    let (rings, _) = find::rings(tx.connection, tx.key)?;
    let found = rings.list().into_iter().find(|known| known.id == ring).ok_or(StoreError::NotFound)?;
    let mut statement = tx.connection.prepare_cached("SELECT id FROM objects WHERE ring = ?1 ORDER BY id")?;
    let ids = statement.query_map([ring.0], |row| row.get::<_, u64>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut left = Vec::new();
    for id in ids {
        match load(tx, ObjectId(id)) {
            // The other half of one that has left, or destroyed before.
            Ok(stored) if !stored.is_visible() => {}
            Ok(stored) => left.extend(leave(tx, stored, at)?),
            // Nobody sees it; deleted meanwhile, or a row that was edited.
            Err(StoreError::NotFound | StoreError::RowInvalid { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ring { label: label.to_owned(), ..found }.put(tx)?;
    if let Some(user) = find::principal(tx.connection, tx.key, ring, Principal::USER)? {
        let (pin_hash, generation) = (String::new(), user.generation + 1);
        Principal { pin_hash, generation, ..user }.put(ring, tx)?;
    }
    tx.forget(Stale::All);
    Ok(left)
}

/// Records what a change brings for the audit log.
pub(super) fn record(tx: &WriteTx<'_>, entry: Option<&Entry>) -> Result<(), StoreError> {
    entry.map_or(Ok(()), |entry| tx.record(entry))
}

/// The next numbers of a kind: the first of `count`.
pub(super) fn numbers(tx: &WriteTx<'_>, name: &str, count: u64) -> Result<u64, StoreError> {
    let sql = "UPDATE counters SET next = next + ?2 WHERE name = ?1 RETURNING next - ?2";
    let mut statement = tx.connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![name, signed(count)], |row| row.get(0))?)
}

/// What a request has made, if it is one that is repeated.
fn made_before(
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
        let known = stored.is_visible() && stored.object.ring == ring;
        if known { Ok(Arc::new(stored.object)) } else { Err(StoreError::NotFound) }
    };
    (first..first.saturating_add(count)).map(load).collect::<Result<_, _>>().map(Some)
}

/// Remembers what a request made, and forgets some that are old.
fn remember(
    tx: &WriteTx<'_>,
    (ring, request): (RingId, RequestId),
    first: u64,
    count: u64,
    made: i64,
) -> Result<(), StoreError> {
    // A door whose requests are not repeated names none.
    if request == RequestId::default() {
        return Ok(());
    }
    let sql = "INSERT INTO requests (ring, id, first, count, made) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![ring.0, request.0, signed(first), signed(count), made];
    tx.connection.prepare_cached(sql)?.execute(values)?;
    let sql = "DELETE FROM requests WHERE (ring, id) IN \
               (SELECT ring, id FROM requests WHERE made < ?1 ORDER BY made LIMIT ?2)";
    tx.connection.prepare_cached(sql)?.execute(params![made - REQUEST_SECONDS, REQUESTS_FORGOTTEN])?;
    Ok(())
}

/// An object as the transaction sees it.
pub(super) fn load(tx: &WriteTx<'_>, id: ObjectId) -> Result<Stored, StoreError> {
    let sql = format!("SELECT {OBJECT_COLUMNS} FROM objects o {OBJECT_JOIN} WHERE o.id = ?1");
    let mut statement = tx.connection.prepare_cached(&sql)?;
    let mut rows = statement.query([signed(id.0)])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    Stored::read(row, tx.key)
}

/// A key as the transaction sees it.
pub(super) fn key(tx: &WriteTx<'_>, id: [u8; 16]) -> Result<KeyRow, StoreError> {
    let sql = format!("SELECT {KEY_COLUMNS} FROM keys WHERE id = ?1");
    let mut statement = tx.connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    KeyRow::read(row, tx.key)
}

/// Whether the version's material is this object's: public halves have none.
pub(super) fn has_material(attributes: &Template) -> bool {
    matches!(attributes.class(), Some(ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY))
}
