//! What an operation brings, checked: whoever holds one of these need not look again.

use std::fmt;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{AccessScope, Algorithm, Description, DisplayName, Tags, WrappingAlgorithm, WrappingPurpose};

/// The longest rotation period, in days: ten years.
pub const ROTATION_DAYS_MAX: u32 = 3650;

/// Where a key's material is while it is used (architecture D5).
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

/// A ring to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateKeyRing {
    /// Its name.
    pub display_name: DisplayName,
    /// Its description.
    pub description: Description,
}

/// A key to be made. The purpose is the algorithm's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateKey {
    /// Its name.
    pub display_name: DisplayName,
    /// Its description.
    pub description: Description,
    /// What it is.
    pub algorithm: Algorithm,
    /// Where its material is.
    pub protection: Protection,
    /// Whether its versions come from outside alone.
    pub import_only: bool,
    /// From where it may be used.
    pub access_scope: AccessScope,
    /// An extension.
    pub tags: Tags,
    /// How often it is rotated by itself, in days (an extension).
    pub rotation_days: Option<u32>,
}

/// A wrapping key to be made.
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
    /// Where its material is.
    pub protection: Protection,
    /// From where it may be used.
    pub access_scope: AccessScope,
}

/// Material from outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImportKey {
    /// The wrapping key it is wrapped under.
    pub wrapping_key: Uuid,
    /// The wrapped bytes.
    pub wrapped: Vec<u8>,
}

/// A change to a ring (an extension). What is `None` stays.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EditKeyRing {
    /// A new name.
    pub display_name: Option<DisplayName>,
    /// A new description; an empty one takes it away.
    pub description: Option<Description>,
}

/// A change to a key (an extension). What is `None` stays.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EditKey {
    /// A new name.
    pub display_name: Option<DisplayName>,
    /// A new description; an empty one takes it away.
    pub description: Option<Description>,
    /// All tags anew.
    pub tags: Option<Tags>,
    /// A new rotation period in days; `Some(None)` ends it.
    pub rotation_days: Option<Option<u32>>,
}

/// Data to be encrypted, decrypted, signed or verified: wiped when dropped, never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Data(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.0.len())
    }
}

/// A data key to be made (an extension).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MakeDataKey {
    /// Its length, in bytes.
    pub bytes: u16,
    /// What it is bound to.
    pub aad: Vec<u8>,
    /// Whether the key itself comes with the wrapped copy.
    pub plaintext: bool,
}

/// Which part of a list (an extension). The default is all of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// At most so many entries.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}
