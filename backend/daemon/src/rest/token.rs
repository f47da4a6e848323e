//! `POST /token`: the key flow of service accounts (RFC 6749, RFC 7523), in the form that the vendor's clients speak.

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
use super::state::{Arrival, RestState, agent, arrival, read};
use crate::dispatch::{self, TokenRequest, TokenRequestContext};

/// What an assertion is exchanged under (RFC 7523, 2.1).
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What a form may hold; clients send more, which says nothing here.
#[derive(Deserialize, ToSchema)]
#[schema(as = tokenForm)]
pub(super) struct TokenForm {
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer`, which needs an assertion, or `refresh_token`, which needs one.
    #[schema(required, nullable = false)]
    grant_type: Option<String>,
    /// A JWT that the account's key has signed (RFC 7523).
    assertion: Option<String>,
    /// What came with an access token.
    refresh_token: Option<String>,
}

/// What a form asks for.
enum Asked {
    Assertion(Zeroizing<String>),
    Refresh(Zeroizing<String>),
}

/// What is answered (RFC 6749, 5.1).
#[derive(Serialize, ToSchema)]
#[schema(as = tokenPair)]
pub(super) struct TokenPair<'a> {
    /// Goes into `Authorization: Bearer`.
    access_token: &'a str,
    /// Is exchanged for the next pair.
    refresh_token: &'a str,
    /// How long the access token holds, in seconds.
    expires_in: u64,
    /// `Bearer`.
    token_type: &'static str,
    /// `kms`.
    scope: &'static str,
}

/// A problem as the vendor's token service writes it.
#[derive(Serialize, ToSchema)]
#[schema(as = tokenError)]
pub(super) struct TokenError<'a> {
    /// What is wrong.
    error: Details<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = tokenErrorDetails)]
struct Details<'a> {
    /// The status.
    code: u16,
    /// A sentence.
    message: &'a str,
    /// The status in words.
    status: &'static str,
}

/// Says that tokens are had in another way.
pub(super) async fn wrong_method() -> Response<Body> {
    written(&Problem::malformed("tokens are asked for with POST"), 405)
}

/// Exchanges an assertion or a refresh token.
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
            let mut response = written(&problem, problem.status.code());
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
    }
}

async fn exchange(state: &Arc<RestState>, request: Request<Body>) -> Result<dispatch::TokenPair, Rejection> {
    let (parts, body) = request.into_parts();
    let Arrival { source, trace } = arrival(&parts)?;
    let agent = agent(&parts.headers);
    let body = read(body).await?;
    let asked = fields(&parts, &body).await?;
    let backend = Arc::clone(&state.backend);
    let work = state.work.run(move || {
        let context = TokenRequestContext { source: Some(source), agent: &agent, trace: Some(trace) };
        match &asked {
            Asked::Assertion(text) => backend.exchange(&context, TokenRequest::Assertion(text)),
            Asked::Refresh(text) => backend.exchange(&context, TokenRequest::Refresh(text)),
        }
    });
    work.await?.map_err(|problem| {
        let guess = problem.status == Status::Forbidden;
        if guess { state.failed(problem, source, state.backend.now()) } else { problem.into() }
    })
}

/// What the form says.
async fn fields(parts: &http::request::Parts, body: &[u8]) -> Result<Asked, Problem> {
    let mut again = Request::new(Body::from(body.to_vec()));
    *again.method_mut() = parts.method.clone();
    *again.headers_mut() = parts.headers.clone();
    let Form(fields) = Form::<TokenForm>::from_request(again, &()).await.map_err(|_| {
        let message = "a form is wanted: `Content-Type: application/x-www-form-urlencoded`, with grant_type and \
                       assertion or refresh_token, each once";
        Problem::malformed(message)
    })?;
    let needed = |value: Option<String>, name: &str| {
        let value = value.filter(|value| !value.is_empty()).map(Zeroizing::new);
        value.ok_or_else(|| Problem::malformed(format!("the form has no {name}")))
    };
    match fields.grant_type.as_deref() {
        Some(JWT_BEARER) => needed(fields.assertion, "assertion").map(Asked::Assertion),
        Some("refresh_token") => needed(fields.refresh_token, "refresh_token").map(Asked::Refresh),
        Some("client_credentials") => Err(Problem::new(
            Status::Forbidden,
            "client_credentials (workload identity) is not offered; use a service account's key or a static token",
        )),
        Some(_) => Err(Problem::malformed(format!("grant_type must be {JWT_BEARER} or refresh_token"))),
        None => Err(Problem::malformed("the form has no grant_type")),
    }
}

fn written(problem: &Problem, code: u16) -> Response<Body> {
    let known = StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason());
    let details = Details { code, message: &problem.message, status: known.unwrap_or("Error") };
    respond::json(code, &TokenError { error: details })
}
