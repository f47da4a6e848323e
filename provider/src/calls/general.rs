//! General-purpose functions (spec, "General-purpose functions").

use kms_protocol::Rv;

use crate::config::{self, Environment};
use crate::module::Module;

/// The version of PKCS#11 of the newest interface.
pub(crate) const CRYPTOKI_VERSION: (u8, u8) = (3, 2);

/// The manufacturer of module, slots and tokens.
pub(crate) const MANUFACTURER: &str = "KMS";

/// The arguments of `C_Initialize`.
#[derive(Debug, Default)]
pub(crate) struct InitializeArguments {
    /// How many of the four lock functions are set.
    pub(crate) lock_functions: u8,
    /// Whether the operating system's locks may be used (`CKF_OS_LOCKING_OK`).
    pub(crate) os_locks: bool,
    /// The text in `pReserved`, if there is one.
    pub(crate) reserved: Option<String>,
}

/// `C_Initialize`: reads the configuration; it does not connect.
///
/// # Errors
/// `CKR_ARGUMENTS_BAD` for some of the lock functions without the others, `CKR_CANT_LOCK` when only the application's
/// locks may be used, `CKR_FUNCTION_FAILED` for an invalid configuration.
pub(crate) fn initialize(arguments: &InitializeArguments, environment: &Environment) -> Result<Module, Rv> {
    match (arguments.lock_functions, arguments.os_locks) {
        (1..=3, _) => return Err(Rv::ARGUMENTS_BAD),
        (4.., false) => return Err(Rv::CANT_LOCK),
        (0 | 4.., _) => {}
    }
    let reserved = arguments.reserved.as_deref().and_then(config::reserved_path);
    let config = config::load(environment, reserved.as_deref()).map_err(|_| Rv::FUNCTION_FAILED)?;
    Module::open(config).map_err(|_| Rv::FUNCTION_FAILED)
}

/// The major and minor version of the module.
pub(crate) fn library_version() -> (u8, u8) {
    let number = |text: &str| text.parse().unwrap_or(0);
    (number(env!("CARGO_PKG_VERSION_MAJOR")), number(env!("CARGO_PKG_VERSION_MINOR")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lock_functions: u8, os_locks: bool, expected: Result<(), Rv>) {
        let arguments = InitializeArguments { lock_functions, os_locks, reserved: None };
        assert_eq!(initialize(&arguments, &Environment::default()).map(drop), expected);
    }

    #[test]
    fn only_operating_system_locks_are_supported() {
        check(0, false, Ok(()));
        check(0, true, Ok(()));
        check(4, true, Ok(()));
        check(4, false, Err(Rv::CANT_LOCK));
        check(3, true, Err(Rv::ARGUMENTS_BAD));
        check(1, false, Err(Rv::ARGUMENTS_BAD));
    }

    #[test]
    fn an_invalid_configuration_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pkcs11.toml");
        std::fs::write(&file, "socket = 7").unwrap();
        let reserved = Some(format!("config={}", file.display()));
        let arguments = InitializeArguments { reserved, ..InitializeArguments::default() };
        assert_eq!(initialize(&arguments, &Environment::default()).err(), Some(Rv::FUNCTION_FAILED));
    }
}
