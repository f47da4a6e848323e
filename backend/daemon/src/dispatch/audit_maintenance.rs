//! The audit log looked after: what was counted is written each minute; each hour the head is logged, so that it can be
//! kept elsewhere, and what is too old is removed.

use std::sync::PoisonError;

use kms_core::audit::{Entry, Kind, Link};
use kms_core::error_chain;
use kms_store::StoreError;
use serde_json::Map;

use crate::dispatch::Dispatch;

/// How often the head is told.
const HOUR_SECONDS: u64 = 3600;

impl Dispatch {
    /// Does what is due. Failures are logged; what failed is due again the next time.
    pub(crate) fn tend_log(&self) {
        self.summarise();
        let hour = self.clock.seconds() / HOUR_SECONDS;
        let mut looked = self.recorder.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.0 == hour {
            return;
        }
        match self.look(looked.1) {
            Ok(head) => *looked = (hour, Some(head)),
            Err(error) => {
                tracing::error!(
                    cause = error_chain(&error),
                    "the audit log could not be looked after; `kms audit verify` tells more, and `kms audit restart` \
                     begins a new one"
                );
            }
        }
    }

    /// Removes what is too old, and tells the head. `before` is the head that was told last.
    fn look(&self, before: Option<Link>) -> Result<Link, StoreError> {
        if let Some(before) = before
            && !self.store.audit_holds(before)?
        {
            tracing::error!(%before, "the audit log does not hold its own last head any more: it was replaced");
        }
        let now = self.clock.millis();
        let pruned =
            self.store.prune_audit(now.saturating_sub(self.recorder.keep_millis()), &prune_entry(now))?;
        let head = self.store.audit_head()?.last;
        tracing::info!(%head, pruned, "the audit log's head; keep it elsewhere");
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
