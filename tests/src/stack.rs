//! A complete KMS for one test: folder, SoftHSM token, database, socket, daemon, and a copy of the module.
//!
//! Everything is removed when the value is dropped; if the test fails, the daemon's log is printed. The module is a
//! copy because the state that `C_Initialize` sets up belongs to the loaded file: with a file each, tests of one
//! process can run in parallel.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::artefacts::artefacts;
use crate::daemon::{Daemon, end_of_log};
use crate::program::{self, Ran};

/// The user's PIN of every test's ring.
pub const USER_PIN: &str = "1234";

/// The security officer's PIN of every test's ring.
pub const SO_PIN: &str = "12345678";

/// The policy of a test's ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// `strict`, the default.
    Strict,
    /// `compat`, which allows what SoftHSM allows.
    Compat,
}

impl Policy {
    fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Compat => "compat",
        }
    }
}

/// A complete KMS for one test.
#[derive(Debug)]
pub struct Stack {
    daemon: Option<Daemon>,
    ring: String,
    folder: TempDir,
}

impl Stack {
    /// Creates a KMS with a strict ring and starts the daemon.
    pub fn strict() -> Self {
        Self::new(Policy::Strict)
    }

    /// Creates a KMS with a compat ring and starts the daemon.
    pub fn compat() -> Self {
        Self::new(Policy::Compat)
    }

    /// Creates a KMS whose ring has this policy, and starts the daemon.
    pub fn new(policy: Policy) -> Self {
        let mut stack = Self::stopped(policy);
        stack.start();
        stack
    }

    /// Creates a KMS without starting the daemon.
    ///
    /// # Panics
    /// When `kms init` fails.
    pub fn stopped(policy: Policy) -> Self {
        // A short name: the path of a Unix socket has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("kms-").tempdir_in("/tmp").expect("a temporary folder");
        let ring = "test".to_owned();
        std::fs::copy(&artefacts().module, folder.path().join("module.so"))
            .expect("the module can be copied");
        let stack = Self { daemon: None, ring, folder };
        program::run(&mut init(&stack.home(), &stack.ring, policy)).ok();
        // The kernel assigns a port, because many daemons run at once.
        stack.configure("rest", "listen", "\"127.0.0.1:0\"");
        stack
    }

    /// Sets a value, in TOML syntax, in the home's configuration; the daemon reads it when it starts, or on SIGHUP.
    ///
    /// # Panics
    /// When the file cannot be read or written.
    pub fn configure(&self, section: &str, key: &str, value: &str) {
        let path = self.home().join("kms.toml");
        let text = std::fs::read_to_string(&path).expect("a home has a configuration");
        let (header, line) = (format!("[{section}]"), format!("{key} = {value}"));
        let mut lines: Vec<&str> = text.lines().collect();
        let start = lines.iter().position(|line| line.trim() == header).unwrap_or_else(|| {
            lines.push(&header);
            lines.len() - 1
        });
        let end = lines[start + 1..].iter().position(|line| line.starts_with('['));
        let end = end.map_or(lines.len(), |length| start + 1 + length);
        let of_key = |line: &&str| line.split('=').next().is_some_and(|name| name.trim() == key);
        match lines[start + 1..end].iter().position(of_key) {
            Some(index) => lines[start + 1 + index] = &line,
            None => lines.insert(start + 1, &line),
        }
        std::fs::write(&path, lines.join("\n") + "\n").expect("a configuration can be written");
    }

    /// Like [`Self::strict`]; this machine's addresses are those of `access_scope: SNA`.
    ///
    /// # Panics
    /// Like [`Self::strict`].
    pub fn in_network_area() -> Self {
        let mut stack = Self::stopped(Policy::Strict);
        stack.configure("rest", "sna_networks", "[\"127.0.0.0/8\"]");
        stack.start();
        stack
    }

    /// Starts the daemon.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        self.daemon = Some(Daemon::start(&self.home(), &self.log()));
    }

    /// Starts the daemon under another program, such as `prlimit`, whose arguments come before `kms`.
    pub fn start_under(&mut self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        command.args(arguments).arg(&artefacts().kms).arg("serve").arg("--home").arg(self.home());
        self.daemon = Some(Daemon::start_with(command, &self.log()));
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When there is no daemon.
    pub fn kill9(&mut self) {
        self.daemon.take().expect("the daemon runs").kill9();
    }

    /// Stops the daemon with SIGTERM.
    ///
    /// # Panics
    /// When there is none, or it does not stop.
    pub fn stop(&mut self) {
        let status = self.daemon.take().expect("the daemon runs").stop();
        assert!(status.success(), "the daemon stops with {status}");
    }

    /// Kills the daemon with SIGKILL and starts a new one.
    pub fn restart(&mut self) {
        self.kill9();
        self.start();
    }

    /// Starts a new daemon after the old one has ended.
    ///
    /// # Panics
    /// When it has not ended.
    pub fn restart_stopped(&mut self) {
        let mut ended = self.daemon.take().expect("there was a daemon");
        assert!(ended.ended().is_some(), "the daemon still runs");
        self.start();
    }

    /// The running daemon.
    ///
    /// # Panics
    /// When there is none.
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the daemon runs")
    }

    /// The address of the REST listener.
    ///
    /// # Panics
    /// When there is no daemon, or it has none.
    pub fn rest_address(&self) -> String {
        self.daemon.as_ref().expect("the daemon runs").rest_address()
    }

    /// The administrator's token that `kms init` wrote.
    ///
    /// # Panics
    /// When there is none.
    pub fn admin_token(&self) -> String {
        let token =
            std::fs::read_to_string(self.home().join("admin.token")).expect("kms init writes a token");
        token.trim().to_owned()
    }

    /// Runs a command of `kms` on this home.
    pub fn kms<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ran {
        let mut command = Command::new(&artefacts().kms);
        command.args(arguments).arg("--home").arg(self.home());
        program::run(&mut command)
    }

    /// The folder for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The home.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("h")
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.home().join("kms.sock")
    }

    /// The provider's configuration.
    pub fn config(&self) -> PathBuf {
        self.home().join("pkcs11.toml")
    }

    /// A provider configuration with another timeout for each call.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn config_with_timeout(&self, milliseconds: u32) -> PathBuf {
        let path = self.folder().join(format!("pkcs11-{milliseconds}.toml"));
        let text = format!("socket = {:?}\ntimeout_ms = {milliseconds}\n", self.socket());
        std::fs::write(&path, text).expect("a configuration can be written");
        path
    }

    /// This stack's copy of the module.
    pub fn module(&self) -> PathBuf {
        self.folder.path().join("module.so")
    }

    /// The label of the ring's token.
    pub fn ring(&self) -> &str {
        &self.ring
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("kms.log")
    }
}

impl Drop for Stack {
    #[expect(clippy::print_stderr, reason = "a failing test shows the daemon's log")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}\n--- end of log ---", end_of_log(&self.log()));
        }
    }
}

/// `kms init` with the PINs of the tests.
pub fn init(home: &Path, ring: &str, policy: Policy) -> Command {
    let mut command = Command::new(&artefacts().kms);
    command.arg("init").arg("--home").arg(home).args(["--ring", ring, "--policy", policy.name()]);
    command.args(["--user-pin", USER_PIN, "--so-pin", SO_PIN]);
    command
}
