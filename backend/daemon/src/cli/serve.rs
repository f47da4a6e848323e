//! `kms serve`: starts the log and the daemon, and notifies the operator and systemd of its state.

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
use super::hardening;
use super::home::Home;
use super::output;
use crate::config::{Config, RestConfig};
use crate::rest::RestError;
use crate::server::{Owner, ReloadedConfig};
use crate::service::{self, ServiceError};

/// Serves a home until the process receives SIGTERM or SIGINT.
pub(super) fn run(arguments: Serve, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let config = home.open(argv)?;
    let level = arguments.log.clone().unwrap_or_else(|| config.log_level().to_owned());
    let log = start_log(&level, arguments.log_format)?;
    if let Err(problem) = hardening::lock_memory() {
        tracing::warn!("{problem}");
    }
    let overrides = Overrides {
        listen: arguments.rest_listen,
        tls: arguments.tls_cert.zip(arguments.tls_key),
        must_be_tls: arguments.tls,
        level: arguments.log,
    };
    let rest = overrides.apply(config.rest())?;
    let mut operator = Operator { file: config.path(), overrides, log, pending: None };
    service::serve(&config, &rest, &mut operator)?;
    Ok(())
}

/// Arguments that override the configuration file, at the start and after a reload.
struct Overrides {
    listen: Option<std::net::SocketAddr>,
    tls: Option<(PathBuf, PathBuf)>,
    must_be_tls: bool,
    level: Option<String>,
}

impl Overrides {
    fn apply(&self, file: &RestConfig) -> Result<RestConfig, ServiceError> {
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

/// Notifies whoever started the daemon: an operator on standard output, systemd, or both.
struct Operator {
    file: PathBuf,
    overrides: Overrides,
    log: reload::Handle<EnvFilter, Registry>,
    /// The filter of a reloaded configuration and its description, until the listeners have applied the rest.
    pending: Option<(EnvFilter, String)>,
}

impl Operator {
    fn read_config(&mut self) -> Result<ReloadedConfig, String> {
        let config = Config::read(&self.file).map_err(|error| error_chain(&error))?;
        let rest = self.overrides.apply(config.rest()).map_err(|error| error_chain(&error))?;
        let level = self.overrides.level.clone().unwrap_or_else(|| config.log_level().to_owned());
        let filter = EnvFilter::try_new(&level).map_err(|error| format!("[log] level {level:?}: {error}"))?;
        let audit = config.audit();
        let description = format!(
            "log {level}, {} calls per hour, uses of keys in the audit log: {:?}",
            rest.calls_per_hour, audit.crypto
        );
        self.pending = Some((filter, description));
        Ok(ReloadedConfig { rest, audit })
    }
}

impl Owner for Operator {
    fn ready(&mut self, socket: &Path, rest: Option<&str>) {
        // The line of the socket is last: a program that waits for it has read both.
        if let Some(url) = rest {
            output::line(&format!("kms: REST on {url}"));
        }
        output::line(&format!("kms: ready on {}", socket.display()));
        notify_systemd("READY=1");
    }

    fn reload(&mut self) -> Option<ReloadedConfig> {
        notify_systemd(&reloading_state());
        let read = self.read_config();
        if let Err(cause) = &read {
            tracing::error!(cause, "SIGHUP: cannot read the configuration; nothing was changed");
        }
        read.ok()
    }

    fn reloaded(&mut self, taken: bool) {
        if let Some((filter, description)) = self.pending.take().filter(|_| taken) {
            tracing::info!(file = %self.file.display(), "SIGHUP: configuration and certificate reloaded: {description}");
            if let Err(error) = self.log.reload(filter) {
                tracing::error!(%error, "SIGHUP: cannot change the log level");
            }
        }
        notify_systemd("READY=1");
    }

    fn stopping(&mut self) {
        notify_systemd("STOPPING=1");
    }
}

/// The state of a reload, with its time by the monotonic clock, which systemd requires (sd_notify(3)).
fn reloading_state() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")
}

/// Sends the state of the daemon to systemd, if systemd started it.
fn notify_systemd(state: &str) {
    let Some(socket) = environment::notify_socket() else { return };
    if let Err(error) = send_state(&socket, state) {
        tracing::warn!(%error, state, "cannot notify systemd");
    }
}

/// Sends a state to a socket of systemd (sd_notify(3)). A name that begins with `@` is in the abstract namespace.
fn send_state(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Starts the log on standard error. PINs, keys and data are not logged at any level.
fn start_log(level: &str, format: LogFormat) -> Result<reload::Handle<EnvFilter, Registry>, Failure> {
    use tracing_subscriber::prelude::*;
    let filter = EnvFilter::try_new(level).map_err(|error| {
        let next = "use a level (error, warn, info, debug, trace), or directives as in `info,kms_hsm=debug`";
        Failure::because(format!("invalid log level {level:?}"), &error, next)
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
        Failure::because("cannot start the log", &error, "start the daemon in a new process")
    })?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_notified_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        send_state(path.as_os_str(), "READY=1").unwrap();
        let name = format!("kms-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send_state(OsStr::new(&format!("@{name}")), "READY=1").unwrap();
        for socket in [by_path, by_name] {
            let mut received = [0; 16];
            let length = socket.recv(&mut received).unwrap();
            assert_eq!(&received[..length], b"READY=1");
        }
    }

    #[test]
    fn arguments_override_the_configuration_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kms.toml");
        let text = "[hsm]\nmodule = \"m\"\ntoken = \"t\"\npin_file = \"p\"\n[rest]\nenabled = false\n";
        std::fs::write(&file, text).unwrap();
        let config = Config::read(&file).unwrap();
        let none = || Overrides { listen: None, tls: None, must_be_tls: false, level: None };
        assert!(!none().apply(config.rest()).unwrap().enabled);
        let must = Overrides { must_be_tls: true, ..none() };
        assert!(matches!(must.apply(config.rest()), Err(ServiceError::Rest(RestError::NoCertificate))));
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let tls = Some((PathBuf::from("c"), PathBuf::from("k")));
        let overrides = Overrides { listen, tls: tls.clone(), must_be_tls: true, level: None };
        let rest = overrides.apply(config.rest()).unwrap();
        assert_eq!((rest.enabled, Some(rest.listen), rest.tls), (true, listen, tls));
    }

    #[test]
    fn a_reload_has_the_time_that_systemd_requires() {
        let state = reloading_state();
        let (state, time) = state.split_once('\n').unwrap();
        assert_eq!(state, "RELOADING=1");
        assert!(time.strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0);
    }
}
