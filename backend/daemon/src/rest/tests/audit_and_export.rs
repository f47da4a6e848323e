//! The audit log, the export and the usage, asked for over REST.

use super::*;

fn get(world: &World, path: &str) -> Heard {
    world.send(request("GET", path).body(Body::empty()).unwrap())
}

#[test]
fn the_audit_log_answers_and_refuses_in_its_own_form() {
    let world = World::new();
    let log = format!("/v2/projects/{PROJECT}");
    let range = "startTimeRange=2026-11-26T00%3A00%3A00Z&endTimeRange=2026-11-26T10%3A00%3A00%2B00:00";
    let heard = get(&world, &format!("{log}?{range}&limit=3"));
    assert_eq!((heard.status, heard.header("content-type")), (200, Some("application/json")));
    assert_eq!(heard.json(), serde_json::json!({ "items": [], "limit": 3 }));
    assert!(heard.header("ratelimit-remaining").is_some());
    let told = world.notes.reported.lock().unwrap().remove(0);
    assert!(told.contains("limit: 3") && told.starts_with(&PROJECT.to_string()), "{told}");

    let refused = get(&world, &log);
    let body = refused.json();
    assert_eq!((refused.status, &body["status"], &body["path"]), (400, &400.into(), &log.as_str().into()));
    assert!(body["message"].as_str().unwrap().contains("startTimeRange"), "{body}");
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'), "{body}");
}

#[test]
fn export_and_usage_are_below_the_project() {
    let world = World::new();
    let export = world.call("GET", "/export", Body::empty());
    assert_eq!((export.status, &export.json()["exported"]), (200, &PROJECT.to_string().into()));
    assert!(export.header("ratelimit-remaining").is_some() && export.header("x-trace-id").is_some());
    let usage = "/usage?from=2026-11-26T00:00:00Z&to=2026-11-26T10:00:00Z";
    let usage = world.call("GET", usage, Body::empty());
    assert_eq!((usage.status, &usage.json()["versionHours"]), (200, &0.into()));
    assert!(world.notes.reported.lock().unwrap().remove(0).contains("Usage"));
    world.call("GET", "/usage", Body::empty()).refused(400);
}
