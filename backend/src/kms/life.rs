//! The states of keys, versions and wrapping keys, and what they follow from.

use serde::Serialize;
use utoipa::ToSchema;

/// The state of a key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// At least one version can be used.
    Active,
    /// Its deletion is scheduled.
    Deleted,
    /// It has versions, and none can be used.
    NotAvailable,
    /// The material of some version cannot be used, or not now.
    ErrorsExist,
    /// Its first version is being made.
    Creating,
    /// It has no version yet: one must be imported.
    NoVersion,
}

/// The state of a version.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// It can be used.
    Active,
    /// It is being made.
    Creating,
    /// Its row or its material was changed behind our back.
    KeyMaterialInvalid,
    /// The HSM cannot open it now.
    KeyMaterialUnavailable,
    /// It is not to be used for now.
    Disabled,
    /// Its destruction is scheduled, or done.
    Destroyed,
}

/// The state of a wrapping key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WrappingKeyState {
    /// It can be used.
    Active,
    /// It is being made.
    Creating,
    /// Its time is over.
    Expired,
    /// It is deleted.
    Deleted,
    /// The HSM cannot open it now.
    KeyMaterialUnavailable,
}

/// A state in the API's own word.
pub trait Words {
    /// The word.
    fn word(&self) -> &'static str;
}

impl Words for VersionState {
    fn word(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Creating => "creating",
            Self::KeyMaterialInvalid => "key_material_invalid",
            Self::KeyMaterialUnavailable => "key_material_unavailable",
            Self::Disabled => "disabled",
            Self::Destroyed => "destroyed",
        }
    }
}

impl Words for KeyState {
    fn word(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
            Self::NotAvailable => "not_available",
            Self::ErrorsExist => "errors_exist",
            Self::Creating => "creating",
            Self::NoVersion => "no_version",
        }
    }
}

/// A key's state follows from whether its deletion is scheduled and from its versions; the first that fits.
pub fn key_state(deleted: bool, versions: impl IntoIterator<Item = VersionState>) -> KeyState {
    if deleted {
        return KeyState::Deleted;
    }
    let (mut count, mut active, mut errors) = (0, false, false);
    for version in versions {
        count += 1;
        match version {
            VersionState::Active => active = true,
            VersionState::KeyMaterialInvalid | VersionState::KeyMaterialUnavailable => errors = true,
            VersionState::Creating | VersionState::Disabled | VersionState::Destroyed => {}
        }
    }
    match (count, errors, active) {
        (0, ..) => KeyState::NoVersion,
        (_, true, _) => KeyState::ErrorsExist,
        (_, false, true) => KeyState::Active,
        (_, false, false) => KeyState::NotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_state_follows_from_its_versions() {
        use VersionState::{Active, Destroyed, Disabled, KeyMaterialInvalid};
        for (versions, expected) in [
            (vec![], KeyState::NoVersion),
            (vec![Active], KeyState::Active),
            (vec![Disabled, Active], KeyState::Active),
            (vec![Disabled, Destroyed], KeyState::NotAvailable),
            (vec![Active, KeyMaterialInvalid], KeyState::ErrorsExist),
        ] {
            assert_eq!(key_state(false, versions.clone()), expected, "{versions:?}");
            assert_eq!(key_state(true, versions), KeyState::Deleted);
        }
    }
}
