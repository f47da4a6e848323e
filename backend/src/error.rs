//! Every failure of a request, and what the doors say for it. The detail is logged once, in `server`; callers see
//! the code alone.

use kms_protocol::Rv;

use crate::crypto::CryptoError;
use crate::hsm::HsmError;
use crate::keys::KeysError;
use crate::seal::SealError;
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Policy, or the request itself, says no.
    #[error("refused with {0}")]
    Refused(#[from] Rv),
    /// The object is not there, or not for this caller.
    #[error("no such object")]
    NoSuchObject,
    /// The slot is no ring's.
    #[error("no such slot")]
    NoSuchSlot,
    /// The HSM did not do its part.
    #[error("the HSM failed")]
    Hsm(#[from] HsmError),
    /// The database did not do its part.
    #[error("the store failed")]
    Store(#[source] StoreError),
    /// A key could not be made or opened.
    #[error("a key could not be made or read")]
    Crypto(#[from] CryptoError),
    /// A key could not be opened for use.
    #[error("the key could not be opened")]
    Keys(#[from] KeysError),
    /// What should be a session object is not one of ours.
    #[error("a session object's seal does not open")]
    Seal(#[from] SealError),
    /// The PIN's hash could not be computed or read.
    #[error("a stored PIN could not be read: {0}")]
    Pin(password_hash::Error),
    /// The operating system gave no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        // Not a failure of ours: the caller names what is not there, or no longer.
        if matches!(error, StoreError::NotFound) { Self::NoSuchObject } else { Self::Store(error) }
    }
}

impl Error {
    /// What the provider's door says.
    pub fn rv(&self) -> Rv {
        match self {
            Self::Refused(rv) => *rv,
            Self::NoSuchObject | Self::Seal(SealError::Invalid) => Rv::OBJECT_HANDLE_INVALID,
            Self::Seal(SealError::NoOwner) => Rv::USER_NOT_LOGGED_IN,
            Self::Seal(SealError::TooLarge) | Self::Store(StoreError::TooLarge(_)) => Rv::DEVICE_MEMORY,
            Self::NoSuchSlot => Rv::TOKEN_NOT_PRESENT,
            Self::Store(StoreError::Full(_)) => Rv::DEVICE_MEMORY,
            Self::Hsm(_) | Self::Store(_) | Self::Crypto(_) | Self::Keys(_) | Self::Pin(_) => {
                Rv::DEVICE_ERROR
            }
            Self::Random(_) => Rv::DEVICE_ERROR,
        }
    }

    /// Whether an operator should look at it: our own parts failed, not the caller.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::NoSuchObject | Self::NoSuchSlot | Self::Seal(_))
    }
}

/// A failure with all its causes on one line, for the log.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = said(error);
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&said(inner));
        cause = inner.source();
    }
    line
}

/// What an error says; of an HSM's, function and code in the specification's own words, which can be looked up.
/// (`cryptoki` writes out the specification's paragraph about the code.)
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let boxed = error.downcast_ref::<Box<cryptoki::error::Error>>().map(AsRef::as_ref);
    match boxed.or_else(|| error.downcast_ref()) {
        Some(cryptoki::error::Error::Pkcs11(code, function)) => {
            format!("C_{function:?} answered {}", code_name(&format!("{code:?}")))
        }
        Some(_) | None => error.to_string(),
    }
}

/// `GeneralError` as the specification writes it: `CKR_GENERAL_ERROR`.
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

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;
    use cryptoki::error::{Error as Cryptoki, RvError};

    use super::*;

    #[test]
    fn an_hsms_failure_is_told_by_function_and_code() {
        let error =
            Error::from(HsmError::from(Cryptoki::Pkcs11(RvError::GeneralError, Function::Initialize)));
        assert_eq!(chain(&error), "the HSM failed: the HSM failed: C_Initialize answered CKR_GENERAL_ERROR");
    }
}
