//! One build: whichever packages are selected, their dependencies have the same features, so that `cargo build -p CRATE`
//! and `cargo build --workspace` share what they build.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use kms_tests::artefacts::{variable, workspace};
use kms_tests::program;

use crate::sources::none;

/// Which features a package is built with: one set, or two where build scripts and macros use it as well.
type Features = BTreeMap<String, BTreeSet<String>>;

/// The packages that are built for a selection, and their features. `edges` are the kinds of dependencies followed.
fn tree(selection: &[&str], edges: &str) -> Features {
    let cargo = variable("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args([
        "tree",
        "--locked",
        "--offline",
        "--no-dedupe",
        "--prefix",
        "none",
    ]);
    let text = program::run(command.args(["--format", "{p}|{f}", "--edges", edges]).args(selection)).text();
    let mut features = Features::new();
    for line in text.lines() {
        let line = line.replace(" (*)", "").replace(" (proc-macro)", "");
        if let Some((package, enabled)) = line.split_once('|') {
            features.entry(package.to_owned()).or_default().insert(enabled.to_owned());
        }
    }
    assert!(features.len() > 3, "cargo tree lists no packages for {selection:?}:\n{text}");
    features
}

/// Whether the version of a package is a pre-release (semver: `-` before the build metadata).
fn is_pre_release(package: &str) -> bool {
    let version = package.split(' ').nth(1).and_then(|version| version.split('+').next());
    version.is_some_and(|version| version.contains('-'))
}

#[test]
fn every_selection_of_packages_builds_the_same_dependencies() {
    let whole = tree(&["--workspace"], "normal,build,dev");
    let mut findings = BTreeSet::new();
    let own: Vec<_> = whole.keys().filter(|package| package.contains("(/")).collect();
    assert!(own.len() > 8, "only {own:?} are packages of the workspace");
    for package in own {
        let name = package.split(' ').next().unwrap_or_default();
        for edges in ["normal,build", "normal,build,dev"] {
            for (dependency, enabled) in tree(&["--package", name], edges) {
                let wanted = &whole[&dependency];
                for other in enabled.difference(wanted) {
                    findings.insert(format!(
                        "{dependency} is built with [{other}] for `-p {name}`, and with {wanted:?} for --workspace: \
                         add it to .cargo/unify (or .cargo/unify-io, where it does I/O)"
                    ));
                }
            }
        }
    }
    none(findings.into_iter().collect());
}

/// Pre-releases are linked into nobody's process unless the feature `pre-release-curves` asks for them.
#[test]
fn artefacts_link_no_pre_release_by_default() {
    let pre_releases = |selection: &[&str]| -> Vec<String> {
        let built = tree(selection, "normal").into_keys();
        built.filter(|package| is_pre_release(package)).collect()
    };
    for package in ["kms-provider", "kms-daemon"] {
        assert_eq!(pre_releases(&["--package", package]), [""; 0], "{package}");
        let with = pre_releases(&["--package", package, "--features", "pre-release-curves"]);
        assert!(with.iter().any(|package| package.starts_with("ed448-goldilocks ")), "{package}: {with:?}");
    }
}

/// `make curves` builds no dependency a second time.
#[test]
fn pre_release_curves_add_dependencies_and_change_none() {
    let whole = tree(&["--workspace"], "normal,build,dev");
    let curves =
        "kms-provider/pre-release-curves,kms-daemon/pre-release-curves,kms-crypto/pre-release-curves";
    let selection =
        ["kms-provider", "kms-daemon", "kms-crypto"].map(|package| ["--package", package]).concat();
    let with = tree(&[&selection[..], &["--features", curves]].concat(), "normal,build,dev");
    let mut findings = Vec::new();
    for (dependency, enabled) in with.iter().filter(|(dependency, _)| !dependency.contains("(/")) {
        let Some(without) = whole.get(dependency) else { continue };
        findings.extend(enabled.difference(without).map(|other| {
            format!("{dependency} is built with [{other}] for `make curves`, and with {without:?} otherwise")
        }));
    }
    none(findings);
}
