//! The tree guards itself: the invariants of the README's code map, as tests over the source files.
#![allow(missing_docs, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};
use kms_tests::artefacts::workspace;
use kms_tests::program;

/// The longest file, in lines: what one can still read in one sitting.
const FILE_LINES_MAX: usize = 600;

/// The longest function, in lines: a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// The rooms without I/O, clock or randomness.
const PURE: [&str; 8] = [
    "protocol/src",
    "provider/src/session",
    "backend/src/policy",
    "backend/src/crypto",
    "backend/src/integrity.rs",
    "backend/src/kms",
    "backend/src/audit",
    "backend/src/seal.rs",
];

/// What only shells name.
const SHELL_WORDS: [&str; 9] = [
    "tokio::",
    "rusqlite::",
    "cryptoki::",
    "std::net",
    "std::fs",
    "std::os::unix::net",
    "Instant::now",
    "SystemTime::now",
    "getrandom::",
];

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The file without its tests, which may do what they like.
    fn code(&self) -> &str {
        self.text.split("\n#[cfg(test)]\n").next().unwrap_or(&self.text)
    }

    /// Its lines of code with their numbers: no comments.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The files of the project: what git would take.
fn tree() -> Vec<PathBuf> {
    let mut command = Command::new("git");
    command.current_dir(workspace()).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let ran = program::run(&mut command);
    if ran.status.success() {
        let names = ran.output.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let paths = names.map(|name| workspace().join(String::from_utf8_lossy(name).as_ref()));
        return paths.filter(|path| path.is_file()).collect();
    }
    // An unpacked archive has no git: everything but what is built.
    let walk = walkdir::WalkDir::new(workspace()).into_iter();
    let kept = walk.filter_entry(|entry| !["target", ".git"].iter().any(|name| entry.file_name() == *name));
    kept.map(|entry| entry.expect("the tree can be read").into_path()).filter(|path| path.is_file()).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).expect("a file of the workspace").display().to_string()
}

fn sources() -> Vec<Source> {
    let rust = tree().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let read = rust.map(|path| Source {
        text: fs::read_to_string(&path).expect("a source is text"),
        path: relative(&path),
    });
    let sources: Vec<_> = read.collect();
    assert!(sources.len() > 50, "only {} sources found", sources.len());
    sources
}

/// Fails with all findings at once.
#[track_caller]
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn crates_depend_as_drawn() {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .other_options(["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .expect("cargo tells the crates");
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let normal =
            package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
        let names: Vec<_> = normal.map(|dependency| dependency.name.as_str()).collect();
        let banned: &[&str] = match package.name.as_str() {
            "kms-protocol" => {
                &["kms-provider", "kms-backend", "tokio", "rusqlite", "cryptoki", "libc", "rustix"]
            }
            "kms-provider" => {
                &["kms-backend", "tokio", "rusqlite", "cryptoki", "aws-lc-rs", "openssl", "tracing"]
            }
            "kms-backend" => &["kms-provider", "cryptoki-sys"],
            "kms-tests" => &["kms-provider", "kms-backend"],
            other => panic!("{other} is not on the code map; put it there and here"),
        };
        let found = names.iter().filter(|name| banned.contains(*name));
        findings.extend(found.map(|name| format!("{} must not depend on {name}", package.name)));
    }
    none(findings);
}

#[test]
fn pure_rooms_do_no_io() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| PURE.iter().any(|room| source.path.starts_with(room))) {
        for word in SHELL_WORDS {
            if source.code().lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word)) {
                findings.push(format!("{}: `{word}` belongs to a shell", source.path));
            }
        }
    }
    none(findings);
}

#[test]
fn unsafe_has_one_address() {
    // Tests have doors of their own: raw C spoken to the module, and an allocator that counts.
    let tests =
        ["tests/src/raw/", "tests/abi/", "tests/src/client.rs", "tests/tidy.rs", "protocol/tests/total.rs"];
    let doors = [["provider/src/ffi/"].as_slice(), &tests].concat();
    let mut findings = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            let used = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|form| line.contains(form));
            if used && !doors.iter().any(|door| source.path.starts_with(door)) {
                findings.push(format!("{}:{number}: unsafe", source.path));
            }
        }
    }
    none(findings);
}

#[test]
fn every_unsafe_block_says_why() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tidy.rs") {
        let lines: Vec<_> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let comment = line.trim_start().starts_with("//");
            if comment || !line.contains("unsafe {") {
                continue;
            }
            // The reason stands on the line itself or among the comments and the statement's first lines above it.
            let above = lines[index.saturating_sub(8)..index].iter().rev();
            let reasoned = line.contains("SAFETY") || above.take(8).any(|line| line.contains("// SAFETY:"));
            if !reasoned {
                findings.push(format!("{}:{}: an unsafe block without `// SAFETY:`", source.path, index + 1));
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
fn rooms_have_names_that_say_something() {
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
    for source in sources().iter().filter(|source| source.path != "tests/tidy.rs") {
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
        "protocol/",
        "backend/src/config.rs",
        "backend/src/store/rows.rs",
        "backend/src/seal.rs",
        "backend/src/kms/",
        "backend/src/rest/",
        "backend/src/audit/",
    ];
    let tickets = ["backend/src/policy/", "provider/src/config.rs", "backend/src/config/"];
    let mut findings = Vec::new();
    let own = ["backend/src/", "provider/src/"];
    for source in sources().iter().filter(|source| own.iter().any(|room| source.path.starts_with(room))) {
        let allowed = places.iter().chain(&tickets).any(|place| source.path.starts_with(place));
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
fn doors_reach_keys_through_the_dispatcher_alone() {
    let mut findings = Vec::new();
    for source in sources() {
        let door =
            ["backend/src/server/", "backend/src/rest/"].iter().any(|room| source.path.starts_with(room));
        let banned: &[&str] = if door {
            &["crate::store", "crate::hsm", "crate::keys"]
        } else if source.path.starts_with("backend/src/policy/")
            || source.path.starts_with("backend/src/crypto/")
        {
            &["crate::store", "crate::hsm", "crate::keys", "crate::server", "crate::dispatch"]
        } else {
            continue;
        };
        let used = banned.iter().filter(|word| source.code().contains(*word));
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
fn the_readme_names_every_room() {
    let readme = fs::read_to_string(workspace().join("README.md")).expect("there is a README");
    let mut missing = Vec::new();
    for folder in ["protocol", "provider", "backend", "tests", "softhsm-config"] {
        if !readme.contains(&format!("{folder}/")) {
            missing.push(format!("README.md does not name {folder}/"));
        }
    }
    for source in ["provider/src", "backend/src"] {
        let entries = fs::read_dir(workspace().join(source)).expect("the folder is there");
        for entry in entries.map(|entry| entry.expect("the folder can be read")) {
            let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
            let room = !["lib", "main"].contains(&name.as_str()) && !name.contains('.');
            if room && !readme.contains(&name) {
                missing.push(format!("README.md does not name {source}/{name}"));
            }
        }
    }
    none(missing);
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
