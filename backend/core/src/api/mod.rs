//! The domain of the KMS API: operations, requests, responses and their rules. Pure: no sockets, no clock, no database,
//! no keys.
//!
//! The types, names and codes are those of the public REST API (`docs/rest.md`): the REST listener passes an
//! `Operation` to the dispatcher, and gets an `Outcome` or a `Problem` in the form that the client sees.

mod algorithm;
mod caller;
mod ciphertext;
mod lifecycle;
mod names;
mod operation;
mod permission;
mod problem;
mod report;
mod request;
mod response;

pub use algorithm::{
    AccessScope, Algorithm, Hash, Purpose, WrappingAlgorithm, WrappingPurpose, algorithm_of,
};
pub use caller::{Account, Grant, NetworkArea, RequestContext, Role};
pub use ciphertext::{CIPHERTEXT_OVERHEAD, Header, additional_data};
pub use lifecycle::{Change, KeyState, Life, VersionState, Words, WrappingKeyState, key_state};
pub use names::{DESCRIPTION_MAX, DISPLAY_NAME_MAX, Description, DisplayName, TAG_MAX, TAGS_MAX, Tags};
pub use operation::{KeyPath, Operation, Outcome, RingPath, Subject, VersionPath, WrappingKeyPath};
pub use permission::Permission;
pub use problem::{Problem, Status};
pub use report::{
    EXPORT_FORMAT, Export, ExportedAccount, ExportedAccountKey, ExportedGrant, ExportedKey, ExportedMetadata,
    ExportedPrincipal, ExportedProject, ExportedRing, ExportedToken, OtherKey, Usage, UsageHour,
};
pub use request::{
    CreateKey, CreateKeyRing, CreateWrappingKey, Data, EditKey, EditKeyRing, ImportKey, MakeDataKey, Page,
    Protection, ROTATION_DAYS_MAX,
};
pub use response::{
    Amounts, DataKey, DecryptedData, EncryptedData, HttpError, Key, KeyList, KeyRing, KeyRingList,
    SignedData, Time, VerifiedData, Version, VersionList, VersionedData, WrappingKey, WrappingKeyList,
};

/// The maximum plaintext that one call encrypts: 64 KiB, as in the service certificate.
pub const PLAINTEXT_BYTES_MAX: usize = 64 << 10;

/// The maximum data in any other field of a call: the longest ciphertext, and some more.
pub const DATA_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 1024;
