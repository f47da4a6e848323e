//! A SoftHSM token for a test of the rooms that need one.
//!
//! SoftHSM reads its configuration from the environment, which a process with threads cannot change. So a test that
//! calls [`token`] runs twice: the test makes a token and starts itself again as a child with the right environment,
//! and only the child goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::config::{self, Config, NewConfig};

/// Tells the child where the home is.
const HOME: &str = "KMS_TEST_HOME";

/// Where Debian's package puts the module.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// In the child: the home, with `kms.toml` and an initialised token. In the parent: nothing is left to do.
/// `test` is the test's full name.
pub(crate) fn token(test: &str) -> Option<PathBuf> {
    if let Some(home) = config::variable(HOME) {
        return Some(PathBuf::from(home));
    }
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let config = Config::read(&folder.path().join(config::FILE_NAME)).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .envs(config.environment())
        .env(HOME, folder.path())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", child.status);
    println!("{out}");
    None
}

fn make(home: &Path) {
    let (tokens, conf, pin) = (home.join("tokens"), home.join("softhsm2.conf"), home.join("hsm.pin"));
    fs::create_dir(&tokens).unwrap();
    fs::write(&conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display())).unwrap();
    fs::write(&pin, "123456\n").unwrap();
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let new = NewConfig { module: Path::new(MODULE), token: "kms-test", pin_file: &pin, conf: Some(&conf) };
    fs::write(home.join(config::FILE_NAME), new.text()).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "kms-test", "--so-pin", "87654321", "--pin", "123456"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .expect("softhsm2 is installed: `apt-get install softhsm2`");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
