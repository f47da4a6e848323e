//! What other APIs of the vendor have that its clients use beside this one: the token service, the audit log.

use super::super::audit_and_export;
use super::{Form, Handler, Parameter, Route, Value, Verb};

/// What a page of the audit log is asked for with (Audit Log API, `ListProjectAuditLogEntries`).
const AUDIT_LOG: &[Parameter] = &[
    Parameter { name: "startTimeRange", what: "From this time on", kind: Value::Time, required: true },
    Parameter {
        name: "endTimeRange",
        what: "Before this time, at most 24 hours later",
        kind: Value::Time,
        required: true,
    },
    Parameter { name: "limit", what: "At most so many entries", kind: Value::Limit, required: false },
    Parameter { name: "cursor", what: "`cursor` of the page before", kind: Value::Cursor, required: false },
];

/// The key flow, and the audit log.
pub(super) static ROUTES: [Route; 2] = [
    Route::other(
        "CreateToken",
        (Verb::Post, "/token"),
        "Exchanges an assertion or a refresh token for an access token (RFC 6749, RFC 7523)",
        Handler::Token,
    )
    .takes("tokenForm")
    .gives(200, "tokenPair")
    .refuses(&[503])
    .neighbour(Form::Token),
    Route::other(
        "ListProjectAuditLogEntries",
        (Verb::Get, "/v2/projects/{projectId}"),
        "Lists a project's entries of the audit log",
        Handler::Report(audit_and_export::log_of),
    )
    .gives(200, "auditLogList")
    .query(AUDIT_LOG)
    .neighbour(Form::AuditLog),
];
