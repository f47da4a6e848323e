//! SoftHSM tokens for tests: the HSM behind the backend's unit tests, the reference of the model tests, and the
//! baseline of the benchmark.
//!
//! SoftHSM reads its configuration from the environment variable `SOFTHSM2_CONF`, which a process with threads cannot
//! change. A test that loads SoftHSM into its own process therefore calls [`home_in_child`], which runs the test again
//! in a child process with the right environment.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The environment variable that names the home to the child process.
const HOME: &str = "KMS_TEST_HOME";

/// The path of SoftHSM's module, as Debian's package installs it.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The label of the token that [`home_in_child`] initialises.
const LABEL: &str = "kms-test";

/// The user PIN of the token that [`home_in_child`] initialises; the file `hsm.pin` of the home holds it too.
const PIN: &str = "123456";

/// A folder with an initialised token, deleted on drop.
#[derive(Debug)]
pub struct SoftHsm {
    folder: TempDir,
}

impl SoftHsm {
    /// Initialises a token with this label and these PINs in a new temporary folder.
    ///
    /// # Panics
    /// When the folder cannot be written or `softhsm2-util` fails.
    pub fn new(label: &str, user_pin: &str, so_pin: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("shsm-").tempdir_in("/tmp").expect("a temporary folder");
        initialise(folder.path(), label, user_pin, so_pin);
        Self { folder }
    }

    /// The value for `SOFTHSM2_CONF`.
    pub fn conf(&self) -> PathBuf {
        conf(self.folder.path())
    }

    /// The folder that holds the token's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// In the child process: the folder of an initialised token, with its PIN in `hsm.pin` (mode 0600). In the parent:
/// `None`, after the child has run the test and passed. `test` is the test's full path, as the test runner prints it.
///
/// # Panics
/// When the token cannot be initialised, or the child's test fails.
pub fn home_in_child(test: &str) -> Option<PathBuf> {
    if let Some(home) = variable(HOME) {
        return Some(PathBuf::from(home));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    initialise(folder.path(), LABEL, PIN, "87654321");
    let pin = pin_file(folder.path());
    fs::write(&pin, format!("{PIN}\n")).expect("the PIN file is written");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).expect("the PIN file gets its mode");
    let child = Command::new(std::env::current_exe().expect("the test's own executable"))
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .envs(environment(folder.path()))
        .env(HOME, folder.path())
        .output()
        .expect("the test starts again as a child process");
    let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", child.status);
    print_output(&out);
    None
}

/// The path of SoftHSM's module as a [`Path`].
pub fn module() -> &'static Path {
    Path::new(MODULE)
}

/// The label of the token in a home that [`home_in_child`] returns.
pub fn label() -> &'static str {
    LABEL
}

/// The file with the user PIN in a home that [`home_in_child`] returns.
pub fn pin_file(home: &Path) -> PathBuf {
    home.join("hsm.pin")
}

/// SoftHSM's configuration file in such a folder.
pub fn conf(folder: &Path) -> PathBuf {
    folder.join("softhsm2.conf")
}

/// The environment in which a process can load the module. OpenSSL's own configuration is left out: it may name the
/// KMS module as an engine, which SoftHSM would then load.
fn environment(folder: &Path) -> [(&'static str, OsString); 2] {
    [("SOFTHSM2_CONF", conf(folder).into()), ("OPENSSL_CONF", "/dev/null".into())]
}

/// Writes SoftHSM's configuration into the folder and initialises one token there.
fn initialise(folder: &Path, label: &str, user_pin: &str, so_pin: &str) {
    let tokens = folder.join("tokens");
    fs::create_dir(&tokens).expect("the token folder is created");
    let text = include_str!("../softhsm2.conf").replace("{tokens}", &tokens.to_string_lossy());
    fs::write(conf(folder), text).expect("SoftHSM's configuration is written");
    let output = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", label, "--pin", user_pin, "--so-pin", so_pin])
        .envs(environment(folder))
        .output()
        .expect("softhsm2-util starts: `apt-get install softhsm2`");
    assert!(output.status.success(), "softhsm2-util: {}", String::from_utf8_lossy(&output.stderr));
}

#[expect(clippy::disallowed_methods, reason = "the parent process passes the home in a variable")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[expect(clippy::print_stdout, reason = "the child's output belongs to the test that started it")]
fn print_output(out: &str) {
    println!("{out}");
}
