//! Concurrent writers, snapshots, and the writes of other processes.

use std::collections::HashSet;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use kms_core::object::RingRole;

use super::*;
use crate::Snapshot;

#[test]
fn sixteen_concurrent_writers_each_get_their_own_keys() {
    let (_fixture, store) = Fixture::new();
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
fn a_snapshot_does_not_change_while_it_is_read() {
    let (_fixture, store) = Fixture::new();
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
    // Twenty snapshots at once do not use up the read connections.
    let many: Vec<_> = (0..20).map(|_| store.snapshot().unwrap()).collect();
    assert_eq!(by_label(&store, &first, "after").len(), 1);
    assert!(many.iter().all(|snapshot| labels(snapshot).len() == 2 && snapshot.rings().unwrap().len() == 2));
}

#[test]
fn writes_of_another_process_are_seen_within_a_second() {
    let (fixture, daemon) = Fixture::new();
    let ring = ring(&daemon, "one");
    let id = secret(&daemon, &ring, "before");
    let user = |generation| principal("user", RingRole::Admin, generation);
    daemon.put_principal(ring.id, &user(1), None).unwrap();
    daemon.object(ring.id, id).unwrap();
    assert_eq!(daemon.principal(ring.id, "user").unwrap().unwrap().generation, 1);
    assert_eq!(daemon.rings().unwrap().len(), 1);

    let command = fixture.open();
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
    // Both can write.
    assert_ne!(secret(&daemon, &ring, "daemon's"), secret(&command, &ring, "command's"));
}

#[test]
fn a_write_of_this_process_invalidates_nothing_else() {
    let (_fixture, store) = Fixture::new();
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
