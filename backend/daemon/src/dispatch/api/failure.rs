//! Why an operation ends: refused in words for the caller, or failed for reasons of ours.

use kms_core::api::{Problem, Status};
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
    Refused(Problem),
    /// Something of ours.
    Ours(Error),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
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
        if matches!(self, Self::Ours(Error::NoSuchObject)) { Problem::not_found(what).into() } else { self }
    }

    /// What the caller is told. What is ours is logged here, once.
    pub(super) fn problem(self, event: &str, resource: &str) -> Problem {
        match self {
            Self::Refused(problem) => problem,
            Self::Ours(error) => {
                let problem = told(&error);
                if error.is_ours() {
                    tracing::error!(event, resource, cause = error_chain(&error), "failed");
                }
                problem
            }
        }
    }
}

fn told(error: &Error) -> Problem {
    let invalid = || {
        Problem::conflict("key_material_invalid: the key's stored material was changed and cannot be used")
    };
    let away =
        |what: &str| Problem::new(Status::Unavailable, format!("the {what} is not available; try again"));
    match error {
        Error::NoSuchObject | Error::NoSuchSlot => Problem::not_found("resource"),
        Error::Store(StoreError::RowInvalid { .. }) => invalid(),
        Error::Store(StoreError::Full(_) | StoreError::Busy(_) | StoreError::TimedOut) => away("database"),
        Error::Store(StoreError::TooManyRings(most)) => Problem::malformed(format!(
            "there are {most} key rings, and no more can be made; delete one first"
        )),
        Error::Hsm(HsmError::MaterialInvalid) => invalid(),
        Error::Hsm(_) => away("HSM"),
        Error::Keys(KeysError::Hsm(cause)) if matches!(**cause, HsmError::MaterialInvalid) => invalid(),
        Error::Keys(KeysError::Hsm(_)) => away("HSM"),
        Error::Keys(KeysError::Crypto(_)) | Error::Crypto(CryptoError::Material(_)) => invalid(),
        Error::Refused(Rv::KEY_EXHAUSTED) => Problem::conflict(
            "this version has encrypted as often as is safe for one key; rotate the key and use the next version",
        ),
        Error::Refused(Rv::KEY_FUNCTION_NOT_PERMITTED | Rv::MECHANISM_INVALID) => {
            Problem::malformed("the key's owner does not allow this use of it")
        }
        Error::Refused(_) | Error::Store(_) | Error::Keys(_) | Error::Crypto(_) | Error::Seal(_) => {
            Problem::new(Status::Internal, "an unexpected failure; it has been logged under the x-trace-id")
        }
        Error::Pin(_) | Error::Random(_) => {
            Problem::new(Status::Internal, "an unexpected failure; it has been logged under the x-trace-id")
        }
    }
}
