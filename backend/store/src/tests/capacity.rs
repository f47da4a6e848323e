//! The limits of rings, and the free space that is kept on the disk.

use super::*;
use crate::{NewObject, RingLimits, StoreLimits};

fn limited(keys: u64, objects: u64, bytes: u64) -> StoreLimits {
    StoreLimits { ring: RingLimits { keys, objects, bytes }, disk_floor: 0 }
}

fn insert(store: &Store, ring: &Ring, label: &str) -> Result<(), StoreError> {
    let drafts = vec![draft(ObjectClass::SECRET_KEY, label)];
    store.insert(NO_REQUEST, new_key(ring, label), drafts).map(drop)
}

fn insert_data(store: &Store, ring: &Ring, label: &str) -> Result<ObjectId, StoreError> {
    let object = NewObject { ring: ring.id, value: None, created: 1000, entry: None };
    let stored = store.insert_object(NO_REQUEST, object, draft(ObjectClass::DATA, label))?;
    Ok(stored.id.unwrap())
}

#[track_caller]
fn assert_full(result: Result<impl Sized, StoreError>, what: &str) {
    let error = result.err().expect("the ring is full");
    assert!(matches!(&error, StoreError::TooMany { what: found, .. } if found.starts_with(what)), "{error}");
}

#[test]
fn a_ring_at_a_limit_makes_no_more_and_others_do() {
    let (_fixture, store) = Fixture::new();
    let (one, two) = (ring(&store, "one"), ring(&store, "two"));
    store.set_limits(limited(3, 100, 1 << 20));
    for label in ["a", "b", "c"] {
        insert(&store, &one, label).unwrap();
    }
    for _ in 0..3 {
        assert_full(insert(&store, &one, "d"), "keys");
    }
    insert(&store, &two, "d").unwrap();
    assert_eq!(store.count_keys(one.id).unwrap(), 3);
    // Objects that are no keys have a limit of their own.
    insert_data(&store, &one, "data").unwrap();
    store.set_limits(limited(100, 5, 1 << 20));
    pair_fails(&store, &one);
    insert(&store, &one, "d").unwrap();
    assert_full(insert(&store, &one, "e"), "objects");
}

/// A pair is two objects, of which only one has capacity.
#[track_caller]
fn pair_fails(store: &Store, ring: &Ring) {
    let drafts = vec![draft(ObjectClass::PRIVATE_KEY, "p"), draft(ObjectClass::PUBLIC_KEY, "p")];
    assert_full(store.insert(NO_REQUEST, new_key(ring, "p"), drafts), "objects");
}

#[test]
fn a_ring_above_a_new_limit_is_used_as_before() {
    let (_fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let ids: Vec<_> = (0..5).map(|number| secret(&store, &ring, &number.to_string())).collect();
    store.set_limits(limited(2, 2, 1000));
    assert_full(insert(&store, &ring, "more"), "keys");
    for id in ids {
        assert!(store.object(ring.id, id).is_ok());
        let hidden = store.schedule_destruction((ring.id, NO_REQUEST), id, (1, 2), None).unwrap();
        assert_eq!(hidden, [id]);
    }
}

#[test]
fn what_is_deleted_makes_room_at_once() {
    let (_fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    store.set_limits(limited(10, 2, 1 << 20));
    let first = insert_data(&store, &ring, "a").unwrap();
    insert_data(&store, &ring, "b").unwrap();
    assert_full(insert_data(&store, &ring, "c"), "objects");
    store.schedule_destruction((ring.id, NO_REQUEST), first, (1, 1), None).unwrap();
    insert_data(&store, &ring, "c").unwrap();
    assert_full(insert_data(&store, &ring, "d"), "objects");
}

#[test]
fn bytes_are_limited_for_new_objects_and_for_new_values() {
    let (_fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    store.set_limits(limited(100, 100, 4000));
    let made = (0..100).take_while(|number| insert_data(&store, &ring, &number.to_string()).is_ok()).count();
    assert!((3..8).contains(&made), "{made} objects in 4,000 bytes");
    assert_full(insert_data(&store, &ring, "more"), "bytes");
    let (id, longer) = (ObjectId(1), draft(ObjectClass::DATA, &"x".repeat(3000)).attributes);
    let decide = |longer: Template| move |_: &Object| Ok::<_, ()>(longer);
    assert_full(store.update(ring.id, id, decide(longer), None), "bytes");
    let shorter = draft(ObjectClass::DATA, "").attributes;
    store.update(ring.id, id, decide(shorter), None).unwrap().unwrap();
}

#[test]
fn the_count_is_exact_whoever_wrote_and_however_often_it_was_refused() {
    let (fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    store.set_limits(limited(10, 100, 1 << 20));
    let other = fixture.open();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, ring) = (&store, &ring);
            scope.spawn(move || {
                (0..10).filter(|number| insert(store, ring, &format!("{thread}-{number}")).is_ok()).count()
            });
        }
    });
    assert_eq!(store.count_keys(ring.id).unwrap(), 10);
    // A key of another process, which has no limits, is seen when the ring is counted next.
    insert(&other, &ring, "other").unwrap();
    store.set_limits(limited(12, 100, 1 << 20));
    insert(&store, &ring, "twelfth").unwrap();
    assert_full(insert(&store, &ring, "thirteenth"), "keys");
}

#[test]
fn below_the_floor_nothing_is_created_and_everything_else_is_done() {
    let (_fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let id = secret(&store, &ring, "k");
    let free = store.disk().unwrap().free;
    assert!(free > 0);
    store.set_limits(StoreLimits { disk_floor: u64::MAX, ..StoreLimits::default() });
    assert!(matches!(insert(&store, &ring, "more"), Err(StoreError::DiskFloor { .. })));
    assert!(matches!(insert_data(&store, &ring, "more"), Err(StoreError::DiskFloor { .. })));
    assert!(matches!(store.insert_ring(&new_ring([9; 16], "two")), Err(StoreError::DiskFloor { .. })));
    store.put_principal(ring.id, &principal("user", RingRole::Admin, 2), Some(entry(1))).unwrap();
    store.schedule_destruction((ring.id, NO_REQUEST), id, (1, 2), Some(entry(2))).unwrap();
    store.set_limits(StoreLimits { disk_floor: 1, ..StoreLimits::default() });
    insert(&store, &ring, "more").unwrap();
}
