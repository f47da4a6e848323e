//! `make bench`: measures the KMS and SoftHSM in turn through the C API, each in its own process, with one and with
//! four threads; the floor (a socket round trip and the bare operation); and the REST API. Writes `docs/benchmarks.md`.
//! `kms-bench rest` measures only the REST API and writes nothing, and so does `kms-bench fairness`, one tenant beside a
//! hostile one; `KMS_BENCH_ROWS=gcm,find` measures only these rows.
//!
//! Rounds are interleaved, so that other load on the machine affects both sides; the figures are medians of the rounds.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]

mod fairness;
mod floor;
mod load;
mod report;
mod rest;
mod row;
mod worker;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use kms_softhsm::SoftHsm;
use kms_tests::{Policy, SO_PIN, Stack, USER_PIN};

use report::{Figures, Report};
use row::Row;

/// Rounds per row and number of threads; an odd number, so that the median is one of them.
const ROUNDS: usize = 9;

/// How long one round of one row takes.
const ROUND_MILLISECONDS: u64 = 200;

/// The numbers of threads.
const THREADS: [usize; 2] = [1, 4];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => compare(),
        ["rest"] => measure_rest().map(|rows| rows.iter().for_each(|row| println!("{}", row.line()))),
        ["fairness"] => fairness::measure(),
        ["worker", module] => worker::serve(Path::new(module)),
        ["floor", socket] => floor::echo(Path::new(socket)),
        _ => anyhow::bail!("usage: kms-bench [rest|fairness]; the other arguments are internal"),
    }
}

/// Measures all rows on both sides and writes the report.
fn compare() -> anyhow::Result<()> {
    let (stack, hsm) = (Stack::new(Policy::Compat), SoftHsm::new("test", USER_PIN, SO_PIN));
    let mut kms = Worker::start(&stack.module(), &[("KMS_PKCS11_CONFIG", stack.config())])?;
    let environment = [("SOFTHSM2_CONF", hsm.conf()), ("OPENSSL_CONF", "/dev/null".into())];
    let mut softhsm = Worker::start(kms_softhsm::module(), &environment)?;
    let mut floor = floor::Floor::start(stack.folder())?;
    let mut report = Report::default();
    for row in rows() {
        for threads in THREADS {
            println!("{} · {threads} thread{}", row.name(), if threads == 1 { "" } else { "s" });
            // An unmeasured first round warms caches, connections and the key.
            kms.measure(row, threads)?;
            let own_reference = row.own_reference();
            let mut reference = |kms: &mut Worker| match own_reference {
                Some(own) => kms.measure(own, threads),
                None => softhsm.measure(row, threads),
            };
            reference(&mut kms)?;
            let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                rounds[0].push(kms.measure(row, threads)?);
                rounds[1].push(reference(&mut kms)?);
                rounds[2].extend(floor.measure(row, threads, ROUND_MILLISECONDS)?);
            }
            let [kms, reference, floor] = rounds.map(median);
            let figures = Figures { row, threads, kms, reference, floor };
            println!("  {}", figures.line());
            report.add(figures);
        }
    }
    if rows().len() < Row::ALL.len() {
        return Ok(());
    }
    report.add_rest(&measure_rest()?);
    report.write(&kms_tests::artefacts::workspace().join("docs/benchmarks.md"))
}

/// Measures the REST API.
fn measure_rest() -> anyhow::Result<Vec<rest::Row>> {
    println!("the REST API");
    rest::measure()
}

/// All rows, or those that `KMS_BENCH_ROWS` names.
fn rows() -> Vec<Row> {
    let named = kms_tests::artefacts::variable("KMS_BENCH_ROWS");
    let named = named.and_then(|names| names.into_string().ok()).unwrap_or_default();
    let rows: Vec<_> = named.split(',').filter_map(Row::of).collect();
    if rows.is_empty() { Row::ALL.to_vec() } else { rows }
}

/// The median of the rounds, in nanoseconds.
fn median(mut rounds: Vec<f64>) -> Option<f64> {
    rounds.sort_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied()
}

/// A process that has one module loaded and reads what to measure, line by line, from standard input.
struct Worker {
    child: Child,
    commands: ChildStdin,
    results: BufReader<ChildStdout>,
}

impl Worker {
    fn start(module: &Path, environment: &[(&str, PathBuf)]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("worker").arg(module).envs(environment.iter().cloned());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = child.stdin.take().expect("standard input is piped");
        let results = BufReader::new(child.stdout.take().expect("standard output is piped"));
        Ok(Self { child, commands, results })
    }

    /// One round: nanoseconds per operation.
    fn measure(&mut self, row: Row, threads: usize) -> anyhow::Result<f64> {
        writeln!(self.commands, "{} {threads} {ROUND_MILLISECONDS}", row.id())?;
        let mut line = String::new();
        self.results.read_line(&mut line)?;
        line.trim()
            .parse()
            .map_err(|_| anyhow::anyhow!("unexpected output of the worker for {row:?}: {line:?}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
