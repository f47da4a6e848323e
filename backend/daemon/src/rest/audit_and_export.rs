//! `GET /v2/projects/{id}` in the form of the vendor's Audit Log API, and a project's export and usage (extensions).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{Request, Response, header};
use kms_core::api::Problem;
use kms_core::audit::{millis, timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::quota::Allowance;
use super::respond::{self, Rejection};
use super::routes::{Fields, Form, Route};
use super::state::RestState;
use crate::dispatch::{AuditPlace, Report, ReportOutput};

/// Entries of a page, where none are named (Audit Log API).
const ENTRIES: usize = 50;

/// The most entries of a page.
const ENTRIES_MAX: usize = 1000;

/// The longest time at once, in milliseconds (Audit Log API).
const DAY: u64 = 24 * 3600 * 1000;

/// The longest time of which usage is told at once, in milliseconds: a leap year.
const YEAR: u64 = 366 * DAY;

/// A problem as the vendor's Audit Log API writes it.
#[derive(Serialize, ToSchema)]
#[schema(as = auditLogError)]
pub(super) struct AuditLogError {
    /// What is wrong.
    message: String,
    /// What was asked for.
    path: String,
    /// The status.
    status: u16,
    /// When.
    #[schema(format = DateTime)]
    timestamp: String,
}

/// Answers a report of a project.
pub(super) async fn report(
    state: &Arc<RestState>,
    route: &'static Route,
    ask: fn(&Fields) -> Result<Report, Problem>,
    request: Request<Body>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut allowance = None;
    let told = told(state, request, ask, &mut allowance).await;
    let mut response = match told {
        Ok(ReportOutput::Audit(items)) => respond::json(route.success, &items),
        Ok(ReportOutput::Usage(usage)) => respond::json(route.success, &usage),
        Err(rejection) if route.form == Form::AuditLog => in_the_logs_form(state, path, &rejection),
        Err(rejection) => respond::rejection(&rejection),
    };
    if let Some(allowance) = allowance {
        respond::tell_allowance(&mut response, &allowance);
    }
    response
}

/// Who asks → how many calls are left → what is asked → the backend.
async fn told(
    state: &Arc<RestState>,
    request: Request<Body>,
    ask: fn(&Fields) -> Result<Report, Problem>,
    allowance: &mut Option<Allowance>,
) -> Result<ReportOutput, Rejection> {
    let (mut parts, _) = request.into_parts();
    let (context, place) = state.enter(&mut parts, allowance).await?;
    let Query(fields) = Query::<Fields>::try_from_uri(&parts.uri)
        .map_err(|_| Problem::malformed("the query cannot be read: name=value, separated by &"))?;
    let report = ask(&fields)?;
    let backend = Arc::clone(&state.backend);
    Ok(state.work.run(move || backend.report(&context, place.project, &report)).await??)
}

/// The vendor's Audit Log API has more to say of an error.
fn in_the_logs_form(state: &RestState, path: String, rejection: &Rejection) -> Response<Body> {
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

/// Answers an export: it is written while it is read.
pub(super) async fn export(state: &Arc<RestState>, request: Request<Body>) -> Response<Body> {
    let (mut parts, _) = request.into_parts();
    let mut allowance = None;
    let begun = begin_export(state, &mut parts, &mut allowance).await;
    let mut response = begun.unwrap_or_else(|rejection| respond::rejection(&rejection));
    if let Some(allowance) = allowance {
        respond::tell_allowance(&mut response, &allowance);
    }
    response
}

async fn begin_export(
    state: &Arc<RestState>,
    parts: &mut Parts,
    allowance: &mut Option<Allowance>,
) -> Result<Response<Body>, Rejection> {
    let (context, place) = state.enter(parts, allowance).await?;
    let turn = state.exports.turn()?;
    let backend = Arc::clone(&state.backend);
    let writing = state.work.run(move || backend.export(&context, place.project)).await??;
    Ok(respond::body(200, "application/json", turn.stream(writing)))
}

pub(super) fn log_of(fields: &Fields) -> Result<Report, Problem> {
    let range = range(fields, ("startTimeRange", "endTimeRange"), DAY, "24 hours")?;
    let limit = match fields.get("limit") {
        None => ENTRIES,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=ENTRIES_MAX).contains(limit)).ok_or_else(|| {
                Problem::malformed(format!("limit must be a number from 1 to {ENTRIES_MAX}"))
            })?
        }
    };
    let place = |text: &String| {
        let (at, sequence) = text.split_once('_')?;
        Some(AuditPlace { at: at.parse().ok()?, sequence: sequence.parse().ok()? })
    };
    let foreign = || Problem::malformed("cursor is none that this service gave out");
    let after = fields.get("cursor").map(|text| place(text).ok_or_else(foreign)).transpose()?;
    Ok(Report::Audit { range, after, limit })
}

pub(super) fn usage_of(fields: &Fields) -> Result<Report, Problem> {
    let (from, until) = range(fields, ("from", "to"), YEAR, "366 days")?;
    Ok(Report::Usage { range: (from / 1000, until / 1000) })
}

/// Two times, in milliseconds since 1970.
fn range(
    fields: &Fields,
    (first, last): (&str, &str),
    longest: u64,
    said: &str,
) -> Result<(u64, u64), Problem> {
    let time = |name: &str| {
        let text = fields.get(name).ok_or_else(|| Problem::malformed(format!("{name} is missing")))?;
        let wrong = || Problem::malformed(format!("{name} must be a time as in 2026-11-26T08:00:00Z"));
        millis(text).ok_or_else(wrong)
    };
    let (from, until) = (time(first)?, time(last)?);
    if until < from {
        return Err(Problem::malformed(format!("{last} is before {first}")));
    }
    if until - from > longest {
        return Err(Problem::malformed(format!("{first} and {last} may be {said} apart at most")));
    }
    Ok((from, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_log_is_asked_for_as_the_vendors_clients_do() {
        let (start, end) =
            (("startTimeRange", "2026-11-26T00:00:00Z"), ("endTimeRange", "2026-11-27T00:00:00Z"));
        let begin = millis("2026-11-26T00:00:00Z").unwrap();
        let whole = log_of(&fields(&[start, end])).unwrap();
        assert_eq!(whole, Report::Audit { range: (begin, begin + DAY), after: None, limit: 50 });
        let next = log_of(&fields(&[start, end, ("limit", "7"), ("cursor", "12_34")])).unwrap();
        let after = Some(AuditPlace { at: 12, sequence: 34 });
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
            assert_eq!(log_of(&fields(&pairs)).unwrap_err().status.code(), 400, "{pairs:?}");
        }
    }

    #[test]
    fn usage_is_told_for_a_year_at_most() {
        let of = |to| usage_of(&fields(&[("from", "2026-01-01T00:00:00Z"), ("to", to)]));
        assert!(of("2027-01-02T00:00:00Z").is_ok());
        assert!(of("2027-01-02T00:00:01Z").is_err());
    }
}
