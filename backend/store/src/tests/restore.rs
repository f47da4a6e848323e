//! What a restore raises and renews in the copy that becomes the database.

use kms_core::object::{KeyVersion, LoginId};
use kms_core::seal::Fingerprint;

use super::*;
use crate::{HighWaterMarks, Renewal, Restores};

fn renewal(marks: Option<HighWaterMarks>) -> Renewal {
    let (tokens, account_keys, entry) = (Vec::new(), Vec::new(), entry(1));
    let (at, iv_blocks, end_logins) = (1000, if marks.is_some() { 0 } else { 512 }, true);
    let service_keys = Vec::new();
    Renewal { at, marks, iv_blocks, end_logins, service_keys, tokens, account_keys, entry }
}

/// The copy and the database that it replaces: both have the same ring.
fn pair_of_databases() -> ((Fixture, Store), (Fixture, Store), Ring) {
    let (copy, replaced) = (Fixture::new(), Fixture::new());
    let ring = copy.1.insert_ring(&new_ring([7; 16], "ring")).unwrap();
    assert_eq!(replaced.1.insert_ring(&new_ring([7; 16], "ring")).unwrap(), ring);
    (copy, replaced, ring)
}

#[test]
fn numbers_of_the_replaced_database_do_not_go_back() {
    let ((fixture, copy), (_other, replaced), ring) = pair_of_databases();
    let (both, since) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
    let version = KeyVersion { key: [3; 16], number: 1 };
    copy.count_ivs(both, None).unwrap();
    for _ in 0..5 {
        replaced.count_ivs(both, None).unwrap();
    }
    replaced.count_ivs(since, Some(version)).unwrap();
    let last = (0..9).map(|number| secret(&replaced, &ring, &format!("k{number}"))).last().unwrap();
    ring_again(&replaced, &ring);
    for store in [&copy, &replaced] {
        store.put_principal(ring.id, &principal("user", RingRole::Admin, 4), None).unwrap();
    }
    replaced.put_principal(ring.id, &principal("alice", RingRole::User, 9), None).unwrap();
    copy.put_principal(ring.id, &principal("alice", RingRole::User, 3), None).unwrap();

    copy.renew(renewal(Some(replaced.high_water_marks().unwrap()))).unwrap();
    drop(copy);
    let copy = fixture.open();
    assert_eq!((copy.count_ivs(both, None).unwrap(), copy.count_ivs(since, None).unwrap()), (6, 2));
    assert!(secret(&copy, &ring, "after") > last, "no number of an object is given twice");
    assert_eq!(copy.ring_of(ring.id).unwrap().unwrap().epoch, 1);
    let generation = |name: &str| copy.principal(ring.id, name).unwrap().unwrap().generation;
    assert_eq!((generation("user"), generation("alice")), (5, 10), "above both databases");
    assert_eq!(copy.restores().unwrap(), Restores { last: Some(1000), iv_blocks: 0 });
    assert_eq!(copy.verify_audit(None, |_, _| {}).unwrap().unwrap().entries, 1);
    // The other way round nothing goes back either.
    copy.renew(renewal(Some(HighWaterMarks::default()))).unwrap();
    assert_eq!(copy.count_ivs(both, None).unwrap(), 7);
}

fn ring_again(store: &Store, ring: &Ring) {
    let label = ring.label.clone();
    store.clear_ring(ring.id, &label, 1, None).unwrap();
}

#[test]
fn numbers_jump_ahead_if_the_replaced_database_is_not_known() {
    let ((fixture, copy), (_other, older), ring) = pair_of_databases();
    let before = secret(&copy, &ring, "before");
    copy.renew(renewal(None)).unwrap();
    copy.renew(renewal(None)).unwrap();
    let after = secret(&copy, &ring, "after");
    assert!(after.0 - before.0 > 1 << 33, "{before:?} {after:?}");
    assert_eq!(copy.restores().unwrap(), Restores { last: Some(1000), iv_blocks: 1024 });
    // An older copy that takes its place counts as many.
    for _ in 0..2 {
        older.renew(renewal(Some(copy.high_water_marks().unwrap()))).unwrap();
        assert_eq!(older.restores().unwrap().iv_blocks, 1024);
    }
    // A row of a restore that was edited is found.
    assert!(copy.check_copy(&fixture.path()).is_ok());
    fixture.edit("UPDATE restores SET blocks = 0 WHERE number = 1");
    assert!(matches!(
        copy.check_copy(&fixture.path()),
        Err(StoreError::RowInvalid { table: "restores", .. })
    ));
}

#[test]
fn a_changed_pin_is_stored_with_the_login_that_keeps_its_objects() {
    let (fixture, store) = Fixture::new();
    let ring = ring(&store, "ring");
    let (one, other) = (LoginId([1; 16]), LoginId([2; 16]));
    let user = principal("user", RingRole::Admin, 1);
    store.put_principal(ring.id, &user, None).unwrap();
    let changed = user.with_changed_pin("new".to_owned(), PinKind::Bound, Some(one));
    store.put_principal(ring.id, &changed, None).unwrap();
    drop(store);
    let store = fixture.open();
    let read = store.principal(ring.id, "user").unwrap().unwrap();
    assert_eq!((read.objects_from(one), read.objects_from(other)), (0, 1));
    let again = Principal::clone(&read).with_changed_pin("newer".to_owned(), PinKind::Bound, Some(one));
    assert_eq!((again.objects_from(one), again.objects_from(other), again.pin_changes), (0, 2, 2));
    let nobody = again.with_changed_pin("newest".to_owned(), PinKind::Bound, None);
    assert_eq!((nobody.objects_from(one), nobody.objects_from(other)), (3, 3));
    fixture.edit("UPDATE principals SET kept_since = 7 WHERE name = 'user'");
    assert!(matches!(fixture.open().principal(ring.id, "user"), Err(StoreError::RowInvalid { .. })));
}
