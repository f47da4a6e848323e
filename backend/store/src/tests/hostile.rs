//! A database that somebody else writes: what no single row shows is found, and nothing acts on it.

use kms_core::api::{Grant, Role};
use kms_core::audit::{ChainFault, FaultKind};

use super::*;
use crate::{AccountGrant, IdempotencyKey, Project, ServiceAccount};

fn account(store: &Store, number: u128) -> Grant {
    let id = Uuid::from_u128(number);
    let email = format!("a{number}@x.sa.kms.local");
    let account = ServiceAccount { id, email, created: 5, disabled: None, generation: 1 };
    store.insert_account(account, Vec::new(), entry(5)).unwrap();
    let grant = Grant { role: Role::named("kms.admin").unwrap(), project: None, ring: None };
    let given = AccountGrant { id: Uuid::from_u128(number + 100), account: id, grant, created: 5 };
    store.insert_grant(given, entry(5)).unwrap();
    grant
}

fn project(number: u128, name: &str, created: u64) -> Project {
    Project { id: Uuid::from_u128(number), name: name.to_owned(), created }
}

fn fault(store: &Store) -> Option<FaultKind> {
    store.verify_audit(None, |_, _| {}).unwrap().err().map(|ChainFault { fault, .. }| fault)
}

fn table(found: Option<FaultKind>) -> &'static str {
    match found {
        Some(FaultKind::Table { name, .. }) => name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_revoked_role_that_is_put_back_is_found_and_nothing_is_answered_any_more() {
    let (fixture, store) = Fixture::new();
    let grant = account(&store, 1);
    let edit = Connection::open(fixture.path()).unwrap();
    edit.execute_batch("ATTACH ':memory:' AS side; CREATE TABLE side.kept AS SELECT * FROM main.grants")
        .unwrap();
    store.remove_grant(Uuid::from_u128(1), grant, entry(6)).unwrap();
    store.check_rows().unwrap();
    edit.execute_batch("INSERT INTO main.grants SELECT * FROM side.kept").unwrap();
    assert_eq!(table(fault(&store)), "grants");
    let _guard = store.guard().unwrap();
    assert!(matches!(store.check_rows(), Err(StoreError::Tampered(what)) if what.contains("table grants")));
    assert!(matches!(store.member(Uuid::from_u128(1)), Err(StoreError::Tampered(_))));
    assert!(matches!(store.rings(), Err(StoreError::Tampered(_))));
    assert!(matches!(store.record(entry(7)), Err(StoreError::Tampered(_))));
    drop(store);
    // The operator may go on with the rows as they are: that is in the log.
    let store = fixture.open();
    assert!(store.check_rows().is_err());
    drop(store);
    let restarted = fixture.open().restart_audit(entry(8)).unwrap().unwrap();
    assert!(restarted.problem.contains("table grants"), "{restarted:?}");
    let store = fixture.open();
    store.check_rows().unwrap();
    assert_eq!(fault(&store), None);
}

#[test]
fn the_guard_finds_within_moments_what_another_program_writes() {
    let (fixture, store) = Fixture::new();
    ring(&store, "one");
    let guard = store.guard().unwrap();
    // Another process of ours writes, too: that is no fault.
    ring(&fixture.open(), "two");
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert_eq!(store.rings().unwrap().len(), 2);
    fixture.edit("DELETE FROM rings WHERE label = 'two'");
    let refused = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        matches!(store.rings(), Err(StoreError::Tampered(_)))
    });
    assert!(refused);
    drop(guard);
}

#[test]
fn a_foreign_trigger_ends_the_trust_and_never_runs() {
    let (fixture, store) = Fixture::new();
    let grant = account(&store, 1);
    let edit = Connection::open(fixture.path()).unwrap();
    edit.execute_batch("CREATE TRIGGER c1 BEFORE DELETE ON grants BEGIN SELECT RAISE(IGNORE); END").unwrap();
    // At once, before anybody has noticed.
    store.remove_grant(Uuid::from_u128(1), grant, entry(6)).unwrap();
    assert_eq!(edit.query_row("SELECT count(*) FROM grants", [], |row| row.get::<_, u64>(0)).unwrap(), 0);
    let refused = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        store.rings().is_err_and(|error| error.to_string().contains("trigger c1"))
    });
    assert!(refused);
}

#[test]
fn an_edited_row_is_no_reason_to_refuse_the_others() {
    let (fixture, store) = Fixture::new();
    let one = ring(&store, "one");
    let (edited, kept) = (secret(&store, &one, "edited"), secret(&store, &one, "kept"));
    drop(store);
    fixture.edit("UPDATE objects SET label = x'61' WHERE id = 1");
    let store = fixture.open();
    store.check_rows().unwrap();
    assert!(store.object(one.id, edited).is_err() && store.object(one.id, kept).is_ok());
    assert_eq!(table(fault(&store)), "objects");
}

#[test]
fn the_digest_follows_every_kind_of_change() {
    let (fixture, store) = Fixture::new();
    let one = ring(&store, "one");
    store.insert_project(&project(9, "other", 3), entry(7)).unwrap();
    let repeat = IdempotencyKey { project: Uuid::nil(), id: Uuid::from_u128(1), asked: [1; 32] };
    store.create_ring(new_ring([9; 16], "two"), Some(repeat)).unwrap().unwrap();
    store.put_principal(one.id, &principal("user", RingRole::Admin, 1), Some(entry(1))).unwrap();
    store.put_principal(one.id, &principal("user", RingRole::Reader, 2), None).unwrap();
    store.put_principal(one.id, &principal("gone", RingRole::Reader, 2), None).unwrap();
    store.remove_principal(one.id, "gone", entry(2)).unwrap();
    let (hidden, public) = pair(&store, &one, "pair");
    let lone = secret(&store, &one, "lone");
    store.schedule_destruction((one.id, RequestId([3; 16])), public, (10, 20), Some(entry(3))).unwrap();
    store.schedule_destruction((one.id, RequestId([4; 16])), lone, (10, 20), None).unwrap();
    let key = store.object(one.id, hidden).unwrap().version.unwrap();
    store.schedule_deletion(one.id, Uuid::from_bytes(key.key), 30, entry(4)).unwrap().unwrap();
    store.count_ivs(kms_core::seal::Fingerprint([1; 32]), None).unwrap();
    store.count_ivs(kms_core::seal::Fingerprint([1; 32]), None).unwrap();
    let grant = account(&store, 1);
    store.set_account_disabled(Uuid::from_u128(1), Some(3), entry(5)).unwrap();
    store.check_rows().unwrap();
    while !store.purge(40, |_| entry(6)).unwrap().is_empty() {}
    assert_eq!(fault(&store), None);
    store.remove_grant(Uuid::from_u128(1), grant, entry(6)).unwrap();
    store.remove_account(Uuid::from_u128(1), entry(6)).unwrap();
    store.clear_ring(one.id, "cleared", 50, Some(entry(7))).unwrap();
    // What fails changes nothing, not the digest either.
    assert!(store.insert_ring(&new_ring([8; 16], "cleared")).is_err());
    assert_eq!(fault(&store), None);
    drop(store);
    let store = fixture.open();
    assert_eq!(fault(&store), None);
    store.check_rows().unwrap();
}

#[test]
fn a_ring_whose_project_is_deleted_is_not_there_and_never_moves() {
    let (fixture, store) = Fixture::new();
    ring(&store, "one");
    store.insert_project(&project(9, "other", 7), entry(7)).unwrap();
    drop(store);
    fixture.edit("DELETE FROM projects WHERE name = 'default'");
    let store = fixture.open();
    assert_eq!(store.rings().unwrap(), []);
    assert_eq!(table(fault(&store)), "projects");
    assert!(matches!(store.insert_ring(&new_ring([7; 16], "new")), Err(StoreError::NotFound)));
}

#[test]
fn projects_are_not_added_under_a_clock_that_is_behind() {
    let (_fixture, store) = Fixture::new();
    store.insert_project(&project(1, "first", 100_000), entry(1)).unwrap();
    let behind = store.insert_project(&project(2, "early", 99_999), entry(2));
    assert!(matches!(behind, Err(StoreError::ClockBehind { behind: 1, .. })), "{behind:?}");
    let named = store.insert_project(&project(3, "first", 100_001), entry(2));
    assert!(matches!(named, Err(StoreError::NameInUse(name)) if name == "first"));
    store.record(entry(500_000_000)).unwrap();
    let behind = store.insert_project(&project(2, "early", 100_001), entry(2));
    assert!(behind.unwrap_err().to_string().contains("set the clock right"));
    store.insert_project(&project(2, "now", 500_000), entry(2)).unwrap();
}

#[test]
fn a_home_of_an_earlier_version_gets_names_marks_and_a_digest_once() {
    let (fixture, store) = Fixture::new();
    let one = ring(&store, "one");
    secret(&store, &one, "key");
    drop(store);
    // As it was before schema 9: the ring and the span name no project, there is no mark and no digest.
    let old = Ring { metadata: RingMetadata::default(), ..one };
    let mac = row_key().mac(
        "rings",
        &[
            ("slot", kms_core::integrity::Cell::Integer(0)),
            ("id", kms_core::integrity::Cell::Bytes(&old.id.0)),
            ("label", kms_core::integrity::Cell::Text("one")),
            ("policy", kms_core::integrity::Cell::Integer(1)),
            ("created", kms_core::integrity::Cell::Integer(7)),
        ],
    );
    let edit = Connection::open(fixture.path()).unwrap();
    edit.execute("UPDATE rings SET project = NULL, mac = ?1", [mac]).unwrap();
    edit.execute_batch(
        "UPDATE spans SET project = NULL; UPDATE home SET begun = NULL, mac = NULL; DELETE FROM projects; \
         DELETE FROM audit; DELETE FROM audit_head",
    )
    .unwrap();
    // The token has counted for this home: then it is not one of an earlier version.
    let at = Store::open_existing(&fixture.path()).unwrap().unlock_at(row_key(), Some(1));
    assert!(matches!(at, Err(StoreError::OldCopy { counted: 1, found: 0 })));
    let store = fixture.open();
    assert_eq!(store.rings().unwrap().len(), 1);
    assert_eq!(store.projects().unwrap(), [Project::implied()]);
    assert_eq!(fault(&store), None);
    drop(store);
    // From now on a ring that names none is refused.
    edit.execute("UPDATE rings SET project = NULL, mac = ?1", [mac]).unwrap();
    let store = fixture.open();
    assert_eq!(store.rings().unwrap(), []);
    assert_eq!(table(fault(&store)), "rings");
}

#[test]
fn a_log_that_was_begun_is_not_begun_anew() {
    let (fixture, store) = Fixture::new();
    ring(&store, "one");
    store.record(entry(1)).unwrap();
    drop(store);
    fixture.edit("DELETE FROM audit");
    fixture.edit("DELETE FROM audit_head");
    let store = fixture.open();
    assert_eq!(fault(&store), Some(FaultKind::Head));
    assert!(store.record(entry(2)).is_err());
    drop(store);
    fixture.edit("UPDATE home SET begun = 2");
    let opened = Store::open_existing(&fixture.path()).unwrap().unlock(row_key());
    assert!(matches!(opened, Err(StoreError::RowInvalid { table: "home", .. })));
}

#[test]
fn an_old_copy_is_refused_by_the_number_in_the_token() {
    let (fixture, store) = Fixture::new();
    assert_eq!(store.advance_counter(0).unwrap(), 1);
    drop(store);
    let copy = fixture.path().with_extension("old");
    std::fs::copy(fixture.path(), &copy).unwrap();
    let open = |path: &std::path::Path, counted| {
        Store::open_existing(path).unwrap().unlock_at(row_key(), Some(counted)).map(drop)
    };
    open(&copy, 1).unwrap();
    assert_eq!(fixture.open().advance_counter(1).unwrap(), 2);
    open(&fixture.path(), 2).unwrap();
    let refused = open(&copy, 2);
    assert!(matches!(refused, Err(StoreError::OldCopy { counted: 2, found: 1 })), "{refused:?}");
    // With the newer digest and head it is not the newer database.
    fixture.edit("UPDATE audit_head SET counter = 9");
    assert_eq!(fault(&fixture.open()), Some(FaultKind::Head));
}

#[test]
fn a_counter_that_was_set_back_replaces_nothing() {
    let (fixture, store) = Fixture::new();
    let one = ring(&store, "one");
    let first = secret(&store, &one, "first");
    drop(store);
    fixture.edit("UPDATE counters SET next = 1 WHERE name = 'object'");
    let store = fixture.open();
    let drafts = vec![draft(ObjectClass::SECRET_KEY, "second")];
    let refused = store.insert(NO_REQUEST, new_key(&one, "second"), drafts);
    assert!(matches!(refused, Err(StoreError::CounterBehind { name: "object", next: 1 })), "{refused:?}");
    assert_eq!(by_label(&store, &one, "first"), [first]);
    assert_eq!(table(fault(&store)), "counters");
}

#[test]
fn dates_that_nobody_wrote_erase_nothing() {
    let (fixture, store) = Fixture::new();
    let one = ring(&store, "one");
    let (_, public) = pair(&store, &one, "pair");
    drop(store);
    for sql in [
        format!("UPDATE objects SET destroy_at = 1 WHERE id = {}", public.0),
        "UPDATE keys SET deletion_at = 1".to_owned(),
        "UPDATE keys SET expires_at = 1, kind = 2".to_owned(),
        "UPDATE versions SET destroy_at = 1, state = 3".to_owned(),
    ] {
        fixture.edit(&sql);
        let purged = fixture.open().purge(100, |_| entry(1)).unwrap();
        assert!(purged.is_empty(), "{sql}: {purged:?}");
    }
    let left = |sql| {
        Connection::open(fixture.path()).unwrap().query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap()
    };
    assert_eq!((left("SELECT count(*) FROM objects"), left("SELECT count(wrapped) FROM versions")), (2, 1));
}
