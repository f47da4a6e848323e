//! `kms doctor`: each part of a home, from its configuration to the module in an application, with a plain reason where
//! one does not work.
//!
//! The module is loaded by a child process (`probe`), so that its crash is a finding and not the end of the report.

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
use super::environment;
use super::failure::Failure;
use super::home::Home;
use super::host_checks;
use super::module_probe::{self, Step};
use super::output;
use super::pins;
use super::report::Report;
use crate::config::Config;
use crate::dispatch::Clock;
use crate::service::{Backend, ServiceError};

/// How long the daemon may take to say hello: it is idle or busy, but never silent so long.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// How long the module may take for one step: three times the longest a call of it waits for the backend.
const STEP_PATIENCE: Duration = Duration::from_secs(30);

/// The most that is read of what the child says: a hundred times what it says.
const CHILD_BYTES_MAX: u64 = 1 << 20;

/// Where installations put the module.
const MODULE_FOLDERS: [&str; 5] =
    ["/usr/lib", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"];

/// The module's file.
const MODULE: &str = "libkms_pkcs11.so";

/// Checks a home, prints what it found, and tells whether all is well.
pub(super) fn run(arguments: Doctor, typed: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let mut report = Report::default();
    let mut rings = Vec::new();
    match home.read_config() {
        Ok(config) => {
            environment::require(config.environment(), typed)?;
            report.add("configuration", configuration(&home, &config));
            rings = inside(&config, &mut report);
            report.add("disk", host_checks::room(&config.store_path()));
            report.add("socket", socket(&home, &config));
            rest(&config, &mut report);
        }
        Err(failure) => {
            report.add("configuration", Err(failure));
            report.skip("hsm");
            report.skip("database");
            report.skip("socket");
        }
    }
    let ring = arguments.ring.or_else(|| rings.first().cloned());
    let pin = match &arguments.pin_file {
        Some(file) => Some(pins::from_file(file)?),
        None => ring.as_ref().and_then(|ring| pins::user_pin(&home.credentials(), ring)),
    };
    match module(arguments.module) {
        Ok(module) => examine(&module, ring.as_deref(), pin.as_ref(), &home, &mut report)?,
        Err(failure) => report.module_missing(failure),
    }
    if arguments.output.json {
        output::json(&report.json());
    } else {
        report.lines().iter().for_each(|line| output::line(line));
    }
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether both configurations are there, and mean the same socket.
fn configuration(home: &Home, config: &Config) -> Result<String, Failure> {
    let path = home.provider_config();
    let next = format!("write `socket = \"kms.sock\"` into {}", path.display());
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::because(format!("cannot read {}", path.display()), &error, &*next))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        Failure::new(format!("{}: {}", path.display(), error.to_string().trim()), "correct the file")
    })?;
    let Some(socket) = table.get("socket").and_then(toml::Value::as_str) else {
        return Err(Failure::new(format!("{} names no socket", path.display()), next));
    };
    if home.path().join(socket) != config.socket_path() {
        let (here, there) = (path.display(), config.socket_path());
        let what = format!("{here} names the socket {socket}, but the daemon's is {}", there.display());
        return Err(Failure::new(what, "let both files name the same socket"));
    }
    Ok(format!("{}, {}", home.config().display(), path.display()))
}

/// HSM and database, opened as the daemon opens them. Gives the names of the rings.
fn inside(config: &Config, report: &mut Report) -> Vec<String> {
    let backend = match Backend::open(config) {
        Ok(backend) => backend,
        Err(error) => {
            match culprit(&error) {
                Part::Hsm => {
                    report.add("hsm", Err(error.into()));
                    report.skip("database");
                }
                Part::Database => {
                    report.add("hsm", Ok("the token and its PIN are right".into()));
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
        health.hsm.map(|()| format!("token {token:?} has the master key")).map_err(Failure::from),
    );
    match health.store.and_then(|()| backend.rings()) {
        Ok(rings) => {
            let keys: u64 = rings.iter().map(|ring| ring.keys).sum();
            let path = config.store_path();
            report.add("database", Ok(format!("{}: {} ring(s), {keys} key(s)", path.display(), rings.len())));
            report.add("audit log", audit_log(&backend));
            report.add("clock", host_checks::clock(&backend));
            rings.into_iter().map(|ring| ring.label).collect()
        }
        Err(error) => {
            report.add("database", Err(error.into()));
            Vec::new()
        }
    }
}

/// The REST listener, if there is to be one.
fn rest(config: &Config, report: &mut Report) {
    let rest = config.rest();
    if !rest.enabled {
        return report.skip_because("rest", "[rest] enabled is false");
    }
    if let Some((certificate, _)) = &rest.tls {
        report.add("certificate", host_checks::certificate(certificate, Clock::default().seconds()));
    }
    if rest.listen.port() == 0 {
        return report.skip_because("rest", "the daemon chooses a port when it starts, and prints it");
    }
    let runs = !report.failed("socket");
    report.add("rest", host_checks::address(rest, runs));
}

/// Whether the audit log can go on. Going along all of it takes too long here.
fn audit_log(backend: &Backend) -> Result<String, Failure> {
    let head = backend.audit_head().map_err(|error| {
        let next = "see what `kms audit verify` finds, and begin a new log with `kms audit restart`";
        Failure::because("the audit log takes no entries, so nothing can be changed", &error, next)
    })?;
    Ok(format!("{} entries since the first", head.last.sequence))
}

/// The parts that are opened.
enum Part {
    Hsm,
    Database,
}

/// Whose failure it is; the HSM is opened first.
fn culprit(error: &ServiceError) -> Part {
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
        | ServiceError::BadPin => Part::Database,
    }
}

/// Whether a daemon of ours answers.
fn socket(home: &Home, config: &Config) -> Result<String, Failure> {
    let path = config.socket_path();
    let start = format!("start the daemon: kms serve --home {}", home.path().display());
    let mut stream = UnixStream::connect(&path).map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            let next = "run as a user of the socket's group, or widen [socket] mode in kms.toml";
            return Failure::because(format!("you may not use {}", path.display()), &error, next);
        }
        Failure::because(format!("no daemon listens on {}", path.display()), &error, &*start)
    })?;
    let silent = |error: io::Error| {
        let next = "see whether the daemon hangs, and restart it";
        Failure::because(format!("the daemon on {} does not answer", path.display()), &error, next)
    };
    match greet(&mut stream).map_err(silent)? {
        Welcome::Version(version) => Ok(format!("{}: version {version}", path.display())),
        Welcome::Unsupported { oldest, newest } => {
            let what =
                format!("the daemon speaks versions {oldest} to {newest}, we speak {}", frame::VERSION);
            Err(Failure::new(what, "install kms and libkms_pkcs11.so of one release, and restart the daemon"))
        }
        Welcome::Busy => {
            let next = "raise [socket] connections_max in kms.toml, or close what holds connections";
            Err(Failure::new("the daemon serves as many connections as it may", next))
        }
    }
}

fn greet(stream: &mut UnixStream) -> io::Result<Welcome> {
    let odd = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    stream.set_read_timeout(Some(HELLO_PATIENCE))?;
    stream.set_write_timeout(Some(HELLO_PATIENCE))?;
    let mut bytes = Zeroizing::new(Vec::new());
    frame::encode(&Hello::ours(), &mut bytes).map_err(odd)?;
    stream.write_all(&bytes)?;
    let mut header = [0; frame::HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let mut body = vec![0; frame::length(header).map_err(odd)?];
    stream.read_exact(&mut body)?;
    frame::decode(&body).map_err(odd)
}

/// The module to load.
fn module(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let next = "name it with --module PATH";
    if let Some(path) = named {
        // dlopen takes a name without a slash for one to be looked for in the system's folders.
        return match path.canonicalize() {
            Ok(path) => Ok(path),
            Err(error) => Err(Failure::because(format!("{} is not there", path.display()), &error, next)),
        };
    }
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let places = beside.into_iter().flat_map(|folder| [folder.to_owned(), folder.join("../lib")]);
    let mut places = places.chain(MODULE_FOLDERS.map(PathBuf::from)).map(|folder| folder.join(MODULE));
    places.find(|path| path.exists()).ok_or_else(|| {
        Failure::new(
            format!("{MODULE} is neither beside this program nor in the system's library folders"),
            next,
        )
    })
}

/// Lets a child load the module, and notes how far it came.
fn examine(
    module: &Path,
    ring: Option<&str>,
    pin: Option<&Secret>,
    home: &Home,
    report: &mut Report,
) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::because("the module's examiner cannot be started", &error, "try again");
    let mut child = start(module, ring, home).map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that has died already says so by its status.
        let _gone = stdin.write_all(pin.map_or(&[], |pin| pin));
    }
    let said = listen(&mut child, report);
    let status = child.wait().map_err(failed)?;
    finish(report, said, status);
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

/// How the child's conversation ended.
enum Said {
    /// It closed its end, having begun this step and not ended it.
    Closed(Option<Step>),
    /// It was silent too long in this step, and was killed.
    Silent(Option<Step>),
}

fn listen(child: &mut Child, report: &mut Report) -> Said {
    let (tell, heard) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout.take(CHILD_BYTES_MAX)).lines();
            // Ends when the child closes its end, or when nobody listens any more.
            lines.map_while(Result::ok).take_while(|line| tell.send(line.clone()).is_ok()).for_each(drop);
        });
    }
    let mut running = None;
    loop {
        match heard.recv_timeout(STEP_PATIENCE) {
            Ok(line) => match module_probe::understand(&line) {
                Some(module_probe::Word::Begins(step)) => running = Some(step),
                Some(module_probe::Word::Ends(step, outcome)) => {
                    running = None;
                    if step == Step::Token && outcome.is_err() && report.failed("socket") {
                        report.skip_because(step.name(), "no daemon answers");
                    } else {
                        report.add(step.name(), outcome);
                    }
                }
                Some(module_probe::Word::Skips(step, why)) => report.skip_because(step.name(), &why),
                None => {}
            },
            Err(RecvTimeoutError::Disconnected) => return Said::Closed(running),
            Err(RecvTimeoutError::Timeout) => {
                let _dead = child.kill();
                return Said::Silent(running);
            }
        }
    }
}

/// Notes what the child could not say itself.
fn finish(report: &mut Report, said: Said, status: ExitStatus) {
    let (step, what) = match (said, status.signal()) {
        (Said::Silent(step), _) => (step, format!("no answer within {} seconds", STEP_PATIENCE.as_secs())),
        (Said::Closed(step), Some(signal)) => (step, format!("the module crashed with signal {signal}")),
        (Said::Closed(Some(step)), None) => (Some(step), format!("the module ended the process ({status})")),
        (Said::Closed(None), None) => return report.skip_rest(),
    };
    let next = "this is a bug of the module: please report it with this output";
    report.add(step.unwrap_or(Step::End).name(), Err(Failure::new(what, next)));
    report.skip_rest();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended_by(raw: i32) -> ExitStatus {
        ExitStatus::from_raw(raw)
    }

    #[test]
    fn a_crash_is_a_finding_in_the_step_where_it_was() {
        let mut report = Report::default();
        report.add(Step::Module.name(), Ok("loaded".into()));
        finish(&mut report, Said::Closed(Some(Step::Token)), ended_by(11));
        assert!(!report.is_well());
        let lines = report.lines().join("\n");
        assert!(lines.contains("FAILED  token"), "{lines}");
        assert!(lines.contains("crashed with signal 11"), "{lines}");
        assert!(lines.contains("-       login"), "{lines}");
    }

    #[test]
    fn a_crash_at_the_end_is_one_too() {
        let mut report = Report::default();
        for step in Step::ALL {
            if step != Step::End {
                report.add(step.name(), Ok(String::new()));
            }
        }
        finish(&mut report, Said::Closed(None), ended_by(0));
        assert!(report.is_well());
        finish(&mut report, Said::Closed(None), ended_by(11));
        assert!(!report.is_well());
    }
}
