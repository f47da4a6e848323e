//! The process environment. No other module reads it.

use std::ffi::OsString;

/// Returns those of the given variables that are not set to the given value in this process.
#[expect(clippy::disallowed_methods, reason = "this module reads the environment")]
pub fn lacking(required: Vec<(&'static str, OsString)>) -> Vec<(&'static str, OsString)> {
    required.into_iter().filter(|(name, value)| std::env::var_os(name).as_ref() != Some(value)).collect()
}

/// Returns an environment variable, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "this module reads the environment")]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
