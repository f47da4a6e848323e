//! Commands on the audit log.

use kms_core::audit::{ChainFault, Head, Link, Record, Restart, Verified};
use kms_store::{AuditCursor, AuditFilter};

use super::audited_command::AuditedCommand;
use super::{Backend, ServiceError};

impl Backend {
    /// Verifies the whole audit log. `expected` is a head that was stored elsewhere; `progress` receives the number of
    /// entries that are verified, and the total.
    ///
    /// # Errors
    /// When the database fails. The inner result states whether the log is intact.
    pub fn verify_audit(
        &self,
        expected: Option<Link>,
        progress: impl FnMut(u64, u64),
    ) -> Result<Result<Verified, ChainFault>, ServiceError> {
        Ok(self.dispatch.store.verify_audit(expected, progress)?)
    }

    /// Starts a new audit log if the present one is not intact; returns nothing if it is.
    ///
    /// # Errors
    /// When the database fails.
    pub fn restart_audit(&self) -> Result<Option<Restart>, ServiceError> {
        let audited = AuditedCommand {
            event: "kms.audit.restart",
            command: "kms audit restart",
            resource: "audit".to_owned(),
            project: None,
        };
        Ok(self.dispatch.store.restart_audit(self.entry(audited, []))?)
    }

    /// The restarts of the audit log, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn audit_restarts(&self) -> Result<Vec<Restart>, ServiceError> {
        Ok(self.dispatch.store.audit_restarts()?)
    }

    /// A page of the audit log.
    ///
    /// # Errors
    /// When the database fails, or one of the entries was changed.
    pub fn audit_page(
        &self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: usize,
    ) -> Result<Vec<Record>, ServiceError> {
        Ok(self.dispatch.store.audit_page(filter, after, limit)?)
    }

    /// The time of the last audit entry, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_recorded(&self) -> Result<Option<u64>, ServiceError> {
        Ok(self.dispatch.store.last_recorded()?)
    }

    /// The present time, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        self.dispatch.clock.millis()
    }

    /// The audit head: where the log begins and ends.
    ///
    /// # Errors
    /// When the database fails, or the head was changed.
    pub fn audit_head(&self) -> Result<Head, ServiceError> {
        Ok(self.dispatch.store.audit_head()?)
    }
}
