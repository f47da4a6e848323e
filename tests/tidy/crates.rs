//! The arrows between the crates, and what a pure crate may be built from.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use kms_tests::artefacts::workspace;

use crate::readme;
use crate::sources::{none, sources};

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
        // Without dependencies: resolving them needs the packages of every platform, which a build does not fetch.
        .no_deps()
        .other_options(["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .expect("cargo lists the crates")
}

/// The crates that unify features. Nothing can be named through them, because they export nothing.
const UNIFYING: [&str; 2] = ["kms-unify", "kms-unify-io"];

/// The names of what a package's code can name: its direct dependencies, without those of its tests.
fn dependencies(package: &Package) -> BTreeSet<String> {
    let kept = package.dependencies.iter().filter(|dependency| {
        dependency.kind != DependencyKind::Development && !UNIFYING.contains(&dependency.name.as_str())
    });
    kept.map(|dependency| dependency.name.clone()).collect()
}

#[test]
fn crates_depend_on_each_other_as_the_readme_says() {
    let metadata = metadata();
    let drawn = readme::table("### Crates");
    let packages = metadata.workspace_packages();
    let packages: Vec<_> =
        packages.into_iter().filter(|package| !UNIFYING.contains(&package.name.as_str())).collect();
    let own: BTreeSet<String> = packages.iter().map(|package| package.name.to_string()).collect();
    let mut findings = Vec::new();
    for name in own.symmetric_difference(&drawn.keys().cloned().collect()) {
        findings.push(format!("{name}: is in the workspace or in the README's table of crates, not in both"));
    }
    for package in packages {
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
    }
    none(findings);
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

#[test]
fn unifying_crates_are_empty() {
    let unifying = sources().into_iter().filter(|source| source.path.starts_with(".cargo/"));
    let code = unifying.flat_map(|source| {
        let lines: Vec<_> = source.lines().map(|(_, line)| line.trim().to_owned()).collect();
        lines.into_iter().filter(|line| !["", "fn main() {}"].contains(&line.as_str())).collect::<Vec<_>>()
    });
    none(code.map(|line| format!(".cargo/unify: {line}")).collect());
}
