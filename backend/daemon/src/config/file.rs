//! The format of `kms.toml`: sections, defaults and ranges.

use serde::de::{Deserialize, Deserializer, Error as _};

use super::{audit::AuditConfig, log, rest, tokens};

/// The content of the file.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) hsm: Hsm,
    #[serde(default)]
    pub(super) store: Store,
    #[serde(default)]
    pub(super) socket: Socket,
    #[serde(default)]
    pub(super) keys: Keys,
    #[serde(default)]
    pub(super) lifecycle: Lifecycle,
    #[serde(default)]
    pub(super) rings: Rings,
    #[serde(default)]
    pub(super) audit: AuditConfig,
    #[serde(default)]
    pub(super) tokens: tokens::Tokens,
    #[serde(default)]
    pub(super) rest: rest::Rest,
    #[serde(default)]
    pub(super) log: log::Log,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rings {
    pub(super) free_slot: bool,
    #[serde(deserialize_with = "between_u32::<1, 1_000_000_000, _>")]
    pub(super) keys_max: u32,
    #[serde(deserialize_with = "between_u32::<1, 1_000_000_000, _>")]
    pub(super) objects_max: u32,
    #[serde(deserialize_with = "between_u32::<1, 1_000_000, _>")]
    pub(super) mib_max: u32,
    #[serde(deserialize_with = "between_u32::<1, 1_000_000_000, _>")]
    pub(super) changes_per_hour: u32,
}

impl Default for Rings {
    fn default() -> Self {
        Self {
            free_slot: false,
            keys_max: 200_000,
            objects_max: 500_000,
            mib_max: 2048,
            changes_per_hour: 100_000,
        }
    }
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hsm {
    #[serde(deserialize_with = "non_empty")]
    pub(super) module: String,
    #[serde(deserialize_with = "non_empty")]
    pub(super) token: String,
    #[serde(deserialize_with = "non_empty")]
    pub(super) pin_file: String,
    pub(super) conf: Option<String>,
    #[serde(default = "threads", deserialize_with = "between::<1, 64, _>")]
    pub(super) threads: u16,
    #[serde(default = "counter")]
    pub(super) counter: bool,
}

/// By default, the token counts.
fn counter() -> bool {
    true
}

/// The default number of HSM sessions: SoftHSM takes tens of microseconds for a key, so a few serve many callers.
fn threads() -> u16 {
    4
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    #[serde(deserialize_with = "non_empty")]
    pub(super) path: String,
    #[serde(deserialize_with = "between_u32::<0, 1_000_000, _>")]
    pub(super) disk_floor_mib: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self { path: "kms.db".to_owned(), disk_floor_mib: 64 }
    }
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Socket {
    #[serde(deserialize_with = "non_empty")]
    pub(super) path: String,
    pub(super) mode: Mode,
    #[serde(deserialize_with = "between::<1, 65_535, _>")]
    pub(super) connections_max: u16,
    /// 0: a quarter of `connections_max`.
    #[serde(deserialize_with = "between::<0, 65_535, _>")]
    pub(super) connections_per_uid: u16,
}

impl Default for Socket {
    fn default() -> Self {
        Self { path: "kms.sock".to_owned(), mode: Mode(0o660), connections_max: 1024, connections_per_uid: 0 }
    }
}

/// A file mode, as a string: as a TOML number, 0660 would be decimal or invalid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode(pub(super) u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777 && *mode & 0o600 == 0o600);
        mode.map(Self).ok_or_else(|| {
            D::Error::custom(format_args!(
                "{text:?} is no file mode for a socket; write \"0600\", \"0660\" or \"0666\""
            ))
        })
    }
}

/// Retention and validity periods, in seconds. A period of a hundred years means forever.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Lifecycle {
    #[serde(deserialize_with = "between_u32::<1, 3_155_760_000, _>")]
    pub(super) deletion_seconds: u32,
    #[serde(deserialize_with = "between_u32::<1, 31_557_600, _>")]
    pub(super) wrapping_key_seconds: u32,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { deletion_seconds: 30 * 24 * 3600, wrapping_key_seconds: 3 * 24 * 3600 }
    }
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Keys {
    #[serde(deserialize_with = "between_u32::<1, 1_000_000, _>")]
    pub(super) cache_entries: u32,
    #[serde(deserialize_with = "between_u32::<1, 86_400, _>")]
    pub(super) cache_seconds: u32,
}

impl Default for Keys {
    fn default() -> Self {
        Self { cache_entries: 10_000, cache_seconds: 300 }
    }
}

pub(super) fn non_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() || text.contains('\0') {
        Err(D::Error::custom("it is empty"))
    } else {
        Ok(text)
    }
}

pub(super) fn between<'de, const MIN: u16, const MAX: u16, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u16, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let fits = u16::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
    fits.ok_or_else(|| D::Error::custom(format_args!("{number} is not between {MIN} and {MAX}")))
}

pub(super) fn between_u32<'de, const MIN: u32, const MAX: u32, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let fits = u32::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
    fits.ok_or_else(|| D::Error::custom(format_args!("{number} is not between {MIN} and {MAX}")))
}
