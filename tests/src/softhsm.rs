//! A SoftHSM token of one's own: the oracle of the model tests, and the yardstick of the benchmark.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::program;
use crate::{SO_PIN, USER_PIN};

/// Where Debian puts SoftHSM's module.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A folder with an initialised token. A process that loads [`MODULE`] finds it through `SOFTHSM2_CONF`.
#[derive(Debug)]
pub struct SoftHsm {
    folder: TempDir,
}

impl SoftHsm {
    /// Makes the token, with the PINs of the tests.
    ///
    /// # Panics
    /// When `softhsm2-util` fails.
    pub fn new(label: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("shsm-").tempdir_in("/tmp").expect("a temporary folder");
        let tokens = folder.path().join("tokens");
        std::fs::create_dir(&tokens).expect("a folder can be made");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            tokens.display()
        );
        let hsm = Self { folder };
        std::fs::write(hsm.conf(), text).expect("a configuration can be written");
        let mut command = Command::new("softhsm2-util");
        command.args(["--init-token", "--free", "--label", label, "--pin", USER_PIN, "--so-pin", SO_PIN]);
        program::run(command.env("SOFTHSM2_CONF", hsm.conf()).env("OPENSSL_CONF", "/dev/null")).ok();
        hsm
    }

    /// What `SOFTHSM2_CONF` must be.
    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    /// Where the token lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
