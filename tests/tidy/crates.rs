//! The arrows between the crates, and what a pure crate may be built from.

use std::collections::BTreeSet;
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use kms_tests::artefacts::workspace;
use kms_tests::program;

use crate::readme;
use crate::sources::none;

/// The direct dependencies of the pure crates: nothing that opens a file or a socket, reads a clock or draws a random
/// number. Cryptography here is MACs, digests and AES-GCM of RustCrypto, with nonces as arguments.
const PURE: [(&str, &[&str]); 2] = [
    ("kms-protocol", &["postcard", "serde", "zeroize"]),
    (
        "kms-core",
        &[
            "aes-gcm",
            "base64",
            "hmac",
            "kms-protocol",
            "postcard",
            "serde",
            "serde_json",
            "sha2",
            "subtle",
            "thiserror",
            "time",
            "utoipa",
            "uuid",
            "zeroize",
        ],
    ),
];

/// Crates that do I/O or draw random numbers: a pure crate reaches none of them, however many crates lie between.
const IMPURE: [&str; 14] = [
    "aws-lc-rs",
    "axum",
    "cryptoki",
    "crossbeam-channel",
    "getrandom",
    "hyper",
    "libsqlite3-sys",
    "mio",
    "rand",
    "rusqlite",
    "rustix",
    "socket2",
    "tokio",
    "tracing",
];

/// Crates that a crate must not depend on directly, beside what the README's table says of our own.
const BANNED: [(&str, &[&str]); 4] = [
    ("kms-provider", &["tokio", "rusqlite", "cryptoki", "aws-lc-rs", "openssl", "tracing"]),
    ("kms-crypto", &["tokio", "rusqlite", "cryptoki", "rustix", "getrandom"]),
    ("kms-store", &["tokio", "cryptoki", "aws-lc-rs"]),
    ("kms-daemon", &["cryptoki-sys", "rusqlite"]),
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .other_options(["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .expect("cargo lists the crates")
}

/// The names of a package's dependencies, without those of its tests.
fn dependencies(package: &Package) -> BTreeSet<String> {
    let kept =
        package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
    kept.map(|dependency| dependency.name.clone()).collect()
}

#[test]
fn crates_depend_on_each_other_as_the_readme_says() {
    let metadata = metadata();
    let drawn = readme::table("### Crates");
    let own: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let mut findings = Vec::new();
    for name in own.symmetric_difference(&drawn.keys().cloned().collect()) {
        findings.push(format!("{name}: is in the workspace or in the README's table of crates, not in both"));
    }
    for package in metadata.workspace_packages() {
        let used: BTreeSet<String> = dependencies(package).intersection(&own).cloned().collect();
        let said = drawn.get(package.name.as_str()).cloned().unwrap_or_default();
        if used != said {
            findings.push(format!("{}: depends on {used:?}, and the README says {said:?}", package.name));
        }
    }
    none(findings);
}

#[test]
fn pure_crates_have_nothing_to_do_io_with() {
    let metadata = metadata();
    let mut findings = Vec::new();
    for (name, allowed) in PURE {
        let package = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name);
        let package = package.expect("a pure crate of the workspace");
        let extra =
            dependencies(package).into_iter().filter(|dependency| !allowed.contains(&dependency.as_str()));
        findings.extend(extra.map(|dependency| format!("{name} must not depend on {dependency}")));
        for reached in linked(name) {
            if IMPURE.contains(&reached.as_str()) {
                findings.push(format!("{name} reaches {reached} through its dependencies"));
            }
        }
    }
    none(findings);
}

/// The names of everything that is linked into a package built alone: its dependencies and theirs, without build
/// scripts, macros and tests.
fn linked(package: &str) -> BTreeSet<String> {
    let cargo = kms_tests::artefacts::variable("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments =
        ["tree", "--locked", "--offline", "--edges", "normal,no-proc-macro", "--prefix", "none", "--package"];
    let mut command = Command::new(cargo);
    let tree = program::run(command.current_dir(workspace()).args(arguments).arg(package)).text();
    let names: BTreeSet<_> =
        tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(names.contains(package), "cargo tree does not list {package}:\n{tree}");
    names
}

#[test]
fn crates_leave_out_what_others_are_for() {
    let metadata = metadata();
    let mut findings = Vec::new();
    for (name, banned) in BANNED {
        let package = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name);
        let used = dependencies(package.expect("a crate of the workspace"));
        let found = banned.iter().filter(|banned| used.contains(**banned));
        findings.extend(found.map(|banned| format!("{name} must not depend on {banned}")));
    }
    none(findings);
}
