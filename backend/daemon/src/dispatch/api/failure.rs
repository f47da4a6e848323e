//! Why an operation ends: refused in words for the caller, or failed for reasons of ours.

use kms_core::api::{Refusal, Status};
use kms_core::error_chain;
use kms_crypto::CryptoError;
use kms_hsm::HsmError;
use kms_protocol::Rv;
use kms_store::StoreError;

use crate::error::Error;
use crate::keys::KeysError;

/// Why an operation ends.
#[derive(Debug)]
pub(super) enum Failure {
    /// The caller is told why.
    Refused(Refusal),
    /// Something of ours.
    Ours(Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

macro_rules! ours {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Ours(error.into())
            }
        })+
    };
}

ours!(Error, StoreError, HsmError, KeysError, CryptoError, Rv);

impl Failure {
    /// A failure that says that `what`, a noun of the API, is not there, where it says that something is not there.
    pub(super) fn naming(self, what: &str) -> Self {
        if matches!(self, Self::Ours(Error::NoSuchObject)) { Refusal::not_found(what).into() } else { self }
    }

    /// What the caller is told. What is ours is logged here, once.
    pub(super) fn refusal(self, event: &str, resource: &str) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Ours(error) => {
                let refusal = told(&error);
                if error.is_ours() {
                    tracing::error!(event, resource, cause = error_chain(&error), "failed");
                }
                refusal
            }
        }
    }
}

fn told(error: &Error) -> Refusal {
    let invalid = || {
        Refusal::conflict("key_material_invalid: the key's stored material was changed and cannot be used")
    };
    let away =
        |what: &str| Refusal::new(Status::Unavailable, format!("the {what} is not available; try again"));
    match error {
        Error::NoSuchObject | Error::NoSuchSlot => Refusal::not_found("resource"),
        Error::Store(StoreError::RowInvalid { .. }) => invalid(),
        Error::Store(StoreError::Full(_) | StoreError::Busy(_) | StoreError::TimedOut) => away("database"),
        Error::Store(StoreError::TooManyRings(most)) => Refusal::malformed(format!(
            "there are {most} key rings, and no more can be made; delete one first"
        )),
        Error::Hsm(HsmError::MaterialInvalid) => invalid(),
        Error::Hsm(_) => away("HSM"),
        Error::Keys(KeysError::Hsm(cause)) if matches!(**cause, HsmError::MaterialInvalid) => invalid(),
        Error::Keys(KeysError::Hsm(_)) => away("HSM"),
        Error::Keys(KeysError::Crypto(_)) | Error::Crypto(CryptoError::Material(_)) => invalid(),
        Error::Refused(Rv::KEY_EXHAUSTED) => Refusal::conflict(
            "this version has encrypted as often as is safe for one key; rotate the key and use the next version",
        ),
        Error::Refused(Rv::KEY_FUNCTION_NOT_PERMITTED | Rv::MECHANISM_INVALID) => {
            Refusal::malformed("the key's owner does not allow this use of it")
        }
        Error::Refused(_) | Error::Store(_) | Error::Keys(_) | Error::Crypto(_) | Error::Seal(_) => {
            Refusal::new(Status::Internal, "an unexpected failure; it has been logged under the x-trace-id")
        }
        Error::Pin(_) | Error::Random(_) => {
            Refusal::new(Status::Internal, "an unexpected failure; it has been logged under the x-trace-id")
        }
    }
}
