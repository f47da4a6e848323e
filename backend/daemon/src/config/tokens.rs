//! `[tokens]`: how long the tokens of the key flow live.

use std::time::Duration;

use super::file::between;

/// How long the tokens live that an assertion is exchanged for.
#[derive(Clone, Copy, Debug)]
pub struct TokenLifetimes {
    /// Access tokens.
    pub access: Duration,
    /// Refresh tokens.
    pub refresh: Duration,
}

/// The section as it is written.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tokens {
    // Clients fetch the next one five minutes before the end, so ten minutes are the least that is of use.
    #[serde(deserialize_with = "between::<600, 3600, _>")]
    access_seconds: u16,
    #[serde(deserialize_with = "between::<1, 720, _>")]
    refresh_hours: u16,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { access_seconds: 3600, refresh_hours: 24 }
    }
}

impl Tokens {
    pub(super) fn lives(self) -> TokenLifetimes {
        let (access, hours) =
            (Duration::from_secs(self.access_seconds.into()), u64::from(self.refresh_hours));
        TokenLifetimes { access, refresh: Duration::from_secs(hours * 3600) }
    }
}
