//! Keys and objects: repeated requests, updates, destruction.

use super::*;
use crate::object_rows::OBJECT_BYTES_MAX;

#[test]
fn a_repeated_request_creates_nothing_again() {
    let (fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let request = RequestId([5; 16]);
    let drafts = || vec![draft(ObjectClass::PRIVATE_KEY, "p"), draft(ObjectClass::PUBLIC_KEY, "p")];
    let first = store.insert(request, new_key(&ring, "p"), drafts()).unwrap();
    let again = store.insert(request, new_key(&ring, "p"), drafts()).unwrap();
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    assert_eq!(by_label(&store, &ring, "p").len(), 2);
    drop(store);
    // Stored across a restart; in another ring it is another request.
    let store = fixture.open();
    let after = store.insert(request, new_key(&ring, "p"), drafts()).unwrap();
    assert_eq!(after[0].id, first[0].id);
    let other = self::ring(&store, "two");
    let others = store.insert(request, new_key(&other, "p"), drafts()).unwrap();
    assert_ne!(others[0].id, first[0].id);
    // An hour later it is deleted.
    let later = NewKey { created: 1000 + 3601, ..new_key(&ring, "later") };
    store.insert(RequestId([6; 16]), later, vec![draft(ObjectClass::SECRET_KEY, "later")]).unwrap();
    let new = store.insert(request, new_key(&ring, "p"), drafts()).unwrap();
    assert_ne!(new[0].id, first[0].id);
}

#[test]
fn an_update_is_decided_in_the_transaction_and_visible_at_once() {
    let (_fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let id = secret(&store, &ring, "before");
    store.object(ring.id, id).unwrap();
    let labelled = |label: &str| draft(ObjectClass::SECRET_KEY, label).attributes;
    let after = labelled("after");
    let decide = move |object: &Object| {
        assert_eq!(object.attributes.bytes(AttributeType::LABEL), Some(b"before".as_slice()));
        Ok::<_, ()>(after)
    };
    let changed = store.update(ring.id, id, decide, None).unwrap().unwrap();
    assert_eq!(changed.attributes, labelled("after"));
    assert_eq!(store.object(ring.id, id).unwrap().attributes, labelled("after"));
    assert_eq!((by_label(&store, &ring, "before"), by_label(&store, &ring, "after")), (vec![], vec![id]));
    assert_eq!(store.keys(ring.id).unwrap()[0].label, b"after");
    assert_eq!(store.update(ring.id, id, |_| Err("no"), None).unwrap().map(drop), Err("no"));
    assert_eq!(store.object(ring.id, id).unwrap().attributes, labelled("after"));
    let large = Template(vec![Attribute::bytes(AttributeType::LABEL, vec![0; OBJECT_BYTES_MAX])]);
    assert!(matches!(store.update(ring.id, id, |_| Ok::<_, ()>(large), None), Err(StoreError::TooLarge(_))));
    let elsewhere = store.update(RingId([9; 16]), id, |_| Err::<Template, _>("not called"), None);
    assert!(matches!(elsewhere, Err(StoreError::NotFound)));
}

#[test]
fn a_destroyed_object_is_hidden_and_stays_in_the_database() {
    let (fixture, store) = Fixture::new();
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

    // A public key is hidden alone.
    let (private, public) = pair(&store, &ring, "other");
    assert_eq!(store.schedule_destruction((ring.id, NO_REQUEST), public, (1, 99), None).unwrap(), [public]);
    assert!(matches!(store.object(ring.id, public), Err(StoreError::NotFound)));
    assert_eq!(by_label(&store, &ring, "other"), [private]);
    drop(store);
    assert_eq!(by_label(&fixture.open(), &ring, "other"), [private]);
    assert!(matches!(
        fixture.open().schedule_destruction((ring.id, NO_REQUEST), ObjectId(77), (1, 99), None),
        Err(StoreError::NotFound)
    ));
}
