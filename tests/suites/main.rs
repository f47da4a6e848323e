//! Suites that others wrote, against our module: those that take a minute. `tests/suites/run` fetches and runs them, and
//! compares what fails with `reasons.tsv`: a new failure fails, and so does a known one that passes.
//! Without crates.io and PyPI they are skipped with a line; in CI (`CI=true`) that is a failure.
#![allow(missing_docs, reason = "tests")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kms_tests::artefacts::{artefacts, in_ci, workspace};

/// How long a suite may take: fetched, compiled and run on a busy machine.
const WITHIN: Duration = Duration::from_secs(20 * 60);

/// What the script ends with when it could not fetch a suite.
const UNFETCHED: i32 = 3;

#[test]
fn cryptoki() {
    runs("cryptoki");
}

#[test]
fn python_pkcs11() {
    runs("python-pkcs11");
}

#[test]
fn pykcs11() {
    runs("pykcs11");
}

#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
#[expect(clippy::print_stderr, reason = "who reads that it passed shall read that it did not run")]
fn runs(suite: &str) {
    let folder = artefacts().module.parent().expect("a file has a folder");
    let log = std::env::temp_dir().join(format!("kms-suite-{suite}-{}.log", std::process::id()));
    let file = std::fs::File::create(&log).expect("a log can be written");
    let mut run = Command::new(workspace().join("tests/suites/run"));
    run.arg(suite).env("KMS_TESTS_ARTEFACTS", folder).env("KMS_SUITES_PAGE", "");
    run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let mut child = run.spawn().expect("bash is installed");
    let begun = Instant::now();
    let ended = loop {
        match child.try_wait().expect("it is our child") {
            Some(ended) => break ended,
            None if begun.elapsed() > WITHIN => {
                child.kill().ok();
                panic!("{suite} is not done after {WITHIN:?}");
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    std::fs::remove_file(&log).ok();
    match ended.code() {
        Some(0) => {}
        Some(UNFETCHED) if !in_ci() => eprintln!("skipped: {said}"),
        _ => panic!("{suite} ended with {ended}:\n{said}"),
    }
}
