//! Tests of the store on a real database.

mod capacity;
mod concurrency;
mod damage;
mod hostile;
mod keys;
mod login_failures;
mod measurements;
mod private_objects;
mod restore;
mod rings;
mod search;

use std::path::PathBuf;

use kms_core::audit::{Entry, Kind};
use kms_core::integrity::RowKey;
use kms_core::object::{Draft, MasterVersion, Object, RingRole, Wrapped};
use kms_protocol::{
    Attribute, AttributeType, KeyType, ObjectClass, ObjectId, RequestId, RingId, RingPolicy, Template,
};
use rusqlite::Connection;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{KeyMetadata, NewKey, NewRing, PinKind, Principal, Ring, RingMetadata, Store, StoreError};

const NO_REQUEST: RequestId = RequestId([0; 16]);

/// A database in a temporary folder.
pub(super) struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> (Self, Store) {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        let store = Store::create(&fixture.path()).unwrap().unlock(row_key()).unwrap();
        (fixture, store)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("kms.db")
    }

    /// Opens the database as another process does.
    pub(super) fn open(&self) -> Store {
        Store::open_existing(&self.path()).unwrap().unlock(row_key()).unwrap()
    }

    /// Edits the database outside the store; returns the number of rows changed.
    pub(super) fn edit(&self, sql: &str) -> usize {
        let connection = Connection::open(self.path()).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        let changed = connection.execute(sql, []).unwrap();
        assert!(changed > 0, "{sql} changes nothing");
        changed
    }
}

fn row_key() -> RowKey {
    RowKey::from(Zeroizing::new([4; 32]))
}

pub(super) fn entry(at: u64) -> Entry {
    Entry {
        at,
        event: "kms.key.create",
        kind: Kind::AdminActivity,
        project: at.is_multiple_of(2).then(|| Uuid::from_u128(1)),
        resource: "projects/p/keyrings/r".to_owned(),
        initiator: None,
        name: "someone".to_owned(),
        endpoint: "kms test".to_owned(),
        source: None,
        agent: String::new(),
        trace: None,
        status: 200,
        details: serde_json::Map::new(),
    }
}

fn new_ring(id: [u8; 16], label: &str) -> NewRing {
    NewRing {
        id: RingId(id),
        label: label.to_owned(),
        policy: RingPolicy::Strict,
        created: 7,
        slot: None,
        metadata: RingMetadata::default(),
        principals: Vec::new(),
        entry: None,
    }
}

fn ring(store: &Store, label: &str) -> Ring {
    store.insert_ring(&new_ring(Uuid::new_v4().into_bytes(), label)).unwrap()
}

fn principal(name: &str, ring_role: RingRole, generation: u64) -> Principal {
    Principal::new(name.to_owned(), ring_role, "h".to_owned(), PinKind::Bound, generation)
}

fn new_key(ring: &Ring, label: &str) -> NewKey {
    let key = Uuid::new_v4().into_bytes();
    let wrapped = Some(Wrapped { master: MasterVersion(1), bytes: [key.as_slice(), &[1; 44]].concat() });
    NewKey {
        ring: ring.id,
        key,
        label: label.into(),
        algorithm: "aes-256".to_owned(),
        wrapped,
        created: 1000,
        metadata: KeyMetadata::default(),
        entry: None,
    }
}

fn draft(class: ObjectClass, label: &str) -> Draft {
    let attributes = Template(vec![
        Attribute::ulong(AttributeType::CLASS, class.0.into()),
        Attribute::ulong(AttributeType::KEY_TYPE, KeyType::AES.0.into()),
        Attribute::bytes(AttributeType::LABEL, label),
        Attribute::bytes(AttributeType::ID, format!("id of {label}")),
        Attribute::bool(AttributeType::SENSITIVE, true),
    ]);
    Draft { attributes, token: true }
}

fn secret(store: &Store, ring: &Ring, label: &str) -> ObjectId {
    let drafts = vec![draft(ObjectClass::SECRET_KEY, label)];
    store.insert(NO_REQUEST, new_key(ring, label), drafts).unwrap()[0].id.unwrap()
}

fn pair(store: &Store, ring: &Ring, label: &str) -> (ObjectId, ObjectId) {
    let drafts = vec![draft(ObjectClass::PRIVATE_KEY, label), draft(ObjectClass::PUBLIC_KEY, label)];
    let created = store.insert(NO_REQUEST, new_key(ring, label), drafts).unwrap();
    (created[0].id.unwrap(), created[1].id.unwrap())
}

fn by_label(store: &Store, ring: &Ring, label: &str) -> Vec<ObjectId> {
    let template = Template(vec![Attribute::bytes(AttributeType::LABEL, label)]);
    let found = store.find(ring.id, &template, None, 100).unwrap();
    found.iter().map(|object| object.id.unwrap()).collect()
}
