//! A home with an initialised SoftHSM token and a `kms.toml`, for unit tests that need a real HSM.

use std::fs;
use std::path::PathBuf;

use crate::config::{self, NewConfig};

/// In the child process that `kms_softhsm::home_in_child` starts: the home. In the parent: `None`.
/// `test` is the test's full path, as the test runner prints it.
pub(crate) fn home_in_child(test: &str) -> Option<PathBuf> {
    let home = kms_softhsm::home_in_child(test)?;
    let (pin_file, conf) = (kms_softhsm::pin_file(&home), kms_softhsm::conf(&home));
    let config = NewConfig {
        module: kms_softhsm::module(),
        token: kms_softhsm::label(),
        pin_file: &pin_file,
        conf: Some(&conf),
    };
    fs::write(home.join(config::FILE_NAME), config.text()).unwrap();
    Some(home)
}
