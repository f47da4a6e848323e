//! The audit entry of a command.

use kms_core::audit::{Entry, Kind};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Backend;

/// A command, as the audit log records it.
pub(super) struct AuditedCommand {
    /// The event, such as `kms.account.create`.
    pub(super) event: &'static str,
    /// The command as it is typed: `kms account add`.
    pub(super) command: &'static str,
    /// The resource that it changes.
    pub(super) resource: String,
    /// The project; none if the command concerns the whole home.
    pub(super) project: Option<Uuid>,
}

impl Backend {
    /// The audit entry of a command. It is written in the same transaction as the command's change.
    pub(super) fn entry<const N: usize>(
        &self,
        audited: AuditedCommand,
        details: [(&'static str, Value); N],
    ) -> Entry {
        let details: Map<String, Value> =
            details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Entry {
            at: self.dispatch.clock.millis(),
            event: audited.event,
            kind: Kind::AdminActivity,
            project: audited.project,
            resource: audited.resource,
            initiator: None,
            // The uid comes from the kernel; a user name in the environment could be set to anything.
            name: format!("uid {}", rustix::process::getuid().as_raw()),
            endpoint: audited.command.to_owned(),
            source: None,
            agent: concat!("kms/", env!("CARGO_PKG_VERSION")).to_owned(),
            trace: None,
            status: 200,
            details,
        }
    }
}
