//! `[audit]`: what the audit log records, and for how long.

use kms_core::audit::CryptoAudit;

use super::file::between;

/// What the audit log records, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// How uses of keys are recorded.
    pub crypto: CryptoAudit,
    /// How many days entries are stored.
    #[serde(deserialize_with = "between::<1, 36_500, _>")]
    pub keep_days: u16,
}

impl Default for AuditConfig {
    fn default() -> Self {
        // The Audit Log API covers the last 90 days.
        Self { crypto: CryptoAudit::default(), keep_days: 90 }
    }
}
