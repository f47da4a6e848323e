//! Reports of a project over REST: its audit log, its usage, and the start of its export.

use kms_core::api::{Permission, Problem, RequestContext, Status, Subject, Usage};
use kms_core::audit::{self, AuditItems, Entry, Kind};
use kms_core::error_chain;
use kms_core::policy;
use kms_store::{AuditCursor, AuditFilter, StoreError};
use serde_json::Map;
use uuid::Uuid;

use crate::dispatch::{Dispatch, ExportError, PendingExport};

/// The report that a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Report {
    /// A page of the audit log.
    Audit {
        /// Start and end, in milliseconds since 1970.
        range: (u64, u64),
        /// The end of the previous page.
        after: Option<AuditCursor>,
        /// The maximum number of entries.
        limit: usize,
    },
    /// The number of available versions, hour by hour.
    Usage {
        /// Start and end, in seconds since 1970.
        range: (u64, u64),
    },
}

/// The content of a report.
pub(crate) enum ReportOutput {
    /// A page of the audit log.
    Audit(AuditItems),
    /// The number of available versions.
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
    /// Returns a report.
    ///
    /// # Errors
    /// The problem for the response.
    pub(crate) fn report(
        &self,
        context: &RequestContext,
        project: Uuid,
        report: &Report,
    ) -> Result<ReportOutput, Problem> {
        self.authorise_report(context, project, report.event(), report.permission())?;
        match *report {
            Report::Audit { range, after, limit } => {
                Ok(ReportOutput::Audit(self.audit_items(project, range, after, limit)?))
            }
            Report::Usage { range } => Ok(ReportOutput::Usage(self.usage_of(Some(project), range)?)),
        }
    }

    /// Begins an export of the project in its current state.
    ///
    /// # Errors
    /// The problem for the response.
    pub(crate) fn begin_export(
        &self,
        context: &RequestContext,
        project: Uuid,
    ) -> Result<PendingExport, Problem> {
        let event = "kms.project.export";
        self.authorise_report(context, project, event, Permission::ProjectExport)?;
        let exporting = self.export(Some(project)).map_err(|error| match error {
            ExportError::Rejected(problem) => problem,
            ExportError::Io(_) => Problem::new(Status::Internal, "internal error"),
        })?;
        // An export reveals more than any other call, so a successful one is recorded as well.
        let entry = self.report_entry(context, project, event, Kind::AdminActivity, 200);
        self.store.record(entry).map_err(|error| internal_error(&error))?;
        Ok(exporting)
    }

    /// Checks the permission of the caller. A denial is in the audit log before the response is sent.
    fn authorise_report(
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
        self.record_denial(denied).map_err(|error| internal_error(&error))?;
        let email = &context.account.email;
        let message = format!("{email} is not permitted {permission} here; ask for a role that has it");
        Err(Problem::new(Status::Forbidden, message))
    }

    fn audit_items(
        &self,
        project: Uuid,
        (from, until): (u64, u64),
        after: Option<AuditCursor>,
        limit: usize,
    ) -> Result<AuditItems, Problem> {
        let filter = AuditFilter { project: Some(project), from, until };
        let page = self.store.audit_page(&filter, after, limit).map_err(|error| internal_error(&error))?;
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

/// Returns 500 without details, and logs the cause once.
fn internal_error(error: &StoreError) -> Problem {
    tracing::error!(cause = error_chain(error), "a report could not be created");
    Problem::new(Status::Internal, "internal error")
}
