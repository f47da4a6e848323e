//! The rows of the REST API: encryption, signatures, durable creation, and operation with 100,000 keys.

use std::time::{Duration, Instant};

use kms_tests::rest::{Field, Rest, base64, key};
use kms_tests::{Policy, Stack};
use serde_json::json;

use crate::load::{self, LoadResult};

/// The number of clients, each with a persistent connection.
const CLIENTS: usize = 16;

/// How long each load lasts, and how many rounds there are; the median counts.
const LASTING: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;

/// The number of keys for the rows with many keys.
const MANY: u64 = 100_000;

/// The number of connections that create them: group commit handles more than the clients of a row send.
const CREATING_CONNECTIONS: usize = 64;

/// A row of the table: name, measurement, target, and whether the target is met.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) figure: String,
    pub(crate) target: &'static str,
    pub(crate) met: bool,
}

/// Measures all rows.
pub(crate) fn measure() -> anyhow::Result<Vec<Row>> {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "calls_per_hour", "1000000000");
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("bench");
    let mut rows = Vec::new();
    for (name, algorithm, word) in [
        ("encrypt 64 bytes, AES-256-GCM", "aes_256_gcm", "encrypt"),
        ("sign 64 bytes, HMAC-SHA-256", "hmac_sha256", "sign"),
        ("sign 64 bytes, ECDSA P-256", "ecdsa_p256_sha256", "sign"),
    ] {
        let path = rest.create_key(&ring, "bench", algorithm);
        let request = request(
            &rest,
            &format!("{path}/versions/1/{word}"),
            &json!({ "data": base64([7; 64]) }).to_string(),
        );
        let result = median_round(&mut stack, &request, "HTTP/1.1 200", CLIENTS)?;
        let has_target = algorithm == "aes_256_gcm";
        rows.push(Row {
            name,
            figure: figure(&result),
            target: if has_target { "at least 20,000/s, p99 at most 5 ms" } else { "-" },
            met: !has_target || result.per_second >= 20_000.0 && result.p99 <= Duration::from_millis(5),
        });
    }
    let create = request(&rest, &format!("keyrings/{ring}/keys"), &key("key", "aes_256_gcm").to_string());
    let result = median_round(&mut stack, &create, "HTTP/1.1 202", CLIENTS)?;
    rows.push(Row {
        name: "create an AES key (durable)",
        figure: figure(&result),
        target: "at least 2,000/s",
        met: result.per_second >= 2_000.0,
    });
    rows.iter().for_each(|row| println!("{}", row.line()));
    measure_many_keys(&mut stack, &rest, &mut rows)?;
    Ok(rows)
}

/// Measures a list page, the daemon's start and its memory with 100,000 keys.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn measure_many_keys(stack: &mut Stack, rest: &Rest, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let before = key_count(rest);
    let memory_before = memory_after_start(stack)?;
    let rest = Rest::of(stack);
    let ring = rest.create_ring("many");
    let create = request(&rest, &format!("keyrings/{ring}/keys"), &key("key", "aes_256_gcm").to_string());
    while key_count(&rest) < MANY {
        let daemon = stack.daemon().pid();
        load::run(address(&rest), &create, "HTTP/1.1 202", CREATING_CONNECTIONS, LASTING, daemon)?;
        println!("  {} keys", key_count(&rest));
    }
    let started = Instant::now();
    let memory = memory_after_start(stack)?;
    println!("  stopped and started in {:?}", started.elapsed());
    stack.stop();
    let started = Instant::now();
    stack.start();
    let start = started.elapsed();
    let rest = Rest::of(stack);
    let started = Instant::now();
    let page = rest.read(&format!("keyrings/{ring}/keys?limit=100")).json(200);
    let listed = started.elapsed();
    anyhow::ensure!(page["keys"].as_array().map(Vec::len) == Some(100), "unexpected page: {page}");
    let cursor = page.text("nextCursor");
    let started = Instant::now();
    rest.read(&format!("keyrings/{ring}/keys?limit=100&cursor={cursor}")).json(200);
    let next = started.elapsed();
    let count = key_count(&rest);
    let limit = Duration::from_millis(500);
    let each = memory.saturating_sub(memory_before) as f64 / (count - before) as f64;
    rows.push(Row {
        name: "daemon start with 100,000 keys",
        figure: format!("{start:.0?} ({count} keys)"),
        target: "under 0.5 s",
        met: start < limit,
    });
    rows.push(Row {
        name: "list a page of 100 of 100,000 keys",
        figure: format!("{listed:.1?} for the first request after a start, {next:.1?} for the next"),
        target: "under 0.5 s",
        met: listed < limit && next < limit,
    });
    rows.push(Row {
        name: "memory per key",
        figure: format!("{each:.0} bytes"),
        target: "under 1 KiB",
        met: each < 1024.0,
    });
    Ok(())
}

/// The resident memory, in bytes, of a daemon that has just been started and has counted its keys once.
fn memory_after_start(stack: &mut Stack) -> anyhow::Result<u64> {
    stack.stop();
    stack.start();
    key_count(&Rest::of(stack));
    let status = std::fs::read_to_string(format!("/proc/{}/status", stack.daemon().pid()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(kib << 10)
}

fn key_count(rest: &Rest) -> u64 {
    rest.read("amounts").json(200)["keys"].as_u64().unwrap_or(0)
}

/// The median of the rounds, by responses per second.
fn median_round(
    stack: &mut Stack,
    request: &[u8],
    expected: &str,
    clients: usize,
) -> anyhow::Result<LoadResult> {
    let daemon = stack.daemon().pid();
    let base = stack.rest_address();
    let address = base.trim_start_matches("http://");
    // An unmeasured load warms the key's cache.
    load::run(address, request, expected, clients, Duration::from_millis(500), daemon)?;
    let mut rounds = (0..ROUNDS)
        .map(|_| load::run(address, request, expected, clients, LASTING, daemon))
        .collect::<anyhow::Result<Vec<_>>>()?;
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    Ok(rounds.swap_remove(ROUNDS / 2))
}

fn figure(result: &LoadResult) -> String {
    format!(
        "{:.0}/s; median {:.2?}, p99 {:.2?}; CPU time per request: daemon {:.1?}, load generator {:.1?}",
        result.per_second, result.median, result.p99, result.daemon_cpu, result.own_cpu
    )
}

fn address(rest: &Rest) -> &str {
    rest.base().trim_start_matches("http://")
}

/// An HTTP request as bytes.
fn request(rest: &Rest, path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        rest.path(path),
        address(rest),
        rest.token().unwrap_or_default(),
        body.len()
    )
    .into_bytes()
}
