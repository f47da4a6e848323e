//! `[log]`: what is logged, unless the command line states it.

use super::file::non_empty;

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    #[serde(deserialize_with = "non_empty")]
    pub(super) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}
