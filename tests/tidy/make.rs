//! `make lint` and `make release`: what they say where the advisory database cannot be fetched.

use std::process::Command;

use kms_tests::artefacts::workspace;
use kms_tests::program;

/// A database that does not exist.
const NO_DATABASE: &str = "ADVISORY_DB=file:///nonexistent/advisory-db";

fn advisories(mode: &str) -> program::Ran {
    let mut make = Command::new("make");
    make.current_dir(workspace()).args(["--no-print-directory", "advisories", NO_DATABASE, mode]);
    program::run(&mut make)
}

#[test]
fn a_release_without_the_advisory_database_fails() {
    let ran = advisories("ADVISORIES=require");
    assert!(!ran.status.success());
    assert!(ran.text().contains("FAILED: cannot fetch file:///nonexistent/advisory-db"), "{ran}");
}

#[test]
fn lint_without_the_advisory_database_warns() {
    let ran = advisories("ADVISORIES=warn");
    assert!(ran.status.success(), "{ran}");
    assert!(ran.text().contains("WARNING: not checked"), "{ran}");
}

#[test]
fn a_release_requires_it() {
    let makefile = std::fs::read_to_string(workspace().join("Makefile")).expect("there is a Makefile");
    let (_, release) = makefile.split_once("\nrelease:").expect("there is a target `release`");
    assert!(release.lines().any(|line| line.contains("lint ADVISORIES=require")), "{release}");
}
