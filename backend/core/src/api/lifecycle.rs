//! The states of keys, versions and wrapping keys, and the transitions of a version.

use serde::Serialize;
use utoipa::ToSchema;

use super::Problem;

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
    /// Its first version is being created.
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
    /// It is being created.
    Creating,
    /// Its row or its material was changed outside the service.
    KeyMaterialInvalid,
    /// The HSM cannot open it now.
    KeyMaterialUnavailable,
    /// It must not be used for now.
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
    /// It is being created.
    Creating,
    /// It has expired.
    Expired,
    /// It is deleted.
    Deleted,
    /// The HSM cannot open it now.
    KeyMaterialUnavailable,
}

/// The name of a state in the API.
pub trait Words {
    /// The name.
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

/// The lifecycle state of a version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// It can be used, unless its key is to be deleted.
    Active,
    /// It must not be used for now.
    Disabled,
    /// Its destruction is scheduled: its material will be erased at this time (seconds since 1970), and it can be
    /// restored until then.
    Leaving {
        /// Whether it was disabled before.
        disabled: bool,
        /// When it will be erased.
        at: u64,
    },
    /// Its material was erased.
    Erased {
        /// Whether it was disabled before.
        disabled: bool,
        /// When the erasure was due.
        at: u64,
    },
}

/// A change of a version's state.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Change {
    /// Allows its use again.
    Enable,
    /// Forbids its use.
    Disable,
    /// Schedules its destruction.
    Destroy,
    /// Cancels its scheduled destruction.
    Restore,
}

impl Life {
    /// The state after a change; `at` is when the material would be erased.
    ///
    /// # Errors
    /// 409 when the state does not allow the change.
    pub fn after(self, change: Change, at: u64) -> Result<Self, Problem> {
        match (self, change) {
            (Self::Active | Self::Disabled, Change::Enable) => Ok(Self::Active),
            (Self::Active | Self::Disabled, Change::Disable) => Ok(Self::Disabled),
            (Self::Active, Change::Destroy) => Ok(Self::Leaving { disabled: false, at }),
            (Self::Disabled, Change::Destroy) => Ok(Self::Leaving { disabled: true, at }),
            (Self::Leaving { disabled: false, .. }, Change::Restore) => Ok(Self::Active),
            (Self::Leaving { disabled: true, .. }, Change::Restore) => Ok(Self::Disabled),
            (Self::Active | Self::Disabled, Change::Restore) => {
                Err(Problem::conflict("the version is not destroyed, so there is nothing to restore"))
            }
            (Self::Leaving { .. }, Change::Enable | Change::Disable | Change::Destroy) => {
                Err(Problem::conflict("the version is destroyed; it can be restored until its destroyDate"))
            }
            (Self::Erased { .. }, _) => {
                Err(Problem::conflict("the version's material has been erased for good"))
            }
        }
    }

    /// The state in the API.
    pub fn state(self) -> VersionState {
        match self {
            Self::Active => VersionState::Active,
            Self::Disabled => VersionState::Disabled,
            Self::Leaving { .. } | Self::Erased { .. } => VersionState::Destroyed,
        }
    }

    /// Whether the version is disabled, or was when it was destroyed.
    pub fn is_disabled(self) -> bool {
        match self {
            Self::Active => false,
            Self::Disabled => true,
            Self::Leaving { disabled, .. } | Self::Erased { disabled, .. } => disabled,
        }
    }

    /// When the material will be, or was, erased.
    pub fn destroy_date(self) -> Option<u64> {
        match self {
            Self::Active | Self::Disabled => None,
            Self::Leaving { at, .. } | Self::Erased { at, .. } => Some(at),
        }
    }

    /// Whether the material is not erased.
    pub fn is_held(self) -> bool {
        !matches!(self, Self::Erased { .. })
    }
}

/// The state of a key, from whether its deletion is scheduled and the states of its versions; the first that matches.
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
    fn versions_change_state_until_they_are_erased() {
        let disabled = Life::Active.after(Change::Disable, 0).unwrap();
        let leaving = disabled.after(Change::Destroy, 30).unwrap();
        assert_eq!((leaving.state(), leaving.destroy_date()), (VersionState::Destroyed, Some(30)));
        assert!(leaving.is_disabled() && leaving.is_held());
        assert_eq!(leaving.after(Change::Restore, 0).unwrap(), Life::Disabled);
        for change in [Change::Enable, Change::Disable, Change::Destroy] {
            assert!(leaving.after(change, 0).is_err());
        }
        for life in [Life::Active, Life::Disabled] {
            assert!(life.after(Change::Restore, 0).is_err());
            assert_eq!(
                life.after(Change::Enable, 0).unwrap().after(Change::Enable, 0).unwrap(),
                Life::Active
            );
        }
        let erased = Life::Erased { disabled: false, at: 30 };
        for change in [Change::Enable, Change::Disable, Change::Destroy, Change::Restore] {
            assert!(erased.after(change, 0).is_err());
        }
    }

    #[test]
    fn the_state_of_a_key_depends_on_its_versions() {
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
