//! Maintenance of the audit log: every minute the counted uses are written; every hour the audit head is logged, so
//! that it can be stored elsewhere, and old entries are removed.

use std::sync::PoisonError;

use kms_core::audit::{Entry, Kind, Link};
use kms_core::error_chain;
use kms_store::StoreError;
use serde_json::Map;

use crate::dispatch::Dispatch;

/// How often the audit head is logged.
const HOUR_SECONDS: u64 = 3600;

impl Dispatch {
    /// Runs the maintenance that is due. Failures are logged; what failed is due again at the next call.
    pub(crate) fn maintain_audit_log(&self) {
        self.summarise();
        let hour = self.clock.seconds() / HOUR_SECONDS;
        let mut last = self.audit_writer.last_maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 == hour {
            return;
        }
        match self.prune_and_log_head(last.1) {
            Ok(head) => *last = (hour, Some(head)),
            Err(error) => {
                tracing::error!(
                    cause = error_chain(&error),
                    "maintenance of the audit log failed; `kms audit verify` shows why, and `kms audit restart` starts \
                     a new log"
                );
            }
        }
    }

    /// Removes old entries and logs the audit head; `previous` is the head that was logged last.
    fn prune_and_log_head(&self, previous: Option<Link>) -> Result<Link, StoreError> {
        if let Some(previous) = previous
            && !self.store.audit_holds(previous)?
        {
            tracing::error!(%previous, "the audit log no longer contains its previous head: it was replaced");
        }
        let now = self.clock.millis();
        let pruned =
            self.store.prune_audit(now.saturating_sub(self.audit_writer.keep_millis()), &prune_entry(now))?;
        let head = self.store.audit_head()?.last;
        tracing::info!(%head, pruned, "the audit head; store a copy elsewhere");
        Ok(head)
    }
}

fn prune_entry(at: u64) -> Entry {
    Entry {
        at,
        event: "kms.audit.prune",
        kind: Kind::SystemEvent,
        project: None,
        resource: "audit".to_owned(),
        initiator: None,
        name: "kms".to_owned(),
        endpoint: "kms serve".to_owned(),
        source: None,
        agent: String::new(),
        trace: None,
        status: 200,
        details: Map::new(),
    }
}
