//! A Python of the tests' own: a virtual environment under `target/`, made once, with what `tests/rest/requirements.txt`
//! pins. Nothing of the system's or the user's Python packages is seen inside.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::artefacts::{target, workspace};
use crate::program;

/// How long the package index may take to give some 20 MB.
const INSTALLED_WITHIN: Duration = Duration::from_secs(600);

/// The folder of the programs, made on first use.
///
/// # Panics
/// When Python has no `venv`, or the packages cannot be fetched; the failure says what to do.
pub fn bin() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(make)
}

/// A Python script of `tests/rest`, under pytest, without anything of the user's environment.
pub fn pytest(script: &str) -> Command {
    let mut command = Command::new(bin().join("python"));
    command.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "--tb=short"]);
    command.arg(workspace().join("tests/rest").join(script));
    clean(&mut command);
    command
}

/// Takes away what would change a Python program: the user's packages, credentials, proxies.
pub fn clean(command: &mut Command) {
    command.env_clear().env("PATH", crate::artefacts::variable("PATH").unwrap_or_default());
    command.env("HOME", "/nonexistent").env("PYTHONDONTWRITEBYTECODE", "1").env("LC_ALL", "C.UTF-8");
}

fn make() -> PathBuf {
    let pins = workspace().join("tests/rest/requirements.txt");
    let wanted = std::fs::read(&pins).expect("the pinned requirements can be read");
    let folder = target().join("rest-venv");
    std::fs::create_dir_all(&folder).expect("a folder under target/");
    // Suites may run at once; one makes it, the others wait.
    let lock = File::create(folder.join("lock")).expect("a lock file can be made");
    flock(&lock, FlockOperation::LockExclusive).expect("a lock can be taken");
    let (venv, made) = (folder.join("venv"), folder.join("made-from.txt"));
    if std::fs::read(&made).is_ok_and(|made| made == wanted) {
        return venv.join("bin");
    }
    let mut command = Command::new(python());
    program::run(command.args(["-m", "venv", "--clear"]).arg(&venv)).ok();
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "-r"]);
    let ran = program::run_with(pip.arg(&pins), b"", INSTALLED_WITHIN);
    assert!(ran.status.success(), "the Python packages of tests/rest cannot be installed from PyPI: {ran}");
    std::fs::write(&made, wanted).expect("a file under target/");
    venv.join("bin")
}

/// Debian's own Python if it is there: the one whose `venv` `softhsm-config/install-packages test` installs.
fn python() -> &'static str {
    if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" }
}
