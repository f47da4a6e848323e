//! Quotas, and what is asked without a token.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, header};
use uuid::Uuid;

use super::{World, below, request, settings};
use crate::config::RestConfig;

#[test]
fn a_projects_calls_are_counted_whoever_makes_them() {
    let world = World::with(RestConfig { calls_per_hour: 3, ..settings() }, true);
    let call = |token: &str| {
        let call = Request::builder()
            .uri(below("/keyrings"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        world.send(call.body(Body::empty()).unwrap())
    };
    assert_eq!(call("owner").header("ratelimit-remaining"), Some("2"));
    assert_eq!(call("everywhere").header("ratelimit-remaining"), Some("1"));
    // A call that is refused is a call.
    assert_eq!(world.call("GET", "/keyrings/7", Body::empty()).header("ratelimit-remaining"), None);
    assert_eq!(
        world.call("GET", "/keyrings?limit=0", Body::empty()).header("ratelimit-remaining"),
        Some("0")
    );
    let heard = call("owner");
    assert!(heard.refused(429).contains("3 calls"));
    assert_eq!(heard.header("ratelimit-remaining"), Some("0"));
    assert_eq!(heard.header("retry-after"), heard.header("ratelimit-reset"));
    let wait: u64 = heard.header("retry-after").unwrap().parse().unwrap();
    world.notes.now.fetch_add(wait, Ordering::Relaxed);
    assert_eq!(call("owner").status, 200);
    // What was read again counts at once.
    world.state.adopt(RestConfig { calls_per_hour: 100, ..settings() });
    assert_eq!(call("owner").header("ratelimit-limit"), Some("100"));
}

#[test]
fn a_stranger_does_not_use_up_a_projects_calls() {
    let world = World::with(RestConfig { calls_per_hour: 2, ..settings() }, true);
    let other = below("/keyrings").replace(&super::PROJECT.to_string(), &Uuid::from_u128(9).to_string());
    for expected in [200, 200, 429] {
        let heard = world.send(request("GET", &other).body(Body::empty()).unwrap());
        assert_eq!(heard.status, expected);
    }
    let owner = Request::builder().uri(&other).header(header::AUTHORIZATION, "Bearer everywhere");
    assert_eq!(world.send(owner.body(Body::empty()).unwrap()).status, 200);
}

#[test]
fn guessing_is_bounded_by_address_and_shuts_nobody_out() {
    let world = World::new();
    let guess = || {
        let call = Request::builder().uri(below("/keyrings")).header(header::AUTHORIZATION, "Bearer guess");
        world.send(call.body(Body::empty()).unwrap())
    };
    for _ in 0..1000 {
        assert_eq!(guess().status, 401);
    }
    let heard = guess();
    heard.refused(429);
    assert!(heard.header("retry-after").is_some());
    assert_eq!(world.call("GET", "/keyrings", Body::empty()).status, 200);
}

#[test]
fn health_and_metrics_need_no_token() {
    let world = World::new();
    let look =
        |world: &World, path: &str| world.send(Request::builder().uri(path).body(Body::empty()).unwrap());
    assert_eq!(look(&world, "/healthz").status, 200);
    assert_eq!(look(&world, "/readyz").json()["hsm"], "ok");
    *world.notes.hsm.lock().unwrap() = Err("CKR_DEVICE_REMOVED".to_owned());
    // Found a moment ago: the HSM is not asked again.
    assert_eq!(look(&world, "/readyz").status, 200);
    let later = World::new();
    *later.notes.hsm.lock().unwrap() = Err("CKR_DEVICE_REMOVED in slot 7".to_owned());
    let heard = look(&later, "/readyz");
    assert_eq!((heard.status, heard.json()["hsm"].as_str()), (503, Some("failed")));
    assert_eq!(heard.json()["database"], "ok");
    assert!(!heard.body.contains("slot"), "{}", heard.body);

    world.call("GET", "/keyrings", Body::empty());
    world.call("GET", "/keyrings?limit=0", Body::empty());
    let text = look(&world, "/metrics").body;
    for line in [
        "kms_calls_total{operation=\"ListKeyRings\",status=\"200\"} 1",
        "kms_calls_total{operation=\"ListKeyRings\",status=\"400\"} 1",
        "kms_call_duration_seconds_count{operation=\"ListKeyRings\"} 2",
        "kms_opened_keys 3",
        "kms_key_versions 5",
        "kms_hsm_calls 7",
        "kms_quota_refusals_total 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
    }
}

#[test]
fn metrics_are_for_this_machine_unless_opened() {
    let mut world = World::new();
    world.peer = "192.0.2.7:4711".parse().unwrap();
    let look = |world: &World| world.send(Request::builder().uri("/metrics").body(Body::empty()).unwrap());
    assert!(look(&world).refused(403).contains("metrics_public"));
    world.state.adopt(RestConfig { metrics_public: true, ..settings() });
    assert_eq!(look(&world).status, 200);
    // Behind a proxy on this machine, the address that counts is the client's.
    world.peer = "127.0.0.1:4711".parse().unwrap();
    world.state.adopt(RestConfig { trust_forwarded_for: true, ..settings() });
    let call = Request::builder().uri("/metrics").header("x-forwarded-for", "127.0.0.1, 192.0.2.7");
    world.send(call.body(Body::empty()).unwrap()).refused(403);
}
