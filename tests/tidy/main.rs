//! The rules of the source tree, as tests: the crates and modules of the README's code map, and how files are written.
#![allow(missing_docs, reason = "tests")]

mod crates;
mod features;
mod make;
mod modules;
mod readme;
mod sources;
mod statements;
mod unsafe_code;
mod vocabulary;

use std::fs;
use std::path::Path;
use std::process::Command;

use kms_tests::artefacts::workspace;
use kms_tests::program;

use sources::{Source, none, relative, sources, tree};

/// The longest file, in lines: what one can still read in one sitting.
const FILE_LINES_MAX: usize = 600;

/// The longest function, in lines: a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// The code without I/O, clock or randomness: the pure crates (see `crates.rs`), and what is as pure without a crate of
/// its own.
const PURE: [&str; 4] = ["protocol/src", "provider/src/session", "backend/core/src", "backend/crypto/src"];

/// What only code with I/O, a clock or randomness names.
const IO_WORDS: [&str; 11] = [
    "tokio::",
    "rusqlite::",
    "cryptoki::",
    "std::net",
    "std::fs",
    "std::os::unix::net",
    "Instant::now",
    "SystemTime::now",
    "now_utc",
    "new_v4",
    "getrandom::",
];

#[test]
fn pure_code_does_no_io() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| PURE.iter().any(|folder| source.path.starts_with(folder)))
    {
        for word in IO_WORDS {
            if source.code().lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word)) {
                findings.push(format!("{}: `{word}` is I/O", source.path));
            }
        }
    }
    none(findings);
}

#[test]
fn files_and_functions_can_be_read_at_once() {
    let mut findings = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.push(format!("{}: {lines} lines", source.path));
        }
        findings.extend(long_functions(&source));
    }
    none(findings);
}

/// Functions by their indentation, which rustfmt makes reliable: from `fn` to the closing brace in its column.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<_> = source.code().lines().collect();
    let mut findings = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let start = line.trim_start();
        let words = start.split('(').next().unwrap_or_default();
        let function = words.split_whitespace().any(|word| word == "fn") && !start.starts_with("//");
        if !function || start.ends_with(';') {
            continue;
        }
        let indent = line.len() - start.len();
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[index..].iter().position(|line| *line == closing);
        if let Some(length) = end.filter(|length| *length >= FUNCTION_LINES_MAX) {
            findings.push(format!("{}:{}: a function of {} lines", source.path, index + 1, length + 1));
        }
    }
    findings
}

#[test]
fn files_have_names_that_say_something() {
    let banned = ["utils", "util", "helpers", "helper", "common", "misc", "manager"];
    let mut findings = Vec::new();
    for path in tree() {
        let name = relative(&path);
        let parts = Path::new(&name).iter().filter_map(|part| part.to_str());
        let parts = parts.map(|part| part.split('.').next().unwrap_or_default());
        findings.extend(
            parts.filter(|part| banned.contains(part)).map(|part| format!("{name}: `{part}` says nothing")),
        );
    }
    none(findings);
}

#[test]
fn every_file_says_what_it_is() {
    let mut findings = Vec::new();
    for source in sources() {
        let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if !first.starts_with("//!") {
            findings.push(format!("{}: starts with {first:?} instead of `//!`", source.path));
        }
    }
    none(findings);
}

#[test]
fn no_getters_and_no_leftovers() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.path.starts_with("tests/tidy/")) {
        for (number, line) in source.lines() {
            if line.contains("fn get_") {
                findings.push(format!("{}:{number}: a getter is named by what it gives", source.path));
            }
            for word in ["todo!(", "unimplemented!(", "dbg!(", "FIXME"] {
                if line.contains(word) {
                    findings.push(format!("{}:{number}: {word}", source.path));
                }
            }
        }
    }
    none(findings);
}

#[test]
fn values_are_serialised_in_few_places() {
    let places = [
        "backend/core/src/api/",
        "backend/core/src/audit/",
        "backend/core/src/policy/",
        "backend/core/src/seal.rs",
        "backend/crypto/src/jwt.rs",
        "backend/daemon/src/config/",
        "backend/daemon/src/rest/",
        "backend/store/src/rows.rs",
        "provider/src/config.rs",
    ];
    let mut findings = Vec::new();
    let own = ["backend/", "provider/src/"];
    for source in sources().iter().filter(|source| own.iter().any(|folder| source.path.starts_with(folder))) {
        let allowed = places.iter().any(|place| source.path.starts_with(place));
        let derived = |line: &str| {
            line.contains("derive(") && (line.contains("Serialize") || line.contains("Deserialize"))
        };
        if !allowed && source.code().lines().any(derived) {
            findings.push(format!("{}: derives Serialize or Deserialize", source.path));
        }
    }
    none(findings);
}

#[test]
fn listeners_reach_keys_through_the_dispatcher_alone() {
    let mut findings = Vec::new();
    let listeners = ["backend/daemon/src/server/", "backend/daemon/src/rest/"];
    for source in sources() {
        if source.is_test() || !listeners.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        let used =
            ["kms_store", "kms_hsm", "crate::keys"].into_iter().filter(|word| source.code().contains(word));
        findings.extend(used.map(|word| format!("{}: names `{word}`", source.path)));
    }
    none(findings);
}

#[test]
fn the_provider_starts_no_thread() {
    let provider = sources().into_iter().filter(|source| source.path.starts_with("provider/src/"));
    let found = provider
        .filter(|source| source.code().contains("thread::spawn") || source.code().contains("atexit("));
    none(found.map(|source| format!("{}: a thread or an atexit handler", source.path)).collect());
}

#[test]
fn the_readme_names_every_folder_and_module() {
    let readme = readme::text();
    let mut missing = Vec::new();
    for folder in ["protocol", "provider", "backend", "tests", "softhsm-config", "docs"] {
        if !readme.contains(&format!("{folder}/")) {
            missing.push(format!("README.md does not name {folder}/"));
        }
    }
    for folder in ["provider/src", "backend/core/src", "backend/daemon/src"] {
        let entries = fs::read_dir(workspace().join(folder)).expect("the folder is there");
        for entry in entries.map(|entry| entry.expect("the folder can be read")) {
            let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
            let module = !["lib", "main", "test_home"].contains(&name.as_str()) && !name.contains('.');
            if module && !readme.contains(&format!("`{name}`")) {
                missing.push(format!("README.md does not name {folder}/{name}"));
            }
        }
    }
    none(missing);
}

#[test]
fn every_crate_ends_in_a_list_of_what_it_offers() {
    let mut findings = Vec::new();
    let roots = sources().into_iter().filter(|source| source.path.ends_with("src/lib.rs"));
    for source in
        roots.filter(|source| source.path.starts_with("backend/") || source.path.starts_with("protocol/"))
    {
        let listed = source.text.split_once("// The public interface is:");
        let list = listed.map(|(_, list)| list.lines().map(str::trim).filter(|line| !line.is_empty()));
        let only = list.is_some_and(|mut lines| {
            lines.all(|line| {
                ["pub use ", "pub mod ", "///", "}", "//", "#[cfg(", "mod "]
                    .iter()
                    .any(|start| line.starts_with(start))
                    || line.ends_with([',', ';'])
            })
        });
        if !only {
            findings.push(format!(
                "{}: does not end in `// The public interface is:` and that list",
                source.path
            ));
        }
    }
    none(findings);
}

#[test]
fn nothing_refers_to_what_is_not_here() {
    // The folder beside the repository that its authors read from; users do not have it.
    let folder = ["shared", "/"].concat();
    let banned = [format!("../{folder}"), format!("/work/{folder}")];
    let mut findings = Vec::new();
    for path in tree() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let used = banned.iter().filter(|word| text.contains(*word));
        findings.extend(used.map(|word| format!("{}: refers to {word}", relative(&path))));
    }
    none(findings);
}

#[test]
fn the_code_is_formatted() {
    let cargo = kms_tests::artefacts::variable("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    program::run(command.current_dir(workspace()).args(["fmt", "--all", "--check"])).ok();
}
