//! `[tokens]`: the lifetimes of the tokens of the key flow.

use std::time::Duration;

use super::file::between;

/// The lifetimes of the tokens that an assertion is exchanged for.
#[derive(Clone, Copy, Debug)]
pub struct TokenLifetimes {
    /// The lifetime of access tokens.
    pub access: Duration,
    /// The lifetime of refresh tokens.
    pub refresh: Duration,
}

/// The section in the file.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tokens {
    // Clients fetch the next token five minutes before the end, so ten minutes are the least that is useful.
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
    pub(super) fn lifetimes(self) -> TokenLifetimes {
        let (access, hours) =
            (Duration::from_secs(self.access_seconds.into()), u64::from(self.refresh_hours));
        TokenLifetimes { access, refresh: Duration::from_secs(hours * 3600) }
    }
}
