//! The audit log, for its operator.

use kms_core::audit::{Broken, Head, Link, Record, Restart, Verified};
use kms_store::{AuditFilter, AuditPlace};

use super::operator::Command;
use super::{Backend, ServiceError};

impl Backend {
    /// Goes along the whole audit log. `expected` is a head that was kept elsewhere; `progress` is told how many entries
    /// are done, and of how many.
    ///
    /// # Errors
    /// When the database fails; what is wrong with the log is the answer.
    pub fn verify_audit(
        &self,
        expected: Option<Link>,
        progress: impl FnMut(u64, u64),
    ) -> Result<Result<Verified, Broken>, ServiceError> {
        Ok(self.dispatch.store.verify_audit(expected, progress)?)
    }

    /// Begins the audit log anew, where it is not whole; gives nothing where it is.
    ///
    /// # Errors
    /// When the database fails.
    pub fn restart_audit(&self) -> Result<Option<Restart>, ServiceError> {
        let command = Command {
            event: "kms.audit.restart",
            typed: "kms audit restart",
            resource: "audit".to_owned(),
            project: None,
        };
        Ok(self.dispatch.store.restart_audit(self.entry(command, []))?)
    }

    /// How often, when and why that was done, the oldest first.
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
        after: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<Record>, ServiceError> {
        Ok(self.dispatch.store.audit_page(filter, after, limit)?)
    }

    /// When something was recorded last, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_recorded(&self) -> Result<Option<u64>, ServiceError> {
        Ok(self.dispatch.store.last_recorded()?)
    }

    /// The time, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        self.dispatch.clock.millis()
    }

    /// Where the audit log begins and ends.
    ///
    /// # Errors
    /// When the database fails, or the head was changed.
    pub fn audit_head(&self) -> Result<Head, ServiceError> {
        Ok(self.dispatch.store.audit_head()?)
    }
}
