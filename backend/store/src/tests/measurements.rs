//! Measurements, which print what they find.

use super::*;
use crate::cache::Invalidation;

/// `cargo test --release -p kms-store tests::measurements::cost -- --ignored --nocapture` prints it.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn cost() {
    use std::time::Instant;
    let (_fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    for threads in [1, 4, 16] {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..500).for_each(|_| assert!(secret(&store, &ring, "k").0 > 0)));
            }
        });
        let each = start.elapsed() / (500 * threads);
        println!("insert, {threads} threads: {each:?} each, {:.0} per second", 1.0 / each.as_secs_f64());
    }
    let id = secret(&store, &ring, "needle");
    let time = |name: &str, count: u32, work: &dyn Fn()| {
        work();
        let start = Instant::now();
        (0..count).for_each(|_| work());
        println!("{name}: {:?}", start.elapsed() / count);
    };
    time("object", 1_000_000, &|| drop(std::hint::black_box(store.object(ring.id, id).unwrap())));
    time("ring", 1_000_000, &|| drop(std::hint::black_box(store.ring(ring.slot).unwrap())));
    time("principal", 1_000_000, &|| drop(std::hint::black_box(store.principal(ring.id, "user").unwrap())));
    time("find by label", 10_000, &|| assert_eq!(by_label(&store, &ring, "needle"), [id]));
    time("object, not cached", 1000, &|| {
        store.cache.invalidate(&Invalidation::Object(id));
        drop(std::hint::black_box(store.object(ring.id, id).unwrap()));
    });
    time("find a page of 128", 100, &|| drop(store.find(ring.id, &Template::default(), None, 128).unwrap()));
}

/// `cargo test --release -p kms-store tests::measurements::many_keys -- --ignored --nocapture` prints it.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn many_keys() {
    use std::time::Instant;
    const KEYS: u32 = 100_000;
    let (fixture, store) = Fixture::new();
    let ring = ring(&store, "one");
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..100 {
            let (store, ring) = (&store, &ring);
            let one = move |number| assert!(secret(store, ring, &format!("{}", thread + number * 100)).0 > 0);
            scope.spawn(move || (0..KEYS / 100).for_each(one));
        }
    });
    println!("{KEYS} keys in {:?}", start.elapsed());
    drop(store);
    let bytes = fixture.path().metadata().unwrap().len();
    let start = Instant::now();
    let store = fixture.open();
    println!("opened in {:?}; {} bytes of database for each key", start.elapsed(), bytes / u64::from(KEYS));
    let start = Instant::now();
    for number in 0..1000 {
        assert_eq!(by_label(&store, &ring, &format!("{}", number * 97)).len(), 1);
    }
    println!("find by label: {:?}", start.elapsed() / 1000);
    let (start, mut after, mut found) = (Instant::now(), None, 0);
    loop {
        let page = store.find(ring.id, &Template::default(), after, 128).unwrap();
        let Some(last) = page.last() else { break };
        (after, found) = (last.id, found + page.len());
    }
    println!("all {found} in {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(store.count_keys(ring.id).unwrap(), u64::from(KEYS));
    println!("counted in {:?}", start.elapsed());
    let start = Instant::now();
    store.check().unwrap();
    println!("checked in {:?}", start.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().filter(|line| line.starts_with("VmRSS")).collect::<String>());
}
