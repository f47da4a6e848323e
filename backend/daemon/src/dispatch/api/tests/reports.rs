//! The reports of a project: usage, export and audit log.

use std::sync::Arc;

use kms_core::api;
use kms_protocol::{Request, Role};
use uuid::Uuid;

use crate::dispatch::tests::Fixture;
use crate::dispatch::{AuditCursor, Report, ReportOutput};

#[test]
fn available_versions_are_counted_and_exported_with_their_type() {
    let name = "api::tests::reports::available_versions_are_counted_and_exported_with_their_type";
    let Some(mut fixture) = Fixture::start(name) else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    fixture.pair(true);
    fixture.aes("session", false);
    let now = fixture.backend.dispatch().clock.seconds();
    let usage = |fixture: &Fixture| {
        // The current hour may end while the test runs.
        let hours = fixture.backend.usage(None, (now - 3600, u64::MAX)).unwrap();
        hours.hours.last().map_or(0, |hour| hour.versions)
    };
    // An hour later, because a version counts from the second of its creation.
    fixture.advance_clock(3600);
    assert_eq!(usage(&fixture), 2, "a secret key and a pair");
    fixture.send(Request::Destroy { object: key }).unwrap();
    assert_eq!(usage(&fixture), 1, "a version that is scheduled for destruction is not available");
    let mut fixture = fixture.restart();
    fixture.advance_clock(7200);
    assert_eq!(usage(&fixture), 1, "the history survives a restart");
    fixture.log_in(Role::User, "1234").unwrap();

    let mut out = Vec::new();
    fixture.backend.export(None, &mut out).unwrap();
    let export: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let keys = export["projects"][0]["keyRings"][0]["keys"].as_array().unwrap();
    let exported: Vec<_> = keys
        .iter()
        .map(|key| {
            let version = &key["versions"][0];
            (
                key["type"].as_str().unwrap(),
                version["state"].as_str().unwrap(),
                version["publicKey"].is_string(),
            )
        })
        .collect();
    assert!(exported.contains(&("aes-256", "destroyed", false)), "{exported:?}");
    assert!(exported.contains(&("rsa-2048", "active", true)), "{exported:?}");
    assert!(keys.iter().any(|key| key["label"] == "k" && key["versions"][0]["destroyDate"].is_string()));
}

#[test]
fn a_report_needs_its_role_and_shows_the_log_of_its_project() {
    let name = "api::tests::reports::a_report_needs_its_role_and_shows_the_log_of_its_project";
    let Some(mut fixture) = Fixture::start(name) else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    fixture.aes("k", true);
    let dispatch = fixture.backend.dispatch();
    let project = dispatch.store.projects().unwrap().first().map(|project| project.id).unwrap_or_default();
    let context = |role| api::RequestContext {
        account: Arc::new(api::Account {
            id: Uuid::from_u128(5),
            email: "reader@test".to_owned(),
            grants: vec![api::Grant { role, project: Some(project), ring: None }],
        }),
        source: [127, 0, 0, 1].into(),
        area: api::NetworkArea::Unbound,
        agent: Arc::from("test"),
        endpoint: "GET /v2/projects".to_owned(),
        trace: Uuid::from_u128(6),
    };
    let now = dispatch.clock.millis();
    let audit = |after, limit| Report::Audit { range: (now - 60_000, now + 60_000), after, limit };
    let read = |report: &Report| -> serde_json::Value {
        match dispatch.report(&context(api::Role::AuditReader), project, report).unwrap() {
            ReportOutput::Audit(items) => serde_json::to_value(items).unwrap(),
            ReportOutput::Usage(usage) => panic!("expected a page of the audit log, not {usage:?}"),
        }
    };
    let all = read(&audit(None, 50));
    let events: Vec<_> =
        all["items"].as_array().unwrap().iter().map(|item| item["eventName"].as_str().unwrap()).collect();
    assert!(events.contains(&"kms.keyring.create") && events.contains(&"kms.key.create"), "{events:?}");
    assert_eq!(all["cursor"], serde_json::Value::Null);
    let first = read(&audit(None, 1));
    let cursor = first["cursor"].as_str().unwrap();
    let (at, sequence) = cursor.split_once('_').unwrap();
    let after = AuditCursor { at: at.parse().unwrap(), sequence: sequence.parse().unwrap() };
    assert_eq!(read(&audit(Some(after), 1))["items"][0], all["items"][1]);

    let begin = fixture.audit_end();
    let denied = dispatch.report(&context(api::Role::User), project, &audit(None, 1)).err().unwrap();
    assert_eq!(denied.status.code(), 403);
    let export = dispatch.begin_export(&context(api::Role::AuditReader), project).err().unwrap();
    assert_eq!(export.status.code(), 403);
    dispatch.begin_export(&context(api::Role::Owner), project).unwrap();
    let records = fixture.audit_log(begin);
    let recorded: Vec<_> =
        records.iter().map(|record| (record.body.event.as_str(), record.body.status)).collect();
    assert_eq!(
        recorded,
        [("audit-log.entry.get", 403), ("kms.project.export", 403), ("kms.project.export", 200)]
    );
}
