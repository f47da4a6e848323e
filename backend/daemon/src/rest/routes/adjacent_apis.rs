//! Endpoints of other APIs of the vendor that its clients use together with this one: token service and audit log.

use super::super::audit_and_export;
use super::{ErrorFormat, Handler, Method, Parameter, ParameterKind, Route};

/// The query of the audit log (Audit Log API, `ListProjectAuditLogEntries`).
const AUDIT_LOG: &[Parameter] = &[
    Parameter {
        name: "startTimeRange",
        description: "Start of the time range (inclusive)",
        kind: ParameterKind::Time,
        required: true,
    },
    Parameter {
        name: "endTimeRange",
        description: "End of the time range (exclusive), at most 24 hours after the start",
        kind: ParameterKind::Time,
        required: true,
    },
    Parameter {
        name: "limit",
        description: "Maximum number of entries to return",
        kind: ParameterKind::Limit,
        required: false,
    },
    Parameter {
        name: "cursor",
        description: "`cursor` of the previous page",
        kind: ParameterKind::Cursor,
        required: false,
    },
];

/// The key flow and the audit log.
pub(super) static ROUTES: [Route; 2] = [
    Route::other(
        "CreateToken",
        (Method::Post, "/token"),
        "Exchanges an assertion or a refresh token for an access token (RFC 6749, RFC 7523)",
        Handler::Token,
    )
    .request_schema("tokenForm")
    .responds(200, "tokenPair")
    .errors(&[503])
    .adjacent(ErrorFormat::Token),
    Route::other(
        "ListProjectAuditLogEntries",
        (Method::Get, "/v2/projects/{projectId}"),
        "Lists the audit log entries of a project",
        Handler::Report(audit_and_export::audit_log_report),
    )
    .responds(200, "auditLogList")
    .query(AUDIT_LOG)
    .adjacent(ErrorFormat::AuditLog),
];
