//! Failures of the HSM, with messages from which an operator knows what to do next.

use std::fmt;
use std::path::PathBuf;

use cryptoki::error::{Error as Cryptoki, RvError};
use kms_core::object::MasterVersion;

use crate::config::PinError;

/// A failure of the HSM's module. It is displayed with the specification's names, `C_Sign returned CKR_DEVICE_ERROR`,
/// so that it can be looked up; `cryptoki` would print the specification's paragraph about the code.
#[derive(Debug)]
pub struct Pkcs11Failure(Box<Cryptoki>);

impl From<Cryptoki> for Pkcs11Failure {
    fn from(error: Cryptoki) -> Self {
        Self(Box::new(error))
    }
}

impl std::error::Error for Pkcs11Failure {}

impl fmt::Display for Pkcs11Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Cryptoki::Pkcs11(code, function) = &*self.0 {
            write!(f, "C_{function:?} returned {}", code_name(&format!("{code:?}")))
        } else {
            self.0.fmt(f)
        }
    }
}

/// Returns the specification's name of a code, `CKR_GENERAL_ERROR` for `GeneralError`.
fn code_name(variant: &str) -> String {
    let mut name = "CKR".to_owned();
    for character in variant.chars() {
        if character.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    name
}

/// A failure of the HSM.
#[derive(Debug, thiserror::Error)]
pub enum HsmError {
    /// The module does not exist.
    #[error("the HSM's module {} does not exist; install it (SoftHSM: `apt-get install softhsm2`), or correct \
             [hsm] module in kms.toml", .0.display())]
    ModuleMissing(PathBuf),
    /// The module cannot be loaded.
    #[error("the HSM's module {} cannot be loaded; is it a PKCS#11 library for this machine?", path.display())]
    ModuleUnusable {
        /// The module.
        path: PathBuf,
        /// The reason.
        #[source]
        source: Pkcs11Failure,
    },
    /// No token has this label or serial number.
    #[error("the HSM has no token {wanted:?} ({}); check [hsm] token and conf in kms.toml", labels(.seen))]
    TokenMissing {
        /// The label or serial number that was looked for.
        wanted: String,
        /// The labels that were found.
        seen: Vec<String>,
    },
    /// The PIN cannot be read.
    #[error("the HSM's PIN cannot be read")]
    Pin(#[from] PinError),
    /// The PIN is wrong. It is not tried again before a restart: that could lock the token.
    #[error("the HSM refused the PIN in [hsm] pin_file ({0}); correct it and start again")]
    PinRefused(RvError),
    /// The token has no such master key.
    #[error("the token holds no master key of version {}; is it this home's token, or was the key deleted?", .0.0)]
    MasterMissing(MasterVersion),
    /// The token has a master key of this version already.
    #[error("the token already holds a master key of version {}", .0.0)]
    MasterExists(MasterVersion),
    /// The token has two master keys of this version.
    #[error("the token holds two master keys of version {}; one of them was not created by this KMS", .0.0)]
    MasterTwice(MasterVersion),
    /// The material was not wrapped under this master key and this identity, or was changed since.
    #[error("key_material_invalid: the master key does not unwrap it")]
    MaterialInvalid,
    /// The material is too large to be wrapped.
    #[error("{0} bytes are too many for a key")]
    TooLarge(usize),
    /// The HSM, or its queue, took too long.
    #[error("the HSM did not respond in time")]
    TimedOut,
    /// The HSM's threads have ended.
    #[error("the HSM's threads have stopped")]
    Stopped,
    /// A thread could not be started.
    #[error("cannot start a thread for the HSM")]
    Thread(#[source] std::io::Error),
    /// The token did not keep the number of a counter.
    #[error(
        "the HSM's token did not keep the number {0}, by which old copies of the database are found; if it cannot store \
         data objects, set [hsm] counter = false in kms.toml"
    )]
    NotCounted(u64),
    /// An object with a counter's label has no number.
    #[error(
        "the HSM's token has a data object {0:?} whose value is no number of 8 bytes; it was not made by this KMS: remove it \
         (`pkcs11-tool --delete-object --type data --label LABEL`)"
    )]
    CounterDamaged(String),
    /// The operating system returned no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// The HSM failed otherwise.
    #[error("the HSM failed")]
    Failed(#[source] Pkcs11Failure),
}

fn labels(seen: &[String]) -> String {
    if seen.is_empty() { "it has no tokens".to_owned() } else { format!("it has {}", seen.join(", ")) }
}

impl From<Cryptoki> for HsmError {
    fn from(error: Cryptoki) -> Self {
        Self::Failed(error.into())
    }
}

impl HsmError {
    /// Whether the token may answer so because another process replaces an object meanwhile: the object is gone, or
    /// SoftHSM has read half of its file (an attribute is then empty or wrong).
    pub(super) fn is_passing(&self) -> bool {
        let Self::Failed(error) = self else {
            return matches!(self, Self::NotCounted(_) | Self::CounterDamaged(_));
        };
        matches!(
            &*error.0,
            Cryptoki::Pkcs11(
                RvError::ObjectHandleInvalid
                    | RvError::AttributeValueInvalid
                    | RvError::TemplateInconsistent
                    | RvError::GeneralError,
                _
            )
        )
    }

    /// Whether the error may be solved by a new session, a new login and a new search for the keys.
    pub(super) fn is_lost_session(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        matches!(
            &*error.0,
            Cryptoki::Pkcs11(
                RvError::SessionHandleInvalid
                    | RvError::SessionClosed
                    | RvError::DeviceError
                    | RvError::DeviceRemoved
                    | RvError::TokenNotPresent
                    | RvError::TokenNotRecognized
                    | RvError::UserNotLoggedIn
                    | RvError::ObjectHandleInvalid
                    | RvError::KeyHandleInvalid
                    | RvError::OperationActive,
                _
            )
        )
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn a_failure_is_displayed_with_function_and_code() {
        let error = HsmError::from(Cryptoki::Pkcs11(RvError::GeneralError, Function::Initialize));
        assert_eq!(kms_core::error_chain(&error), "the HSM failed: C_Initialize returned CKR_GENERAL_ERROR");
    }
}
