//! Why a command did not do what was asked: one line what, one line what to do next.

use std::error::Error;
use std::fmt::Display;

use kms_core::error_chain;
use kms_hsm::HsmError;
use kms_store::StoreError;

use crate::dispatch::ExportError;
use crate::rest::RestError;
use crate::server::SocketError;
use crate::service::{AccountError, ServiceError};

/// A command that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What went wrong, with its causes.
    pub(super) what: String,
    /// What the operator can do about it.
    pub(super) next: String,
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }

    /// With the error's causes.
    pub(super) fn because(
        what: impl Display,
        error: &(dyn Error + 'static),
        next: impl Into<String>,
    ) -> Self {
        Self::new(format!("{what}: {}", error_chain(error)), next)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        // The number of a problem is for clients of the API.
        let what = if let ServiceError::Export(ExportError::Refused(problem)) = &error {
            problem.message.clone()
        } else {
            error_chain(&error)
        };
        Self::new(what, next_step(&error))
    }
}

/// What the operator can do about a failure of the service. The messages name the part; this names the hand.
fn next_step(error: &ServiceError) -> &'static str {
    match error {
        ServiceError::Hsm(HsmError::MasterMissing(_)) => {
            "restore the token that belongs to this home; without its master key no key can be opened"
        }
        ServiceError::Hsm(HsmError::ModuleUnusable { .. }) => {
            "see that [hsm] module is the HSM's library, and that what its own configuration ([hsm] conf) names is there: \
             the folder of its tokens, first of all"
        }
        ServiceError::Hsm(HsmError::TokenMissing { .. }) => {
            "restore the token's folder from a backup, or name the right token with [hsm] token in kms.toml"
        }
        ServiceError::Hsm(HsmError::PinRefused(_)) => {
            "put the token's right PIN into the file that [hsm] pin_file names; too many wrong ones lock some HSMs"
        }
        ServiceError::Hsm(HsmError::Pin(_)) => "see that [hsm] pin_file is there, and its owner's alone",
        ServiceError::Hsm(_) => "check [hsm] in kms.toml, the token and its PIN file",
        ServiceError::Export(ExportError::Refused(_)) => "use a project that `kms project list` shows",
        ServiceError::Export(ExportError::Io(_)) => "make room where it is written, and try again",
        ServiceError::AuditBroken(_) => "use another copy; this one was changed since it was taken",
        ServiceError::Store(StoreError::Exists(_)) => "choose a name that is not taken",
        ServiceError::Store(StoreError::Full(_)) => "make room on the disk of the database and try again",
        ServiceError::Store(StoreError::Newer { .. }) => {
            "install the version of kms that wrote it, or a later one; older ones cannot read it"
        }
        ServiceError::Store(_) => {
            "check [store] path in kms.toml; restore the database from a backup if it is damaged"
        }
        ServiceError::Request(_) => "look into the cause above; `kms doctor` checks each part",
        ServiceError::SocketListener(SocketError::Taken(_)) => "use the daemon that runs, or stop it first",
        ServiceError::SocketListener(_) => "check [socket] in kms.toml",
        ServiceError::Rest(RestError::Address { .. }) => "choose another address, or stop what listens there",
        ServiceError::Rest(_) => "check [rest] in kms.toml",
        ServiceError::Io(_) => "look at the daemon's log for the cause",
        ServiceError::ForeignMaster(_) => "name an empty token, or initialise one: that erases what is in it",
        ServiceError::Mismatch { .. } => "put the token and the database that belong together into one home",
        ServiceError::Incomplete(_) => {
            "make the home anew with `kms init`, or restore the database from a backup"
        }
        ServiceError::NoSuchRing(_) => {
            "use a name that `kms ring list` shows, or make it with `kms ring create`"
        }
        ServiceError::NoSuchKey(_) => "use a label or an id that `kms key list` shows",
        ServiceError::Ambiguous(_) => "name the key by its id",
        ServiceError::Account(error) => account_step(error),
        ServiceError::Exists(_) => "choose another name",
        ServiceError::BadName(_) => "choose a name of 1 to 32 letters, digits, `-` and `_`",
        ServiceError::BadPin => "choose another PIN, or give none and get a random one",
    }
}

/// The same for accounts, roles and tokens.
fn account_step(error: &AccountError) -> &'static str {
    match error {
        AccountError::NoSuchAccount(_) => {
            "use an address that `kms account list` shows, or add it with `kms account add`"
        }
        AccountError::NoSuchPrincipal { .. } => {
            "use a name that `kms account list` shows, and its ring with --ring"
        }
        AccountError::BuiltIn(_) => "change its PIN instead",
        AccountError::NoSuchProject(_) => {
            "use a name or id that `kms project list` shows, or make it with `kms project add`"
        }
        AccountError::OtherProject { .. } => "leave --project out: the ring says which it is",
        AccountError::BadEmail(_) => "choose an address such as ci@acme.sa.kms.local",
        AccountError::BadName(_) => "choose a name of 1 to 64 letters, digits, `-`, `_` and `.`",
        AccountError::Granted { .. } => "nothing is to be done",
        AccountError::NotGranted { .. } => "name the project and the ring that `kms role list` shows",
        AccountError::NoSuchToken { .. } => "use a name or id that `kms token list` shows",
        AccountError::NoSuchKey(_) => "use an id that `kms account key list` shows as active",
        AccountError::PublicKey(_) => {
            "write one with `openssl rsa -in PRIVATE.pem -pubout -out PUBLIC.pem`, and name that file"
        }
    }
}
