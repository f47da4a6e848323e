//! `POST /token`: the key flow of service accounts (RFC 6749, RFC 7523), in the form that the vendor's clients speak.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Form, FromRequest};
use axum::http;
use axum::http::{Request, Response, StatusCode, header};
use kms_core::api::{Refusal, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::door::{Arrival, Door, agent, arrival, read};
use super::reply::{self, Rejection};
use crate::dispatch::{self, TokenAsk, TokenVisit};

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

/// A refusal as the vendor's token service writes it.
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
    written(&Refusal::malformed("tokens are asked for with POST"), 405)
}

/// Exchanges an assertion or a refresh token.
pub(super) async fn token(door: &Arc<Door>, request: Request<Body>) -> Response<Body> {
    match exchange(door, request).await {
        Ok(pair) => reply::json(
            200,
            &TokenPair {
                access_token: &pair.access,
                refresh_token: &pair.refresh,
                expires_in: pair.seconds,
                token_type: "Bearer",
                scope: "kms",
            },
        ),
        Err(Rejection { refusal, retry_after }) => {
            let mut response = written(&refusal, refusal.status.code());
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
    }
}

async fn exchange(door: &Arc<Door>, request: Request<Body>) -> Result<dispatch::TokenPair, Rejection> {
    let (parts, body) = request.into_parts();
    let Arrival { source, trace } = arrival(&parts)?;
    let agent = agent(&parts.headers);
    let body = read(body).await?;
    let asked = fields(&parts, &body).await?;
    let rooms = Arc::clone(&door.rooms);
    let work = door.work.run(move || {
        let visit = TokenVisit { source: Some(source), agent: &agent, trace: Some(trace) };
        match &asked {
            Asked::Assertion(text) => rooms.exchange(&visit, TokenAsk::Assertion(text)),
            Asked::Refresh(text) => rooms.exchange(&visit, TokenAsk::Refresh(text)),
        }
    });
    work.await?.map_err(|refusal| {
        let guess = refusal.status == Status::Forbidden;
        if guess { door.failed(refusal, source, door.rooms.now()) } else { refusal.into() }
    })
}

/// What the form says.
async fn fields(parts: &http::request::Parts, body: &[u8]) -> Result<Asked, Refusal> {
    let mut again = Request::new(Body::from(body.to_vec()));
    *again.method_mut() = parts.method.clone();
    *again.headers_mut() = parts.headers.clone();
    let Form(fields) = Form::<TokenForm>::from_request(again, &()).await.map_err(|_| {
        let message = "a form is wanted: `Content-Type: application/x-www-form-urlencoded`, with grant_type and \
                       assertion or refresh_token, each once";
        Refusal::malformed(message)
    })?;
    let needed = |value: Option<String>, name: &str| {
        let value = value.filter(|value| !value.is_empty()).map(Zeroizing::new);
        value.ok_or_else(|| Refusal::malformed(format!("the form has no {name}")))
    };
    match fields.grant_type.as_deref() {
        Some(JWT_BEARER) => needed(fields.assertion, "assertion").map(Asked::Assertion),
        Some("refresh_token") => needed(fields.refresh_token, "refresh_token").map(Asked::Refresh),
        Some("client_credentials") => Err(Refusal::new(
            Status::Forbidden,
            "client_credentials (workload identity) is not offered; use a service account's key or a static token",
        )),
        Some(_) => Err(Refusal::malformed(format!("grant_type must be {JWT_BEARER} or refresh_token"))),
        None => Err(Refusal::malformed("the form has no grant_type")),
    }
}

fn written(refusal: &Refusal, code: u16) -> Response<Body> {
    let known = StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason());
    let details = Details { code, message: &refusal.message, status: known.unwrap_or("Error") };
    reply::json(code, &TokenError { error: details })
}
