//! Why the backend cannot be created, opened or changed, with the next step for the operator.

use std::io;

use kms_core::audit::Broken;
use kms_core::object::MasterVersion;
use kms_hsm::HsmError;
use kms_store::StoreError;

use super::AccountError;
use crate::dispatch::ExportError;
use crate::error::Error;
use crate::pins;
use crate::rest::RestError;
use crate::server::SocketError;

/// Why the backend cannot be made, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The HSM does not do its part.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database does not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request of the owner's was refused, or failed.
    #[error(transparent)]
    Request(#[from] Error),
    /// The socket is not ours to listen on.
    #[error(transparent)]
    SocketListener(#[from] SocketError),
    /// The REST door cannot be opened.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// The daemon could not go on.
    #[error("the daemon stopped")]
    Io(#[from] io::Error),
    /// The token has a master key, and the database is new: they do not belong together.
    #[error(
        "the token already holds a master key (version {}), so another KMS uses it; \
         initialise a token of its own for this home",
        .0.0
    )]
    ForeignMaster(MasterVersion),
    /// The database and the token do not belong together.
    #[error(
        "the master key in the token does not open the database's {purpose} key: this is another home's token, \
         or the database was copied without its token; check [hsm] token and [store] path in kms.toml"
    )]
    Mismatch {
        /// Which key did not open.
        purpose: &'static str,
    },
    /// The database is not complete.
    #[error("the database has no {0} key; it was not made by `kms init`, or not to the end")]
    Incomplete(&'static str),
    /// There is no such ring.
    #[error("no ring is named {0:?}; `kms ring list` shows them")]
    NoSuchRing(String),
    /// There is no such key.
    #[error("no active key has the label or id {0:?}; `kms key list` shows them")]
    NoSuchKey(String),
    /// A label is several keys'.
    #[error("several keys have the label {0:?}; name one by its id, which `kms key list` shows")]
    Ambiguous(String),
    /// The name is taken.
    #[error("{0:?} exists already")]
    Exists(String),
    /// A name that is not one.
    #[error("{0:?} is no name: 1 to 32 letters, digits, `-` and `_`")]
    BadName(String),
    /// What there is could not be told.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A copy was tampered with.
    #[error("the audit log in the copy is not whole: {0}")]
    AuditBroken(Broken),
    /// Something about accounts, roles or tokens.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A PIN that will not do.
    #[error("this PIN will not do: {} to {} bytes of UTF-8", pins::PIN_BYTES_MIN, pins::PIN_BYTES_MAX)]
    BadPin,
}
