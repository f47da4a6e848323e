//! What is told of a project over REST beside its operations: its audit log, its export, its usage.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Dispatch, ExportError};
use crate::audit::{self, Entry, Kind, timestamp};
use crate::error::chain;
use crate::kms::{Permission, Refusal, Status, Subject, Visit};
use crate::policy;
use crate::store::{AuditFilter, AuditPlace, StoreError};

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
    /// All that is needed to build the project's keys anew.
    Export,
    /// The available versions, hour by hour.
    Usage {
        /// From when to when, in seconds since 1970.
        range: (u64, u64),
    },
}

impl Report {
    fn event(&self) -> &'static str {
        match self {
            Self::Audit { .. } => "audit-log.entry.get",
            Self::Export => "kms.project.export",
            Self::Usage { .. } => "kms.project.usage",
        }
    }

    fn permission(&self) -> Permission {
        match self {
            Self::Audit { .. } => Permission::AuditRead,
            Self::Export | Self::Usage { .. } => Permission::ProjectExport,
        }
    }
}

impl Dispatch {
    /// Tells it, as JSON.
    ///
    /// # Errors
    /// A refusal as the caller may see it.
    pub(crate) fn report(&self, visit: &Visit, project: Uuid, report: &Report) -> Result<Vec<u8>, Refusal> {
        if !policy::allowed(&visit.account.grants, report.permission(), project, None) {
            let denied =
                self.report_entry(visit, project, report, Kind::PolicyDenied, Status::Forbidden.code());
            self.record_denial(denied).map_err(|error| internal(&error))?;
            let permission = report.permission();
            let email = &visit.account.email;
            let message = format!("{email} is not permitted {permission} here; ask for a role that has it");
            return Err(Refusal::new(Status::Forbidden, message));
        }
        match *report {
            Report::Audit { range, after, limit } => self.audit_items(project, range, after, limit),
            Report::Export => {
                // It says more at once than any other call: that it was taken is told.
                let entry = self.report_entry(visit, project, report, Kind::AdminActivity, 200);
                self.store.record(entry).map_err(|error| internal(&error))?;
                let mut out = Vec::new();
                match self.export(Some(project), &mut out) {
                    Ok(()) => Ok(out),
                    Err(ExportError::Refused(refusal)) => Err(refusal),
                    Err(ExportError::Io(_)) => Err(Refusal::new(Status::Internal, "internal error")),
                }
            }
            Report::Usage { range } => {
                let hours = self.usage_of(Some(project), range)?;
                let total: u64 = hours.iter().map(|hour| hour.versions).sum();
                let hours: Vec<Value> = hours
                    .iter()
                    .map(|hour| {
                        let begun = timestamp(hour.hour.saturating_mul(1000));
                        json!({ "hour": begun, "versions": hour.versions, "versionSeconds": hour.seconds })
                    })
                    .collect();
                Ok(json!({ "versionHours": total, "hours": hours }).to_string().into_bytes())
            }
        }
    }

    fn audit_items(
        &self,
        project: Uuid,
        (from, until): (u64, u64),
        after: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<u8>, Refusal> {
        let filter = AuditFilter { project: Some(project), from, until };
        let page = self.store.audit_page(&filter, after, limit).map_err(|error| internal(&error))?;
        let mut answer = json!({ "items": page.iter().map(audit::item).collect::<Vec<_>>(), "limit": limit });
        if let Some(last) = page.last().filter(|_| page.len() == limit) {
            answer["cursor"] = json!(format!("{}_{}", last.at, last.sequence));
        }
        Ok(answer.to_string().into_bytes())
    }

    fn report_entry(&self, visit: &Visit, project: Uuid, report: &Report, kind: Kind, status: u16) -> Entry {
        Entry {
            at: self.clock.millis(),
            event: report.event(),
            kind,
            project: Some(project),
            resource: Subject::Project(project).resource(),
            initiator: Some(visit.account.id),
            name: visit.account.email.clone(),
            endpoint: visit.endpoint.clone(),
            source: Some(visit.source),
            agent: visit.agent.to_string(),
            trace: Some(visit.trace),
            status,
            details: Map::new(),
        }
    }
}

/// Logs a failure of ours, once; the caller is told no more than that.
fn internal(error: &StoreError) -> Refusal {
    tracing::error!(cause = chain(error), "a report could not be made");
    Refusal::new(Status::Internal, "internal error")
}
