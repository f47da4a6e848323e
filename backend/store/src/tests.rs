//! What any engine of the store must do, and what SQLite's does besides.

use std::collections::HashSet;
use std::sync::Barrier;
use std::time::Duration;

use kms_core::object::{Draft, Object, RingRole, Wrapped};
use kms_core::object::{MasterVersion, Material};
use kms_protocol::{Attribute, AttributeType, KeyType, ObjectClass};
use kms_protocol::{ObjectId, RequestId, RingId, RingPolicy, SlotId, Template};
use rusqlite::params;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::cache::Stale;
use super::find::Narrowing;
use super::*;

const NO_REQUEST: RequestId = RequestId([0; 16]);

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> (Self, Store) {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        let store = Store::create(&home.path()).unwrap().unlock(key()).unwrap();
        (home, store)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kms.db")
    }

    fn open(&self) -> Store {
        Store::open_existing(&self.path()).unwrap().unlock(key()).unwrap()
    }

    /// Somebody who edits the database by hand.
    fn edit(&self, sql: &str) {
        let connection = Connection::open(self.path()).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        assert!(connection.execute(sql, []).unwrap() > 0, "{sql} changes nothing");
    }
}

fn key() -> RowKey {
    RowKey::from(Zeroizing::new([4; 32]))
}

fn ring(store: &Store, name: &str) -> Ring {
    let id = RingId(*Uuid::new_v4().as_bytes());
    store
        .insert_ring(&NewRing {
            id,
            label: name.to_owned(),
            policy: RingPolicy::Strict,
            created: 7,
            slot: None,
            metadata: RingMetadata::default(),
            entry: None,
        })
        .unwrap()
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
    let made = store.insert(NO_REQUEST, new_key(ring, label), drafts).unwrap();
    (made[0].id.unwrap(), made[1].id.unwrap())
}

fn by_label(store: &Store, ring: &Ring, label: &str) -> Vec<ObjectId> {
    let template = Template(vec![Attribute::bytes(AttributeType::LABEL, label)]);
    let found = store.find(ring.id, &template, None, 100).unwrap();
    found.iter().map(|object| object.id.unwrap()).collect()
}

#[test]
fn what_is_stored_is_there_after_opening_again() {
    let (home, store) = Home::new();
    let ring = ring(&store, "one");
    let principal = Principal {
        name: "user".to_owned(),
        ring_role: RingRole::Admin,
        pin_hash: "h".to_owned(),
        generation: 3,
    };
    store.put_principal(ring.id, &principal, None).unwrap();
    let (private, public) = pair(&store, &ring, "pair");
    drop(store);
    let store = home.open();
    assert_eq!(store.rings().unwrap(), std::slice::from_ref(&ring));
    assert_eq!(store.ring(ring.slot).unwrap().as_deref(), Some(&ring));
    assert_eq!(store.principal(ring.id, "user").unwrap().as_deref(), Some(&principal));
    assert_eq!(store.principal(ring.id, "other").unwrap(), None);
    let private = store.object(ring.id, private).unwrap();
    assert!(matches!(&private.material, Material::Wrapped(wrapped) if wrapped.master == MasterVersion(1)));
    assert_eq!(private.attributes, draft(ObjectClass::PRIVATE_KEY, "pair").attributes);
    let public = store.object(ring.id, public).unwrap();
    assert!(matches!(public.material, Material::None));
    assert_eq!(private.version, public.version);
    assert_eq!(store.count_keys(ring.id).unwrap(), 1);
    let keys = store.keys(ring.id).unwrap();
    assert_eq!(
        (keys[0].label.as_slice(), keys[0].state.as_str(), keys[0].versions),
        (b"pair".as_slice(), "active", 1)
    );
    store.check().unwrap();
}

#[test]
fn a_ring_sees_its_own_objects_alone() {
    let (_home, store) = Home::new();
    let (one, two) = (ring(&store, "one"), ring(&store, "two"));
    assert_eq!((one.slot, two.slot), (SlotId(0), SlotId(1)));
    let id = secret(&store, &one, "k");
    assert!(store.object(one.id, id).is_ok());
    assert!(matches!(store.object(two.id, id), Err(StoreError::NotFound)));
    assert_eq!((by_label(&store, &one, "k"), by_label(&store, &two, "k")), (vec![id], vec![]));
    assert!(matches!(
        store.schedule_destruction((two.id, NO_REQUEST), id, (1, 1), None),
        Err(StoreError::NotFound)
    ));
    assert_eq!(store.leaving(two.id, id).unwrap().map(|object| object.id), None);
    let again = store.insert_ring(&NewRing {
        id: RingId([9; 16]),
        label: "one".to_owned(),
        policy: RingPolicy::Compat,
        created: 0,
        slot: None,
        metadata: RingMetadata::default(),
        entry: None,
    });
    assert!(matches!(again, Err(StoreError::Taken(name)) if name == "one"));
}

#[test]
fn a_request_repeated_makes_nothing_twice() {
    let (home, store) = Home::new();
    let ring = ring(&store, "one");
    let request = RequestId([5; 16]);
    let drafts = || vec![draft(ObjectClass::PRIVATE_KEY, "p"), draft(ObjectClass::PUBLIC_KEY, "p")];
    let first = store.insert(request, new_key(&ring, "p"), drafts()).unwrap();
    let again = store.insert(request, new_key(&ring, "p"), drafts()).unwrap();
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    assert_eq!(by_label(&store, &ring, "p").len(), 2);
    drop(store);
    // Remembered over a restart, and in another ring another request.
    let store = home.open();
    let after = store.insert(request, new_key(&ring, "p"), drafts()).unwrap();
    assert_eq!(after[0].id, first[0].id);
    let other = self::ring(&store, "two");
    let others = store.insert(request, new_key(&other, "p"), drafts()).unwrap();
    assert_ne!(others[0].id, first[0].id);
    // An hour later it is forgotten.
    let later = NewKey { created: 1000 + 3601, ..new_key(&ring, "later") };
    store.insert(RequestId([6; 16]), later, vec![draft(ObjectClass::SECRET_KEY, "later")]).unwrap();
    let new = store.insert(request, new_key(&ring, "p"), drafts()).unwrap();
    assert_ne!(new[0].id, first[0].id);
}

#[test]
fn sixteen_callers_write_at_once_and_each_gets_its_own() {
    let (_home, store) = Home::new();
    let ring = ring(&store, "one");
    let start = Barrier::new(16);
    let ids: HashSet<ObjectId> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..16)
            .map(|caller| {
                let (store, ring, start) = (&store, &ring, &start);
                scope.spawn(move || {
                    start.wait();
                    (0..20)
                        .map(|number| secret(store, ring, &format!("{caller}-{number}")))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 16 * 20);
    assert_eq!(store.count_keys(ring.id).unwrap(), 16 * 20);
}

#[test]
fn a_search_compares_every_attribute_and_goes_page_by_page() {
    let (_home, store) = Home::new();
    let ring = ring(&store, "one");
    let ids: Vec<_> = (0..10).map(|number| secret(&store, &ring, &format!("k{number}"))).collect();
    let (private, public) = pair(&store, &ring, "k3");
    let find = |attributes: Vec<Attribute>, after, limit| -> Vec<ObjectId> {
        let found = store.find(ring.id, &Template(attributes), after, limit).unwrap();
        found.iter().map(|object| object.id.unwrap()).collect()
    };
    let label = || Attribute::bytes(AttributeType::LABEL, "k3");
    let class = |class: ObjectClass| Attribute::ulong(AttributeType::CLASS, class.0.into());
    assert_eq!(find(vec![label()], None, 100), [ids[3], private, public]);
    assert_eq!(find(vec![class(ObjectClass::PUBLIC_KEY), label()], None, 100), [public]);
    assert_eq!(find(vec![class(ObjectClass::PRIVATE_KEY)], None, 100), [private]);
    assert_eq!(find(vec![Attribute::bytes(AttributeType::ID, "id of k4")], None, 100), [ids[4]]);
    assert_eq!(find(vec![Attribute::bool(AttributeType::SENSITIVE, false)], None, 100), []);
    assert_eq!(find(vec![Attribute::bytes(AttributeType::LABEL, "")], None, 100), []);
    assert_eq!(find(vec![], None, 4), ids[..4]);
    assert_eq!(find(vec![], Some(ids[3]), 4), ids[4..8]);
    assert_eq!(find(vec![], Some(ids[7]), 100), [ids[8], ids[9], private, public]);
    // A page is full although most rows of the class are others'.
    assert_eq!(
        find(vec![class(ObjectClass::SECRET_KEY), Attribute::bytes(AttributeType::ID, "id of k9")], None, 1),
        [ids[9]]
    );
}

#[test]
fn a_search_by_label_id_or_class_uses_its_index() {
    let (home, store) = Home::new();
    let ring = ring(&store, "one");
    for (attribute, index) in [
        (Attribute::bytes(AttributeType::LABEL, "k"), "objects_by_label (ring=? AND label=? AND rowid>?)"),
        (Attribute::bytes(AttributeType::ID, "i"), "objects_by_ckid (ring=? AND ckid=? AND rowid>?)"),
        (Attribute::ulong(AttributeType::CLASS, 3), "objects_by_class (ring=? AND class=? AND rowid>?)"),
        (Attribute::bool(AttributeType::SIGN, true), "objects_by_ring (ring=? AND rowid>?)"),
    ] {
        let narrowing = Narrowing::by(&Template(vec![attribute]));
        let connection = Connection::open(home.path()).unwrap();
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", narrowing.sql())).unwrap();
        let steps = plan.query_map(params![ring.id.0, 0, 0, 10], |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        assert!(steps[0].contains(index), "{steps:?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE") || step.contains("SCAN")), "{steps:?}");
    }
}

#[test]
fn an_edited_row_is_refused_and_the_rest_goes_on() {
    // Each by itself: what was edited, and what may not be seen any more.
    for sql in [
        "UPDATE objects SET label = x'61' WHERE id = 1",
        "UPDATE objects SET attributes = (SELECT attributes FROM objects WHERE id = 2) WHERE id = 1",
        "UPDATE objects SET ring = (SELECT id FROM rings WHERE label = 'two') WHERE id = 1",
        "UPDATE objects SET key = (SELECT key FROM objects WHERE id = 2) WHERE id = 1",
        "UPDATE objects SET mac = (SELECT mac FROM objects WHERE id = 2) WHERE id = 1",
        "UPDATE objects SET mac = x'' WHERE id = 1",
        "UPDATE versions SET wrapped = zeroblob(60) WHERE key = (SELECT key FROM objects WHERE id = 1)",
        "UPDATE versions SET master = 2 WHERE key = (SELECT key FROM objects WHERE id = 1)",
        "UPDATE versions SET protection = 2 WHERE key = (SELECT key FROM objects WHERE id = 1)",
        "DELETE FROM versions WHERE key = (SELECT key FROM objects WHERE id = 1)",
    ] {
        let (home, store) = Home::new();
        let (one, two) = (ring(&store, "one"), ring(&store, "two"));
        let (edited, other) = (secret(&store, &one, "edited"), secret(&store, &one, "other"));
        assert_eq!((edited.0, other.0), (1, 2));
        drop(store);
        home.edit(sql);
        let store = home.open();
        let refused = store.object(one.id, edited);
        assert!(matches!(refused, Err(StoreError::RowInvalid { .. })), "{sql}: {refused:?}");
        for ring in [&one, &two] {
            let found = store.find(ring.id, &Template::default(), None, 100).unwrap();
            let expected = if ring == &one { vec![Some(other)] } else { vec![] };
            assert_eq!(found.iter().map(|object| object.id).collect::<Vec<_>>(), expected, "{sql}");
        }
        assert!(store.object(one.id, other).is_ok());
        assert!(store.schedule_destruction((one.id, NO_REQUEST), edited, (1, 1), None).is_err());
        assert_eq!(store.reported.count(), 1);
    }
}

#[test]
fn an_edited_ring_or_principal_is_refused() {
    let (home, store) = Home::new();
    let (one, two) = (ring(&store, "one"), ring(&store, "two"));
    let principal = |name: &str, ring_role| Principal {
        name: name.to_owned(),
        ring_role,
        pin_hash: "h".to_owned(),
        generation: 1,
    };
    store.put_principal(one.id, &principal("user", RingRole::Admin), None).unwrap();
    store.put_principal(one.id, &principal("reader", RingRole::Reader), None).unwrap();
    drop(store);
    home.edit("UPDATE rings SET policy = 2 WHERE label = 'one'");
    home.edit("UPDATE principals SET standing = 2 WHERE name = 'reader'");
    let store = home.open();
    assert_eq!(store.rings().unwrap(), [two]);
    assert_eq!(store.ring(one.slot).unwrap(), None);
    assert!(matches!(store.principal(one.id, "reader"), Err(StoreError::RowInvalid { .. })));
    assert!(store.principal(one.id, "user").unwrap().is_some());
}

#[test]
fn a_change_is_judged_by_what_the_object_is_and_seen_at_once() {
    let (_home, store) = Home::new();
    let ring = ring(&store, "one");
    let id = secret(&store, &ring, "before");
    store.object(ring.id, id).unwrap();
    let labelled = |label: &str| draft(ObjectClass::SECRET_KEY, label).attributes;
    let after = labelled("after");
    let judge = move |object: &Object| {
        assert_eq!(object.attributes.bytes(AttributeType::LABEL), Some(b"before".as_slice()));
        Ok::<_, ()>(after)
    };
    let changed = store.update(ring.id, id, judge, None).unwrap().unwrap();
    assert_eq!(changed.attributes, labelled("after"));
    assert_eq!(store.object(ring.id, id).unwrap().attributes, labelled("after"));
    assert_eq!((by_label(&store, &ring, "before"), by_label(&store, &ring, "after")), (vec![], vec![id]));
    assert_eq!(store.keys(ring.id).unwrap()[0].label, b"after");
    assert_eq!(store.update(ring.id, id, |_| Err("no"), None).unwrap().map(drop), Err("no"));
    assert_eq!(store.object(ring.id, id).unwrap().attributes, labelled("after"));
    let large =
        Template(vec![Attribute::bytes(AttributeType::LABEL, vec![0; object_rows::OBJECT_BYTES_MAX])]);
    assert!(matches!(store.update(ring.id, id, |_| Ok::<_, ()>(large), None), Err(StoreError::TooLarge(_))));
    let elsewhere = store.update(RingId([9; 16]), id, |_| Err::<Template, _>("not even asked"), None);
    assert!(matches!(elsewhere, Err(StoreError::NotFound)));
}

#[test]
fn what_is_destroyed_leaves_the_view_and_stays_in_the_database() {
    let (home, store) = Home::new();
    let ring = ring(&store, "one");
    let (private, public) = pair(&store, &ring, "pair");
    assert!(store.object(ring.id, private).is_ok() && store.object(ring.id, public).is_ok());
    assert_eq!(
        store.schedule_destruction((ring.id, NO_REQUEST), private, (1, 99), None).unwrap(),
        [private, public]
    );
    assert_eq!(store.schedule_destruction((ring.id, NO_REQUEST), public, (1, 99), None).unwrap(), []);
    for id in [private, public] {
        assert!(matches!(store.object(ring.id, id), Err(StoreError::NotFound)));
        assert_eq!(store.leaving(ring.id, id).unwrap().unwrap().id, Some(id));
    }
    assert_eq!(by_label(&store, &ring, "pair"), []);
    assert_eq!(store.count_keys(ring.id).unwrap(), 0);
    assert_eq!(store.keys(ring.id).unwrap()[0].state, "destroyed");

    // A public half goes alone.
    let (private, public) = pair(&store, &ring, "other");
    assert_eq!(store.schedule_destruction((ring.id, NO_REQUEST), public, (1, 99), None).unwrap(), [public]);
    assert!(matches!(store.object(ring.id, public), Err(StoreError::NotFound)));
    assert_eq!(by_label(&store, &ring, "other"), [private]);
    drop(store);
    assert_eq!(by_label(&home.open(), &ring, "other"), [private]);
    assert!(matches!(
        home.open().schedule_destruction((ring.id, NO_REQUEST), ObjectId(77), (1, 99), None),
        Err(StoreError::NotFound)
    ));
}

#[test]
fn a_snapshot_is_one_state_however_long_it_is_read() {
    let (_home, store) = Home::new();
    let first = ring(&store, "first");
    secret(&store, &first, "before");
    let snapshot = store.snapshot().unwrap();
    secret(&store, &first, "after");
    ring(&store, "second");
    let labels = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.keys(first.id, None, 10).unwrap().into_iter().map(|key| key.label).collect()
    };
    assert_eq!(labels(&snapshot), [b"before".to_vec()]);
    assert_eq!(snapshot.rings().unwrap().len(), 1);
    // Twenty at once take no reader from anybody.
    let many: Vec<_> = (0..20).map(|_| store.snapshot().unwrap()).collect();
    assert_eq!(by_label(&store, &first, "after").len(), 1);
    assert!(many.iter().all(|snapshot| labels(snapshot).len() == 2 && snapshot.rings().unwrap().len() == 2));
}

#[test]
fn another_processes_writes_are_seen_within_a_second() {
    let (home, daemon) = Home::new();
    let ring = ring(&daemon, "one");
    let id = secret(&daemon, &ring, "before");
    let user = |generation| Principal {
        name: "user".to_owned(),
        ring_role: RingRole::Admin,
        pin_hash: "h".to_owned(),
        generation,
    };
    daemon.put_principal(ring.id, &user(1), None).unwrap();
    daemon.object(ring.id, id).unwrap();
    assert_eq!(daemon.principal(ring.id, "user").unwrap().unwrap().generation, 1);
    assert_eq!(daemon.rings().unwrap().len(), 1);

    let command = home.open();
    let after = draft(ObjectClass::SECRET_KEY, "after").attributes;
    command.update(ring.id, id, |_| Ok::<_, ()>(after), None).unwrap().unwrap();
    command.put_principal(ring.id, &user(2), None).unwrap();
    self::ring(&command, "two");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        daemon.object(ring.id, id).unwrap().attributes.bytes(AttributeType::LABEL),
        Some(b"after".as_slice())
    );
    assert_eq!(daemon.principal(ring.id, "user").unwrap().unwrap().generation, 2);
    assert_eq!(daemon.rings().unwrap().len(), 2);
    // And both write.
    assert_ne!(secret(&daemon, &ring, "daemon's"), secret(&command, &ring, "command's"));
}

#[test]
fn our_own_writes_make_nobody_forget_the_rest() {
    let (_home, store) = Home::new();
    let ring = ring(&store, "one");
    let first = store.object(ring.id, secret(&store, &ring, "first")).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    let before = store.object(ring.id, first.id.unwrap()).unwrap();
    for number in 0..10 {
        secret(&store, &ring, &number.to_string());
        std::thread::sleep(Duration::from_millis(60));
    }
    let after = store.object(ring.id, first.id.unwrap()).unwrap();
    assert!(Arc::ptr_eq(&before, &after));
}

#[test]
fn a_full_disk_loses_nothing_and_ends_when_there_is_room() {
    let (_home, store) = Home::new();
    let ring = ring(&store, "one");
    let first = secret(&store, &ring, "first");
    let limit = |pages: Option<u32>| {
        store.writer.write(move |tx| {
            let now: u32 = tx.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let set = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
            tx.connection.pragma_update_and_check(None, "max_page_count", pages.unwrap_or(now), set)?;
            Ok(())
        })
    };
    limit(None).unwrap();
    let fill = |number: u32| {
        let drafts = vec![draft(ObjectClass::SECRET_KEY, &format!("{number}"))];
        store.insert(NO_REQUEST, new_key(&ring, "fill"), drafts)
    };
    // Sixteen at once: who is told that it is stored finds it, and who is told that the disk is full does not.
    let stored: Vec<bool> = std::thread::scope(|scope| {
        let fill = &fill;
        let callers: Vec<_> = (0..16_u32)
            .map(|caller| {
                let one = move |number| match fill(caller * 100 + number) {
                    Ok(_) => true,
                    Err(StoreError::Full(_)) => false,
                    Err(error) => panic!("{error:?}"),
                };
                scope.spawn(move || (0..20).map(one).collect::<Vec<_>>())
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    assert!(stored.contains(&false));
    for (place, stored) in stored.iter().enumerate() {
        let label = format!("{}", place / 20 * 100 + place % 20);
        assert_eq!(by_label(&store, &ring, &label).len(), usize::from(*stored), "{label}");
    }
    assert!(store.object(ring.id, first).is_ok());
    limit(Some(1 << 20)).unwrap();
    fill(9999).unwrap();
    store.check().unwrap();
}

/// `cargo test --release -p kms-store tests::cost -- --ignored --nocapture` prints it.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn cost() {
    use std::time::Instant;
    let (_home, store) = Home::new();
    let ring = ring(&store, "one");
    for threads in [1, 4, 16] {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..500).for_each(|_| assert!(secret(&store, &ring, "k").0 > 0)));
            }
        });
        let each = start.elapsed() / (500 * threads);
        println!("insert, {threads} threads: {each:?} each, {:.0} per second", 1.0 / each.as_secs_f64());
    }
    let id = secret(&store, &ring, "needle");
    let time = |name: &str, count: u32, work: &dyn Fn()| {
        work();
        let start = Instant::now();
        (0..count).for_each(|_| work());
        println!("{name}: {:?}", start.elapsed() / count);
    };
    time("object", 1_000_000, &|| drop(std::hint::black_box(store.object(ring.id, id).unwrap())));
    time("ring", 1_000_000, &|| drop(std::hint::black_box(store.ring(ring.slot).unwrap())));
    time("principal", 1_000_000, &|| drop(std::hint::black_box(store.principal(ring.id, "user").unwrap())));
    time("find by label", 10_000, &|| assert_eq!(by_label(&store, &ring, "needle"), [id]));
    time("object, not remembered", 1000, &|| {
        store.memory.forget(&Stale::Object(id));
        drop(std::hint::black_box(store.object(ring.id, id).unwrap()));
    });
    time("find a page of 128", 100, &|| drop(store.find(ring.id, &Template::default(), None, 128).unwrap()));
}

/// `cargo test --release -p kms-store tests::many -- --ignored --nocapture` prints it.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn many() {
    use std::time::Instant;
    const KEYS: u32 = 100_000;
    let (home, store) = Home::new();
    let ring = ring(&store, "one");
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..100 {
            let (store, ring) = (&store, &ring);
            let one = move |number| assert!(secret(store, ring, &format!("{}", thread + number * 100)).0 > 0);
            scope.spawn(move || (0..KEYS / 100).for_each(one));
        }
    });
    println!("{KEYS} keys in {:?}", start.elapsed());
    drop(store);
    let bytes = home.path().metadata().unwrap().len();
    let start = Instant::now();
    let store = home.open();
    println!("opened in {:?}; {} bytes of database for each key", start.elapsed(), bytes / u64::from(KEYS));
    let start = Instant::now();
    for number in 0..1000 {
        assert_eq!(by_label(&store, &ring, &format!("{}", number * 97)).len(), 1);
    }
    println!("find by label: {:?}", start.elapsed() / 1000);
    let (start, mut after, mut found) = (Instant::now(), None, 0);
    loop {
        let page = store.find(ring.id, &Template::default(), after, 128).unwrap();
        let Some(last) = page.last() else { break };
        (after, found) = (last.id, found + page.len());
    }
    println!("all {found} in {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(store.count_keys(ring.id).unwrap(), u64::from(KEYS));
    println!("counted in {:?}", start.elapsed());
    let start = Instant::now();
    store.check().unwrap();
    println!("checked in {:?}", start.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().filter(|line| line.starts_with("VmRSS")).collect::<String>());
}
