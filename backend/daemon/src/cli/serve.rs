//! `kms serve`: logs, the words that tell when the daemon is ready, and nothing of what it does.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use kms_core::error_chain;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::arguments::{LogFormat, Serve};
use super::environment;
use super::failure::Failure;
use super::home::Home;
use super::output;
use crate::config::{Config, RestConfig};
use crate::rest::RestError;
use crate::server::{Owner, Reread};
use crate::service::{self, ServiceError};

/// Serves a home until the process is told to stop.
pub(super) fn run(arguments: Serve, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let config = home.open(typed)?;
    let level = arguments.log.clone().unwrap_or_else(|| config.log_level().to_owned());
    let log = start_log(&level, arguments.log_format)?;
    let typed = Typed {
        listen: arguments.rest_listen,
        tls: arguments.tls_cert.zip(arguments.tls_key),
        must_be_tls: arguments.tls,
        level: arguments.log,
    };
    let rest = typed.over(config.rest())?;
    let mut operator = Operator { file: config.path(), typed, log, pending: None };
    service::serve(&config, &rest, &mut operator)?;
    Ok(())
}

/// What was typed, which stands above what the file says, now and when it is read again.
struct Typed {
    listen: Option<std::net::SocketAddr>,
    tls: Option<(PathBuf, PathBuf)>,
    must_be_tls: bool,
    level: Option<String>,
}

impl Typed {
    fn over(&self, file: &RestConfig) -> Result<RestConfig, ServiceError> {
        let mut rest = file.clone();
        rest.listen = self.listen.unwrap_or(rest.listen);
        rest.tls = self.tls.clone().or(rest.tls);
        rest.enabled |= self.listen.is_some() || self.must_be_tls;
        if self.must_be_tls && rest.tls.is_none() {
            return Err(RestError::NoCertificate.into());
        }
        Ok(rest)
    }
}

/// Who started the daemon: a person who reads standard output, systemd, or both.
struct Operator {
    file: PathBuf,
    typed: Typed,
    log: reload::Handle<EnvFilter, Registry>,
    /// What was read again, until the doors have taken over theirs: the log's filter, and words for what it is.
    pending: Option<(EnvFilter, String)>,
}

impl Operator {
    fn read_again(&mut self) -> Result<Reread, String> {
        let config = Config::read(&self.file).map_err(|error| error_chain(&error))?;
        let rest = self.typed.over(config.rest()).map_err(|error| error_chain(&error))?;
        let level = self.typed.level.clone().unwrap_or_else(|| config.log_level().to_owned());
        let filter = EnvFilter::try_new(&level).map_err(|error| format!("[log] level {level:?}: {error}"))?;
        let audit = config.audit();
        let said = format!(
            "log {level}, {} calls per hour, uses of keys in the audit log: {:?}",
            rest.calls_per_hour, audit.crypto
        );
        self.pending = Some((filter, said));
        Ok(Reread { rest, audit })
    }
}

impl Owner for Operator {
    fn ready(&mut self, socket: &Path, rest: Option<&str>) {
        // The socket's line comes last: who waits for it has both.
        if let Some(url) = rest {
            output::line(&format!("kms: REST on {url}"));
        }
        output::line(&format!("kms: ready on {}", socket.display()));
        tell("READY=1");
    }

    fn reload(&mut self) -> Option<Reread> {
        tell(&reloading());
        let read = self.read_again();
        if let Err(cause) = &read {
            tracing::error!(cause, "SIGHUP: the configuration cannot be read; all stays as it was");
        }
        read.ok()
    }

    fn reloaded(&mut self, taken: bool) {
        if let Some((filter, said)) = self.pending.take().filter(|_| taken) {
            tracing::info!(file = %self.file.display(), "SIGHUP: read again, with the certificate: {said}");
            if let Err(error) = self.log.reload(filter) {
                tracing::error!(%error, "SIGHUP: the log goes on as it was");
            }
        }
        tell("READY=1");
    }

    fn stopping(&mut self) {
        tell("STOPPING=1");
    }
}

/// systemd wants to know since when, by the clock that only goes forward (sd_notify(3)).
fn reloading() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")
}

/// Tells systemd how the daemon is, if systemd started it.
fn tell(state: &str) {
    let Some(supervisor) = environment::notify_socket() else { return };
    if let Err(error) = notify(&supervisor, state) {
        tracing::warn!(%error, state, "systemd could not be told");
    }
}

/// Sends a state to systemd (sd_notify(3)). A name that begins with `@` is in the abstract namespace.
fn notify(supervisor: &OsStr, state: &str) -> io::Result<()> {
    let address = match supervisor.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(supervisor)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Sends the log to standard error. PINs, keys and data are never logged, whatever the level.
fn start_log(level: &str, format: LogFormat) -> Result<reload::Handle<EnvFilter, Registry>, Failure> {
    use tracing_subscriber::prelude::*;
    let filter = EnvFilter::try_new(level).map_err(|error| {
        let next = "use a level (error, warn, info, debug, trace), or directives as in `info,kms_hsm=debug`";
        Failure::because(format!("--log {level:?} cannot be understood"), &error, next)
    })?;
    let (filter, handle) = reload::Layer::new(filter);
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let colours = io::IsTerminal::is_terminal(&io::stderr());
    let log = match format {
        LogFormat::Text => log.with_ansi(colours).boxed(),
        LogFormat::Json => log.json().boxed(),
    };
    let started = Registry::default().with(filter).with(log).try_init();
    started.map_err(|error| {
        Failure::because("the log cannot be started", &error, "start the daemon in a new process")
    })?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str(), "READY=1").unwrap();
        let name = format!("kms-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notify(OsStr::new(&format!("@{name}")), "READY=1").unwrap();
        for socket in [by_path, by_name] {
            let mut heard = [0; 16];
            let length = socket.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
    }

    #[test]
    fn what_is_typed_stands_above_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kms.toml");
        let whole = "[hsm]\nmodule = \"m\"\ntoken = \"t\"\npin_file = \"p\"\n[rest]\nenabled = false\n";
        std::fs::write(&file, whole).unwrap();
        let config = Config::read(&file).unwrap();
        let nothing = || Typed { listen: None, tls: None, must_be_tls: false, level: None };
        assert!(!nothing().over(config.rest()).unwrap().enabled);
        let must = Typed { must_be_tls: true, ..nothing() };
        assert!(matches!(must.over(config.rest()), Err(ServiceError::Rest(RestError::NoCertificate))));
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let tls = Some((PathBuf::from("c"), PathBuf::from("k")));
        let typed = Typed { listen, tls: tls.clone(), must_be_tls: true, level: None };
        let rest = typed.over(config.rest()).unwrap();
        assert_eq!((rest.enabled, Some(rest.listen), rest.tls), (true, listen, tls));
    }

    #[test]
    fn a_reload_is_told_with_the_time_that_systemd_asks_for() {
        let state = reloading();
        let (word, time) = state.split_once('\n').unwrap();
        assert_eq!(word, "RELOADING=1");
        assert!(time.strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0);
    }
}
