//! The environment of the process: `config` reads it; this module executes the program again with more variables.
//!
//! SoftHSM reads the path of its configuration from `SOFTHSM2_CONF` when it is loaded. A process cannot change its own
//! environment safely (another thread may be reading it), so the command executes itself again, in the same process,
//! with the variables that it needs.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::failure::Failure;
use crate::config;

/// An environment variable and the value that it must have.
pub(super) type Setting = (&'static str, OsString);

/// The home that `$KMS_HOME` names.
pub(super) fn home() -> Option<PathBuf> {
    config::variable("KMS_HOME").map(PathBuf::from)
}

/// The path of an existing SoftHSM configuration, if one is set.
pub(super) fn softhsm_config() -> Option<PathBuf> {
    config::variable("SOFTHSM2_CONF").map(PathBuf::from)
}

/// The socket for notifications to systemd, if systemd started the process.
pub(super) fn notify_socket() -> Option<OsString> {
    config::variable("NOTIFY_SOCKET")
}

/// Returns if all settings are in the environment; else executes the program again with them, and does not return.
///
/// # Errors
/// When the program cannot be executed command.
pub(super) fn require(settings: Vec<Setting>, argv: &[OsString]) -> Result<(), Failure> {
    let missing = config::lacking(settings);
    if missing.is_empty() {
        return Ok(());
    }
    let program = env::current_exe().map_err(|error| {
        Failure::because(
            "cannot find the program's own file",
            &error,
            "mount /proc, and do not move the program while it runs",
        )
    })?;
    let mut command = Command::new(&program);
    if let Some((name, rest)) = argv.split_first() {
        command.arg0(name).args(rest);
    }
    command.envs(missing.iter().map(|(name, value)| (name, value)));
    // exec returns only if it failed.
    let error = command.exec();
    let what = format!("cannot execute {} again with the environment of the HSM", program.display());
    let settings: Vec<String> =
        missing.iter().map(|(name, value)| format!("{name}={}", value.display())).collect();
    Err(Failure::because(
        what,
        &error,
        format!("set {} in the environment and try again", settings.join(" ")),
    ))
}
