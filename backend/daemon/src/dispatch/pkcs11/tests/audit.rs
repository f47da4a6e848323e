//! What providers' requests leave in the audit log.

use kms_core::audit::{CryptoAudit, Kind, Record};
use kms_store::AuditFilter;

use super::attacks::yes;
use super::*;

/// The log since its entry `after`; it must be whole.
fn log(fixture: &Fixture, after: u64) -> Vec<Record> {
    let store = &fixture.backend.dispatch().store;
    store.verify_audit(None, |_, _| {}).unwrap().unwrap();
    let all = AuditFilter { project: None, from: 0, until: u64::MAX };
    let page = store.audit_page(&all, None, 1000).unwrap();
    page.into_iter().filter(|record| record.sequence > after).collect()
}

fn end(fixture: &Fixture) -> u64 {
    fixture.backend.dispatch().store.audit_head().unwrap().last.sequence
}

/// Event, caller, call and status of each entry.
fn told(records: &[Record]) -> Vec<(&str, &str, &str, u16)> {
    records
        .iter()
        .map(|Record { body, .. }| {
            (body.event.as_str(), body.name.as_str(), body.endpoint.as_str(), body.status)
        })
        .collect()
}

#[test]
fn administrative_requests_are_told_with_who_what_and_which() {
    let Some(mut fixture) = Fixture::new("audit::administrative_requests_are_told_with_who_what_and_which")
    else {
        return;
    };
    let begin = end(&fixture);
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    fixture.pair(true);
    fixture.aes("session", false);
    let label = Template(vec![Attribute::bytes(AttributeType::LABEL, "renamed")]);
    fixture.ask(Request::SetAttributes { object: key.clone(), template: label.clone() }).unwrap();
    // A strict ring does not let it: that is told, too.
    let copy = Request::Copy { object: key.clone(), template: Template::default() };
    assert_eq!(fixture.ask(copy), Err(Rv::ACTION_PROHIBITED));
    let value = vec![
        Attribute::ulong(AttributeType::CLASS, ObjectClass::DATA.0.into()),
        yes(AttributeType::TOKEN),
        Attribute::bytes(AttributeType::VALUE, "the data themselves"),
    ];
    let Ok(Response::Object(data)) = fixture.ask(Request::Create { template: Template(value) }) else {
        panic!("data objects can be made")
    };
    fixture.ask(Request::Destroy { object: data.object }).unwrap();
    fixture.ask(Request::Destroy { object: key.clone() }).unwrap();
    fixture.ask(Request::Destroy { object: key }).unwrap();
    let (old, new) = (Secret::from(b"1234".as_slice()), Secret::from(b"567890".as_slice()));
    fixture.ask(Request::SetPin { role: Role::User, old, new }).unwrap();
    fixture.log_in(Role::Officer, "12345678").unwrap();
    fixture.ask(Request::InitPin { pin: Secret::from(b"abcdef".as_slice()) }).unwrap();
    fixture
        .ask(Request::InitToken { pin: Secret::from(b"12345678".as_slice()), label: "new".to_owned() })
        .unwrap();

    let records = log(&fixture, begin);
    let user = "user@strict";
    assert_eq!(
        told(&records),
        [
            ("kms.principal.login", user, "pkcs11 C_Login", 200),
            ("kms.key.create", user, "pkcs11 C_GenerateKey", 200),
            ("kms.key.create", user, "pkcs11 C_GenerateKeyPair", 200),
            ("kms.key.update", user, "pkcs11 C_SetAttributeValue", 200),
            ("kms.key.copy", user, "pkcs11 C_CopyObject", 403),
            ("kms.object.create", user, "pkcs11 C_CreateObject", 200),
            ("kms.object.destroy", user, "pkcs11 C_DestroyObject", 200),
            ("kms.key.version.destroy", user, "pkcs11 C_DestroyObject", 200),
            ("kms.principal.set-pin", user, "pkcs11 C_SetPIN", 200),
            ("kms.principal.login", "so@strict", "pkcs11 C_Login", 200),
            ("kms.principal.init-pin", "so@strict", "pkcs11 C_InitPIN", 200),
            ("kms.keyring.initialize", "so@strict", "pkcs11 C_InitToken", 200),
        ]
    );
    let (made, destroyed) = (&records[1].body, &records[7].body);
    assert_eq!(destroyed.resource, format!("{}/versions/1", made.resource));
    assert_eq!((&made.details["label"], &made.details["uid"]), (&"k".into(), &1000.into()));
    for Record { body, .. } in &records {
        let kind = if body.status == 200 { Kind::AdminActivity } else { Kind::PolicyDenied };
        assert_eq!(body.kind, kind);
    }
}

#[test]
fn denials_are_told_and_many_of_them_are_counted() {
    let Some(mut fixture) = Fixture::new("audit::denials_are_told_and_many_of_them_are_counted") else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    let begin = end(&fixture);
    for _ in 0..40 {
        fixture.sign(&key).unwrap_err();
    }
    assert_eq!(fixture.log_in(Role::User, "4321"), Err(Rv::PIN_INCORRECT));
    let records = log(&fixture, begin);
    let signs = records.iter().filter(|record| record.body.event == "kms.key.version.sign").count();
    let (last, denials) = (&records.last().unwrap().body, records.len());
    assert_eq!((signs, denials), (30, 31));
    assert_eq!((last.event.as_str(), last.status), ("kms.principal.login", 403));
    assert!(last.resource.ends_with("/principals/user"), "{}", last.resource);
    assert!(records.iter().all(|record| record.body.kind == Kind::PolicyDenied));
    fixture.backend.dispatch().summarise();
    let rest = log(&fixture, records.last().unwrap().sequence);
    let count = rest.iter().find(|record| record.body.event == "kms.key.version.sign").unwrap();
    assert_eq!(count.body.details["count"], 10);
}

#[test]
fn uses_are_counted_or_told_one_by_one_or_not_at_all() {
    let Some(mut fixture) = Fixture::new("audit::uses_are_counted_or_told_one_by_one_or_not_at_all") else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    let session = fixture.aes("session", false).object;
    let begin = end(&fixture);
    for _ in 0..5 {
        let sealed = fixture.encrypt(&key, b"data").unwrap();
        fixture.decrypt(&key, &sealed).unwrap();
        fixture.encrypt(&session, b"data").unwrap();
    }
    assert_eq!(end(&fixture), begin, "nothing is written while it is counted");
    fixture.backend.dispatch().summarise();
    let records = log(&fixture, begin);
    let user = "user@strict";
    assert_eq!(
        told(&records),
        [("kms.key.version.decrypt", user, "pkcs11", 200), ("kms.key.version.encrypt", user, "pkcs11", 200)]
    );
    assert!(records.iter().all(|record| record.body.details["count"] == 5));
    assert!(records[0].body.resource.ends_with("/versions/1"));
    fixture.backend.dispatch().summarise();
    assert_eq!(end(&fixture), begin + 2, "what was written is not counted again");

    let recorder = &fixture.backend.dispatch().recorder;
    recorder.set_crypto(CryptoAudit::Each);
    let begin = end(&fixture);
    fixture.encrypt(&key, b"data").unwrap();
    assert_eq!(end(&fixture), begin + 1, "it is on the disk before it is answered");
    fixture.backend.dispatch().recorder.set_crypto(CryptoAudit::Off);
    fixture.encrypt(&key, b"data").unwrap();
    fixture.backend.dispatch().summarise();
    assert_eq!(end(&fixture), begin + 1);
}

#[test]
fn no_secret_is_in_the_database() {
    let Some(mut fixture) = Fixture::new("audit::no_secret_is_in_the_database") else { return };
    fixture.backend.dispatch().recorder.set_crypto(CryptoAudit::Each);
    fixture.log_in(Role::User, "1234").unwrap();
    let (old, new) = (Secret::from(b"1234".as_slice()), Secret::from(b"pin-of-the-user".as_slice()));
    fixture.ask(Request::SetPin { role: Role::User, old, new }).unwrap();
    fixture.log_in(Role::User, "wrong-pin-guess").unwrap_err();
    let key = fixture.aes("k", true).object;
    let sealed = fixture.encrypt(&key, b"plaintext-that-is-secret").unwrap();
    fixture.decrypt(&key, &sealed).unwrap();
    let value = vec![
        Attribute::ulong(AttributeType::CLASS, ObjectClass::SECRET_KEY.0.into()),
        Attribute::ulong(AttributeType::KEY_TYPE, KeyType::AES.0.into()),
        yes(AttributeType::TOKEN),
        Attribute::bytes(AttributeType::VALUE, "key-bytes-of-32-bytes-exactly-!!"),
    ];
    fixture.slot = SlotId(1);
    fixture.log_in(Role::User, "1234").unwrap();
    fixture.ask(Request::Create { template: Template(value) }).unwrap();
    fixture.backend.dispatch().summarise();
    let home = fixture.home.clone();
    drop(fixture);
    let secrets: [&[u8]; 5] = [
        b"pin-of-the-user",
        b"wrong-pin-guess",
        b"plaintext-that-is-secret",
        b"key-bytes-of-32-bytes-exactly-!!",
        &sealed,
    ];
    let mut read = 0;
    for name in ["kms.db", "kms.db-wal"] {
        let Ok(bytes) = std::fs::read(home.join(name)) else { continue };
        read += bytes.len();
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} is in {name}", String::from_utf8_lossy(secret));
        }
    }
    assert!(read > 50_000, "only {read} bytes were read");
}

#[test]
fn versions_are_counted_while_they_are_available_and_exported_with_their_type() {
    let name = "audit::versions_are_counted_while_they_are_available_and_exported_with_their_type";
    let Some(mut fixture) = Fixture::new(name) else { return };
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    fixture.pair(true);
    fixture.aes("session", false);
    let now = fixture.backend.dispatch().clock.seconds();
    let usage = |fixture: &Fixture| {
        // The hour in which the test runs may end meanwhile.
        let hours = fixture.backend.usage(None, (now - 3600, u64::MAX)).unwrap();
        hours.hours.last().map_or(0, |hour| hour.versions)
    };
    // An hour later, for a version counts from the second in which it came.
    fixture.backend.dispatch().clock.advance(3600);
    assert_eq!(usage(&fixture), 2, "a secret key and a pair");
    fixture.ask(Request::Destroy { object: key }).unwrap();
    assert_eq!(usage(&fixture), 1, "what is to be destroyed is available no longer");
    let mut fixture = fixture.restart();
    fixture.backend.dispatch().clock.advance(7200);
    assert_eq!(usage(&fixture), 1, "the history survives a restart");
    fixture.log_in(Role::User, "1234").unwrap();

    let mut out = Vec::new();
    fixture.backend.export(None, &mut out).unwrap();
    let export: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let keys = export["projects"][0]["keyRings"][0]["keys"].as_array().unwrap();
    let told: Vec<_> = keys
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
    assert!(told.contains(&("aes-256", "destroyed", false)), "{told:?}");
    assert!(told.contains(&("rsa-2048", "active", true)), "{told:?}");
    assert!(keys.iter().any(|key| key["label"] == "k" && key["versions"][0]["destroyDate"].is_string()));
}

#[test]
fn a_project_is_told_its_own_log_and_who_may_not_is_told_off() {
    use kms_core::api::{Account, Grant, RequestContext, Role};
    use kms_protocol::Role as Role_;
    use uuid::Uuid;

    let Some(mut fixture) = Fixture::new("audit::a_project_is_told_its_own_log_and_who_may_not_is_told_off")
    else {
        return;
    };
    fixture.log_in(Role_::User, "1234").unwrap();
    fixture.aes("k", true);
    let dispatch = fixture.backend.dispatch();
    let project = dispatch.store.projects().unwrap().first().map(|project| project.id).unwrap_or_default();
    let context = |role| RequestContext {
        account: Arc::new(Account {
            id: Uuid::from_u128(5),
            email: "reader@test".to_owned(),
            grants: vec![Grant { role, project: Some(project), ring: None }],
        }),
        source: [127, 0, 0, 1].into(),
        agent: Arc::from("test"),
        endpoint: "GET /v2/projects".to_owned(),
        trace: Uuid::from_u128(6),
    };
    let now = dispatch.clock.millis();
    let ask = |after, limit| Report::Audit { range: (now - 60_000, now + 60_000), after, limit };
    let read = |report: &Report| -> serde_json::Value {
        match dispatch.report(&context(Role::AuditReader), project, report).unwrap() {
            ReportOutput::Audit(items) => serde_json::to_value(items).unwrap(),
            ReportOutput::Usage(usage) => panic!("a page of the log, not {usage:?}"),
        }
    };
    let all = read(&ask(None, 50));
    let events: Vec<_> =
        all["items"].as_array().unwrap().iter().map(|item| item["eventName"].as_str().unwrap()).collect();
    assert!(events.contains(&"kms.keyring.create") && events.contains(&"kms.key.create"), "{events:?}");
    assert_eq!(all["cursor"], serde_json::Value::Null);
    let first = read(&ask(None, 1));
    let cursor = first["cursor"].as_str().unwrap();
    let (at, sequence) = cursor.split_once('_').unwrap();
    let after = AuditPlace { at: at.parse().unwrap(), sequence: sequence.parse().unwrap() };
    assert_eq!(read(&ask(Some(after), 1))["items"][0], all["items"][1]);

    let begin = end(&fixture);
    let denied = dispatch.report(&context(Role::User), project, &ask(None, 1)).err().unwrap();
    assert_eq!(denied.status.code(), 403);
    let export = dispatch.begin_export(&context(Role::AuditReader), project).err().unwrap();
    assert_eq!(export.status.code(), 403);
    dispatch.begin_export(&context(Role::Owner), project).unwrap();
    let told: Vec<_> =
        log(&fixture, begin).into_iter().map(|record| (record.body.event, record.body.status)).collect();
    let told: Vec<_> = told.iter().map(|(event, status)| (event.as_str(), *status)).collect();
    assert_eq!(
        told,
        [("audit-log.entry.get", 403), ("kms.project.export", 403), ("kms.project.export", 200)]
    );
}
