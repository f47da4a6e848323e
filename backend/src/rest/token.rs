//! `POST /token`: the key flow of service accounts (RFC 6749, RFC 7523), in the form that the vendor's clients speak.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Form, FromRequest, State};
use axum::http::{Request, Response, StatusCode, header};
use axum::routing::post;
use axum::{Router, http};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::door::{Arrival, Door, agent, arrival, read};
use super::reply::{self, Rejection};
use crate::dispatch::{TokenAsk, TokenPair, TokenVisit};
use crate::kms::{Refusal, Status};

/// What an assertion is exchanged under (RFC 7523, 2.1).
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What a form may hold; clients send more, which says nothing here.
#[derive(Deserialize)]
struct Fields {
    grant_type: Option<String>,
    assertion: Option<String>,
    refresh_token: Option<String>,
}

/// What a form asks for.
enum Asked {
    Assertion(Zeroizing<String>),
    Refresh(Zeroizing<String>),
}

/// What is answered (RFC 6749, 5.1).
#[derive(Serialize)]
struct Answer<'a> {
    access_token: &'a str,
    refresh_token: &'a str,
    expires_in: u64,
    token_type: &'static str,
    scope: &'static str,
}

/// A refusal as the vendor's token service writes it.
#[derive(Serialize)]
struct Refused<'a> {
    error: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
}

pub(super) fn router(door: Arc<Door>) -> Router {
    let wrong = async || written(&Refusal::malformed("tokens are asked for with POST"), 405);
    Router::new().route("/token", post(token).fallback(wrong)).with_state(door)
}

async fn token(State(door): State<Arc<Door>>, request: Request<Body>) -> Response<Body> {
    match exchange(&door, request).await {
        Ok(pair) => reply::json(
            200,
            &Answer {
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

async fn exchange(door: &Arc<Door>, request: Request<Body>) -> Result<TokenPair, Rejection> {
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
    let Form(fields) = Form::<Fields>::from_request(again, &()).await.map_err(|_| {
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
    reply::json(code, &Refused { error: details })
}
