//! The rows of the REST door: encryption, durable creation, and what many keys cost.

use std::time::{Duration, Instant};

use kms_tests::rest::{Field, Rest, base64, key};
use kms_tests::{Policy, Stack};
use serde_json::json;

use crate::load::{self, Found};

/// How many clients there are, each with a connection that is kept.
const CLIENTS: usize = 16;

/// How long each load lasts, and how often; the middle one counts.
const LASTING: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;

/// How many keys are many.
const MANY: u64 = 100_000;

/// How many connections make them: group commit takes more than the clients of a row give.
const MAKERS: usize = 64;

/// A line of the table: what, the figure, and what we want it to be.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) figure: String,
    pub(crate) wanted: &'static str,
    pub(crate) met: bool,
}

/// Measures all rows of the door.
pub(crate) fn measure() -> anyhow::Result<Vec<Row>> {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "calls_per_hour", "1000000000");
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.make_ring("bench");
    let mut rows = Vec::new();
    for (name, algorithm, word) in [
        ("encrypt 64 bytes, AES-256-GCM", "aes_256_gcm", "encrypt"),
        ("sign 64 bytes, HMAC-SHA-256", "hmac_sha256", "sign"),
        ("sign 64 bytes, ECDSA P-256", "ecdsa_p256_sha256", "sign"),
    ] {
        let path = rest.make_key(&ring, "bench", algorithm);
        let call = call(
            &rest,
            &format!("{path}/versions/1/{word}"),
            &json!({ "data": base64([7; 64]) }).to_string(),
        );
        let found = middle(&mut stack, &call, "HTTP/1.1 200", CLIENTS)?;
        let wanted = algorithm == "aes_256_gcm";
        rows.push(Row {
            name,
            figure: figure(&found),
            wanted: if wanted { "at least 20,000/s, p99 at most 5 ms" } else { "-" },
            met: !wanted || found.per_second >= 20_000.0 && found.p99 <= Duration::from_millis(5),
        });
    }
    let create = call(&rest, &format!("keyrings/{ring}/keys"), &key("made", "aes_256_gcm").to_string());
    let found = middle(&mut stack, &create, "HTTP/1.1 202", CLIENTS)?;
    rows.push(Row {
        name: "create an AES key (durable)",
        figure: figure(&found),
        wanted: "at least 2,000/s",
        met: found.per_second >= 2_000.0,
    });
    rows.iter().for_each(|row| println!("{}", row.line()));
    many(&mut stack, &rest, &mut rows)?;
    Ok(rows)
}

/// What 100,000 keys cost: the page of a list, the start, the memory.
#[expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]
fn many(stack: &mut Stack, rest: &Rest, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let before = amount(rest);
    let few = resting_memory(stack)?;
    let rest = Rest::of(stack);
    let ring = rest.make_ring("many");
    let create = call(&rest, &format!("keyrings/{ring}/keys"), &key("made", "aes_256_gcm").to_string());
    while amount(&rest) < MANY {
        let daemon = stack.daemon().pid();
        load::run(address(&rest), &create, "HTTP/1.1 202", MAKERS, LASTING, daemon)?;
        println!("  {} keys", amount(&rest));
    }
    let started = Instant::now();
    let memory = resting_memory(stack)?;
    println!("  stopped and started in {:?}", started.elapsed());
    stack.stop();
    let started = Instant::now();
    stack.start();
    let start = started.elapsed();
    let rest = Rest::of(stack);
    let started = Instant::now();
    let page = rest.read(&format!("keyrings/{ring}/keys?limit=100")).json(200);
    let listed = started.elapsed();
    anyhow::ensure!(page["keys"].as_array().map(Vec::len) == Some(100), "a page: {page}");
    let cursor = page.text("nextCursor");
    let started = Instant::now();
    rest.read(&format!("keyrings/{ring}/keys?limit=100&cursor={cursor}")).json(200);
    let next = started.elapsed();
    let count = amount(&rest);
    let half = Duration::from_millis(500);
    let each = memory.saturating_sub(few) as f64 / (count - before) as f64;
    rows.push(Row {
        name: "daemon start with 100,000 keys",
        figure: format!("{start:.0?} ({count} keys)"),
        wanted: "under 0.5 s",
        met: start < half,
    });
    rows.push(Row {
        name: "list a page of 100 of 100,000 keys",
        figure: format!("{listed:.1?} for the first request after a start, {next:.1?} for the next"),
        wanted: "under 0.5 s",
        met: listed < half && next < half,
    });
    rows.push(Row {
        name: "memory per key",
        figure: format!("{each:.0} bytes"),
        wanted: "under 1 KiB",
        met: each < 1024.0,
    });
    Ok(())
}

/// The memory of a daemon that has just been started and has listed every ring once, in bytes.
fn resting_memory(stack: &mut Stack) -> anyhow::Result<u64> {
    stack.stop();
    stack.start();
    amount(&Rest::of(stack));
    let status = std::fs::read_to_string(format!("/proc/{}/status", stack.daemon().pid()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(kib << 10)
}

fn amount(rest: &Rest) -> u64 {
    rest.read("amounts").json(200)["keys"].as_u64().unwrap_or(0)
}

/// The middle of some rounds, by answers per second.
fn middle(stack: &mut Stack, call: &[u8], expected: &str, clients: usize) -> anyhow::Result<Found> {
    let daemon = stack.daemon().pid();
    let base = stack.rest_address();
    let address = base.trim_start_matches("http://");
    // The first warms the key's cache.
    load::run(address, call, expected, clients, Duration::from_millis(500), daemon)?;
    let mut rounds = (0..ROUNDS)
        .map(|_| load::run(address, call, expected, clients, LASTING, daemon))
        .collect::<anyhow::Result<Vec<_>>>()?;
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    Ok(rounds.swap_remove(ROUNDS / 2))
}

fn figure(found: &Found) -> String {
    format!(
        "{:.0}/s; median {:.2?}, p99 {:.2?}; CPU time per request: daemon {:.1?}, load generator {:.1?}",
        found.per_second, found.median, found.p99, found.daemon_cpu, found.own_cpu
    )
}

fn address(rest: &Rest) -> &str {
    rest.base().trim_start_matches("http://")
}

/// A call as bytes.
fn call(rest: &Rest, path: &str, body: &str) -> Vec<u8> {
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
