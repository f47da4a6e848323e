//! What a command of the operator's leaves in the audit log.

use kms_core::audit::{Entry, Kind};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Backend;

/// A command, as the audit log tells it.
pub(super) struct Command {
    /// What it does: `kms.account.create`, say.
    pub(super) event: &'static str,
    /// How it is typed: `kms account add`.
    pub(super) typed: &'static str,
    /// To what.
    pub(super) resource: String,
    /// In which project; none for what concerns the home as a whole.
    pub(super) project: Option<Uuid>,
}

impl Backend {
    /// The entry of a command that is about to be done: it is written together with what it does.
    pub(super) fn entry<const N: usize>(
        &self,
        command: Command,
        details: [(&'static str, Value); N],
    ) -> Entry {
        let details: Map<String, Value> =
            details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Entry {
            at: self.dispatch.clock.millis(),
            event: command.event,
            kind: Kind::AdminActivity,
            project: command.project,
            resource: command.resource,
            initiator: None,
            // The number that the system vouches for; a name in the environment says what its owner likes.
            name: format!("uid {}", rustix::process::getuid().as_raw()),
            endpoint: command.typed.to_owned(),
            source: None,
            agent: concat!("kms/", env!("CARGO_PKG_VERSION")).to_owned(),
            trace: None,
            status: 200,
            details,
        }
    }
}
