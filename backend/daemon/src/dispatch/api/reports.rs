//! What is told of a project over REST beside its operations: its audit log, its export, its usage.

use kms_core::api::{Permission, Problem, RequestContext, Status, Subject, Usage};
use kms_core::audit::{self, AuditItems, Entry, Kind};
use kms_core::error_chain;
use kms_core::policy;
use kms_store::{AuditFilter, AuditPlace, StoreError};
use serde_json::Map;
use uuid::Uuid;

use crate::dispatch::{Dispatch, ExportError, Exporting};

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Report {
    /// A page of the audit log.
    Audit {
        /// From when to when, in milliseconds since 1970.
        range: (u64, u64),
        /// Where the page before ended.
        after: Option<AuditPlace>,
        /// So many entries at most.
        limit: usize,
    },
    /// The available versions, hour by hour.
    Usage {
        /// From when to when, in seconds since 1970.
        range: (u64, u64),
    },
}

/// What is told.
pub(crate) enum ReportOutput {
    /// A page of the audit log.
    Audit(AuditItems),
    /// The available versions.
    Usage(Usage),
}

impl Report {
    fn event(&self) -> &'static str {
        match self {
            Self::Audit { .. } => "audit-log.entry.get",
            Self::Usage { .. } => "kms.project.usage",
        }
    }

    fn permission(&self) -> Permission {
        match self {
            Self::Audit { .. } => Permission::AuditRead,
            Self::Usage { .. } => Permission::ProjectExport,
        }
    }
}

impl Dispatch {
    /// Tells it.
    ///
    /// # Errors
    /// A problem as the caller may see it.
    pub(crate) fn report(
        &self,
        context: &RequestContext,
        project: Uuid,
        report: &Report,
    ) -> Result<ReportOutput, Problem> {
        self.admit(context, project, report.event(), report.permission())?;
        match *report {
            Report::Audit { range, after, limit } => {
                Ok(ReportOutput::Audit(self.audit_items(project, range, after, limit)?))
            }
            Report::Usage { range } => Ok(ReportOutput::Usage(self.usage_of(Some(project), range)?)),
        }
    }

    /// Begins an export: what is written then is the project as it is now.
    ///
    /// # Errors
    /// A problem as the caller may see it.
    pub(crate) fn begin_export(&self, context: &RequestContext, project: Uuid) -> Result<Exporting, Problem> {
        let event = "kms.project.export";
        self.admit(context, project, event, Permission::ProjectExport)?;
        let exporting = self.export(Some(project)).map_err(|error| match error {
            ExportError::Refused(problem) => problem,
            ExportError::Io(_) => Problem::new(Status::Internal, "internal error"),
        })?;
        // It says more at once than any other call: that it was taken is told.
        let entry = self.report_entry(context, project, event, Kind::AdminActivity, 200);
        self.store.record(entry).map_err(|error| internal(&error))?;
        Ok(exporting)
    }

    /// Whether the caller may. A denial is in the audit log before the caller hears of it.
    fn admit(
        &self,
        context: &RequestContext,
        project: Uuid,
        event: &'static str,
        permission: Permission,
    ) -> Result<(), Problem> {
        if policy::allowed(&context.account.grants, permission, project, None) {
            return Ok(());
        }
        let denied = self.report_entry(context, project, event, Kind::PolicyDenied, Status::Forbidden.code());
        self.record_denial(denied).map_err(|error| internal(&error))?;
        let email = &context.account.email;
        let message = format!("{email} is not permitted {permission} here; ask for a role that has it");
        Err(Problem::new(Status::Forbidden, message))
    }

    fn audit_items(
        &self,
        project: Uuid,
        (from, until): (u64, u64),
        after: Option<AuditPlace>,
        limit: usize,
    ) -> Result<AuditItems, Problem> {
        let filter = AuditFilter { project: Some(project), from, until };
        let page = self.store.audit_page(&filter, after, limit).map_err(|error| internal(&error))?;
        let last = page.last().filter(|_| page.len() == limit);
        Ok(AuditItems {
            items: page.iter().map(audit::item).collect(),
            limit: u64::try_from(limit).unwrap_or(u64::MAX),
            cursor: last.map(|last| format!("{}_{}", last.at, last.sequence)),
        })
    }

    fn report_entry(
        &self,
        context: &RequestContext,
        project: Uuid,
        event: &'static str,
        kind: Kind,
        status: u16,
    ) -> Entry {
        Entry {
            at: self.clock.millis(),
            event,
            kind,
            project: Some(project),
            resource: Subject::Project(project).resource(),
            initiator: Some(context.account.id),
            name: context.account.email.clone(),
            endpoint: context.endpoint.clone(),
            source: Some(context.source),
            agent: context.agent.to_string(),
            trace: Some(context.trace),
            status,
            details: Map::new(),
        }
    }
}

/// Logs a failure of ours, once; the caller is told no more than that.
fn internal(error: &StoreError) -> Problem {
    tracing::error!(cause = error_chain(error), "a report could not be made");
    Problem::new(Status::Internal, "internal error")
}
