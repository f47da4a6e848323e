//! The checked inputs of operations: values of these types need no further checks.

use std::fmt;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{AccessScope, Algorithm, Description, DisplayName, Tags, WrappingAlgorithm, WrappingPurpose};

/// The maximum rotation period, in days: ten years.
pub const ROTATION_DAYS_MAX: u32 = 3650;

/// The protection level: where a key's material is while it is used (architecture D5).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Protection {
    /// Wrapped by the HSM, opened in the backend.
    Software,
}

impl Protection {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
        }
    }
}

/// The input for creating a ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateKeyRing {
    /// Its name.
    pub display_name: DisplayName,
    /// Its description.
    pub description: Description,
}

/// The input for creating a key. The purpose follows from the algorithm.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateKey {
    /// Its name.
    pub display_name: DisplayName,
    /// Its description.
    pub description: Description,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its protection level.
    pub protection: Protection,
    /// Whether its versions are imported only.
    pub import_only: bool,
    /// The networks from which it may be used.
    pub access_scope: AccessScope,
    /// Its tags (an extension).
    pub tags: Tags,
    /// The period of automatic rotation, in days (an extension).
    pub rotation_days: Option<u32>,
}

/// The input for creating a wrapping key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateWrappingKey {
    /// Its name.
    pub display_name: DisplayName,
    /// Its description.
    pub description: Description,
    /// How it wraps.
    pub algorithm: WrappingAlgorithm,
    /// What it wraps.
    pub purpose: WrappingPurpose,
    /// Its protection level.
    pub protection: Protection,
    /// The networks from which it may be used.
    pub access_scope: AccessScope,
}

/// Wrapped material to be imported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImportKey {
    /// The wrapping key that it is wrapped under.
    pub wrapping_key: Uuid,
    /// The wrapped bytes.
    pub wrapped: Vec<u8>,
}

/// A change to a ring (an extension). Fields that are `None` do not change.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EditKeyRing {
    /// A new name.
    pub display_name: Option<DisplayName>,
    /// A new description; an empty one removes it.
    pub description: Option<Description>,
}

/// A change to a key (an extension). Fields that are `None` do not change.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EditKey {
    /// A new name.
    pub display_name: Option<DisplayName>,
    /// A new description; an empty one removes it.
    pub description: Option<Description>,
    /// New tags, which replace all existing ones.
    pub tags: Option<Tags>,
    /// A new rotation period in days; `Some(None)` ends it.
    pub rotation_days: Option<Option<u32>>,
}

/// Data to be encrypted, decrypted, signed or verified: wiped when dropped, and not shown by `Debug`.
#[derive(Clone, Eq, PartialEq)]
pub struct Data(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.0.len())
    }
}

/// The input for generating a data key (an extension).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MakeDataKey {
    /// Its length, in bytes.
    pub bytes: u16,
    /// The additional authenticated data that the wrapped copy is bound to.
    pub aad: Vec<u8>,
    /// Whether the response contains the key itself with the wrapped copy.
    pub plaintext: bool,
}

/// The requested part of a list (an extension). The default is all of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// The maximum number of entries.
    pub limit: Option<u32>,
    /// The end of the previous page.
    pub cursor: Option<String>,
}
