//! The failure of a command: one line for the cause, one line for the next step.

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
    /// What is wrong, with its causes.
    pub(super) what: String,
    /// The next step for the operator.
    pub(super) next: String,
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }

    /// A failure with the chain of an error's causes.
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
        // The code of a problem is only for clients of the API.
        let what = if let ServiceError::Export(ExportError::Rejected(problem)) = &error {
            problem.message.clone()
        } else {
            error_chain(&error)
        };
        Self::new(what, next_step(&error))
    }
}

/// The next step for the operator after a failure of the service. The message of the error names the failed part.
fn next_step(error: &ServiceError) -> &'static str {
    match error {
        ServiceError::Hsm(HsmError::MasterMissing(_)) => {
            "restore the token that belongs to this home; no key can be opened without its master key"
        }
        ServiceError::Hsm(HsmError::ModuleUnusable { .. }) => {
            "check that [hsm] module is the HSM's library, and that everything in its own configuration ([hsm] conf) exists, \
             especially the folder of its tokens"
        }
        ServiceError::Hsm(HsmError::TokenMissing { .. }) => {
            "restore the token's folder from a backup, or name another token with [hsm] token in kms.toml"
        }
        ServiceError::Hsm(HsmError::PinRefused(_)) => {
            "write the correct PIN into the file that [hsm] pin_file names; some HSMs lock the token after too many wrong PINs"
        }
        ServiceError::Hsm(HsmError::Pin(_)) => {
            "check that the file that [hsm] pin_file names exists, and that only its owner can read it"
        }
        ServiceError::Hsm(_) => "check [hsm] in kms.toml, the token and its PIN file",
        ServiceError::Export(ExportError::Rejected(_)) => "list the projects with `kms project list`",
        ServiceError::Export(ExportError::Io(_)) => "free space where the export is written, and try again",
        ServiceError::AuditBroken(_) => "use another copy; this one was changed after the backup",
        ServiceError::Store(error) => store_step(error),
        ServiceError::Request(_) => "see the cause above; `kms doctor` checks each part of the home",
        ServiceError::SocketListener(SocketError::NameInUse(_)) => "use the running daemon, or stop it first",
        ServiceError::SocketListener(_) => "check [socket] in kms.toml",
        ServiceError::Rest(RestError::Address { .. }) => {
            "choose another address, or stop the program that listens there"
        }
        ServiceError::Rest(_) => "check [rest] in kms.toml",
        ServiceError::Io(_) => "see the daemon's log for the cause",
        ServiceError::ForeignMaster(_) => {
            "name an empty token, or initialise this one, which erases its contents"
        }
        ServiceError::Mismatch { .. } => "restore the token and the database of the same home",
        ServiceError::Incomplete(_) => {
            "create the home again with `kms init`, or restore the database from a backup"
        }
        ServiceError::NoSuchRing(_) => {
            "list the rings with `kms ring list`, or create one with `kms ring create`"
        }
        ServiceError::NoSuchKey(_) => "list labels and ids with `kms key list`",
        ServiceError::Ambiguous(_) => "name the key by its id, which `kms key list` shows",
        ServiceError::Account(error) => account_step(error),
        ServiceError::Exists(_) => "choose another name",
        ServiceError::BadName(_) => "choose a name of 1 to 32 letters, digits, `-` and `_`",
        ServiceError::NotConfirmed => {
            "read what the restore brings back; add --yes to restore nevertheless, or name another copy"
        }
        ServiceError::NoSuchCredential(_) => {
            "name a token of the copy as ACCOUNT/NAME, or an account key by its id"
        }
        ServiceError::BadPin => "choose another PIN, or omit it to get a random one",
    }
}

/// The next step after a failure of the database.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others have the same next step")]
fn store_step(error: &StoreError) -> &'static str {
    match error {
        StoreError::Exists(_) => "name a file that does not exist",
        StoreError::Full(_) => "free space on the disk of the database, and try again",
        StoreError::Newer { .. } => "install the version of kms that wrote it, or a later one",
        StoreError::ClockBehind { .. } => {
            "synchronise the clock with NTP (`timedatectl set-ntp true`), and repeat the command"
        }
        StoreError::OldCopy { .. } => {
            "put the newest database back; `kms restore --from FILE` goes back to an older one on purpose"
        }
        StoreError::Tampered(_) => {
            "see `kms audit verify`; then `kms restore` a backup, or go on with the rows as they are with `kms audit restart`"
        }
        StoreError::ForeignSchema { .. } => {
            "restore a backup with `kms restore`; if you added the object yourself, drop it"
        }
        _ => "check [store] path in kms.toml; restore the database from a backup if it is damaged",
    }
}

/// The next step after a failure with accounts, roles or tokens.
fn account_step(error: &AccountError) -> &'static str {
    match error {
        AccountError::NoSuchAccount(_) => {
            "list the accounts with `kms account list`, or add one with `kms account add`"
        }
        AccountError::NoSuchPrincipal { .. } => {
            "list the principals with `kms account list`, and name the ring with --ring"
        }
        AccountError::BuiltIn(_) => "change its PIN instead",
        AccountError::NoSuchProject(_) => {
            "list the projects with `kms project list`, or create one with `kms project add`"
        }
        AccountError::OtherProject { .. } => "omit --project: a ring belongs to exactly one project",
        AccountError::BadEmail(_) => "choose an address such as ci@acme.sa.kms.local",
        AccountError::BadName(_) => "choose a name of 1 to 64 letters, digits, `-`, `_` and `.`",
        AccountError::Granted { .. } => "no action is needed; `kms role list` shows all roles",
        AccountError::NotGranted { .. } => {
            "list the roles with `kms role list`, and name the same project and ring"
        }
        AccountError::NoSuchToken { .. } => "list the tokens with `kms token list`",
        AccountError::NoSuchKey(_) => "list the keys with `kms account key list`, and name an active one",
        AccountError::PublicKey(_) => {
            "write a public key with `openssl rsa -in PRIVATE.pem -pubout -out PUBLIC.pem`, and name that file"
        }
    }
}
