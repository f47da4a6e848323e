//! Rings and principals: separation of rings, names that are taken, edited rows.

use kms_core::object::RingRole;
use kms_protocol::{RingPolicy, SlotId};

use super::*;

#[test]
fn a_ring_contains_only_its_own_objects() {
    let (_fixture, store) = Fixture::new();
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
    let same_label = NewRing { policy: RingPolicy::Compat, created: 0, ..new_ring([9; 16], "one") };
    let again = store.insert_ring(&same_label);
    assert!(matches!(again, Err(StoreError::NameInUse(name)) if name == "one"));
}

#[test]
fn an_edited_ring_or_principal_is_rejected() {
    let (fixture, store) = Fixture::new();
    let (one, two) = (ring(&store, "one"), ring(&store, "two"));
    store.put_principal(one.id, &principal("user", RingRole::Admin, 1), None).unwrap();
    store.put_principal(one.id, &principal("reader", RingRole::Reader, 1), None).unwrap();
    drop(store);
    fixture.edit("UPDATE rings SET policy = 2 WHERE label = 'one'");
    fixture.edit("UPDATE principals SET standing = 2 WHERE name = 'reader'");
    let store = fixture.open();
    assert_eq!(store.rings().unwrap(), [two]);
    assert_eq!(store.ring(one.slot).unwrap(), None);
    assert!(matches!(store.principal(one.id, "reader"), Err(StoreError::RowInvalid { .. })));
    assert!(store.principal(one.id, "user").unwrap().is_some());
}
