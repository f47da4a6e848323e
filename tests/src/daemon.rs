//! The daemon as a process of its own: started, awaited, killed, paused. Its log goes to a file.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::artefacts::artefacts;
use crate::program;

/// How long the daemon may take to be ready; a machine at full load included.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to stop when asked to.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);

/// How many lines of its log a failure shows.
const REPORTED_LINES: usize = 40;

/// A running daemon; it goes with the value.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// What it said until it was ready.
    said: Vec<String>,
}

impl Daemon {
    /// Starts the daemon of a home and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends, or says nothing in time; the log tells why.
    pub fn start(home: &Path, log: &Path) -> Self {
        let mut command = Command::new(&artefacts().kms);
        command.arg("serve").arg("--home").arg(home);
        Self::start_with(command, log)
    }

    /// The same with a command of one's own, which must end in `kms serve`.
    ///
    /// # Panics
    /// As [`Daemon::start`].
    pub fn start_with(mut command: Command, log: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).expect("a log can be written");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(file));
        let mut child = command.spawn().expect("kms can be started");
        let lines = lines_of(child.stdout.take().expect("standard output is piped"));
        let mut daemon = Self { child, said: Vec::new() };
        loop {
            match lines.recv_timeout(READY_WITHIN) {
                Ok(line) => {
                    let ready = line.starts_with("kms: ready");
                    daemon.said.push(line);
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

    /// Ends it in the hard way, at once.
    pub fn kill9(mut self) {
        self.end_hard();
    }

    /// Ends it in the polite way: SIGTERM.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        program::wait(&mut self.child, STOPPED_WITHIN).expect("the daemon stops when it is told to")
    }

    /// Tells it to end (SIGTERM), and does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Tells it to read its configuration again (SIGHUP).
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn end(&mut self) -> ExitStatus {
        program::wait(&mut self.child, STOPPED_WITHIN).expect("the daemon ends")
    }

    /// Stops its execution, so that it is there but does not answer.
    ///
    /// # Panics
    /// Never: it is our child.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        // The signal is on its way when `kill` returns; the kernel tells when every thread has stopped.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), stopped).expect("our child can be waited for");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The address of the REST door, as the daemon said it before it was ready.
    ///
    /// # Panics
    /// When it said none.
    pub fn rest_address(&self) -> String {
        let words = self.said.iter().flat_map(|line| line.split_whitespace());
        let mut addresses = words.filter(|word| word.starts_with("http://") || word.starts_with("https://"));
        let address = addresses.next().unwrap_or_else(|| panic!("no address of a door in {:?}", self.said));
        address.trim_end_matches(['/', ',', '.']).to_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has ended.
    ///
    /// # Panics
    /// Never: it is our child.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child can be asked for")
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself, which the caller finds out soon enough.
        kill_process(Pid::from_child(&self.child), signal).unwrap_or_default();
    }

    fn end_hard(&mut self) {
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
                self.end_hard();
            }
        }
    }
}

/// Reads lines on a thread that ends with the stream, so that the daemon never waits for us.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens once the daemon is ready.
            sender.send(line).unwrap_or_default();
        }
    });
    receiver
}

/// The log of a daemon.
pub fn read_log(log: &Path) -> String {
    File::open(log).and_then(std::io::read_to_string).unwrap_or_else(|error| format!("(no log: {error})"))
}

/// The end of a daemon's log, for a failure's report.
pub fn end_of_log(log: &Path) -> String {
    let whole = read_log(log);
    let lines: Vec<_> = whole.lines().collect();
    lines[lines.len().saturating_sub(REPORTED_LINES)..].join("\n")
}
