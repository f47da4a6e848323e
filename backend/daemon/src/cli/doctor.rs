//! `kms doctor`: checks each part of a home, from its configuration to the PKCS#11 module in an application.
//!
//! A child process (`module_probe`) loads the module, so that a crash of the module is reported and does not end the
//! doctor.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use kms_protocol::{Hello, Secret, Welcome, frame};
use zeroize::Zeroizing;

use super::arguments::Doctor;
use super::credential_checks;
use super::environment;
use super::failure::Failure;
use super::hardening;
use super::home::Home;
use super::host_checks;
use super::module_probe::{self, Event, Step};
use super::output;
use super::pins;
use super::report::Report;
use crate::config::Config;
use crate::dispatch::{Clock, MasterUse};
use crate::service::{self, Backend, RingInfo, ServiceError};

/// The maximum duration of the handshake with the daemon: even a busy daemon is faster.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum duration of one step of the module probe: three times the time that a call waits for the backend.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum number of bytes that are read of the child's output: a hundred times its usual output.
const CHILD_BYTES_MAX: u64 = 1 << 20;

/// The folders in which installations put the module.
const MODULE_FOLDERS: [&str; 5] =
    ["/usr/lib", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"];

/// The file name of the module.
const MODULE: &str = "libkms_pkcs11.so";

/// Checks a home and prints the report. The exit code is 0 if all checks passed.
pub(super) fn run(arguments: Doctor, argv: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let mut report = Report::default();
    let mut rings = Vec::new();
    match home.read_config() {
        Ok(config) => {
            environment::require(config.environment(), argv)?;
            report.add("configuration", configuration(&home, &config));
            rings = hsm_and_database(&config, &mut report);
            credential_checks::files(&home, &mut report);
            report.add("disk", host_checks::disk_space(&config.store_path(), config.disk_floor()));
            let connected = socket(&home, &config);
            let memory = connected.as_ref().ok().map(|(_, stream)| memory(stream));
            report.add("socket", connected.map(|(detail, _)| detail));
            if let Some(memory) = memory {
                report.add("memory", memory);
            }
            rest(&config, &mut report);
        }
        Err(failure) => {
            report.add("configuration", Err(failure));
            report.skip("hsm");
            report.skip("database");
            report.skip("socket");
        }
    }
    let ring = ring_name(arguments.ring, &rings);
    let pin = match &arguments.pin_file {
        Some(file) => Some(pins::from_file(file)?),
        None => ring.as_ref().and_then(|ring| pins::user_pin(&home.credentials(), ring)),
    };
    match module(arguments.module) {
        Ok(module) => probe_module(&module, ring.as_deref(), pin.as_ref(), &home, &mut report)?,
        Err(failure) => report.fail_module(failure),
    }
    if arguments.output.json {
        output::json(&report.json());
    } else {
        report.lines().iter().for_each(|line| output::line(line));
    }
    Ok(if report.all_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks that both configuration files exist and name the same socket.
fn configuration(home: &Home, config: &Config) -> Result<String, Failure> {
    let path = home.provider_config();
    let next = format!("write `socket = \"kms.sock\"` into {}", path.display());
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::because(format!("cannot read {}", path.display()), &error, &*next))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        Failure::new(format!("{}: {}", path.display(), error.to_string().trim()), "correct the file")
    })?;
    let Some(socket) = table.get("socket").and_then(toml::Value::as_str) else {
        return Err(Failure::new(format!("{} does not name a socket", path.display()), next));
    };
    if home.path().join(socket) != config.socket_path() {
        let (file, daemon_socket) = (path.display(), config.socket_path());
        let what =
            format!("{file} names the socket {socket}, but the daemon's is {}", daemon_socket.display());
        return Err(Failure::new(what, "set the same socket in both files"));
    }
    Ok(format!("{}, {}", home.config().display(), path.display()))
}

/// The ring to log in to: the named one, by its name if an id was given, else the first.
fn ring_name(named: Option<String>, rings: &[RingInfo]) -> Option<String> {
    let Some(ring) = named else { return rings.first().map(|ring| ring.label.clone()) };
    let by_id = rings.iter().find(|known| Some(known.id) == service::ring_id(&ring));
    Some(by_id.map_or(ring, |known| known.label.clone()))
}

/// Opens HSM and database as the daemon does, and returns the rings.
fn hsm_and_database(config: &Config, report: &mut Report) -> Vec<RingInfo> {
    let backend = match Backend::open(config) {
        Ok(backend) => backend,
        Err(error) => {
            match failed_part(&error) {
                Part::Hsm => {
                    report.add("hsm", Err(error.into()));
                    report.skip("database");
                }
                Part::Database => {
                    report.add("hsm", Ok("the token and its PIN are correct".into()));
                    report.add("database", Err(error.into()));
                }
            }
            return Vec::new();
        }
    };
    let health = backend.health();
    let token = config.hsm().token;
    report.add(
        "hsm",
        health.hsm.map(|()| format!("token {token:?} contains the master key")).map_err(Failure::from),
    );
    match health.store.and_then(|()| backend.rings()) {
        Ok(rings) => {
            let keys: u64 = rings.iter().map(|ring| ring.keys).sum();
            let path = config.store_path();
            report.add("database", Ok(format!("{}: {} ring(s), {keys} key(s)", path.display(), rings.len())));
            report.add("rows", rows_as_written(health.rows));
            report.add("audit log", audit_log(&backend));
            report.add("clock", host_checks::clock(&backend));
            credential_checks::pins(&backend, report);
            access_scope(config, &backend, report);
            report.add("master key", master_key(&backend));
            rings
        }
        Err(error) => {
            report.add("database", Err(error.into()));
            Vec::new()
        }
    }
}

/// Checks how much of what is safe the master key has wrapped.
fn master_key(backend: &Backend) -> Result<String, Failure> {
    let MasterUse { master, wraps, is_high } = backend.master_use()?;
    let detail =
        format!("version {} has wrapped about {wraps} of the 2^32 keys that are safe under it", master.0);
    if is_high {
        let next = "create new keys in a new home: at the limit this one creates and rotates no more keys, and those that it \
                    has stay usable";
        return Err(Failure::new(detail, next));
    }
    Ok(detail)
}

/// Checks that keys which are restricted to some networks can be used from any.
fn access_scope(config: &Config, backend: &Backend, report: &mut Report) {
    let outcome = match backend.sna_keys() {
        Ok(0) => return,
        Ok(keys) if config.rest().sna_networks.is_empty() => {
            let what = format!(
                "access_scope SNA is bound to no networks: {keys} key(s) with it cannot be used over REST"
            );
            Err(Failure::new(what, "set [rest] sna_networks in kms.toml, for example [\"10.0.0.0/8\"]"))
        }
        Ok(keys) => {
            let networks: Vec<_> = config.rest().sna_networks.iter().map(ToString::to_string).collect();
            Ok(format!("{keys} key(s) with SNA may be used over REST from {}", networks.join(", ")))
        }
        Err(error) => Err(error.into()),
    };
    report.add("access scope", outcome);
}

/// Checks certificate and address of the REST listener, if it is enabled.
fn rest(config: &Config, report: &mut Report) {
    let rest = config.rest();
    if !rest.enabled {
        return report.skip_because("rest", "[rest] enabled is false");
    }
    if let Some((certificate, _)) = &rest.tls {
        report.add("certificate", host_checks::certificate(certificate, Clock::default().seconds()));
    }
    if rest.listen.port() == 0 {
        return report.skip_because("rest", "the port is 0: the daemon selects a free one and prints it");
    }
    let daemon_runs = !report.failed("socket");
    report.add("rest", host_checks::rest_address(rest, daemon_runs));
}

/// Checks that the rows of the database are those that were written.
fn rows_as_written(faults: Result<Vec<String>, ServiceError>) -> Result<String, Failure> {
    match faults?.as_slice() {
        [] => Ok("the rows of all tables are those that kms wrote".to_owned()),
        faults => {
            let next = "keep a copy of the database for the investigation; then restore a backup with `kms restore`, or go \
                        on with the rows as they are with `kms audit restart`";
            Err(Failure::new(faults.join("; "), next))
        }
    }
}

/// Checks that the audit log accepts entries. Verifying all of it would take too long here.
fn audit_log(backend: &Backend) -> Result<String, Failure> {
    let head = backend.audit_head().map_err(|error| {
        let next = "verify the log with `kms audit verify`, and start a new one with `kms audit restart`";
        Failure::because("the audit log accepts no entries, so nothing can be changed", &error, next)
    })?;
    Ok(format!("{} entries since the first", head.last.sequence))
}

/// A part of an opened home.
enum Part {
    Hsm,
    Database,
}

/// The part that failed. The HSM is opened first.
fn failed_part(error: &ServiceError) -> Part {
    match error {
        ServiceError::Hsm(_) | ServiceError::ForeignMaster(_) => Part::Hsm,
        ServiceError::Store(_)
        | ServiceError::Request(_)
        | ServiceError::SocketListener(_)
        | ServiceError::Io(_)
        | ServiceError::Mismatch { .. }
        | ServiceError::Incomplete(_)
        | ServiceError::NoSuchRing(_)
        | ServiceError::NoSuchKey(_)
        | ServiceError::Ambiguous(_)
        | ServiceError::Exists(_)
        | ServiceError::Account(_)
        | ServiceError::AuditBroken(_)
        | ServiceError::Export(_)
        | ServiceError::BadName(_)
        | ServiceError::Rest(_)
        | ServiceError::NotConfirmed
        | ServiceError::NoSuchCredential(_)
        | ServiceError::BadPin => Part::Database,
    }
}

/// Checks that a daemon accepts connections and has a compatible version.
fn socket(home: &Home, config: &Config) -> Result<(String, UnixStream), Failure> {
    let path = config.socket_path();
    let start = format!("start the daemon: kms serve --home {}", home.path().display());
    let mut stream = UnixStream::connect(&path).map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            let next = "run as a user of the socket's group, or extend [socket] mode in kms.toml";
            return Failure::because(format!("no permission to connect to {}", path.display()), &error, next);
        }
        Failure::because(format!("no daemon listens on {}", path.display()), &error, &*start)
    })?;
    let no_response = |error: io::Error| {
        let next = "check whether the daemon hangs, and restart it";
        Failure::because(format!("the daemon on {} does not respond", path.display()), &error, next)
    };
    match handshake(&mut stream).map_err(no_response)? {
        Welcome::Version(version) => Ok((format!("{}: protocol version {version}", path.display()), stream)),
        Welcome::Unsupported { oldest, newest } => {
            let what = format!(
                "the daemon supports protocol versions {oldest} to {newest}, this program {}",
                frame::VERSION
            );
            Err(Failure::new(
                what,
                "install kms and libkms_pkcs11.so of the same release, and restart the daemon",
            ))
        }
        Welcome::Busy => {
            let next = "raise [socket] connections_max in kms.toml, or close connections";
            Err(Failure::new("the daemon has reached its maximum number of connections", next))
        }
    }
}

/// Checks that the memory of the daemon at the other end of a connection does not reach swap.
fn memory(stream: &UnixStream) -> Result<String, Failure> {
    let peer = rustix::net::sockopt::socket_peercred(stream).map_err(|error| {
        Failure::because("cannot tell which process listens on the socket", &error, "try again")
    })?;
    let pid = peer.pid.as_raw_nonzero().get();
    hardening::check_locked(pid).map_err(|(what, next)| Failure::new(what, next))
}

fn handshake(stream: &mut UnixStream) -> io::Result<Welcome> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    stream.set_write_timeout(Some(HANDSHAKE_TIMEOUT))?;
    let mut bytes = Zeroizing::new(Vec::new());
    frame::encode(&Hello::ours(), &mut bytes).map_err(invalid)?;
    stream.write_all(&bytes)?;
    let mut header = [0; frame::HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let mut body = vec![0; frame::length(header).map_err(invalid)?];
    stream.read_exact(&mut body)?;
    frame::decode(&body).map_err(invalid)
}

/// Finds the module to load.
fn module(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let next = "name it with --module PATH";
    if let Some(path) = named {
        // dlopen searches the system's folders for a name without a slash.
        return match path.canonicalize() {
            Ok(path) => Ok(path),
            Err(error) => Err(Failure::because(format!("cannot find {}", path.display()), &error, next)),
        };
    }
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let folders = beside.into_iter().flat_map(|folder| [folder.to_owned(), folder.join("../lib")]);
    let mut paths = folders.chain(MODULE_FOLDERS.map(PathBuf::from)).map(|folder| folder.join(MODULE));
    paths.find(|path| path.exists()).ok_or_else(|| {
        Failure::new(
            format!("{MODULE} is neither beside this program nor in the system's library folders"),
            next,
        )
    })
}

/// Starts a child process that loads the module, and adds its steps to the report.
fn probe_module(
    module: &Path,
    ring: Option<&str>,
    pin: Option<&Secret>,
    home: &Home,
    report: &mut Report,
) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::because("cannot start the process that loads the module", &error, "try again")
    };
    let mut child = start(module, ring, home).map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // If the child has already crashed, its exit status shows that.
        let _ignored = stdin.write_all(pin.map_or(&[], |pin| pin));
    }
    let end = read_events(&mut child, report);
    let status = child.wait().map_err(failed)?;
    report_end(report, end, status);
    Ok(())
}

fn start(module: &Path, ring: Option<&str>, home: &Home) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("probe").arg("--module").arg(module);
    if let Some(ring) = ring {
        command.arg("--ring").arg(ring);
    }
    command.env("KMS_PKCS11_CONFIG", home.provider_config());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

/// How the output of the child ended.
enum ChildEnd {
    /// The child closed its output. The step is one that it started and did not finish.
    Closed(Option<Step>),
    /// The child was killed after a timeout in this step.
    TimedOut(Option<Step>),
}

fn read_events(child: &mut Child, report: &mut Report) -> ChildEnd {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout.take(CHILD_BYTES_MAX)).lines();
            // Ends when the child closes its output, or the receiver is dropped.
            lines.map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
    }
    let mut running = None;
    loop {
        match receiver.recv_timeout(STEP_TIMEOUT) {
            Ok(line) => match module_probe::parse_event(&line) {
                Some(Event::Started(step)) => running = Some(step),
                Some(Event::Finished(step, outcome)) => {
                    running = None;
                    if step == Step::Token && outcome.is_err() && report.failed("socket") {
                        report.skip_because(step.name(), "no daemon responds");
                    } else {
                        report.add(step.name(), outcome);
                    }
                }
                Some(Event::Skipped(step, why)) => report.skip_because(step.name(), &why),
                None => {}
            },
            Err(RecvTimeoutError::Disconnected) => return ChildEnd::Closed(running),
            Err(RecvTimeoutError::Timeout) => {
                let _already_exited = child.kill();
                return ChildEnd::TimedOut(running);
            }
        }
    }
}

/// Adds what the child could not report itself.
fn report_end(report: &mut Report, end: ChildEnd, status: ExitStatus) {
    let (step, what) = match (end, status.signal()) {
        (ChildEnd::TimedOut(step), _) => {
            (step, format!("no result within {} seconds", STEP_TIMEOUT.as_secs()))
        }
        (ChildEnd::Closed(step), Some(signal)) => (step, format!("the module crashed with signal {signal}")),
        (ChildEnd::Closed(Some(step)), None) => {
            (Some(step), format!("the module ended the process ({status})"))
        }
        (ChildEnd::Closed(None), None) => return report.skip_remaining_steps(),
    };
    let next = "this is a bug in the module: please report it with this output";
    report.add(step.unwrap_or(Step::End).name(), Err(Failure::new(what, next)));
    report.skip_remaining_steps();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended_by(raw: i32) -> ExitStatus {
        ExitStatus::from_raw(raw)
    }

    #[test]
    fn a_crash_is_reported_in_the_step_in_which_it_happened() {
        let mut report = Report::default();
        report.add(Step::Module.name(), Ok("loaded".into()));
        report_end(&mut report, ChildEnd::Closed(Some(Step::Token)), ended_by(11));
        assert!(!report.all_passed());
        let lines = report.lines().join("\n");
        assert!(lines.contains("FAILED  token"), "{lines}");
        assert!(lines.contains("crashed with signal 11"), "{lines}");
        assert!(lines.contains("-       login"), "{lines}");
    }

    #[test]
    fn a_crash_at_exit_is_reported() {
        let mut report = Report::default();
        for step in Step::ALL {
            if step != Step::End {
                report.add(step.name(), Ok(String::new()));
            }
        }
        report_end(&mut report, ChildEnd::Closed(None), ended_by(0));
        assert!(report.all_passed());
        report_end(&mut report, ChildEnd::Closed(None), ended_by(11));
        assert!(!report.all_passed());
    }
}
