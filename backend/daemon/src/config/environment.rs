//! The process environment: the one module that reads it.

use std::ffi::OsString;

/// What of these variables this process lacks, or has otherwise.
#[expect(clippy::disallowed_methods, reason = "this module reads the environment")]
pub fn lacking(wanted: Vec<(&'static str, OsString)>) -> Vec<(&'static str, OsString)> {
    wanted.into_iter().filter(|(name, value)| std::env::var_os(name).as_ref() != Some(value)).collect()
}

/// A variable of this process's environment, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "this module reads the environment")]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
