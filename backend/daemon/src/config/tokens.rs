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
    // Zero, the default: as long as access tokens. The vendor's Python client presents its first refresh token again and
    // again, which would revoke its login; it signs a new assertion when the refresh token ends with the access token.
    #[serde(deserialize_with = "between::<0, 720, _>")]
    refresh_hours: u16,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { access_seconds: 3600, refresh_hours: 0 }
    }
}

impl Tokens {
    pub(super) fn lifetimes(self) -> TokenLifetimes {
        let (access, hours) =
            (Duration::from_secs(self.access_seconds.into()), u64::from(self.refresh_hours));
        let refresh = if hours == 0 { access } else { Duration::from_secs(hours * 3600) };
        TokenLifetimes { access, refresh }
    }
}
