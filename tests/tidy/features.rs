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
