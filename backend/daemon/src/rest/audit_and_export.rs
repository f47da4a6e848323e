//! `GET /v2/projects/{id}` in the format of the vendor's Audit Log API, and a project's export and usage (extensions).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{Request, Response, header};
use kms_core::api::Problem;
use kms_core::audit::{millis, timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::metering::Metered;
use super::respond::{self, Rejection};
use super::routes::{ErrorFormat, QueryFields, Route};
use super::state::RestState;
use crate::dispatch::{AuditCursor, Report, ReportOutput};

/// The default number of entries of a page (Audit Log API).
const ENTRIES: usize = 50;

/// The maximum number of entries of a page.
const ENTRIES_MAX: usize = 1000;

/// The longest time range of the audit log, in milliseconds (Audit Log API).
const DAY: u64 = 24 * 3600 * 1000;

/// The longest time range of a usage report, in milliseconds: a leap year.
const YEAR: u64 = 366 * DAY;

/// An error in the format of the vendor's Audit Log API.
#[derive(Serialize, ToSchema)]
#[schema(as = auditLogError)]
pub(super) struct AuditLogError {
    /// A description of the error.
    message: String,
    /// The path of the request.
    path: String,
    /// The HTTP status code.
    status: u16,
    /// The time of the error.
    #[schema(format = DateTime)]
    timestamp: String,
}

/// Handles a report of a project.
pub(super) async fn report(
    state: &Arc<RestState>,
    route: &'static Route,
    to_report: fn(&QueryFields) -> Result<Report, Problem>,
    request: Request<Body>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut metered = Metered::default();
    let output = run_report(state, request, to_report, &mut metered).await;
    let mut response = match output {
        Ok(ReportOutput::Audit(items)) => respond::json(route.success, &items),
        Ok(ReportOutput::Usage(usage)) => respond::json(route.success, &usage),
        Err(rejection) if route.error_format == ErrorFormat::AuditLog => {
            audit_log_error(state, path, &rejection)
        }
        Err(rejection) => respond::rejection(&rejection),
    };
    state.settle(metered, &mut response);
    response
}

/// Authenticates the request, counts it, parses its query and runs the report.
async fn run_report(
    state: &Arc<RestState>,
    request: Request<Body>,
    to_report: fn(&QueryFields) -> Result<Report, Problem>,
    metered: &mut Metered,
) -> Result<ReportOutput, Rejection> {
    let (mut parts, _) = request.into_parts();
    let (context, path) = state.admit(&mut parts, metered).await?;
    let Query(fields) = Query::<QueryFields>::try_from_uri(&parts.uri)
        .map_err(|_| Problem::malformed("the query cannot be read: name=value, separated by &"))?;
    let report = to_report(&fields)?;
    let backend = Arc::clone(&state.backend);
    Ok(state.blocking_pool.run(move || backend.report(&context, path.project, &report)).await??)
}

/// Writes an error in the Audit Log API's format, with the headers that errors in the plain format have.
fn audit_log_error(state: &RestState, path: String, rejection: &Rejection) -> Response<Body> {
    let status = rejection.problem.status.code();
    let message = rejection.problem.message.clone();
    let timestamp = timestamp(state.backend.now().saturating_mul(1000));
    let mut response = respond::json(status, &AuditLogError { message, path, status, timestamp });
    let plain = respond::rejection(rejection);
    for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = plain.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// Handles an export, which is written while the client reads it.
pub(super) async fn export(state: &Arc<RestState>, request: Request<Body>) -> Response<Body> {
    let (mut parts, _) = request.into_parts();
    let mut metered = Metered::default();
    let begun = begin_export(state, &mut parts, &mut metered).await;
    let mut response = begun.unwrap_or_else(|rejection| respond::rejection(&rejection));
    state.settle(metered, &mut response);
    response
}

async fn begin_export(
    state: &Arc<RestState>,
    parts: &mut Parts,
    metered: &mut Metered,
) -> Result<Response<Body>, Rejection> {
    let (context, path) = state.admit(parts, metered).await?;
    let slot = state.exports.acquire()?;
    let backend = Arc::clone(&state.backend);
    let body_writer = state.blocking_pool.run(move || backend.export(&context, path.project)).await??;
    Ok(respond::body(200, "application/json", slot.stream(body_writer)))
}

pub(super) fn audit_log_report(fields: &QueryFields) -> Result<Report, Problem> {
    let range = range(fields, ("startTimeRange", "endTimeRange"), DAY, "24 hours")?;
    let limit = match fields.get("limit") {
        None => ENTRIES,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=ENTRIES_MAX).contains(limit)).ok_or_else(|| {
                Problem::malformed(format!("limit must be a number from 1 to {ENTRIES_MAX}"))
            })?
        }
    };
    let parse_cursor = |text: &String| {
        let (at, sequence) = text.split_once('_')?;
        Some(AuditCursor { at: at.parse().ok()?, sequence: sequence.parse().ok()? })
    };
    let invalid = || Problem::malformed("cursor was not issued by this service");
    let after = fields.get("cursor").map(|text| parse_cursor(text).ok_or_else(invalid)).transpose()?;
    Ok(Report::Audit { range, after, limit })
}

pub(super) fn usage_report(fields: &QueryFields) -> Result<Report, Problem> {
    let (from, until) = range(fields, ("from", "to"), YEAR, "366 days")?;
    Ok(Report::Usage { range: (from / 1000, until / 1000) })
}

/// Parses a time range; both ends in milliseconds since 1970.
fn range(
    fields: &QueryFields,
    (first, last): (&str, &str),
    limit: u64,
    limit_text: &str,
) -> Result<(u64, u64), Problem> {
    let time = |name: &str| {
        let text = fields.get(name).ok_or_else(|| Problem::malformed(format!("{name} is missing")))?;
        let wrong = || Problem::malformed(format!("{name} must be a time such as 2026-11-26T08:00:00Z"));
        millis(text).ok_or_else(wrong)
    };
    let (from, until) = (time(first)?, time(last)?);
    if until < from {
        return Err(Problem::malformed(format!("{last} is before {first}")));
    }
    if until - from > limit {
        return Err(Problem::malformed(format!("{first} and {last} may be at most {limit_text} apart")));
    }
    Ok((from, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> QueryFields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_audit_log_query_is_parsed_in_the_vendors_format() {
        let (start, end) =
            (("startTimeRange", "2026-11-26T00:00:00Z"), ("endTimeRange", "2026-11-27T00:00:00Z"));
        let begin = millis("2026-11-26T00:00:00Z").unwrap();
        let whole = audit_log_report(&fields(&[start, end])).unwrap();
        assert_eq!(whole, Report::Audit { range: (begin, begin + DAY), after: None, limit: 50 });
        let next = audit_log_report(&fields(&[start, end, ("limit", "7"), ("cursor", "12_34")])).unwrap();
        let after = Some(AuditCursor { at: 12, sequence: 34 });
        assert_eq!(next, Report::Audit { range: (begin, begin + DAY), after, limit: 7 });
        let wrong = [
            vec![start],
            vec![end],
            vec![start, ("endTimeRange", "2026-11-27T00:00:01Z")],
            vec![start, ("endTimeRange", "2026-11-25T00:00:00Z")],
            vec![start, ("endTimeRange", "tomorrow")],
            vec![start, end, ("limit", "0")],
            vec![start, end, ("limit", "1001")],
            vec![start, end, ("cursor", "x")],
        ];
        for pairs in wrong {
            assert_eq!(audit_log_report(&fields(&pairs)).unwrap_err().status.code(), 400, "{pairs:?}");
        }
    }

    #[test]
    fn a_usage_report_covers_a_year_at_most() {
        let of = |to| usage_report(&fields(&[("from", "2026-01-01T00:00:00Z"), ("to", to)]));
        assert!(of("2027-01-02T00:00:00Z").is_ok());
        assert!(of("2027-01-02T00:00:01Z").is_err());
    }
}
