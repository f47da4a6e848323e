//! General-purpose functions (spec, "General-purpose functions").

use kms_protocol::Rv;

use crate::config::{self, Environment};
use crate::module::Module;

/// The version of PKCS#11 the module speaks (its newest interface).
pub(crate) const CRYPTOKI_VERSION: (u8, u8) = (3, 2);

/// Who made module, slots and tokens.
pub(crate) const MANUFACTURER: &str = "KMS";

/// What `C_Initialize` was told, beyond what every module is told.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// How many of the four functions for locks came.
    pub(crate) lock_functions: u8,
    /// Whether the operating system's locks may be used (`CKF_OS_LOCKING_OK`).
    pub(crate) os_locks: bool,
    /// The text in `pReserved`, if there is one.
    pub(crate) reserved: Option<String>,
}

/// `C_Initialize`: reads the configuration, connects to nothing.
///
/// # Errors
/// `CKR_ARGUMENTS_BAD` for some of the lock functions without the others, `CKR_CANT_LOCK` when none but the
/// application's may be used, `CKR_FUNCTION_FAILED` for a configuration that cannot be understood.
pub(crate) fn initialize(arguments: &Arguments, environment: &Environment) -> Result<Module, Rv> {
    match (arguments.lock_functions, arguments.os_locks) {
        (1..=3, _) => return Err(Rv::ARGUMENTS_BAD),
        (4.., false) => return Err(Rv::CANT_LOCK),
        (0 | 4.., _) => {}
    }
    let reserved = arguments.reserved.as_deref().and_then(config::reserved_path);
    let config = config::explain(environment, reserved.as_deref()).map_err(|_| Rv::FUNCTION_FAILED)?;
    Module::open(config).map_err(|_| Rv::FUNCTION_FAILED)
}

/// The version of the module, of which PKCS#11 has two numbers.
pub(crate) fn library_version() -> (u8, u8) {
    let number = |text: &str| text.parse().unwrap_or(0);
    (number(env!("CARGO_PKG_VERSION_MAJOR")), number(env!("CARGO_PKG_VERSION_MINOR")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lock_functions: u8, os_locks: bool, expected: Result<(), Rv>) {
        let arguments = Arguments { lock_functions, os_locks, reserved: None };
        assert_eq!(initialize(&arguments, &Environment::default()).map(drop), expected);
    }

    #[test]
    fn locks_are_the_operating_systems_or_none() {
        check(0, false, Ok(()));
        check(0, true, Ok(()));
        check(4, true, Ok(()));
        check(4, false, Err(Rv::CANT_LOCK));
        check(3, true, Err(Rv::ARGUMENTS_BAD));
        check(1, false, Err(Rv::ARGUMENTS_BAD));
    }

    #[test]
    fn a_broken_configuration_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pkcs11.toml");
        std::fs::write(&file, "socket = 7").unwrap();
        let reserved = Some(format!("config={}", file.display()));
        let arguments = Arguments { reserved, ..Arguments::default() };
        assert_eq!(initialize(&arguments, &Environment::default()).err(), Some(Rv::FUNCTION_FAILED));
    }
}
