//! Quotas, and the endpoints that need no token.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, Version, header};
use kms_core::api::{Outcome, Problem, Status};
use uuid::Uuid;

use super::{TestServer, project_path, request, settings};
use crate::config::RestConfig;

#[test]
fn the_calls_of_a_project_are_counted_together() {
    let server = TestServer::with(RestConfig { calls_per_hour: 3, ..settings() }, true);
    let call = |token: &str| {
        let call = Request::builder()
            .uri(project_path("/keyrings"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        server.send(call.body(Body::empty()).unwrap())
    };
    assert_eq!(call("owner").header("ratelimit-remaining"), Some("2"));
    assert_eq!(call("everywhere").header("ratelimit-remaining"), Some("1"));
    // Calls that are refused do not count for the project.
    assert_eq!(server.call("GET", "/keyrings/7", Body::empty()).header("ratelimit-remaining"), None);
    assert_eq!(
        server.call("GET", "/keyrings?limit=0", Body::empty()).header("ratelimit-remaining"),
        Some("1")
    );
    assert_eq!(call("owner").header("ratelimit-remaining"), Some("0"));
    let response = call("owner");
    assert!(response.problem(429).contains("3 calls"));
    assert_eq!(response.header("ratelimit-remaining"), Some("0"));
    assert_eq!(response.header("retry-after"), response.header("ratelimit-reset"));
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    server.backend.now.fetch_add(wait, Ordering::Relaxed);
    assert_eq!(call("owner").status, 200);
    // Reloaded limits apply at once.
    server.state.apply_settings(RestConfig { calls_per_hour: 100, ..settings() });
    assert_eq!(call("owner").header("ratelimit-limit"), Some("100"));
}

/// Calls the project's rings with this token.
fn list_rings(server: &TestServer, token: &str, query: &str) -> super::TestResponse {
    let call = Request::builder()
        .uri(project_path(&format!("/keyrings{query}")))
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    server.send(call.body(Body::empty()).unwrap())
}

#[test]
fn refused_calls_use_up_the_callers_own_count_and_nobody_elses() {
    let server = TestServer::with(RestConfig { calls_per_hour: 20, ..settings() }, true);
    // As the backend refuses them, and as the listener does.
    *server.backend.outcome.lock().unwrap() = Err(Problem::new(Status::Forbidden, "not permitted"));
    for _ in 0..15 {
        list_rings(&server, "owner", "").problem(403);
    }
    for (query, times) in [("?limit=0", 3), ("/7", 2)] {
        for _ in 0..times {
            list_rings(&server, "owner", query).problem(400);
        }
    }
    *server.backend.outcome.lock().unwrap() = Ok(Outcome::Done);
    let refused = list_rings(&server, "owner", "");
    assert!(refused.problem(429).contains("refused"), "{}", refused.body);
    assert_eq!(refused.header("retry-after"), refused.header("ratelimit-reset"));
    // The project has all of its calls.
    assert_eq!(list_rings(&server, "colleague", "").header("ratelimit-remaining"), Some("19"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    server.backend.now.fetch_add(wait - 1, Ordering::Relaxed);
    list_rings(&server, "owner", "").problem(429);
    server.backend.now.fetch_add(1, Ordering::Relaxed);
    assert_eq!(list_rings(&server, "owner", "").status, 200);
}

#[test]
fn a_caller_at_full_speed_leaves_calls_for_others_of_its_project() {
    let server = TestServer::with(RestConfig { calls_per_hour: 100, ..settings() }, true);
    server.backend.others.store(true, Ordering::Relaxed);
    let admitted = |token| (0..300).filter(|_| list_rings(&server, token, "").status == 200).count();
    assert_eq!(admitted("owner"), 90);
    let refused = list_rings(&server, "owner", "");
    assert!(refused.problem(429).contains("the 10 that are left"), "{}", refused.body);
    assert_eq!(admitted("colleague"), 5);
    // The time that the refusal states is true: not a second earlier.
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    server.backend.now.fetch_add(wait - 1, Ordering::Relaxed);
    list_rings(&server, "owner", "").problem(429);
    server.backend.now.fetch_add(1, Ordering::Relaxed);
    assert_eq!(list_rings(&server, "owner", "").status, 200);
}

#[test]
fn a_caller_who_is_alone_has_all_calls_of_the_project_and_no_more() {
    let server = TestServer::with(RestConfig { calls_per_hour: 100, ..settings() }, true);
    let admitted = |token| (0..150).filter(|_| list_rings(&server, token, "").status == 200).count();
    assert_eq!(admitted("owner"), 100);
    assert_eq!(admitted("colleague"), 0, "the sum is the project's");
}

#[test]
fn requests_for_tokens_are_counted_by_account() {
    let server = TestServer::with(RestConfig { calls_per_hour: 3, ..settings() }, true);
    let exchange = || {
        let form = "grant_type=refresh_token&refresh_token=good";
        let call = Request::builder()
            .method("POST")
            .uri("/token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        server.send(call.body(Body::from(form)).unwrap())
    };
    for _ in 0..3 {
        assert_eq!(exchange().status, 200);
    }
    let refused = exchange();
    assert_eq!(refused.status, 429, "{}", refused.body);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    // Another account calls as before.
    assert_eq!(list_rings(&server, "colleague", "").status, 200);
    server.backend.now.fetch_add(wait, Ordering::Relaxed);
    assert_eq!(exchange().status, 200);
}

#[test]
fn an_account_without_grants_does_not_use_up_a_projects_quota() {
    let server = TestServer::with(RestConfig { calls_per_hour: 2, ..settings() }, true);
    let other =
        project_path("/keyrings").replace(&super::PROJECT.to_string(), &Uuid::from_u128(9).to_string());
    for expected in [200, 200, 429] {
        let response = server.send(request("GET", &other).body(Body::empty()).unwrap());
        assert_eq!(response.status, expected);
    }
    let owner = Request::builder().uri(&other).header(header::AUTHORIZATION, "Bearer everywhere");
    assert_eq!(server.send(owner.body(Body::empty()).unwrap()).status, 200);
}

#[test]
fn invalid_tokens_are_limited_by_address_and_valid_ones_still_work() {
    let server = TestServer::new();
    let attempt = || {
        let call =
            Request::builder().uri(project_path("/keyrings")).header(header::AUTHORIZATION, "Bearer guess");
        server.send(call.body(Body::empty()).unwrap())
    };
    for _ in 0..1000 {
        assert_eq!(attempt().status, 401);
    }
    let response = attempt();
    response.problem(429);
    assert!(response.header("retry-after").is_some());
    assert_eq!(server.call("GET", "/keyrings", Body::empty()).status, 200);
}

#[test]
fn health_and_metrics_need_no_token() {
    let server = TestServer::new();
    let get = |server: &TestServer, path: &str| {
        server.send(Request::builder().uri(path).body(Body::empty()).unwrap())
    };
    assert_eq!(get(&server, "/healthz").status, 200);
    assert_eq!(get(&server, "/readyz").json()["hsm"], "ok");
    *server.backend.hsm.lock().unwrap() = Err("CKR_DEVICE_REMOVED".to_owned());
    // The result is cached: the HSM is not checked again.
    assert_eq!(get(&server, "/readyz").status, 200);
    let later = TestServer::new();
    *later.backend.hsm.lock().unwrap() = Err("CKR_DEVICE_REMOVED in slot 7".to_owned());
    let response = get(&later, "/readyz");
    assert_eq!((response.status, response.json()["hsm"].as_str()), (503, Some("failed")));
    assert_eq!(response.json()["database"], "ok");
    assert!(!response.body.contains("slot"), "{}", response.body);

    server.call("GET", "/keyrings", Body::empty());
    server.call("GET", "/keyrings?limit=0", Body::empty());
    let text = get(&server, "/metrics").body;
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
fn metrics_are_served_to_this_machine_only_by_default() {
    let mut server = TestServer::new();
    server.peer = "192.0.2.7:4711".parse().unwrap();
    let get =
        |server: &TestServer| server.send(Request::builder().uri("/metrics").body(Body::empty()).unwrap());
    assert!(get(&server).problem(403).contains("metrics_public"));
    server.state.apply_settings(RestConfig { metrics_public: true, ..settings() });
    assert_eq!(get(&server).status, 200);
    // Behind a proxy on this machine, the client's address decides.
    server.peer = "127.0.0.1:4711".parse().unwrap();
    server.state.apply_settings(RestConfig { trust_forwarded_for: true, ..settings() });
    let call = Request::builder().uri("/metrics").header("x-forwarded-for", "127.0.0.1, 192.0.2.7");
    server.send(call.body(Body::empty()).unwrap()).problem(403);
}

/// A web page whose name resolves to a loopback address must not read them, and a proxy on this machine must not serve them
/// to others.
#[test]
fn metrics_are_not_served_under_other_names_or_through_a_proxy() {
    let server = TestServer::new();
    let status = |host: &str, header: Option<&str>| {
        let mut call = Request::builder().uri("/metrics").header("host", host);
        if let Some(header) = header {
            call = call.header(header, "for=192.0.2.1");
        }
        server.send(call.body(Body::empty()).unwrap()).status
    };
    for host in
        ["127.0.0.1:9200", "127.0.0.1", "localhost:9200", "LOCALHOST", "[::1]:9200", "[::1]", "10.1.2.3:80"]
    {
        assert_eq!(status(host, None), 200, "{host}");
        for header in ["forwarded", "via", "x-forwarded-for", "X-Real-IP"] {
            assert_eq!(status(host, Some(header)), 403, "{host}, {header}");
        }
    }
    for host in [
        "attacker.example",
        "attacker.example:9200",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "",
    ] {
        assert_eq!(status(host, None), 403, "{host}");
    }
    server.state.apply_settings(RestConfig { metrics_public: true, ..settings() });
    assert_eq!(status("kms.example", Some("via")), 200);
}

#[test]
fn a_request_names_its_host_once_and_its_path_exactly() {
    let server = TestServer::new();
    let path = project_path("/keyrings");
    let send = |version, hosts: &[&str], path: &str| {
        let call = request("GET", path).version(version);
        let call = hosts.iter().fold(call, |call, host| call.header("host", *host));
        server.send_as_is(call.body(Body::empty()).unwrap())
    };
    for (version, hosts) in [
        (Version::HTTP_11, &[][..]),
        (Version::HTTP_11, &["a", "a"][..]),
        (Version::HTTP_10, &["a", "b"][..]),
    ] {
        let response = send(version, hosts, &path);
        assert!(response.problem(400).contains("Host"), "{}", response.body);
        assert!(response.header("x-trace-id").is_some());
    }
    assert!(server.backend.operations.lock().unwrap().is_empty());
    assert_eq!(send(Version::HTTP_11, &["a"], &path).status, 200);
    assert_eq!(send(Version::HTTP_10, &[], &path).status, 200);
    // What a vendor's SDK sends whose endpoint ends in a slash.
    assert_eq!(send(Version::HTTP_11, &["a"], &format!("/{path}")).status, 200);
    for other in [path.replacen("/v1/", "/v1//", 1), format!("/.{path}")] {
        assert_eq!(send(Version::HTTP_11, &["a"], &other).status, 404, "{other}");
    }
}
