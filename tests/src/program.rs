//! Runs programs with a timeout and captures their output. A program that hangs is killed, and the test fails.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::artefacts;

/// How long a program may take. The machine may have two cores and run eight tests at once.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// The result of a program that has ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error.
    pub errors: String,
    /// The command line, for failure messages.
    pub command: String,
}

impl Ran {
    /// Standard output of a program that must succeed.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self}");
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Both outputs of a program that must fail with an exit code; a crash does not count.
    ///
    /// # Panics
    /// When it succeeded, or was ended by a signal.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(self.status.code().is_some_and(|code| code != 0), "{self}");
        self.text()
    }

    /// Both outputs.
    pub fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.output), self.errors)
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit {code}"),
            (None, signal) => format!("signal {signal:?}"),
        };
        write!(f, "{}: {end}\n{}", self.command, self.text())
    }
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started, or does not end within [`TIMEOUT`].
pub fn run(command: &mut Command) -> Ran {
    run_with(command, b"", TIMEOUT)
}

/// Runs a program with `input` on its standard input.
///
/// # Panics
/// When it cannot be started, or does not end in time.
pub fn run_with(command: &mut Command, input: &[u8], timeout: Duration) -> Ran {
    let name = format!("{command:?}");
    let [stdin, stdout, stderr] = std::array::from_fn(|_| tempfile::tempfile().expect("a temporary file"));
    (&stdin).write_all(input).expect("a temporary file takes the input");
    (&stdin).rewind().expect("a file rewinds");
    let duplicate = |file: &File| Stdio::from(file.try_clone().expect("the descriptor can be duplicated"));
    let started =
        command.stdin(duplicate(&stdin)).stdout(duplicate(&stdout)).stderr(duplicate(&stderr)).spawn();
    let mut child = started.unwrap_or_else(|error| panic!("{name}: {error}"));
    let status = wait(&mut child, timeout);
    let (output, errors) = (contents(stdout), contents(stderr));
    let errors = String::from_utf8_lossy(&errors).into_owned();
    match status {
        Some(status) => Ran { status, output, errors, command: name },
        None => {
            panic!("{name}: still running after {timeout:?}\n{}{errors}", String::from_utf8_lossy(&output))
        }
    }
}

/// Waits for a child; kills it and returns `None` after the timeout.
///
/// # Panics
/// When the child cannot be waited for.
pub fn wait(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    if let Some(status) = child.try_wait().expect("a child can be waited for") {
        return Some(status);
    }
    let pid = Pid::from_child(child);
    let handle = pidfd_open(pid, PidfdFlags::empty()).expect("a child has a pidfd");
    let mut ready = [PollFd::new(&handle, PollFlags::IN)];
    let timeout = Timespec::try_from(timeout).expect("a deadline fits");
    let ended = loop {
        match poll(&mut ready, Some(&timeout)) {
            Ok(count) => break count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    };
    if !ended {
        child.kill().expect("a child can be killed");
    }
    let status = child.wait().expect("a child can be waited for");
    ended.then_some(status)
}

/// Whether the test runs as root. Prints why it must if it does not; in CI that is a failure.
///
/// # Panics
/// In CI, without root.
#[expect(clippy::print_stderr, reason = "reports that a test is skipped")]
pub fn runs_as_root(why: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(!artefacts::in_ci(), "root is required in CI: {why}");
    eprintln!("skipped: needs root: {why}");
    false
}

/// Whether all of these programs or files are installed. Prints which are not; in CI that is a failure.
///
/// # Panics
/// In CI, when one is missing.
#[expect(clippy::print_stderr, reason = "reports that a test is skipped")]
pub fn installed(names: &[&str]) -> bool {
    let missing: Vec<_> = names.iter().filter(|name| !exists(name)).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(!artefacts::in_ci(), "not installed, but required in CI: {missing:?}");
    eprintln!("skipped: not installed: {missing:?}");
    false
}

fn exists(name: &str) -> bool {
    if name.starts_with('/') {
        return Path::new(name).exists();
    }
    let path = artefacts::variable("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn contents(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().expect("a file rewinds");
    file.read_to_end(&mut bytes).expect("a temporary file can be read");
    bytes
}
