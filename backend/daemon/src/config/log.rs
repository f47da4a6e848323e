//! `[log]`: what is logged unless the command line says otherwise.

use super::file::filled;

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    #[serde(deserialize_with = "filled")]
    pub(super) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}
