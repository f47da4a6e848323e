//! The token endpoint: forms and responses.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::json;

use super::{TestResponse, TestServer};
use crate::rest::token::JWT_BEARER;

fn post(server: &TestServer, kind: &str, body: &str) -> TestResponse {
    let call = Request::builder().method("POST").uri("/token").header(header::CONTENT_TYPE, kind);
    server.send(call.body(Body::from(body.to_owned())).unwrap())
}

fn form(server: &TestServer, body: &str) -> TestResponse {
    post(server, "application/x-www-form-urlencoded", body)
}

#[test]
fn an_assertion_or_a_refresh_token_is_exchanged() {
    let server = TestServer::new();
    let encoded = JWT_BEARER.replace(':', "%3A");
    for body in [
        format!("grant_type={encoded}&assertion=good"),
        format!("client_id=x&grant_type={JWT_BEARER}&assertion=good&scope=all"),
        "grant_type=refresh_token&refresh_token=good".to_owned(),
    ] {
        let response = form(&server, &body);
        assert_eq!(response.status, 200, "{body}: {}", response.body);
        let pair = json!({
            "access_token": "access", "refresh_token": "refresh", "expires_in": 600,
            "token_type": "Bearer", "scope": "kms",
        });
        assert_eq!(response.json(), pair);
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(response.header("x-trace-id").is_some());
    }
}

#[test]
fn errors_have_the_format_of_the_vendors_token_service() {
    let server = TestServer::new();
    let response = form(&server, &format!("grant_type={JWT_BEARER}&assertion=bad"));
    assert_eq!(response.status, 403);
    let error = json!({ "error": { "code": 403, "message": "a bad assertion", "status": "Forbidden" } });
    assert_eq!(response.json(), error);
    for (body, status, expected) in [
        ("grant_type=refresh_token&refresh_token=bad", 403, "a bad refresh token"),
        ("grant_type=client_credentials&client_assertion=x", 403, "not offered"),
        ("grant_type=password&username=x", 400, "grant_type must be"),
        ("grant_type=refresh_token", 400, "no refresh_token"),
        ("grant_type=refresh_token&refresh_token=", 400, "no refresh_token"),
        ("assertion=good", 400, "no grant_type"),
        ("", 400, "no grant_type"),
        ("grant_type=refresh_token&grant_type=refresh_token", 400, "each once"),
        ("%ff=%fe", 400, ""),
    ] {
        let response = form(&server, body);
        assert_eq!(response.status, status, "{body}: {}", response.body);
        let json = response.json();
        assert_eq!(json["error"]["code"], status, "{json}");
        assert!(json["error"]["message"].as_str().unwrap().contains(expected), "{body}: {json}");
    }
    let response = post(&server, "application/json", r#"{"grant_type":"refresh_token"}"#);
    assert_eq!(response.status, 400, "{}", response.body);
    let get = server.send(Request::builder().uri("/token").body(Body::empty()).unwrap());
    assert_eq!((get.status, get.json()["error"]["code"].as_u64()), (405, Some(405)));
    let long = form(&server, &format!("grant_type=refresh_token&refresh_token={}", "x".repeat(300 << 10)));
    assert_eq!(long.status, 413);
}

#[test]
fn invalid_grants_are_limited_by_address() {
    let server = TestServer::new();
    let attempt = || form(&server, "grant_type=refresh_token&refresh_token=bad");
    for _ in 0..1000 {
        assert_eq!(attempt().status, 403);
    }
    let response = attempt();
    assert_eq!(response.status, 429);
    assert!(response.header("retry-after").is_some());
    assert_eq!(form(&server, "grant_type=refresh_token&refresh_token=good").status, 200);
    server.backend.now.fetch_add(3700, Ordering::Relaxed);
    assert_eq!(attempt().status, 403);
}
