//! What the door writes: outcomes and problems as JSON, and the headers that go with them.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use kms_core::api::{HttpError, Outcome, Problem, Status};
use serde::Serialize;

use super::quota::Allowance;

/// The call's own id, which the log and the audit log have too.
pub(super) const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// The headers of draft-ietf-httpapi-ratelimit-headers.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Seconds after which it is worth to ask again when the service was busy.
const BUSY_SECONDS: u64 = 1;

/// A problem, and when it is worth to ask again.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) problem: Problem,
    pub(super) retry_after: Option<u64>,
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        let busy = matches!(problem.status, Status::Unavailable);
        Self { problem, retry_after: busy.then_some(BUSY_SECONDS) }
    }
}

/// Writes a problem.
pub(super) fn rejection(rejection: &Rejection) -> Response<Body> {
    let Rejection { problem, retry_after } = rejection;
    let mut response = refused(problem.status.code(), &problem.message);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
    }
    if problem.status == Status::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Writes a problem that has no [`Status`]: 405.
pub(super) fn refused(status: u16, message: &str) -> Response<Body> {
    json(status, &HttpError { message: message.to_owned() })
}

/// Writes an outcome with the operation's own status.
pub(super) fn outcome(status: u16, outcome: &Outcome) -> Response<Body> {
    match outcome {
        Outcome::KeyRing(body) => json(status, body),
        Outcome::KeyRings(body) => json(status, body),
        Outcome::Key(body) => json(status, body),
        Outcome::Keys(body) => json(status, body),
        Outcome::Version(body) => json(status, body),
        Outcome::Versions(body) => json(status, body),
        Outcome::WrappingKey(body) => json(status, body),
        Outcome::WrappingKeys(body) => json(status, body),
        Outcome::Encrypted(body) => json(status, body),
        Outcome::Decrypted(body) => json(status, body),
        Outcome::Signed(body) => json(status, body),
        Outcome::Verified(body) => json(status, body),
        Outcome::Versioned(body) => json(status, body),
        Outcome::DataKey(body) => json(status, body),
        Outcome::Amounts(body) => json(status, body),
        Outcome::Done => with_status(status, Body::empty()),
    }
}

/// Tells how many calls are left.
pub(super) fn tell_allowance(response: &mut Response<Body>, allowance: &Allowance) {
    let headers = response.headers_mut();
    headers.insert(RATE_LIMIT, HeaderValue::from(allowance.limit));
    headers.insert(RATE_REMAINING, HeaderValue::from(allowance.remaining));
    headers.insert(RATE_RESET, HeaderValue::from(allowance.reset));
}

/// Writes JSON.
pub(super) fn json(status: u16, body: &impl Serialize) -> Response<Body> {
    let Ok(bytes) = serde_json::to_vec(body) else {
        // A time beyond the year 9999, say: nothing that a caller can bring about.
        tracing::error!("an answer could not be written as JSON; this is a bug");
        return text(500, "application/json", r#"{"message":"internal error"}"#.into());
    };
    text(status, "application/json", bytes)
}

/// Writes a body of this type.
pub(super) fn text(status: u16, kind: &'static str, bytes: Vec<u8>) -> Response<Body> {
    body(status, kind, Body::from(bytes))
}

/// The same of a body that is not there yet.
pub(super) fn body(status: u16, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = with_status(status, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn with_status(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Keys and plaintext are no one's to keep on the way.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
