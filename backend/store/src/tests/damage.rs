//! Restarts, edited rows, a full disk.

use kms_core::object::{Material, RingRole};

use super::*;

#[test]
fn everything_stored_is_read_again_after_a_restart() {
    let (fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let principal = principal("user", RingRole::Admin, 3);
    store.put_principal(ring.id, &principal, None).unwrap();
    let (private, public) = pair(&store, &ring, "pair");
    drop(store);
    let store = fixture.open();
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
fn an_edited_row_is_rejected_and_all_others_remain_usable() {
    // Each edit alone makes the object unreadable.
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
        let (fixture, store) = Fixture::new();
        let (one, two) = (ring(&store, "one"), ring(&store, "two"));
        let (edited, other) = (secret(&store, &one, "edited"), secret(&store, &one, "other"));
        assert_eq!((edited.0, other.0), (1, 2));
        drop(store);
        fixture.edit(sql);
        let store = fixture.open();
        let result = store.object(one.id, edited);
        assert!(matches!(result, Err(StoreError::RowInvalid { .. })), "{sql}: {result:?}");
        for ring in [&one, &two] {
            let found = store.find(ring.id, &Template::default(), None, 100).unwrap();
            let expected = if ring == &one { vec![Some(other)] } else { vec![] };
            assert_eq!(found.iter().map(|object| object.id).collect::<Vec<_>>(), expected, "{sql}");
        }
        assert!(store.object(one.id, other).is_ok());
        assert!(store.schedule_destruction((one.id, NO_REQUEST), edited, (1, 1), None).is_err());
        assert_eq!(store.logged.count(), 1);
    }
}

#[test]
fn a_full_disk_loses_nothing_and_writes_succeed_again_when_there_is_space() {
    let (_fixture, store) = Fixture::new();
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
    // Sixteen at once: a key reported as stored is found, and one rejected because the disk is full is not.
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
    for (index, stored) in stored.iter().enumerate() {
        let label = format!("{}", index / 20 * 100 + index % 20);
        assert_eq!(by_label(&store, &ring, &label).len(), usize::from(*stored), "{label}");
    }
    assert!(store.object(ring.id, first).is_ok());
    limit(Some(1 << 20)).unwrap();
    fill(9999).unwrap();
    store.check().unwrap();
}
