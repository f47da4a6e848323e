//! The audit log in a real database: append, tampering, restart, pruning, two writers at once.

use std::sync::Barrier;

use kms_core::audit::{FaultKind, Kind};
use proptest::prelude::*;

use super::*;
use crate::tests::{Fixture, entry};

fn filled(entries: u64) -> (Fixture, Store) {
    let (fixture, store) = Fixture::new();
    (1..=entries).for_each(|at| store.record(entry(at)).unwrap());
    (fixture, store)
}

fn verify(store: &Store) -> Result<u64, ChainFault> {
    store.verify_audit(None, |_, _| {}).unwrap().map(|verified| verified.entries)
}

#[test]
fn recorded_entries_are_one_chain_after_a_restart() {
    let (fixture, store) = filled(3);
    drop(store);
    let store = fixture.open();
    store.record_all(vec![entry(4), entry(5)]).unwrap();
    assert_eq!(verify(&store), Ok(5));
    let head = store.audit_head().unwrap();
    assert_eq!((head.last.sequence, head.anchor), (5, Link::START));
    assert!(store.verify_audit(Some(head.last), |_, _| {}).unwrap().is_ok());
}

#[test]
fn an_empty_log_is_intact_and_has_a_head() {
    let (_fixture, store) = Fixture::new();
    assert_eq!(verify(&store), Ok(0));
    let head = store.audit_head().unwrap();
    assert!(head.state.is_some());
    assert_eq!(Head { state: None, ..head }, Head::START);
}

#[test]
fn each_way_of_tampering_is_found_at_its_first_entry() {
    let broken = |sequence, fault| Err(ChainFault { sequence, fault });
    let copy = |to: i64| {
        format!("INSERT INTO audit SELECT {to}, at, project, body, mac FROM audit WHERE sequence = 3")
    };
    let cases = [
        ("UPDATE audit SET at = at + 1 WHERE sequence = 3".to_owned(), broken(3, FaultKind::Changed)),
        ("UPDATE audit SET project = NULL WHERE sequence = 4".to_owned(), broken(4, FaultKind::Changed)),
        ("UPDATE audit SET project = x'00' WHERE sequence = 4".to_owned(), broken(4, FaultKind::Changed)),
        (
            "UPDATE audit SET body = replace(body, 'some', 'no') WHERE sequence = 5".to_owned(),
            broken(5, FaultKind::Changed),
        ),
        ("UPDATE audit SET body = CAST(x'ff' AS TEXT) WHERE sequence = 5".to_owned(), broken(5, FaultKind::Changed)),
        ("UPDATE audit SET mac = x'' WHERE sequence = 1".to_owned(), broken(1, FaultKind::Changed)),
        ("DELETE FROM audit WHERE sequence = 1".to_owned(), broken(1, FaultKind::Missing)),
        ("DELETE FROM audit WHERE sequence = 3".to_owned(), broken(3, FaultKind::Missing)),
        ("DELETE FROM audit WHERE sequence > 4".to_owned(), broken(5, FaultKind::Missing)),
        ("DELETE FROM audit".to_owned(), broken(1, FaultKind::Missing)),
        (copy(7), broken(7, FaultKind::Added)),
        (copy(0), broken(0, FaultKind::Added)),
        (copy(-5), broken(-5, FaultKind::Added)),
        // 3 and 4 are swapped.
        (
            "UPDATE audit SET sequence = CASE sequence WHEN 3 THEN 1003 ELSE 1004 END WHERE sequence IN (3, 4); \
             UPDATE audit SET sequence = CASE sequence WHEN 1003 THEN 4 ELSE 3 END WHERE sequence > 1000"
                .to_owned(),
            broken(3, FaultKind::Changed),
        ),
        ("DELETE FROM audit_head".to_owned(), Err(ChainFault::HEAD)),
        ("UPDATE audit_head SET sequence = 5".to_owned(), Err(ChainFault::HEAD)),
        ("UPDATE audit_head SET anchor = 2".to_owned(), Err(ChainFault::HEAD)),
        ("UPDATE audit_head SET mac = x''".to_owned(), Err(ChainFault::HEAD)),
        ("UPDATE audit_head SET link = x''".to_owned(), Err(ChainFault::HEAD)),
    ];
    for (sql, expected) in cases {
        let (fixture, store) = filled(6);
        let changed = sql.split(';').map(|sql| fixture.edit(sql)).min();
        assert!(changed > Some(0), "{sql} changes nothing");
        assert_eq!(verify(&store), expected, "{sql}");
        // A new process finds the same.
        drop(store);
        assert_eq!(verify(&fixture.open()), expected, "{sql}");
    }
}

#[test]
fn nothing_is_appended_to_a_log_whose_head_is_invalid() {
    for sql in ["DELETE FROM audit_head", "UPDATE audit_head SET sequence = 2"] {
        let (fixture, store) = filled(3);
        assert_eq!(fixture.edit(sql), 1);
        let result = store.record(entry(4));
        assert!(matches!(result, Err(StoreError::RowInvalid { table: "audit_head", .. })), "{result:?}");
        drop(store);
        assert!(fixture.open().record(entry(4)).is_err());
    }
}

#[test]
fn a_broken_log_is_restarted_and_no_entry_is_lost() {
    let rows = |fixture: &Fixture, table: &str| -> u64 {
        let sql = format!("SELECT count(*) FROM {table}");
        Connection::open(fixture.path()).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    let restart_entry = || Entry { event: "kms.audit.restart", ..entry(9) };
    for (sql, set_aside, after) in [
        ("UPDATE audit SET body = CAST(x'ff' AS TEXT) WHERE sequence = 3", 6, 6),
        ("DELETE FROM audit WHERE sequence = 6", 5, 6),
        ("DELETE FROM audit_head", 6, 6),
        ("UPDATE audit_head SET sequence = 900", 6, 6),
        ("UPDATE audit_head SET restarted = zeroblob(32)", 6, 6),
        (
            "INSERT INTO audit SELECT 0x7fffffffffffffff, at, project, body, mac FROM audit WHERE sequence = 1",
            7,
            6,
        ),
        ("INSERT INTO audit SELECT -1, at, project, body, mac FROM audit WHERE sequence = 1", 7, 6),
    ] {
        let (fixture, store) = filled(6);
        assert_eq!(store.restart_audit(restart_entry()).unwrap(), None, "an intact log is not restarted");
        let old_head = store.audit_head().unwrap().last;
        assert_eq!(fixture.edit(sql), 1);
        let found = verify(&store).unwrap_err();
        let restart = store.restart_audit(restart_entry()).unwrap().unwrap();
        assert_eq!((restart.entries, restart.after), (set_aside, after), "{sql}");
        assert_eq!((&restart.problem, restart.number), (&found.to_string(), 1));
        assert_eq!((rows(&fixture, "audit_set_aside"), rows(&fixture, "audit")), (set_aside, 1), "{sql}");
        // Entries can be appended, here and in a new process, and the first one describes the restart.
        store.record(entry(10)).unwrap();
        drop(store);
        let store = fixture.open();
        store.record(entry(11)).unwrap();
        let verified = store.verify_audit(None, |_, _| {}).unwrap().unwrap();
        assert_eq!((verified.entries, verified.pruned, verified.restarts), (3, 0, 1), "{sql}");
        assert_eq!(store.audit_restarts().unwrap(), [restart]);
        let all = AuditFilter { project: None, from: 0, until: u64::MAX };
        let first = store.audit_page(&all, None, 1).unwrap().remove(0);
        assert_eq!((first.sequence, first.body.event.as_str()), (after + 1, "kms.audit.restart"));
        assert_eq!(first.body.details["problem"], found.to_string());
        // A head that was stored elsewhere is compared with the entries that were set aside.
        assert!(store.verify_audit(Some(old_head), |_, _| {}).unwrap().is_ok(), "{sql}");
        if set_aside == 6 {
            let other = Link { mac: [1; MAC_BYTES], ..old_head };
            let replaced = store.verify_audit(Some(other), |_, _| {}).unwrap().unwrap_err();
            assert_eq!(replaced.fault, FaultKind::Replaced, "{sql}");
        }
        assert_eq!(store.prune_audit(11, &entry(12)).unwrap(), 2);
        let verified = store.verify_audit(None, |_, _| {}).unwrap().unwrap();
        assert_eq!((verified.entries, verified.pruned, verified.restarts), (2, 2, 1), "{sql}");
    }
}

#[test]
fn a_restart_that_is_edited_or_removed_is_detected() {
    for sql in [
        "UPDATE audit_set_aside SET body = '{}' WHERE sequence = 2",
        "DELETE FROM audit_set_aside WHERE sequence = 5",
        "UPDATE audit_set_aside SET project = x'' WHERE project IS NULL AND sequence = 1",
        "UPDATE audit_restarts SET problem = 'none' WHERE number = 1",
        "UPDATE audit_restarts SET name = 'someone else' WHERE number = 2",
        "DELETE FROM audit_restarts WHERE number = 2",
        "UPDATE audit_restarts SET mac = x'' WHERE number = 1",
    ] {
        let (fixture, store) = filled(5);
        for _ in 0..2 {
            fixture.edit("UPDATE audit SET at = at + 1 WHERE sequence = (SELECT max(sequence) FROM audit)");
            assert!(store.restart_audit(entry(9)).unwrap().is_some());
        }
        let verified = store.verify_audit(None, |_, _| {}).unwrap().unwrap();
        assert_eq!((verified.entries, verified.restarts), (1, 2));
        let connection = Connection::open(fixture.path()).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
        assert_eq!(verify(&store).unwrap_err().fault, FaultKind::SetAside, "{sql}");
        // Even then the log can be restarted, and the new restart records the defect.
        let third = store.restart_audit(entry(9)).unwrap();
        assert!(third.is_some_and(|third| third.problem.contains("set aside")), "{sql}");
        store.record(entry(10)).unwrap();
    }
    // A log without any rows left is not treated as that of a new home.
    let (fixture, store) = filled(5);
    fixture.edit("DELETE FROM audit WHERE sequence = 2");
    store.restart_audit(entry(9)).unwrap();
    drop(store);
    fixture.edit("DELETE FROM audit");
    fixture.edit("DELETE FROM audit_head");
    assert_eq!(verify(&fixture.open()), Err(ChainFault::HEAD));
}

#[test]
fn two_concurrent_writers_write_one_chain() {
    let (fixture, first) = Fixture::new();
    let second = fixture.open();
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = if number % 2 == 0 { &first } else { &second };
            let start = &start;
            scope.spawn(move || {
                start.wait();
                (0..10).for_each(|at| store.record(entry(at)).unwrap());
            });
        }
    });
    assert_eq!(verify(&first), Ok(80));
    assert_eq!(verify(&second), Ok(80));
}

#[test]
fn a_job_that_fails_in_a_group_leaves_no_gap() {
    let (_fixture, store) = Fixture::new();
    let start = Barrier::new(16);
    std::thread::scope(|scope| {
        for number in 0..16_u64 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                let result = store.writer.write(move |tx| {
                    tx.record(&entry(number))?;
                    tx.record(&entry(number))?;
                    if number % 2 == 0 { Ok(()) } else { Err(StoreError::NotFound) }
                });
                assert_eq!(result.is_ok(), number % 2 == 0);
            });
        }
    });
    assert_eq!(verify(&store), Ok(16));
}

#[test]
fn the_rest_of_a_pruned_log_is_verifiable_and_pruning_is_recorded() {
    let (_fixture, store) = filled(2500);
    let prune_entry = Entry { event: "kms.audit.prune", kind: Kind::SystemEvent, ..entry(9999) };
    let (before, pruned) = (store.audit_head().unwrap().last, store.prune_audit(2401, &prune_entry).unwrap());
    assert_eq!((pruned, verify(&store)), (2400, Ok(101)));
    assert_eq!(store.audit_head().unwrap().anchor.sequence, 2400);
    assert!(store.verify_audit(Some(before), |_, _| {}).unwrap().is_ok());
    // The last entry stays, whatever its age, so that the head names an entry.
    assert_eq!(store.prune_audit(u64::MAX, &prune_entry).unwrap(), 100);
    assert_eq!(verify(&store), Ok(2));
    store.record(entry(1)).unwrap();
    assert_eq!(verify(&store), Ok(3));
}

#[test]
fn an_entry_that_was_tampered_with_is_not_pruned() {
    let (fixture, store) = filled(10);
    fixture.edit("UPDATE audit SET body = '{}' WHERE sequence = 4");
    assert!(store.prune_audit(8, &entry(11)).is_err());
    assert_eq!(verify(&store), Err(ChainFault { sequence: 4, fault: FaultKind::Changed }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_row_edited_removed_or_moved_is_found(
        entries in 2..7_u64,
        (victim, other) in (0..7_u64, 1..7_u64),
        change in 0..4_u8,
    ) {
        let (fixture, store) = filled(entries);
        let victim = victim % entries + 1;
        let other = (victim + other % (entries - 1)) % entries + 1;
        prop_assume!(victim != other);
        let sql = match change {
            0 => format!("UPDATE audit SET body = body || ' ' WHERE sequence = {victim}"),
            1 => format!("DELETE FROM audit WHERE sequence = {victim}"),
            2 => format!("DELETE FROM audit WHERE sequence >= {victim}"),
            _ => format!("UPDATE audit SET (at, project, body, mac) = \
                          (SELECT at, project, body, mac FROM audit WHERE sequence = {other}) WHERE sequence = {victim}"),
        };
        prop_assert!(fixture.edit(&sql) > 0);
        let found = verify(&store).unwrap_err();
        prop_assert_eq!(found.sequence.unsigned_abs(), victim);
    }
}
