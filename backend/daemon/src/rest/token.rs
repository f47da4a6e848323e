//! `POST /token`: the key flow of service accounts (RFC 6749, RFC 7523), in the format that the vendor's clients use.

use std::cell::Cell;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Form, FromRequest};
use axum::http;
use axum::http::{Request, Response, StatusCode, header};
use kms_core::api::{Problem, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::respond::{self, Rejection};
use super::state::{RequestInfo, RestState, read_body, request_info, user_agent};
use crate::dispatch::{self, TokenRequest, TokenRequestContext};

/// The grant type of an assertion (RFC 7523, 2.1).
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The form of a token request. Other fields are ignored.
#[derive(Deserialize, ToSchema)]
#[schema(as = tokenForm)]
pub(super) struct TokenForm {
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer` with `assertion`, or `refresh_token` with `refresh_token`.
    #[schema(required, nullable = false)]
    grant_type: Option<String>,
    /// A JWT signed with the service account's key (RFC 7523).
    assertion: Option<String>,
    /// The refresh token that was issued with an access token.
    refresh_token: Option<String>,
}

/// The grant that a form presents.
enum Grant {
    Assertion(Zeroizing<String>),
    RefreshToken(Zeroizing<String>),
}

/// An access token and a refresh token (RFC 6749, 5.1).
#[derive(Serialize, ToSchema)]
#[schema(as = tokenPair)]
pub(super) struct TokenPair<'a> {
    /// The access token, to be sent as `Authorization: Bearer`.
    access_token: &'a str,
    /// The refresh token, which can be exchanged for the next pair.
    refresh_token: &'a str,
    /// The lifetime of the access token, in seconds.
    expires_in: u64,
    /// `Bearer`.
    token_type: &'static str,
    /// `kms`.
    scope: &'static str,
}

/// An error in the format of the vendor's token service.
#[derive(Serialize, ToSchema)]
#[schema(as = tokenError)]
pub(super) struct TokenError<'a> {
    /// The details of the error.
    error: TokenErrorDetails<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = tokenErrorDetails)]
struct TokenErrorDetails<'a> {
    /// The HTTP status code.
    code: u16,
    /// A description of the error.
    message: &'a str,
    /// The name of the HTTP status.
    status: &'static str,
}

/// Returns 405: tokens are requested with POST only.
pub(super) async fn wrong_method() -> Response<Body> {
    error_response(&Problem::malformed("tokens are requested with POST"), 405)
}

/// Handles a token request.
pub(super) async fn token(state: &Arc<RestState>, request: Request<Body>) -> Response<Body> {
    match exchange(state, request).await {
        Ok(pair) => respond::json(
            200,
            &TokenPair {
                access_token: &pair.access,
                refresh_token: &pair.refresh,
                expires_in: pair.seconds,
                token_type: "Bearer",
                scope: "kms",
            },
        ),
        Err(Rejection { problem, retry_after }) => {
            let mut response = error_response(&problem, problem.status.code());
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
    }
}

async fn exchange(state: &Arc<RestState>, request: Request<Body>) -> Result<dispatch::TokenPair, Rejection> {
    let (parts, body) = request.into_parts();
    let RequestInfo { source, trace, .. } = request_info(&parts)?;
    let agent = user_agent(&parts.headers);
    let body = read_body(body).await?;
    let grant = parse_form(&parts, &body).await?;
    let (now, shared) = (state.backend.now(), Arc::clone(state));
    let work = state.blocking_pool.run(move || {
        let context = TokenRequestContext { source: Some(source), agent: &agent, trace: Some(trace) };
        let retry_after = Cell::new(None);
        let admit = |account| {
            shared.count_own(account, now).map_err(|Rejection { problem, retry_after: seconds }| {
                retry_after.set(seconds);
                problem
            })
        };
        let request = match &grant {
            Grant::Assertion(text) => TokenRequest::Assertion(text),
            Grant::RefreshToken(text) => TokenRequest::Refresh(text),
        };
        let result = shared.backend.exchange(&context, request, &admit);
        result.map_err(|problem| (problem, retry_after.get()))
    });
    work.await?.map_err(|(problem, retry_after)| {
        let invalid_grant = problem.status == Status::Forbidden;
        if invalid_grant {
            state.failed_authentication(problem, source, now)
        } else if retry_after.is_some() {
            Rejection { problem, retry_after }
        } else {
            problem.into()
        }
    })
}

/// Parses the form.
async fn parse_form(parts: &http::request::Parts, body: &[u8]) -> Result<Grant, Problem> {
    let mut again = Request::new(Body::from(body.to_vec()));
    *again.method_mut() = parts.method.clone();
    *again.headers_mut() = parts.headers.clone();
    let Form(form) = Form::<TokenForm>::from_request(again, &()).await.map_err(|_| {
        let message = "expected a form: `Content-Type: application/x-www-form-urlencoded`, with grant_type and \
                       assertion or refresh_token, each once";
        Problem::malformed(message)
    })?;
    let required = |value: Option<String>, name: &str| {
        let value = value.filter(|value| !value.is_empty()).map(Zeroizing::new);
        value.ok_or_else(|| Problem::malformed(format!("the form has no {name}")))
    };
    match form.grant_type.as_deref() {
        Some(JWT_BEARER) => required(form.assertion, "assertion").map(Grant::Assertion),
        Some("refresh_token") => required(form.refresh_token, "refresh_token").map(Grant::RefreshToken),
        Some("client_credentials") => Err(Problem::new(
            Status::Forbidden,
            "client_credentials (workload identity) is not offered; use a service account's key or a static token",
        )),
        Some(_) => Err(Problem::malformed(format!("grant_type must be {JWT_BEARER} or refresh_token"))),
        None => Err(Problem::malformed("the form has no grant_type")),
    }
}

fn error_response(problem: &Problem, code: u16) -> Response<Body> {
    let known = StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason());
    let details = TokenErrorDetails { code, message: &problem.message, status: known.unwrap_or("Error") };
    respond::json(code, &TokenError { error: details })
}
