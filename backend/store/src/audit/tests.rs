//! The log in a real database: appended, tampered with, pruned, and written by two at once.

use std::path::PathBuf;
use std::sync::Barrier;

use kms_core::audit::{Fault, Kind};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

pub(super) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(super) fn new() -> (Self, Store) {
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

    pub(super) fn edit(&self, sql: &str) -> usize {
        Connection::open(self.path()).unwrap().execute(sql, []).unwrap()
    }
}

fn key() -> RowKey {
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
        name: "somebody".to_owned(),
        endpoint: "kms test".to_owned(),
        source: None,
        agent: String::new(),
        trace: None,
        status: 200,
        details: serde_json::Map::new(),
    }
}

fn filled(entries: u64) -> (Home, Store) {
    let (home, store) = Home::new();
    (1..=entries).for_each(|at| store.record(entry(at)).unwrap());
    (home, store)
}

fn verify(store: &Store) -> Result<u64, Broken> {
    store.verify_audit(None, |_, _| {}).unwrap().map(|verified| verified.entries)
}

#[test]
fn what_is_recorded_is_one_chain_after_opening_again() {
    let (home, store) = filled(3);
    drop(store);
    let store = home.open();
    store.record_all(vec![entry(4), entry(5)]).unwrap();
    assert_eq!(verify(&store), Ok(5));
    let head = store.audit_head().unwrap();
    assert_eq!((head.last.sequence, head.anchor), (5, Link::START));
    assert!(store.verify_audit(Some(head.last), |_, _| {}).unwrap().is_ok());
}

#[test]
fn an_empty_log_is_whole_and_has_a_head() {
    let (_home, store) = Home::new();
    assert_eq!(verify(&store), Ok(0));
    assert_eq!(store.audit_head().unwrap(), Head::START);
}

#[test]
fn each_way_of_tampering_is_found_where_it_begins() {
    let broken = |sequence, fault| Err(Broken { sequence, fault });
    let copy = |to: i64| {
        format!("INSERT INTO audit SELECT {to}, at, project, body, mac FROM audit WHERE sequence = 3")
    };
    let cases = [
        ("UPDATE audit SET at = at + 1 WHERE sequence = 3".to_owned(), broken(3, Fault::Changed)),
        ("UPDATE audit SET project = NULL WHERE sequence = 4".to_owned(), broken(4, Fault::Changed)),
        ("UPDATE audit SET project = x'00' WHERE sequence = 4".to_owned(), broken(4, Fault::Changed)),
        (
            "UPDATE audit SET body = replace(body, 'some', 'no') WHERE sequence = 5".to_owned(),
            broken(5, Fault::Changed),
        ),
        ("UPDATE audit SET body = CAST(x'ff' AS TEXT) WHERE sequence = 5".to_owned(), broken(5, Fault::Changed)),
        ("UPDATE audit SET mac = x'' WHERE sequence = 1".to_owned(), broken(1, Fault::Changed)),
        ("DELETE FROM audit WHERE sequence = 1".to_owned(), broken(1, Fault::Missing)),
        ("DELETE FROM audit WHERE sequence = 3".to_owned(), broken(3, Fault::Missing)),
        ("DELETE FROM audit WHERE sequence > 4".to_owned(), broken(5, Fault::Missing)),
        ("DELETE FROM audit".to_owned(), broken(1, Fault::Missing)),
        (copy(7), broken(7, Fault::Added)),
        (copy(0), broken(0, Fault::Added)),
        (copy(-5), broken(-5, Fault::Added)),
        // 3 and 4 change places.
        (
            "UPDATE audit SET sequence = CASE sequence WHEN 3 THEN 1003 ELSE 1004 END WHERE sequence IN (3, 4); \
             UPDATE audit SET sequence = CASE sequence WHEN 1003 THEN 4 ELSE 3 END WHERE sequence > 1000"
                .to_owned(),
            broken(3, Fault::Changed),
        ),
        ("DELETE FROM audit_head".to_owned(), Err(Broken::HEAD)),
        ("UPDATE audit_head SET sequence = 5".to_owned(), Err(Broken::HEAD)),
        ("UPDATE audit_head SET anchor = 2".to_owned(), Err(Broken::HEAD)),
        ("UPDATE audit_head SET mac = x''".to_owned(), Err(Broken::HEAD)),
        ("UPDATE audit_head SET link = x''".to_owned(), Err(Broken::HEAD)),
    ];
    for (sql, found) in cases {
        let (home, store) = filled(6);
        let changed = sql.split(';').map(|sql| home.edit(sql)).min();
        assert!(changed > Some(0), "{sql} changes nothing");
        assert_eq!(verify(&store), found, "{sql}");
        // A new process finds the same.
        drop(store);
        assert_eq!(verify(&home.open()), found, "{sql}");
    }
}

#[test]
fn nothing_is_appended_to_a_log_whose_end_is_not_known() {
    for sql in ["DELETE FROM audit_head", "UPDATE audit_head SET sequence = 2"] {
        let (home, store) = filled(3);
        assert_eq!(home.edit(sql), 1);
        let refused = store.record(entry(4));
        assert!(matches!(refused, Err(StoreError::RowInvalid { table: "audit_head", .. })), "{refused:?}");
        drop(store);
        assert!(home.open().record(entry(4)).is_err());
    }
}

#[test]
fn a_broken_log_is_begun_anew_and_nothing_of_it_is_lost() {
    let rows = |home: &Home, table: &str| -> u64 {
        let sql = format!("SELECT count(*) FROM {table}");
        Connection::open(home.path()).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    let again = || Entry { event: "kms.audit.restart", ..entry(9) };
    for (sql, left, after) in [
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
        let (home, store) = filled(6);
        assert_eq!(store.restart_audit(again()).unwrap(), None, "a log that is whole is left alone");
        let kept = store.audit_head().unwrap().last;
        assert_eq!(home.edit(sql), 1);
        let found = verify(&store).unwrap_err();
        let restart = store.restart_audit(again()).unwrap().unwrap();
        assert_eq!((restart.entries, restart.after), (left, after), "{sql}");
        assert_eq!((&restart.problem, restart.number), (&found.to_string(), 1));
        assert_eq!((rows(&home, "audit_set_aside"), rows(&home, "audit")), (left, 1), "{sql}");
        // It goes on, here and in a new process, and says what it is.
        store.record(entry(10)).unwrap();
        drop(store);
        let store = home.open();
        store.record(entry(11)).unwrap();
        let whole = store.verify_audit(None, |_, _| {}).unwrap().unwrap();
        assert_eq!((whole.entries, whole.pruned, whole.restarts), (3, 0, 1), "{sql}");
        assert_eq!(store.audit_restarts().unwrap(), [restart]);
        let all = AuditFilter { project: None, from: 0, until: u64::MAX };
        let first = store.audit_page(&all, None, 1).unwrap().remove(0);
        assert_eq!((first.sequence, first.body.event.as_str()), (after + 1, "kms.audit.restart"));
        assert_eq!(first.body.details["problem"], found.to_string());
        // A head that was kept elsewhere is compared with what was set aside.
        assert!(store.verify_audit(Some(kept), |_, _| {}).unwrap().is_ok(), "{sql}");
        if left == 6 {
            let other = Link { mac: [1; MAC_BYTES], ..kept };
            let replaced = store.verify_audit(Some(other), |_, _| {}).unwrap().unwrap_err();
            assert_eq!(replaced.fault, Fault::Replaced, "{sql}");
        }
        assert_eq!(store.prune_audit(11, &entry(12)).unwrap(), 2);
        let whole = store.verify_audit(None, |_, _| {}).unwrap().unwrap();
        assert_eq!((whole.entries, whole.pruned, whole.restarts), (2, 2, 1), "{sql}");
    }
}

#[test]
fn a_restart_cannot_be_changed_or_forgotten() {
    for sql in [
        "UPDATE audit_set_aside SET body = '{}' WHERE sequence = 2",
        "DELETE FROM audit_set_aside WHERE sequence = 5",
        "UPDATE audit_set_aside SET project = x'' WHERE project IS NULL AND sequence = 1",
        "UPDATE audit_restarts SET problem = 'none' WHERE number = 1",
        "UPDATE audit_restarts SET name = 'somebody else' WHERE number = 2",
        "DELETE FROM audit_restarts WHERE number = 2",
        "UPDATE audit_restarts SET mac = x'' WHERE number = 1",
    ] {
        let (home, store) = filled(5);
        for _ in 0..2 {
            home.edit("UPDATE audit SET at = at + 1 WHERE sequence = (SELECT max(sequence) FROM audit)");
            assert!(store.restart_audit(entry(9)).unwrap().is_some());
        }
        let whole = store.verify_audit(None, |_, _| {}).unwrap().unwrap();
        assert_eq!((whole.entries, whole.restarts), (1, 2));
        let connection = Connection::open(home.path()).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
        assert_eq!(verify(&store).unwrap_err().fault, Fault::SetAside, "{sql}");
        // Even that is no dead end: it is begun anew, and this is told from then on.
        let third = store.restart_audit(entry(9)).unwrap();
        assert!(third.is_some_and(|third| third.problem.contains("set aside")), "{sql}");
        store.record(entry(10)).unwrap();
    }
    // All of it gone is not a new home.
    let (home, store) = filled(5);
    home.edit("DELETE FROM audit WHERE sequence = 2");
    store.restart_audit(entry(9)).unwrap();
    drop(store);
    home.edit("DELETE FROM audit");
    home.edit("DELETE FROM audit_head");
    assert_eq!(verify(&home.open()), Err(Broken::HEAD));
}

#[test]
fn two_who_write_at_once_make_one_chain() {
    let (home, first) = Home::new();
    let second = home.open();
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
    let (_home, store) = Home::new();
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
fn pruning_keeps_the_rest_verifiable_and_says_so() {
    let (_home, store) = filled(2500);
    let reminder = Entry { event: "kms.audit.prune", kind: Kind::SystemEvent, ..entry(9999) };
    let (before, pruned) = (store.audit_head().unwrap().last, store.prune_audit(2401, &reminder).unwrap());
    assert_eq!((pruned, verify(&store)), (2400, Ok(101)));
    assert_eq!(store.audit_head().unwrap().anchor.sequence, 2400);
    assert!(store.verify_audit(Some(before), |_, _| {}).unwrap().is_ok());
    // The last one stays, whatever its age, so that the head names an entry.
    assert_eq!(store.prune_audit(u64::MAX, &reminder).unwrap(), 100);
    assert_eq!(verify(&store), Ok(2));
    store.record(entry(1)).unwrap();
    assert_eq!(verify(&store), Ok(3));
}

#[test]
fn what_was_tampered_with_is_not_pruned_away() {
    let (home, store) = filled(10);
    home.edit("UPDATE audit SET body = '{}' WHERE sequence = 4");
    assert!(store.prune_audit(8, &entry(11)).is_err());
    assert_eq!(verify(&store), Err(Broken { sequence: 4, fault: Fault::Changed }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_row_edited_removed_or_moved_is_found(
        entries in 2..7_u64,
        (victim, other) in (0..7_u64, 1..7_u64),
        act in 0..4_u8,
    ) {
        let (home, store) = filled(entries);
        let victim = victim % entries + 1;
        let other = (victim + other % (entries - 1)) % entries + 1;
        prop_assume!(victim != other);
        let sql = match act {
            0 => format!("UPDATE audit SET body = body || ' ' WHERE sequence = {victim}"),
            1 => format!("DELETE FROM audit WHERE sequence = {victim}"),
            2 => format!("DELETE FROM audit WHERE sequence >= {victim}"),
            _ => format!("UPDATE audit SET (at, project, body, mac) = \
                          (SELECT at, project, body, mac FROM audit WHERE sequence = {other}) WHERE sequence = {victim}"),
        };
        prop_assert!(home.edit(&sql) > 0);
        let found = verify(&store).unwrap_err();
        prop_assert_eq!(found.sequence.unsigned_abs(), victim);
    }
}
