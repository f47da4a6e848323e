//! Third-party test suites against the module: the ones that take about a minute. `tests/suites/run` fetches and runs
//! them, and compares the failures with `reasons.tsv`: an unlisted failure is an error, and so is a listed test that
//! passes. Without crates.io and PyPI they print a line and are skipped; in CI (`CI=true`) that is a failure.
//!
//! One suite: `cargo test -p kms-tests --test suites pykcs11`.
#![allow(missing_docs, reason = "tests")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kms_tests::artefacts::{artefacts, in_ci, workspace};

/// How long fetching, compiling and running a suite may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// The script's exit status when a suite cannot be fetched.
const UNFETCHED: i32 = 3;

#[test]
fn cryptoki() {
    run_suite("cryptoki");
}

#[test]
fn python_pkcs11() {
    run_suite("python-pkcs11");
}

#[test]
fn pykcs11() {
    run_suite("pykcs11");
}

#[expect(clippy::disallowed_methods, reason = "the suite has a time limit")]
#[expect(clippy::print_stderr, reason = "reports that a suite was skipped")]
fn run_suite(suite: &str) {
    let folder = artefacts().module.parent().expect("a file has a folder");
    let log = std::env::temp_dir().join(format!("kms-suite-{suite}-{}.log", std::process::id()));
    let file = std::fs::File::create(&log).expect("a log can be written");
    let mut run = Command::new(workspace().join("tests/suites/run"));
    run.arg(suite).env("KMS_TESTS_ARTEFACTS", folder).env("KMS_SUITES_PAGE", "");
    run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let mut child = run.spawn().expect("bash is installed");
    let started = Instant::now();
    let ended = loop {
        match child.try_wait().expect("the child can be waited for") {
            Some(ended) => break ended,
            None if started.elapsed() > TIMEOUT => {
                child.kill().ok();
                panic!("{suite} is not done after {TIMEOUT:?}");
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let output = std::fs::read_to_string(&log).unwrap_or_default();
    std::fs::remove_file(&log).ok();
    match ended.code() {
        Some(0) => {}
        Some(UNFETCHED) if !in_ci() => eprintln!("skipped: {output}"),
        _ => panic!("{suite} ended with {ended}:\n{output}"),
    }
}
