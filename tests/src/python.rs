//! The Python environment of the tests: a virtual environment under `target/`, created once, with the packages that
//! `tests/rest/requirements.txt` pins. Python packages of the system and the user are not visible inside.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::artefacts::{target, workspace};
use crate::program;

/// How long the installation of the packages (some 20 MB) may take.
const INSTALLED_WITHIN: Duration = Duration::from_secs(600);

/// The folder of the environment's programs; the environment is created on first use.
///
/// # Panics
/// When Python has no `venv`, or the packages cannot be fetched.
pub fn bin() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(create)
}

/// A command that runs a script of `tests/rest` with pytest, without the user's environment.
pub fn pytest(script: &str) -> Command {
    let mut command = Command::new(bin().join("python"));
    command.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "--tb=short"]);
    command.arg(workspace().join("tests/rest").join(script));
    clear_environment(&mut command);
    command
}

/// Clears the environment variables that would affect a Python program: the user's packages, credentials, proxies.
pub fn clear_environment(command: &mut Command) {
    command.env_clear().env("PATH", crate::artefacts::variable("PATH").unwrap_or_default());
    command.env("HOME", "/nonexistent").env("PYTHONDONTWRITEBYTECODE", "1").env("LC_ALL", "C.UTF-8");
}

fn create() -> PathBuf {
    let pins = workspace().join("tests/rest/requirements.txt");
    let pinned = std::fs::read_to_string(&pins).expect("the pinned requirements can be read");
    let folder = target().join("rest-venv");
    // The programs of a virtual environment contain its path: it cannot be used where it was moved to.
    let wanted = format!("# {}\n{pinned}", folder.display());
    std::fs::create_dir_all(&folder).expect("a folder under target/");
    // Suites may run at the same time; one creates the environment, the others wait.
    let lock = File::create(folder.join("lock")).expect("a lock file can be created");
    flock(&lock, FlockOperation::LockExclusive).expect("a lock can be taken");
    let (venv, installed) = (folder.join("venv"), folder.join("made-from.txt"));
    if std::fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return venv.join("bin");
    }
    let mut command = Command::new(python());
    program::run(command.args(["-m", "venv", "--clear"]).arg(&venv)).ok();
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "-r"]);
    let ran = program::run_with(pip.arg(&pins), b"", INSTALLED_WITHIN);
    assert!(ran.status.success(), "the Python packages of tests/rest cannot be installed from PyPI: {ran}");
    std::fs::write(&installed, wanted).expect("a file under target/");
    venv.join("bin")
}

/// Debian's Python if it exists: `softhsm-config/install-packages test` installs its `venv`.
fn python() -> &'static str {
    if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" }
}
