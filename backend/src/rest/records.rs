//! `GET /v2/projects/{id}` in the form of the vendor's Audit Log API, and a project's export and usage (extensions).

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, Request, Response, header};
use axum::routing::get;
use serde_json::json;

use super::door::Door;
use super::reply::{self, Rejection};
use crate::audit::{millis, timestamp};
use crate::dispatch::{AuditPlace, Report};
use crate::kms::Refusal;

/// Entries of a page, where none are named (Audit Log API).
const ENTRIES: usize = 50;

/// The most entries of a page.
const ENTRIES_MAX: usize = 1000;

/// The longest time at once, in milliseconds (Audit Log API).
const DAY: u64 = 24 * 3600 * 1000;

/// The longest time of which usage is told at once, in milliseconds: a leap year.
const YEAR: u64 = 366 * DAY;

type Fields = HashMap<String, String>;

pub(super) fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/v2/projects/{projectId}", get(log))
        .route("/v1/projects/{projectId}/regions/{regionId}/export", get(export))
        .route("/v1/projects/{projectId}/regions/{regionId}/usage", get(usage))
        .with_state(door)
}

async fn log(State(door): State<Arc<Door>>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match told(&door, request, log_of).await {
        Ok(body) => written(body),
        Err(rejection) => {
            // The vendor's Audit Log API has more to say of an error.
            let status = rejection.refusal.status.code();
            let body = json!({
                "message": rejection.refusal.message,
                "path": path,
                "status": status,
                "timestamp": timestamp(door.rooms.now().saturating_mul(1000)),
            });
            let (mut response, plain) = (reply::json(status, &body), reply::rejection(&rejection));
            for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
                if let Some(value) = plain.headers().get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            response
        }
    }
}

async fn export(State(door): State<Arc<Door>>, request: Request<Body>) -> Response<Body> {
    let answer = told(&door, request, |_| Ok(Report::Export)).await;
    answer.map_or_else(|rejection| reply::rejection(&rejection), written)
}

async fn usage(State(door): State<Arc<Door>>, request: Request<Body>) -> Response<Body> {
    let answer = told(&door, request, usage_of).await;
    answer.map_or_else(|rejection| reply::rejection(&rejection), written)
}

/// Who asks → how many calls are left → what is asked → the rooms.
async fn told(
    door: &Arc<Door>,
    request: Request<Body>,
    ask: fn(&Fields) -> Result<Report, Refusal>,
) -> Result<Vec<u8>, Rejection> {
    let (mut parts, _) = request.into_parts();
    let (visit, place) = door.enter(&mut parts, &mut None).await?;
    let Query(fields) = Query::<Fields>::try_from_uri(&parts.uri)
        .map_err(|_| Refusal::malformed("the query cannot be read: name=value, separated by &"))?;
    let report = ask(&fields)?;
    let rooms = Arc::clone(&door.rooms);
    Ok(door.work.run(move || rooms.report(&visit, place.project, &report)).await??)
}

fn log_of(fields: &Fields) -> Result<Report, Refusal> {
    let range = range(fields, ("startTimeRange", "endTimeRange"), DAY, "24 hours")?;
    let limit = match fields.get("limit") {
        None => ENTRIES,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=ENTRIES_MAX).contains(limit)).ok_or_else(|| {
                Refusal::malformed(format!("limit must be a number from 1 to {ENTRIES_MAX}"))
            })?
        }
    };
    let place = |text: &String| {
        let (at, sequence) = text.split_once('_')?;
        Some(AuditPlace { at: at.parse().ok()?, sequence: sequence.parse().ok()? })
    };
    let foreign = || Refusal::malformed("cursor is none that this service gave out");
    let after = fields.get("cursor").map(|text| place(text).ok_or_else(foreign)).transpose()?;
    Ok(Report::Audit { range, after, limit })
}

fn usage_of(fields: &Fields) -> Result<Report, Refusal> {
    let (from, until) = range(fields, ("from", "to"), YEAR, "366 days")?;
    Ok(Report::Usage { range: (from / 1000, until / 1000) })
}

/// Two times, in milliseconds since 1970.
fn range(
    fields: &Fields,
    (first, last): (&str, &str),
    longest: u64,
    said: &str,
) -> Result<(u64, u64), Refusal> {
    let time = |name: &str| {
        let text = fields.get(name).ok_or_else(|| Refusal::malformed(format!("{name} is missing")))?;
        let wrong = || Refusal::malformed(format!("{name} must be a time as in 2026-11-26T08:00:00Z"));
        millis(text).ok_or_else(wrong)
    };
    let (from, until) = (time(first)?, time(last)?);
    if until < from {
        return Err(Refusal::malformed(format!("{last} is before {first}")));
    }
    if until - from > longest {
        return Err(Refusal::malformed(format!("{first} and {last} may be {said} apart at most")));
    }
    Ok((from, until))
}

fn written(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
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
