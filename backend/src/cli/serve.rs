//! `kms serve`: logs, the words that tell when the daemon is ready, and nothing of what it does.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use tracing_subscriber::EnvFilter;

use super::arguments::{LogFormat, Serve};
use super::environment;
use super::failure::Failure;
use super::home::Home;
use super::screen;
use crate::service;

/// Serves a home until the process is told to stop.
pub(super) fn run(arguments: Serve, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let config = home.open(typed)?;
    start_log(&arguments.log, arguments.log_format)?;
    service::serve(&config, ready)?;
    Ok(())
}

fn ready(socket: &Path) {
    screen::line(&format!("kms: ready on {}", socket.display()));
    let Some(supervisor) = environment::notify_socket() else { return };
    if let Err(error) = notify(&supervisor) {
        tracing::warn!(%error, "systemd could not be told that the daemon is ready");
    }
}

/// Tells systemd that the daemon is ready (sd_notify(3)). A name that begins with `@` is in the abstract namespace.
fn notify(supervisor: &OsStr) -> io::Result<()> {
    let address = match supervisor.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(supervisor)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

/// Sends the log to standard error. PINs, keys and data are never logged, whatever the level.
fn start_log(level: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        let next = "use a level (error, warn, info, debug, trace), or directives as in `info,kms_backend::hsm=debug`";
        Failure::because(format!("--log {level:?} cannot be understood"), &error, next)
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| {
        Failure::because("the log cannot be started", &*error, "start the daemon in a new process")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str()).unwrap();
        let name = format!("kms-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notify(OsStr::new(&format!("@{name}"))).unwrap();
        for socket in [by_path, by_name] {
            let mut heard = [0; 16];
            let length = socket.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
    }
}
