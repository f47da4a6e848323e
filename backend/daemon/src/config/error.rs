//! Configuration errors, with file, line and key.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why the configuration, or a file that it names, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The home does not exist.
    #[error("{} does not exist; create a home with `kms init --home DIR`, or name another with --home", .0.display())]
    Missing(PathBuf),
    /// A value is wrong, unknown or missing.
    #[error("{}, line {line}{}: {problem}", path.display(), Key(key))]
    Wrong {
        /// The configuration file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, as `[section] key`; without `key` if the line has none.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Displays the key before the problem, if there is one.
struct Key<'a>(&'a str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", {}", self.0) }
    }
}

/// Determines the line and key of a parser error.
pub(super) fn wrong(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let Range { start, .. } = error.span().unwrap_or(0..0);
    let before = text.get(..start).unwrap_or(text);
    let line = before.lines().count().max(1) + usize::from(before.ends_with('\n') && !before.is_empty());
    let at = text.lines().nth(line - 1).unwrap_or_default();
    let key = at.split_once('=').map(|(key, _)| key.trim()).unwrap_or_default();
    let lines = text.lines().take(line).map(str::trim);
    let section = lines.filter(|line| line.starts_with('[')).last().unwrap_or_default();
    let section = section.split(']').next().map(|name| format!("{name}]")).filter(|name| name.len() > 1);
    let key = [section.unwrap_or_default().as_str(), key].join(" ").trim().to_owned();
    let problem = error.message().replace('\n', " ");
    ConfigError::Wrong { path: path.to_owned(), line, key, problem }
}
