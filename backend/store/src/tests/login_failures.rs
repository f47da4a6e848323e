//! Counts of wrong PINs: durable, bounded, and not to be edited.

use super::*;

const RING: RingId = RingId([1; 16]);

fn name(number: u16) -> [u8; 16] {
    let mut name = [1; 16];
    name[..2].copy_from_slice(&number.to_be_bytes());
    name
}

fn fail(store: &Store, uid: u32, number: u16, now: u64) -> u32 {
    let (track, _) = store.login_failures(RING, Some(uid), name(number), now.saturating_sub(100)).unwrap();
    store.count_login_failure(&track, now, now.saturating_sub(100)).unwrap()
}

fn failures(store: &Store, uid: u32, number: u16, before: u64) -> u32 {
    store.login_failures(RING, Some(uid), name(number), before).unwrap().1.count
}

#[test]
fn failures_are_counted_by_name_and_uid_and_survive_a_restart() {
    let (fixture, store) = Fixture::new();
    assert_eq!([fail(&store, 1, 1, 1000), fail(&store, 1, 1, 1001), fail(&store, 1, 2, 1002)], [1, 2, 1]);
    assert_eq!(fail(&store, 2, 1, 1003), 1);
    drop(store);
    let store = fixture.open();
    let counts = [(1, 1), (1, 2), (2, 1), (2, 2)].map(|(uid, number)| failures(&store, uid, number, 950));
    assert_eq!(counts, [2, 1, 1, 0]);
    // Forgotten by age, and deleted with the next failures.
    assert_eq!(failures(&store, 1, 1, 1002), 0);
    assert_eq!(fail(&store, 3, 1, 5000), 1);
    let rows: u64 = Connection::open(fixture.path())
        .unwrap()
        .query_row("SELECT count(*) FROM login_failures", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
    let (track, _) = store.login_failures(RING, Some(3), name(1), 4900).unwrap();
    store.clear_login_failures(&track).unwrap();
    assert_eq!(failures(&store, 3, 1, 4900), 0);
}

#[test]
fn names_and_uids_beyond_the_bounds_share_a_count_that_no_success_clears() {
    let (fixture, store) = Fixture::new();
    for number in 0..64 {
        assert_eq!(fail(&store, 1, number, 1000), 1);
    }
    assert_eq!([fail(&store, 1, 100, 1000), fail(&store, 1, 101, 1000)], [1, 2]);
    assert_eq!(failures(&store, 1, 999, 950), 2, "also for a name that was never given");
    let (track, _) = store.login_failures(RING, Some(1), name(101), 950).unwrap();
    assert!(track.is_shared());
    store.clear_login_failures(&track).unwrap();
    assert_eq!(failures(&store, 1, 100, 950), 2);
    assert_eq!(fail(&store, 1, 5, 1000), 2, "what has its own count keeps it");
    for uid in 2..=64 {
        assert_eq!(fail(&store, uid, 1, 1000), 1);
    }
    assert_eq!([fail(&store, 1000, 1, 1000), fail(&store, 1001, 1, 1000)], [1, 2]);
    assert_eq!(fail(&store, 64, 1, 1000), 2);
    // When they are forgotten there is space again.
    assert_eq!(fail(&store, 1000, 1, 9000), 1);
    assert!(!store.login_failures(RING, Some(1000), name(1), 8900).unwrap().0.is_shared());
    drop(fixture);
}

#[test]
fn an_edited_count_is_a_high_one() {
    for sql in [
        "UPDATE login_failures SET failures = 0",
        "UPDATE login_failures SET last = last + 1",
        "UPDATE login_failures SET mac = x''",
    ] {
        let (fixture, store) = Fixture::new();
        assert_eq!(fail(&store, 1, 1, 1000), 1);
        drop(store);
        fixture.edit(sql);
        let store = fixture.open();
        let copied = store.check_copy(&fixture.path());
        assert!(matches!(copied, Err(StoreError::RowInvalid { table: "login_failures", .. })), "{copied:?}");
        assert!(failures(&store, 1, 1, 950) >= 1000, "{sql}");
        assert!(fail(&store, 1, 1, 1001) >= 1000, "{sql}");
    }
}
