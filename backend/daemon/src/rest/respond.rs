//! Responses: outcomes and problems as JSON, and their headers.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use kms_core::api::{HttpError, Outcome, Problem, Status};
use serde::Serialize;

use crate::fairness::Allowance;

/// The header with the request's trace id, which the log and the audit log contain too.
pub(super) const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// The headers of draft-ietf-httpapi-ratelimit-headers.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// The value of `Retry-After`, in seconds, when the service is busy.
const RETRY_AFTER_SECONDS: u64 = 1;

/// A problem, and the value of `Retry-After` if there is one.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) problem: Problem,
    pub(super) retry_after: Option<u64>,
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        let busy = matches!(problem.status, Status::Unavailable);
        Self { problem, retry_after: busy.then_some(RETRY_AFTER_SECONDS) }
    }
}

/// Writes a problem, with its headers.
pub(super) fn rejection(rejection: &Rejection) -> Response<Body> {
    let Rejection { problem, retry_after } = rejection;
    let mut response = error(problem.status.code(), &problem.message);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
    }
    if problem.status == Status::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Writes an error whose status [`Status`] does not have: 405.
pub(super) fn error(status: u16, message: &str) -> Response<Body> {
    json(status, &HttpError { message: message.to_owned() })
}

/// Writes an outcome with the route's success status.
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

/// Sets the headers that report the quota.
pub(super) fn set_rate_limit_headers(response: &mut Response<Body>, allowance: &Allowance) {
    let headers = response.headers_mut();
    headers.insert(RATE_LIMIT, HeaderValue::from(allowance.limit));
    headers.insert(RATE_REMAINING, HeaderValue::from(allowance.remaining));
    headers.insert(RATE_RESET, HeaderValue::from(allowance.reset));
}

/// Writes JSON.
pub(super) fn json(status: u16, body: &impl Serialize) -> Response<Body> {
    let Ok(bytes) = serde_json::to_vec(body) else {
        // Only a value that JSON cannot represent gets here, such as a time beyond the year 9999; no caller can cause
        // it.
        tracing::error!("a response could not be written as JSON; this is a bug");
        return text(500, "application/json", r#"{"message":"internal error"}"#.into());
    };
    text(status, "application/json", bytes)
}

/// Writes a body of this content type.
pub(super) fn text(status: u16, kind: &'static str, bytes: Vec<u8>) -> Response<Body> {
    body(status, kind, Body::from(bytes))
}

/// Writes a body that may be streamed.
pub(super) fn body(status: u16, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = with_status(status, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn with_status(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Responses contain keys and plaintext: no cache may store them.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
