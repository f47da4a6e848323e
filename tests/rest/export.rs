//! The export of many keys over REST: complete, a consistent snapshot of the project, and never in the daemon's memory
//! as a whole.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use kms_tests::rest::{Rest, key};
use kms_tests::{Policy, Stack};

/// The number of keys; their export has some megabytes.
const KEYS: usize = 10_000;

/// The number of clients that create them.
const CLIENTS: usize = 8;

/// How much more memory, in bytes, the daemon may use during an export: the SQLite cache of one connection has 2 MiB.
const GROWTH_MAX: u64 = 4 << 20;

/// The minimum length of the export in bytes: if it were held in memory, the peak would exceed `GROWTH_MAX`.
const LENGTH_MIN: usize = 7 << 20;

/// The peak memory of a process since the last reset, in bytes (proc(5), `VmHWM`).
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon still runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the status has VmHWM");
    let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kilobytes.expect("a number") * 1024
}

fn reset_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the child's peak can be reset");
}

fn key_count(export: &Value) -> usize {
    let rings = export["projects"][0]["keyRings"].as_array().expect("a list");
    rings.iter().map(|ring| ring["keys"].as_array().map_or(0, Vec::len)).sum()
}

#[test]
fn ten_thousand_keys_are_exported_as_a_stream() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "calls_per_hour", "100000000");
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("many");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (rest, ring) = (&rest, &ring);
            scope.spawn(move || {
                for number in 0..KEYS / CLIENTS {
                    let mut body = key(&format!("key-{client}-{number}"), "aes_256_gcm");
                    body["description"] = json!("x".repeat(250));
                    rest.post(&format!("keyrings/{ring}/keys"), body).json(202);
                }
            });
        }
    });
    let pid = stack.daemon().pid();
    // The first export does all one-time allocations.
    let first = rest.read("export").json(200);
    assert_eq!(key_count(&first), KEYS);
    reset_peak(pid);
    let before = peak(pid);
    let export = rest.read("export");
    let grown = peak(pid).saturating_sub(before);
    let length = export.body.len();
    assert!(length > LENGTH_MIN, "an export of {length} bytes is too small for the check");
    assert!(grown < GROWTH_MAX, "an export of {length} bytes took {grown} bytes of memory");
    assert_eq!(export.header("transfer-encoding"), Some("chunked"), "{:?}", export.headers);
    let mut second = export.json(200);
    let mut first = first;
    for export in [&mut first, &mut second] {
        export["exportedAt"] = Value::Null;
    }
    assert!(first == second, "two exports of one state are the same");

    // A slow client sees the state at the time of its request, and does not block others.
    let mut slow = TcpStream::connect(rest.base().trim_start_matches("http://"))
        .expect("the listener accepts connections");
    let header = format!(
        "GET {} HTTP/1.1\r\nhost: kms\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        rest.path("export"),
        stack.admin_token()
    );
    slow.write_all(header.as_bytes()).expect("the request is sent");
    let mut response = vec![0; 4096];
    slow.read_exact(&mut response).expect("the response begins");
    rest.create_ring("after");
    rest.post("keyrings", json!({ "displayName": "after-too" })).json(202);
    std::thread::sleep(Duration::from_millis(100));
    slow.read_to_end(&mut response).expect("the response is complete");
    let response = String::from_utf8(response).expect("text");
    assert!(response.ends_with("0\r\n\r\n"), "the body has its last chunk");
    assert!(!response.contains("after"), "a ring that was created later is not exported");
    assert!(rest.read("export").json(200).to_string().contains("after-too"));
}
