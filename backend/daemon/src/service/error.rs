//! Errors of the backend as a whole.

use std::io;

use kms_core::audit::ChainFault;
use kms_core::object::MasterVersion;
use kms_hsm::HsmError;
use kms_store::StoreError;

use super::AccountError;
use crate::dispatch::ExportError;
use crate::error::Error;
use crate::pins;
use crate::rest::RestError;
use crate::server::SocketError;

/// Why the backend cannot be created, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The HSM failed.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request of the operator was rejected, or failed.
    #[error(transparent)]
    Request(#[from] Error),
    /// The daemon cannot listen on the socket.
    #[error(transparent)]
    SocketListener(#[from] SocketError),
    /// The REST listener cannot be opened.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// The daemon stopped with an error.
    #[error("the daemon stopped")]
    Io(#[from] io::Error),
    /// The token already has a master key, although the database is new.
    #[error(
        "the token already contains a master key (version {}), so another KMS uses it; \
         initialise a separate token for this home",
        .0.0
    )]
    ForeignMaster(MasterVersion),
    /// The database and the token do not belong together.
    #[error(
        "the master key in the token does not open the database's {purpose} key: the token belongs to another home, \
         or the database was copied without its token; check [hsm] token and [store] path in kms.toml"
    )]
    Mismatch {
        /// The purpose of the service key that did not open.
        purpose: &'static str,
    },
    /// The database lacks a service key.
    #[error("the database has no {0} key: `kms init` did not create it, or did not complete")]
    Incomplete(&'static str),
    /// There is no such ring.
    #[error("no ring has the name or id {0:?}")]
    NoSuchRing(String),
    /// There is no such key.
    #[error("no active key has the label or id {0:?}")]
    NoSuchKey(String),
    /// Several keys have the label.
    #[error("several keys have the label {0:?}")]
    Ambiguous(String),
    /// The name is already used.
    #[error("{0:?} exists already")]
    Exists(String),
    /// A name is invalid.
    #[error("invalid name {0:?}: a name is 1 to 32 letters, digits, `-` and `_`")]
    BadName(String),
    /// An export, or another report, failed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The audit log in a copy is not intact.
    #[error("the audit log in the copy is not intact: {0}")]
    AuditBroken(ChainFault),
    /// The operator did not confirm a restore.
    #[error("nothing was restored, because it was not confirmed")]
    NotConfirmed,
    /// The copy does not have a credential that is to be kept.
    #[error("the copy has no token or account key {0:?}")]
    NoSuchCredential(String),
    /// A command on accounts, roles or tokens failed.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A PIN is invalid.
    #[error("invalid PIN: a PIN is {} to {} bytes of UTF-8", pins::PIN_BYTES_MIN, pins::PIN_BYTES_MAX)]
    BadPin,
}
