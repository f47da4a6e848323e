//! Failures of requests, and the return code that callers get for each. `dispatch` logs the details once; callers see
//! the code only.

use kms_core::seal::SealError;
use kms_crypto::CryptoError;
use kms_hsm::HsmError;
use kms_protocol::Rv;
use kms_store::StoreError;

use crate::keys::KeysError;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Policy rejects the request, or the request itself is not valid.
    #[error("rejected with {0}")]
    Rejected(#[from] Rv),
    /// The object does not exist, or this caller may not see it.
    #[error("no such object")]
    NoSuchObject,
    /// The slot does not belong to a ring.
    #[error("no such slot")]
    NoSuchSlot,
    /// The HSM failed.
    #[error("the HSM failed")]
    Hsm(#[from] HsmError),
    /// The master key has wrapped as much as is safe.
    #[error(
        "version {0} of the master key has wrapped as many keys as are safe under one AES-GCM key (2^32), so that it wraps no \
         more: what is stored stays usable; create keys in a new home"
    )]
    MasterExhausted(u32),
    /// The database failed.
    #[error("the database failed")]
    Store(#[source] StoreError),
    /// A key could not be created or parsed.
    #[error("a key could not be created or parsed")]
    Crypto(#[from] CryptoError),
    /// A key could not be opened for use.
    #[error("the key could not be opened")]
    Keys(#[from] KeysError),
    /// A sealed session object was not sealed by this backend for this caller.
    #[error("a session object's seal is not valid")]
    Seal(#[from] SealError),
    /// The hash of a PIN could not be computed or parsed.
    #[error("the hash of a PIN could not be computed or parsed: {0}")]
    Pin(password_hash::Error),
    /// The operating system returned no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        // Not an internal failure: the caller named an object that does not exist, or no longer.
        if matches!(error, StoreError::NotFound) { Self::NoSuchObject } else { Self::Store(error) }
    }
}

impl Error {
    /// Returns the PKCS#11 return code.
    pub fn rv(&self) -> Rv {
        match self {
            Self::Rejected(rv) => *rv,
            Self::NoSuchObject | Self::Seal(SealError::Invalid | SealError::Ended(_)) => {
                Rv::OBJECT_HANDLE_INVALID
            }
            Self::Seal(SealError::NoOwner) => Rv::USER_NOT_LOGGED_IN,
            Self::Seal(SealError::TooLarge) | Self::Store(StoreError::TooLarge(_)) => Rv::DEVICE_MEMORY,
            Self::NoSuchSlot => Rv::TOKEN_NOT_PRESENT,
            Self::Store(StoreError::Full(_) | StoreError::TooMany { .. } | StoreError::DiskFloor { .. }) => {
                Rv::DEVICE_MEMORY
            }
            _ if self.is_curve_left_out() => Rv::CURVE_NOT_SUPPORTED,
            Self::Hsm(_) | Self::Store(_) | Self::Crypto(_) | Self::Keys(_) | Self::Pin(_) => {
                Rv::DEVICE_ERROR
            }
            Self::Random(_) => Rv::DEVICE_ERROR,
            Self::MasterExhausted(_) => Rv::DEVICE_MEMORY,
        }
    }

    /// Whether the key is on a curve that this build leaves out (the feature `pre-release-curves`).
    fn is_curve_left_out(&self) -> bool {
        if let Self::Keys(KeysError::Crypto(error)) = self {
            return matches!(**error, CryptoError::PreReleaseCurve(_));
        }
        matches!(self, Self::Crypto(CryptoError::PreReleaseCurve(_)))
    }

    /// Whether the failure is internal, so that an operator should look at it.
    pub fn is_internal(&self) -> bool {
        // A limit that a tenant has reached is no failure; a disk that fills up is logged once a minute.
        let is_limit = matches!(self, Self::Store(StoreError::TooMany { .. } | StoreError::DiskFloor { .. }));
        let is_rejection =
            matches!(self, Self::Rejected(_) | Self::NoSuchObject | Self::NoSuchSlot | Self::Seal(_));
        !is_limit && !is_rejection
    }
}
