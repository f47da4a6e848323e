//! The words of the key management service: what is asked, what is answered, which rules hold. Pure: no sockets, no
//! clock, no database, no keys.
//!
//! The shapes, names and codes are those of the public REST API (`docs/rest.md`): the door hands an `Operation` to the
//! dispatcher, and gets an `Outcome` or a `Problem` whose form is what the client sees.

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
pub use caller::{Account, Grant, RequestContext, Role};
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

/// The most plaintext that one call encrypts: 64 KiB, as the service certificate says.
pub const PLAINTEXT_BYTES_MAX: usize = 64 << 10;

/// The most data that one call takes in any other field: the largest ciphertext, and some.
pub const DATA_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 1024;
