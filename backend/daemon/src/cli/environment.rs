//! The process's environment, as far as the command line needs it: `config` reads it, this room starts anew with it.
//!
//! SoftHSM takes its configuration from `SOFTHSM2_CONF` when it is loaded. A process cannot change its own environment
//! safely (another thread may be reading it), so the command starts itself again, in the same process, with what is
//! needed.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::failure::Failure;
use crate::config;

/// A variable that must have a value.
pub(super) type Setting = (&'static str, OsString);

/// The home that `$KMS_HOME` names.
pub(super) fn home() -> Option<PathBuf> {
    config::variable("KMS_HOME").map(PathBuf::from)
}

/// Where a SoftHSM that is there already has its configuration.
pub(super) fn softhsm_config() -> Option<PathBuf> {
    config::variable("SOFTHSM2_CONF").map(PathBuf::from)
}

/// Where systemd wants to hear that the daemon is ready.
pub(super) fn notify_socket() -> Option<OsString> {
    config::variable("NOTIFY_SOCKET")
}

/// Returns when all settings are as needed; else starts the program again with them, which does not return.
///
/// # Errors
/// When the program cannot be started again.
pub(super) fn require(settings: Vec<Setting>, typed: &[OsString]) -> Result<(), Failure> {
    let lacking = config::lacking(settings);
    if lacking.is_empty() {
        return Ok(());
    }
    let program = env::current_exe().map_err(|error| {
        Failure::because(
            "this program cannot find itself",
            &error,
            "mount /proc, and keep the program's file in place",
        )
    })?;
    let mut again = Command::new(&program);
    if let Some((name, rest)) = typed.split_first() {
        again.arg0(name).args(rest);
    }
    again.envs(lacking.iter().map(|(name, value)| (name, value)));
    // Returns only when it failed.
    let error = again.exec();
    let what = format!("{} cannot be started again with the HSM's environment", program.display());
    let wanted: Vec<String> =
        lacking.iter().map(|(name, value)| format!("{name}={}", value.display())).collect();
    Err(Failure::because(what, &error, format!("set {} yourself and try again", wanted.join(" "))))
}
