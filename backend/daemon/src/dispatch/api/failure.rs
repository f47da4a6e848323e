//! Failures of operations, and the problems that the API returns for them.

use kms_core::api::{Problem, Status};
use kms_core::error_chain;
use kms_crypto::CryptoError;
use kms_hsm::HsmError;
use kms_protocol::Rv;
use kms_store::StoreError;

use crate::error::Error;
use crate::keys::KeysError;

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A problem that is returned as it is.
    Problem(Problem),
    /// An error that becomes a problem.
    Error(Error),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

macro_rules! from_errors {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Error(error.into())
            }
        })+
    };
}

from_errors!(Error, StoreError, HsmError, KeysError, CryptoError, Rv);

impl Failure {
    /// Names `what`, a noun of the API, as what was not found, if the failure is that something was not found.
    pub(super) fn not_found_as(self, what: &str) -> Self {
        if matches!(self, Self::Error(Error::NoSuchObject)) { Problem::not_found(what).into() } else { self }
    }

    /// Returns the problem for the response. Internal errors are logged here, once.
    pub(super) fn problem(self, event: &str, resource: &str) -> Problem {
        match self {
            Self::Problem(problem) => problem,
            Self::Error(error) => {
                let problem = problem_of(&error);
                if error.is_internal() {
                    tracing::error!(event, resource, cause = error_chain(&error), "failed");
                }
                problem
            }
        }
    }
}

fn problem_of(error: &Error) -> Problem {
    let material_invalid = || {
        Problem::conflict("key_material_invalid: the key's stored material was changed and cannot be used")
    };
    let unavailable =
        |what: &str| Problem::new(Status::Unavailable, format!("the {what} is not available; try again"));
    match error {
        Error::NoSuchObject | Error::NoSuchSlot => Problem::not_found("resource"),
        Error::Store(StoreError::RowInvalid { .. }) => material_invalid(),
        Error::Store(StoreError::Full(_) | StoreError::Busy(_) | StoreError::TimedOut) => {
            unavailable("database")
        }
        Error::Store(StoreError::TooMany { what, most }) => Problem::conflict(format!(
            "there are {most} {what} already, which is the maximum; delete some, or raise it in [rings] of kms.toml"
        )),
        Error::Store(StoreError::DiskFloor { .. }) => Problem::new(
            Status::Unavailable,
            "the disk of the service is nearly full, and nothing more is created; existing keys can be used and deleted",
        ),
        Error::Rejected(Rv::FUNCTION_REJECTED) => {
            Problem::new(Status::Unavailable, "the service is busy; nothing was done; try again in a second")
        }
        Error::Store(StoreError::TooManyRings(most)) => {
            Problem::malformed(format!("there are {most} key rings, which is the maximum; delete one first"))
        }
        Error::Hsm(HsmError::MaterialInvalid) => material_invalid(),
        Error::Hsm(_) => unavailable("HSM"),
        Error::Keys(KeysError::Hsm(cause)) if matches!(**cause, HsmError::MaterialInvalid) => {
            material_invalid()
        }
        Error::Keys(KeysError::Hsm(_)) => unavailable("HSM"),
        Error::Keys(KeysError::Crypto(_)) | Error::Crypto(CryptoError::Material(_)) => material_invalid(),
        Error::Rejected(Rv::KEY_EXHAUSTED) => Problem::conflict(
            "this version has encrypted as often as is safe for one key; rotate the key and use the next version",
        ),
        Error::MasterExhausted(_) => Problem::conflict(
            "this home can create no more keys, and those that it has stay usable: its master key has wrapped as much as is safe",
        ),
        Error::Rejected(Rv::KEY_FUNCTION_NOT_PERMITTED | Rv::MECHANISM_INVALID) => {
            Problem::malformed("the key's owner does not allow this use of it")
        }
        // A REST caller has a role, and is therefore logged in: this is a key with CKA_ALWAYS_AUTHENTICATE.
        Error::Rejected(Rv::USER_NOT_LOGGED_IN) => Problem::malformed(
            "the key's owner requires a PIN for each use (CKA_ALWAYS_AUTHENTICATE): it can be used over PKCS#11 only",
        ),
        Error::Rejected(_) | Error::Store(_) | Error::Keys(_) | Error::Crypto(_) | Error::Seal(_) => {
            Problem::new(Status::Internal, "an unexpected failure; it has been logged under the x-trace-id")
        }
        Error::Pin(_) | Error::Random(_) => {
            Problem::new(Status::Internal, "an unexpected failure; it has been logged under the x-trace-id")
        }
    }
}
