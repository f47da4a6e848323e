//! The export of many keys over REST: whole, one state of the project, and never in the daemon's memory at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use kms_tests::rest::{Rest, key};
use kms_tests::{Policy, Stack};

/// Keys: their export is some megabytes.
const KEYS: usize = 10_000;

/// Who make them at once.
const MAKERS: usize = 8;

/// How much more memory the daemon may need while it exports, in bytes: 2 MiB are SQLite's cache of one connection.
const GROWTH_MAX: u64 = 4 << 20;

/// How long the export is at least, in bytes: held once, it would be found.
const LENGTH_MIN: usize = 7 << 20;

/// The most memory that a process has had since this was last reset, in bytes (proc(5), `VmHWM`).
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon still runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells the peak");
    let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kilobytes.expect("a number") * 1024
}

fn reset_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("our own child's peak can be reset");
}

fn keys(export: &Value) -> usize {
    let rings = export["projects"][0]["keyRings"].as_array().expect("a list");
    rings.iter().map(|ring| ring["keys"].as_array().map_or(0, Vec::len)).sum()
}

#[test]
fn ten_thousand_keys_are_exported_without_being_held() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "calls_per_hour", "100000000");
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.make_ring("many");
    std::thread::scope(|scope| {
        for maker in 0..MAKERS {
            let (rest, ring) = (&rest, &ring);
            scope.spawn(move || {
                for number in 0..KEYS / MAKERS {
                    let mut body = key(&format!("key-{maker}-{number}"), "aes_256_gcm");
                    body["description"] = json!("x".repeat(250));
                    rest.post(&format!("keyrings/{ring}/keys"), body).json(202);
                }
            });
        }
    });
    let pid = stack.daemon().pid();
    // Whatever is made once only is made by an export before.
    let first = rest.read("export").json(200);
    assert_eq!(keys(&first), KEYS);
    reset_peak(pid);
    let before = peak(pid);
    let export = rest.read("export");
    let grown = peak(pid).saturating_sub(before);
    let length = export.body.len();
    assert!(length > LENGTH_MIN, "{length} bytes are not enough to tell");
    assert!(grown < GROWTH_MAX, "an export of {length} bytes took {grown} bytes of memory");
    assert_eq!(export.header("transfer-encoding"), Some("chunked"), "{:?}", export.headers);
    let mut second = export.json(200);
    let mut first = first;
    for export in [&mut first, &mut second] {
        export["exportedAt"] = Value::Null;
    }
    assert!(first == second, "two exports of one state are the same");

    // Somebody who is slow sees the state in which it was asked for, and holds nobody up.
    let mut slow = TcpStream::connect(rest.base().trim_start_matches("http://")).expect("the door is open");
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: kms\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        rest.path("export"),
        stack.admin_token()
    );
    slow.write_all(head.as_bytes()).expect("it takes a call");
    let mut told = vec![0; 4096];
    slow.read_exact(&mut told).expect("it begins to answer");
    rest.make_ring("after");
    rest.post("keyrings", json!({ "displayName": "after-too" })).json(202);
    std::thread::sleep(Duration::from_millis(100));
    slow.read_to_end(&mut told).expect("it answers to the end");
    let told = String::from_utf8(told).expect("text");
    assert!(told.ends_with("0\r\n\r\n"), "the body has its end");
    assert!(!told.contains("after"), "a ring that was made later");
    assert!(rest.read("export").json(200).to_string().contains("after-too"));
}
