//! The token endpoint: forms and answers.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::json;

use super::{Heard, World};
use crate::rest::token::JWT_BEARER;

fn post(world: &World, kind: &str, body: &str) -> Heard {
    let call = Request::builder().method("POST").uri("/token").header(header::CONTENT_TYPE, kind);
    world.send(call.body(Body::from(body.to_owned())).unwrap())
}

fn form(world: &World, body: &str) -> Heard {
    post(world, "application/x-www-form-urlencoded", body)
}

#[test]
fn an_assertion_or_a_refresh_token_is_exchanged() {
    let world = World::new();
    let encoded = JWT_BEARER.replace(':', "%3A");
    for body in [
        format!("grant_type={encoded}&assertion=good"),
        format!("client_id=x&grant_type={JWT_BEARER}&assertion=good&scope=all"),
        "grant_type=refresh_token&refresh_token=good".to_owned(),
    ] {
        let heard = form(&world, &body);
        assert_eq!(heard.status, 200, "{body}: {}", heard.body);
        let answer = json!({
            "access_token": "access", "refresh_token": "refresh", "expires_in": 600,
            "token_type": "Bearer", "scope": "kms",
        });
        assert_eq!(heard.json(), answer);
        assert_eq!(heard.header("cache-control"), Some("no-store"));
        assert!(heard.header("x-trace-id").is_some());
    }
}

#[test]
fn a_refusal_has_the_form_of_the_vendors_token_service() {
    let world = World::new();
    let heard = form(&world, &format!("grant_type={JWT_BEARER}&assertion=bad"));
    assert_eq!(heard.status, 403);
    let error = json!({ "error": { "code": 403, "message": "a bad assertion", "status": "Forbidden" } });
    assert_eq!(heard.json(), error);
    for (body, status, words) in [
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
        let heard = form(&world, body);
        assert_eq!(heard.status, status, "{body}: {}", heard.body);
        let json = heard.json();
        assert_eq!(json["error"]["code"], status, "{json}");
        assert!(json["error"]["message"].as_str().unwrap().contains(words), "{body}: {json}");
    }
    let heard = post(&world, "application/json", r#"{"grant_type":"refresh_token"}"#);
    assert_eq!(heard.status, 400, "{}", heard.body);
    let get = world.send(Request::builder().uri("/token").body(Body::empty()).unwrap());
    assert_eq!((get.status, get.json()["error"]["code"].as_u64()), (405, Some(405)));
    let long = form(&world, &format!("grant_type=refresh_token&refresh_token={}", "x".repeat(300 << 10)));
    assert_eq!(long.status, 413);
}

#[test]
fn guessing_is_bounded_by_address() {
    let world = World::new();
    let guess = || form(&world, "grant_type=refresh_token&refresh_token=bad");
    for _ in 0..1000 {
        assert_eq!(guess().status, 403);
    }
    let heard = guess();
    assert_eq!(heard.status, 429);
    assert!(heard.header("retry-after").is_some());
    assert_eq!(form(&world, "grant_type=refresh_token&refresh_token=good").status, 200);
    world.notes.now.fetch_add(3700, Ordering::Relaxed);
    assert_eq!(guess().status, 403);
}
