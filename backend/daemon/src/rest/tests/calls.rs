//! What calls become: operations, or problems in plain words.

use axum::body::Body;
use axum::http::{Request, header};
use kms_core::api::{
    AccessScope, Algorithm, EncryptedData, Operation, Outcome, Page, Problem, Status, WrappingPurpose,
};
use uuid::Uuid;

use super::super::routes::{self, Handler};
use super::{ID, PROJECT, World, below, request};

const KEY: &str = r#"{"displayName":"k","protection":"software","purpose":"symmetric_encrypt_decrypt","algorithm":"aes_256_gcm""#;

/// A body that each operation takes.
fn body_of(schema: Option<&str>) -> String {
    match schema {
        None => String::new(),
        Some("CreateKeyRingPayload") => r#"{"displayName":"r"}"#.to_owned(),
        Some("CreateKeyPayload") => format!("{KEY}}}"),
        Some("CreateWrappingKeyPayload") => {
            r#"{"displayName":"w","protection":"software","purpose":"wrap_symmetric_key","algorithm":"rsa_2048_oaep_sha256"}"#.to_owned()
        }
        Some("ImportKeyPayload") => format!(r#"{{"wrappingKeyId":"{ID}","wrappedKey":"eA=="}}"#),
        Some("VerifyPayload") => r#"{"data":"eA==","signature":"eA=="}"#.to_owned(),
        Some("EncryptPayload" | "DecryptPayload" | "SignPayload") => r#"{"data":"eA=="}"#.to_owned(),
        Some("EditKeyRingPayload" | "EditKeyPayload" | "MakeDataKeyPayload") => "{}".to_owned(),
        Some(other) => panic!("no body for {other}"),
    }
}

fn path_of(path: &str) -> String {
    let path = path.replace("{projectId}", &PROJECT.to_string()).replace("{regionId}", "eu01");
    let path = path.replace("{versionNumber}", "1");
    ["{keyRingId}", "{keyId}", "{wrappingKeyId}"].iter().fold(path, |path, name| path.replace(name, ID))
}

#[test]
fn every_route_reaches_its_operation_and_answers_with_its_own_code() {
    let world = World::new();
    let mut events = Vec::new();
    for route in routes::all().filter(|route| matches!(route.handler, Handler::Operation(_))) {
        let verb = format!("{:?}", route.verb).to_uppercase();
        let heard =
            world.send(request(&verb, &path_of(route.path)).body(body_of(route.takes).into()).unwrap());
        assert_eq!((heard.status, heard.body.as_str()), (route.success, ""), "{}", route.id);
        assert!(Uuid::try_parse(heard.header("x-trace-id").unwrap()).is_ok());
        let operation = world.asked();
        let name = format!("{operation:?}");
        let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
        assert_eq!(name, route.id);
        assert_eq!(operation.subject().project(), PROJECT);
        events.push(route.id);
    }
    assert_eq!(events.len(), 32);
}

#[test]
fn an_answer_is_json_with_its_headers() {
    let world = World::new();
    *world.notes.answer.lock().unwrap() = Ok(Outcome::Encrypted(EncryptedData { data: "AQ==".to_owned() }));
    let heard = world.call("POST", "/keyrings/{id}/keys/{id}/versions/1/encrypt", r#"{"data":""}"#);
    assert_eq!((heard.status, heard.body.as_str()), (200, r#"{"data":"AQ=="}"#));
    assert_eq!(heard.header("content-type"), Some("application/json"));
    assert_eq!(heard.header("ratelimit-limit"), Some("10000"));
    assert_eq!(heard.header("ratelimit-remaining"), Some("9999"));
    assert_eq!(heard.header("cache-control"), Some("no-store"));
    // No bytes are bytes too.
    let Operation::Encrypt { data, .. } = world.asked() else { panic!("something else was asked") };
    assert!(data.0.is_empty());
}

#[test]
fn what_clients_send_is_understood() {
    let world = World::new();
    // The Python SDK sends defaults; others send null; Go ends its body with a line break.
    world.call(
        "POST",
        "/keyrings/{id}/keys",
        format!("{KEY},\"access_scope\":\"SNA\",\"importOnly\":true,\"description\":\"\"}}\n"),
    );
    let Operation::CreateKey { ask, repeat: None, .. } = world.asked() else { panic!("something else") };
    assert_eq!((ask.access_scope, ask.import_only, ask.description.text()), (AccessScope::Sna, true, None));
    world.call("POST", "/keyrings/{id}/keys", format!("{KEY},\"access_scope\":null,\"importOnly\":null,\"description\":null,\"tags\":{{\"a\":\"b\"}},\"rotationDays\":90}}"));
    let Operation::CreateKey { ask, .. } = world.asked() else { panic!("something else") };
    assert_eq!((ask.algorithm, ask.rotation_days), (Algorithm::Aes256Gcm, Some(90)));
    assert_eq!(ask.tags.as_map()["a"], "b");
    // A slash may be escaped in JSON.
    world.call("POST", "/keyrings/{id}/keys/{id}/versions/1/sign", r#"{"data":"\/\/\/\/"}"#);
    let Operation::Sign { data, version } = world.asked() else { panic!("something else") };
    assert_eq!((data.0.as_slice(), version.number), ([255, 255, 255].as_slice(), 1));
    // A doubled slash, no content type, another content type where there is no body.
    let path = format!("/{}", below("/keyrings?limit=2&cursor=abc&other=1"));
    assert_eq!(
        world
            .send(
                request("GET", &path).header(header::CONTENT_TYPE, "text/plain").body(Body::empty()).unwrap()
            )
            .status,
        200
    );
    let Operation::ListKeyRings { page, .. } = world.asked() else { panic!("something else") };
    assert_eq!(page, Page { limit: Some(2), cursor: Some("abc".to_owned()) });
    let repeat = request("POST", &below("/keyrings"))
        .header("Idempotency-Key", ID)
        .body(r#"{"displayName":"r"}"#.into());
    world.send(repeat.unwrap());
    let Operation::CreateKeyRing { repeat, .. } = world.asked() else { panic!("something else") };
    assert_eq!(repeat, Uuid::try_parse(ID).ok());
}

#[test]
fn edits_tell_absent_from_null() {
    let world = World::new();
    let edit = |body: &'static str| {
        assert_eq!(world.call("PATCH", "/keyrings/{id}/keys/{id}", body).status, 200, "{body}");
        let Operation::EditKey { ask, .. } = world.asked() else { panic!("something else") };
        ask
    };
    let nothing = edit("{}");
    assert!(nothing.display_name.is_none() && nothing.description.is_none() && nothing.tags.is_none());
    assert_eq!(nothing.rotation_days, None);
    let away = edit(r#"{"description":null,"tags":null,"rotationDays":null}"#);
    assert_eq!((away.description.unwrap().text(), away.rotation_days), (None, Some(None)));
    assert!(away.tags.unwrap().as_map().is_empty());
    assert_eq!(edit(r#"{"rotationDays":30}"#).rotation_days, Some(Some(30)));
    world.call("PATCH", "/keyrings/{id}/keys/{id}", r#"{"rotationDays":0}"#).refused(400);
}

#[test]
fn wrong_paths_are_told() {
    let world = World::new();
    for (path, status, says) in [
        ("/v1/projects/x/regions/eu01/keyrings".to_owned(), 400, "projectId must be a UUID; this is \"x\""),
        (below("/keyrings").replace("eu01", "eu02"), 404, "no region \"eu02\""),
        (below("/keyrings/7"), 400, "keyRingId must be a UUID"),
        (below("/keyrings/22222222222242228222222222222222"), 400, "keyRingId must be a UUID"),
        (below("/keyrings/{id}/keys/%FF"), 400, "not UTF-8"),
        (
            below("/keyrings/{id}/keys/{id}/versions/one"),
            400,
            "versionNumber must be a whole number; this is \"one\"",
        ),
        (below("/keyrings/{id}/keys/{id}/versions/99999999999999999999"), 400, "whole number"),
        (below("/keyrings?limit=0"), 400, "limit must be 1 to 1000"),
        (below("/keyrings?limit=x"), 400, "limit must be 1 to 1000"),
        (below("/nothing"), 404, "/openapi.json"),
        ("/".to_owned(), 404, "/openapi.json"),
    ] {
        let heard = world.send(request("GET", &path).body(Body::empty()).unwrap());
        let message = heard.refused(status);
        assert!(message.contains(says), "{path}: {message}");
        assert!(heard.header("x-trace-id").is_some());
    }
    // Numbers that no version has are asked for all the same: 404 is for the rooms to say.
    for number in ["0", "-1", "+1"] {
        world.call("GET", &format!("/keyrings/{{id}}/keys/{{id}}/versions/{number}"), Body::empty());
        world.asked();
    }
    let heard = world.call("PUT", "/keyrings", Body::empty());
    assert!(heard.refused(405).contains("method"));
    assert_eq!(heard.header("allow"), Some("GET,HEAD,POST"));
}

#[test]
fn wrong_bodies_are_told_with_their_field() {
    let world = World::new();
    let keys = "/keyrings/{id}/keys";
    for (path, body, says) in [
        ("/keyrings", "", "the body is empty"),
        ("/keyrings", "{", "EOF"),
        ("/keyrings", "[]", "expected struct"),
        ("/keyrings", "nonsense", "expected"),
        ("/keyrings", "{}", "missing field `displayName`"),
        ("/keyrings", r#"{"displayName":1}"#, "displayName: invalid type: integer `1`, expected a string"),
        (
            "/keyrings",
            r#"{"displayName":"a","descripton":"b"}"#,
            "unknown field `descripton`, expected `displayName` or `description`",
        ),
        ("/keyrings", r#"{"displayName":"a","displayName":"b"}"#, "duplicate field"),
        ("/keyrings", r#"{"displayName":"a"} {}"#, "trailing characters"),
        ("/keyrings", r#"{"displayName":"ab\n"}"#, "displayName must be 1 to 64"),
        (
            keys,
            r#"{"displayName":"k","protection":"software","purpose":"symmetric_encrypt_decrypt","algorithm":"des"}"#,
            "algorithm: unknown variant `des`, expected one of `aes_256_gcm`",
        ),
        (
            keys,
            r#"{"displayName":"k","protection":"software","purpose":"asymmetric_sign_verify","algorithm":"aes_256_gcm"}"#,
            "purpose must be \"symmetric_encrypt_decrypt\"",
        ),
        (
            keys,
            r#"{"displayName":"k","protection":"hsm","purpose":"symmetric_encrypt_decrypt","algorithm":"aes_256_gcm"}"#,
            "protection \"hsm\" is not offered here",
        ),
        (
            keys,
            r#"{"displayName":"k","protection":"","purpose":"symmetric_encrypt_decrypt","algorithm":"aes_256_gcm"}"#,
            "protection must be \"software\"",
        ),
        ("/keyrings/{id}/keys/{id}/import", r#"{"wrappingKeyId":"x","wrappedKey":""}"#, "wrappingKeyId: "),
        ("/keyrings/{id}/keys/{id}/versions/1/encrypt", r#"{"data":"eA"}"#, "data must be base64"),
        ("/keyrings/{id}/keys/{id}/versions/1/encrypt", r#"{"data":"e_-="}"#, "data must be base64"),
        ("/keyrings/{id}/keys/{id}/versions/1/encrypt", r#"{"data":"eA==\n"}"#, "data must be base64"),
        ("/keyrings/{id}/keys/{id}/versions/1/encrypt", r#"{"data":"eB=="}"#, "data must be base64"),
        ("/keyrings/{id}/keys/{id}/versions/1/encrypt", r#"{"data":null}"#, "data: invalid type: null"),
        ("/keyrings/{id}/keys/{id}/versions/1/verify", r#"{"data":"eA=="}"#, "missing field `signature`"),
        ("/keyrings/{id}/keys/{id}/datakeys", r#"{"bytes":0}"#, "bytes must be 1 to 1024"),
    ] {
        let message = world.call("POST", path, body).refused(400);
        assert!(message.contains(says), "{body}: {message}");
    }
    let form = request("POST", &below("/keyrings"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert!(world.send(form.body("a=b".into()).unwrap()).refused(400).contains("application/json"));
    let again = request("POST", &below("/keyrings"))
        .header("idempotency-key", "x")
        .body(r#"{"displayName":"a"}"#.into());
    assert!(world.send(again.unwrap()).refused(400).contains("Idempotency-Key"));
    assert!(world.notes.asked.lock().unwrap().is_empty());
}

#[test]
fn sizes_are_bounded_where_the_service_says() {
    let world = World::new();
    let body = |bytes: usize| {
        let zeros = "AAAA".repeat(bytes / 3);
        let rest = ["", "AA==", "AAA="][bytes % 3];
        format!(r#"{{"data":"{zeros}{rest}"}}"#)
    };
    let encrypt = "/keyrings/{id}/keys/{id}/versions/1/encrypt";
    assert_eq!(world.call("POST", encrypt, body(65_536)).status, 200);
    assert!(world.call("POST", encrypt, body(65_537)).refused(400).contains("at most 65536 bytes"));
    assert!(world.call("POST", encrypt, body(100_000)).refused(400).contains("at most 65536 bytes"));
    world.asked();
    let decrypt = "/keyrings/{id}/keys/{id}/versions/1/decrypt";
    assert_eq!(world.call("POST", decrypt, body(65_536 + 33)).status, 200);
    assert!(world.call("POST", decrypt, body(65_536 + 1025)).refused(400).contains("at most 66560 bytes"));
    assert!(world.call("POST", decrypt, body(300_000)).refused(413).contains("at most 262144 bytes"));
}

#[test]
fn refusals_of_the_rooms_go_out_as_they_are_and_panics_as_500() {
    for quick in [true, false] {
        let world = World::with(super::settings(), quick);
        for status in [Status::Forbidden, Status::NotFound, Status::Conflict, Status::Unavailable] {
            *world.notes.answer.lock().unwrap() = Err(Problem::new(status, "because"));
            let heard = world.call("GET", "/keyrings", Body::empty());
            assert_eq!(heard.refused(status.code()), "because");
            assert_eq!(heard.header("retry-after").is_some(), status == Status::Unavailable);
        }
        let panics =
            request("GET", &below("/keyrings")).header(header::USER_AGENT, "panic").body(Body::empty());
        let heard = world.send(panics.unwrap());
        assert_eq!(heard.refused(500), "internal error");
        assert!(heard.header("x-trace-id").is_some());
    }
}

#[test]
fn who_asks_is_asked_first() {
    let world = World::new();
    for path in [below("/keyrings"), "/v1/projects/x/regions/y/keyrings".to_owned()] {
        for value in [
            None,
            Some("Bearer wrong"),
            Some("Basic b3duZXI="),
            Some("Bearer"),
            Some("owner"),
            Some("Bearer \u{e9}"),
        ] {
            let mut call = Request::builder().uri(&path);
            if let Some(value) = value {
                call = call.header(header::AUTHORIZATION, value.as_bytes());
            }
            let heard = world.send(call.body(Body::empty()).unwrap());
            heard.refused(401);
            assert_eq!(heard.header("www-authenticate"), Some("Bearer"));
            assert_eq!(heard.header("ratelimit-limit"), None);
        }
    }
    let call = Request::builder().uri(below("/keyrings")).header(header::AUTHORIZATION, "bearer  owner ");
    assert_eq!(world.send(call.body(Body::empty()).unwrap()).status, 200);
    let (context, _) = world.notes.asked.lock().unwrap().remove(0);
    assert_eq!(context.endpoint, format!("GET {}", below("/keyrings")));
    assert_eq!(
        (context.account.email.as_str(), context.source.to_string().as_str()),
        ("owner@test", "127.0.0.1")
    );
}

#[test]
fn wrapping_keys_take_every_algorithm_with_either_purpose() {
    let world = World::new();
    for algorithm in kms_core::api::WrappingAlgorithm::ALL {
        for (name, purpose) in [
            ("wrap_symmetric_key", WrappingPurpose::WrapSymmetricKey),
            ("wrap_asymmetric_key", WrappingPurpose::WrapAsymmetricKey),
        ] {
            let body = format!(
                r#"{{"displayName":"w","protection":"software","purpose":"{name}","algorithm":"{}"}}"#,
                algorithm.name()
            );
            assert_eq!(world.call("POST", "/keyrings/{id}/wrappingkeys", body).status, 202);
            let Operation::CreateWrappingKey { ask, .. } = world.asked() else { panic!("something else") };
            assert_eq!((ask.algorithm, ask.purpose), (algorithm, purpose));
        }
    }
}
