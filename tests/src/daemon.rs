//! The daemon as a child process: start, wait until it is ready, kill, pause. Its log goes to a file.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::artefacts::artefacts;
use crate::program;

/// How long the daemon may take to become ready, even on a machine at full load.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to stop after a signal.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);

/// How many lines of the log a failure shows.
const REPORTED_LINES: usize = 40;

/// A running daemon; it is stopped when the value is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// The lines that it printed until it was ready.
    startup_lines: Vec<String>,
}

impl Daemon {
    /// Starts the daemon of a home and waits until it reports that it is ready.
    ///
    /// # Panics
    /// When it ends, or is not ready in time; the message contains the log.
    pub fn start(home: &Path, log: &Path) -> Self {
        let mut command = Command::new(&artefacts().kms);
        command.arg("serve").arg("--home").arg(home);
        Self::start_with(command, log)
    }

    /// The same with the given command, which must end in `kms serve`.
    ///
    /// # Panics
    /// As [`Daemon::start`].
    pub fn start_with(mut command: Command, log: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).expect("a log can be written");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(file));
        let mut child = command.spawn().expect("kms can be started");
        let lines = lines_of(child.stdout.take().expect("standard output is piped"));
        let mut daemon = Self { child, startup_lines: Vec::new() };
        loop {
            match lines.recv_timeout(READY_WITHIN) {
                Ok(line) => {
                    let ready = line.starts_with("kms: ready");
                    daemon.startup_lines.push(line);
                    if ready {
                        return daemon;
                    }
                }
                Err(_) => {
                    let end = daemon.child.try_wait();
                    let log = std::fs::read_to_string(log).unwrap_or_default();
                    panic!("the daemon is not ready ({end:?}); its log:\n{log}");
                }
            }
        }
    }

    /// Kills it with SIGKILL.
    pub fn kill9(mut self) {
        self.kill_and_wait();
    }

    /// Stops it with SIGTERM and waits.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        program::wait(&mut self.child, STOPPED_WITHIN).expect("the daemon stops on SIGTERM")
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP: the daemon reads its configuration again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn end(&mut self) -> ExitStatus {
        program::wait(&mut self.child, STOPPED_WITHIN).expect("the daemon ends")
    }

    /// Suspends the process (SIGSTOP), so that the daemon exists but does not respond.
    ///
    /// # Panics
    /// Never: it is a child of this process.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        // `kill` returns before the signal takes effect; `waitid` returns when every thread has stopped.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), stopped).expect("the child can be waited for");
    }

    /// Resumes the process (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The address of the REST listener, as the daemon printed it at its start.
    ///
    /// # Panics
    /// When it printed none.
    pub fn rest_address(&self) -> String {
        let words = self.startup_lines.iter().flat_map(|line| line.split_whitespace());
        let mut addresses = words.filter(|word| word.starts_with("http://") || word.starts_with("https://"));
        let address =
            addresses.next().unwrap_or_else(|| panic!("no REST address in {:?}", self.startup_lines));
        address.trim_end_matches(['/', ',', '.']).to_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// Never: it is a child of this process.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child's status can be read")
    }

    fn signal(&self, signal: Signal) {
        // It may have ended already; the caller notices that later.
        kill_process(Pid::from_child(&self.child), signal).unwrap_or_default();
    }

    fn kill_and_wait(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.resume();
            self.signal(Signal::TERM);
            if program::wait(&mut self.child, STOPPED_WITHIN).is_none() {
                self.kill_and_wait();
            }
        }
    }
}

/// Reads lines on a thread that ends with the stream, so that the daemon never blocks on a full pipe.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The receiver is dropped once the daemon is ready.
            sender.send(line).unwrap_or_default();
        }
    });
    receiver
}

/// The contents of a daemon's log.
pub fn read_log(log: &Path) -> String {
    File::open(log).and_then(std::io::read_to_string).unwrap_or_else(|error| format!("(no log: {error})"))
}

/// The end of a daemon's log, for a failure's report.
pub fn end_of_log(log: &Path) -> String {
    let whole = read_log(log);
    let lines: Vec<_> = whole.lines().collect();
    lines[lines.len().saturating_sub(REPORTED_LINES)..].join("\n")
}
