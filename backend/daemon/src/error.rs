//! Every failure of a request, and what the doors say for it. The detail is logged once, in `server`; callers see
//! the code alone.

use kms_core::seal::SealError;
use kms_crypto::CryptoError;
use kms_hsm::HsmError;
use kms_protocol::Rv;
use kms_store::StoreError;

use crate::keys::KeysError;

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
