//! The entries of providers' requests in the audit log.

use kms_core::audit::{CryptoAudit, Kind, Record};

use super::requests::yes;
use super::*;

/// Event, caller, call and status of each entry.
fn summaries(records: &[Record]) -> Vec<(&str, &str, &str, u16)> {
    records
        .iter()
        .map(|Record { body, .. }| {
            (body.event.as_str(), body.name.as_str(), body.endpoint.as_str(), body.status)
        })
        .collect()
}

#[test]
fn administrative_requests_are_recorded_with_caller_function_and_resource() {
    let Some(mut fixture) =
        Fixture::new("audit::administrative_requests_are_recorded_with_caller_function_and_resource")
    else {
        return;
    };
    let begin = fixture.audit_end();
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    fixture.pair(true);
    fixture.aes("session", false);
    let label = Template(vec![Attribute::bytes(AttributeType::LABEL, "renamed")]);
    fixture.send(Request::SetAttributes { object: key.clone(), template: label.clone() }).unwrap();
    // Not permitted in a strict ring; the denial is recorded as well.
    let copy = Request::Copy { object: key.clone(), template: Template::default() };
    assert_eq!(fixture.send(copy), Err(Rv::ACTION_PROHIBITED));
    let value = vec![
        Attribute::ulong(AttributeType::CLASS, ObjectClass::DATA.0.into()),
        yes(AttributeType::TOKEN),
        Attribute::bytes(AttributeType::VALUE, "the value of a data object"),
    ];
    let Ok(Response::Object(data)) = fixture.send(Request::Create { template: Template(value) }) else {
        panic!("no data object")
    };
    fixture.send(Request::Destroy { object: data.object }).unwrap();
    fixture.send(Request::Destroy { object: key.clone() }).unwrap();
    fixture.send(Request::Destroy { object: key }).unwrap();
    let (old, new) = (Secret::from(b"1234".as_slice()), Secret::from(b"567890".as_slice()));
    fixture.send(Request::SetPin { role: Role::User, old, new }).unwrap();
    fixture.log_in(Role::Officer, "12345678").unwrap();
    fixture.send(Request::InitPin { pin: Secret::from(b"abcdef".as_slice()) }).unwrap();
    fixture
        .send(Request::InitToken { pin: Secret::from(b"12345678".as_slice()), label: "new".to_owned() })
        .unwrap();

    let records = fixture.audit_log(begin);
    let user = "user@strict";
    assert_eq!(
        summaries(&records),
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
    let (created, destroyed) = (&records[1].body, &records[7].body);
    assert_eq!(destroyed.resource, format!("{}/versions/1", created.resource));
    assert_eq!((&created.details["label"], &created.details["uid"]), (&"k".into(), &1000.into()));
    for Record { body, .. } in &records {
        let kind = if body.status == 200 { Kind::AdminActivity } else { Kind::PolicyDenied };
        assert_eq!(body.kind, kind);
    }
}

#[test]
fn denials_are_recorded_and_many_of_them_are_counted() {
    let Some(mut fixture) = Fixture::new("audit::denials_are_recorded_and_many_of_them_are_counted") else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    let begin = fixture.audit_end();
    for _ in 0..40 {
        fixture.sign(&key).unwrap_err();
    }
    assert_eq!(fixture.log_in(Role::User, "4321"), Err(Rv::PIN_INCORRECT));
    let records = fixture.audit_log(begin);
    let signs = records.iter().filter(|record| record.body.event == "kms.key.version.sign").count();
    let (last, denials) = (&records.last().unwrap().body, records.len());
    assert_eq!((signs, denials), (30, 31));
    assert_eq!((last.event.as_str(), last.status), ("kms.principal.login", 403));
    assert!(last.resource.ends_with("/principals/user"), "{}", last.resource);
    assert!(records.iter().all(|record| record.body.kind == Kind::PolicyDenied));
    fixture.backend.dispatch().summarise();
    let rest = fixture.audit_log(records.last().unwrap().sequence);
    let count = rest.iter().find(|record| record.body.event == "kms.key.version.sign").unwrap();
    assert_eq!(count.body.details["count"], 10);
}

#[test]
fn uses_are_counted_or_recorded_one_by_one_or_not_at_all() {
    let Some(mut fixture) = Fixture::new("audit::uses_are_counted_or_recorded_one_by_one_or_not_at_all")
    else {
        return;
    };
    fixture.log_in(Role::User, "1234").unwrap();
    let key = fixture.aes("k", true).object;
    let session = fixture.aes("session", false).object;
    let begin = fixture.audit_end();
    for _ in 0..5 {
        let sealed = fixture.encrypt(&key, b"data").unwrap();
        fixture.decrypt(&key, &sealed).unwrap();
        fixture.encrypt(&session, b"data").unwrap();
    }
    assert_eq!(fixture.audit_end(), begin, "counting writes nothing");
    fixture.backend.dispatch().summarise();
    let records = fixture.audit_log(begin);
    let user = "user@strict";
    assert_eq!(
        summaries(&records),
        [("kms.key.version.decrypt", user, "pkcs11", 200), ("kms.key.version.encrypt", user, "pkcs11", 200)]
    );
    assert!(records.iter().all(|record| record.body.details["count"] == 5));
    assert!(records[0].body.resource.ends_with("/versions/1"));
    fixture.backend.dispatch().summarise();
    assert_eq!(fixture.audit_end(), begin + 2, "written counts are not written again");

    fixture.backend.dispatch().audit_writer.set_crypto(CryptoAudit::Each);
    let begin = fixture.audit_end();
    fixture.encrypt(&key, b"data").unwrap();
    assert_eq!(fixture.audit_end(), begin + 1, "the entry is on the disk before the response is sent");
    fixture.backend.dispatch().audit_writer.set_crypto(CryptoAudit::Off);
    fixture.encrypt(&key, b"data").unwrap();
    fixture.backend.dispatch().summarise();
    assert_eq!(fixture.audit_end(), begin + 1);
}

#[test]
fn no_secret_is_in_the_database() {
    let Some(mut fixture) = Fixture::new("audit::no_secret_is_in_the_database") else { return };
    fixture.backend.dispatch().audit_writer.set_crypto(CryptoAudit::Each);
    fixture.log_in(Role::User, "1234").unwrap();
    let (old, new) = (Secret::from(b"1234".as_slice()), Secret::from(b"pin-of-the-user".as_slice()));
    fixture.send(Request::SetPin { role: Role::User, old, new }).unwrap();
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
    fixture.send(Request::Create { template: Template(value) }).unwrap();
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
