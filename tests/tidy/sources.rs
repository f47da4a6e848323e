//! The source files, as the rules read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kms_tests::artefacts::workspace;
use kms_tests::program;

pub(crate) struct Source {
    /// The path from the top of the repository.
    pub(crate) path: String,
    /// The file.
    pub(crate) text: String,
}

impl Source {
    /// Whether the whole file is test code.
    pub(crate) fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/") || ["tests.rs", "test_home.rs"].contains(&name)
    }

    /// The file without its unit tests.
    pub(crate) fn code(&self) -> &str {
        self.text.split("\n#[cfg(test)]\n").next().unwrap_or(&self.text)
    }

    /// Its lines with their numbers, without comments.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The files of the project: what git would take.
pub(crate) fn tree() -> Vec<PathBuf> {
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

pub(crate) fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).expect("a file of the workspace").display().to_string()
}

pub(crate) fn sources() -> Vec<Source> {
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
pub(crate) fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}
