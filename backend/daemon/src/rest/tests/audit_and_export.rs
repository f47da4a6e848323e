//! The audit log, the export and the usage report over REST.

use super::*;

fn get(server: &TestServer, path: &str) -> TestResponse {
    server.send(request("GET", path).body(Body::empty()).unwrap())
}

#[test]
fn the_audit_log_responds_in_its_own_format() {
    let server = TestServer::new();
    let log = format!("/v2/projects/{PROJECT}");
    let range = "startTimeRange=2026-11-26T00%3A00%3A00Z&endTimeRange=2026-11-26T10%3A00%3A00%2B00:00";
    let response = get(&server, &format!("{log}?{range}&limit=3"));
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    assert_eq!(response.json(), serde_json::json!({ "items": [], "limit": 3 }));
    assert!(response.header("ratelimit-remaining").is_some());
    let report = server.backend.reported.lock().unwrap().remove(0);
    assert!(report.contains("limit: 3") && report.starts_with(&PROJECT.to_string()), "{report}");

    let rejected = get(&server, &log);
    let body = rejected.json();
    assert_eq!((rejected.status, &body["status"], &body["path"]), (400, &400.into(), &log.as_str().into()));
    assert!(body["message"].as_str().unwrap().contains("startTimeRange"), "{body}");
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'), "{body}");
}

#[test]
fn export_and_usage_are_below_the_project() {
    let server = TestServer::new();
    let export = server.call("GET", "/export", Body::empty());
    assert_eq!((export.status, &export.json()["exported"]), (200, &PROJECT.to_string().into()));
    assert!(export.header("ratelimit-remaining").is_some() && export.header("x-trace-id").is_some());
    let usage = "/usage?from=2026-11-26T00:00:00Z&to=2026-11-26T10:00:00Z";
    let usage = server.call("GET", usage, Body::empty());
    assert_eq!((usage.status, &usage.json()["versionHours"]), (200, &0.into()));
    assert!(server.backend.reported.lock().unwrap().remove(0).contains("Usage"));
    server.call("GET", "/usage", Body::empty()).problem(400);
}
