//! Requests: which operations they become, and which problems.

use axum::body::Body;
use axum::http::{Request, header};
use kms_core::api::{
    AccessScope, Algorithm, EncryptedData, Operation, Outcome, Page, Problem, Status, WrappingPurpose,
};
use uuid::Uuid;

use super::super::routes::{self, Handler};
use super::{ID, PROJECT, TestServer, project_path, request};

const KEY: &str = r#"{"displayName":"k","protection":"software","purpose":"symmetric_encrypt_decrypt","algorithm":"aes_256_gcm""#;

/// A valid body for each request schema.
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
fn every_route_reaches_its_operation_and_responds_with_its_own_code() {
    let server = TestServer::new();
    let mut events = Vec::new();
    for route in routes::all().filter(|route| matches!(route.handler, Handler::Operation(_))) {
        let method = format!("{:?}", route.method).to_uppercase();
        let response = server
            .send(request(&method, &path_of(route.path)).body(body_of(route.request_schema).into()).unwrap());
        assert_eq!((response.status, response.body.as_str()), (route.success, ""), "{}", route.id);
        assert!(Uuid::try_parse(response.header("x-trace-id").unwrap()).is_ok());
        let operation = server.take_operation();
        let name = format!("{operation:?}");
        let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
        assert_eq!(name, route.id);
        assert_eq!(operation.subject().project(), PROJECT);
        events.push(route.id);
    }
    assert_eq!(events.len(), 32);
}

#[test]
fn a_response_is_json_with_its_headers() {
    let server = TestServer::new();
    *server.backend.outcome.lock().unwrap() =
        Ok(Outcome::Encrypted(EncryptedData { data: "AQ==".to_owned() }));
    let response = server.call("POST", "/keyrings/{id}/keys/{id}/versions/1/encrypt", r#"{"data":""}"#);
    assert_eq!((response.status, response.body.as_str()), (200, r#"{"data":"AQ=="}"#));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("ratelimit-limit"), Some("10000"));
    assert_eq!(response.header("ratelimit-remaining"), Some("9999"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    // Empty data is valid.
    let Operation::Encrypt { data, .. } = server.take_operation() else { panic!("another operation") };
    assert!(data.0.is_empty());
}

#[test]
fn requests_as_clients_send_them_are_accepted() {
    let server = TestServer::new();
    // The Python SDK sends defaults; other clients send null; Go ends its body with a line break.
    server.call(
        "POST",
        "/keyrings/{id}/keys",
        format!("{KEY},\"access_scope\":\"SNA\",\"importOnly\":true,\"description\":\"\"}}\n"),
    );
    let Operation::CreateKey { ask, repeat: None, .. } = server.take_operation() else {
        panic!("another operation")
    };
    assert_eq!((ask.access_scope, ask.import_only, ask.description.text()), (AccessScope::Sna, true, None));
    server.call("POST", "/keyrings/{id}/keys", format!("{KEY},\"access_scope\":null,\"importOnly\":null,\"description\":null,\"tags\":{{\"a\":\"b\"}},\"rotationDays\":90}}"));
    let Operation::CreateKey { ask, .. } = server.take_operation() else { panic!("another operation") };
    assert_eq!((ask.algorithm, ask.rotation_days), (Algorithm::Aes256Gcm, Some(90)));
    assert_eq!(ask.tags.as_map()["a"], "b");
    // A slash may be escaped in JSON.
    server.call("POST", "/keyrings/{id}/keys/{id}/versions/1/sign", r#"{"data":"\/\/\/\/"}"#);
    let Operation::Sign { data, version } = server.take_operation() else { panic!("another operation") };
    assert_eq!((data.0.as_slice(), version.number), ([255, 255, 255].as_slice(), 1));
    // No content type, another content type without a body.
    let path = project_path("/keyrings?limit=2&cursor=abc&other=1");
    assert_eq!(
        server
            .send(
                request("GET", &path).header(header::CONTENT_TYPE, "text/plain").body(Body::empty()).unwrap()
            )
            .status,
        200
    );
    let Operation::ListKeyRings { page, .. } = server.take_operation() else { panic!("another operation") };
    assert_eq!(page, Page { limit: Some(2), cursor: Some("abc".to_owned()) });
    let repeat = request("POST", &project_path("/keyrings"))
        .header("Idempotency-Key", ID)
        .body(r#"{"displayName":"r"}"#.into());
    server.send(repeat.unwrap());
    let Operation::CreateKeyRing { repeat, .. } = server.take_operation() else {
        panic!("another operation")
    };
    assert_eq!(repeat, Uuid::try_parse(ID).ok());
}

#[test]
fn edits_distinguish_absent_from_null() {
    let server = TestServer::new();
    let edit = |body: &'static str| {
        assert_eq!(server.call("PATCH", "/keyrings/{id}/keys/{id}", body).status, 200, "{body}");
        let Operation::EditKey { ask, .. } = server.take_operation() else { panic!("another operation") };
        ask
    };
    let nothing = edit("{}");
    assert!(nothing.display_name.is_none() && nothing.description.is_none() && nothing.tags.is_none());
    assert_eq!(nothing.rotation_days, None);
    let away = edit(r#"{"description":null,"tags":null,"rotationDays":null}"#);
    assert_eq!((away.description.unwrap().text(), away.rotation_days), (None, Some(None)));
    assert!(away.tags.unwrap().as_map().is_empty());
    assert_eq!(edit(r#"{"rotationDays":30}"#).rotation_days, Some(Some(30)));
    server.call("PATCH", "/keyrings/{id}/keys/{id}", r#"{"rotationDays":0}"#).problem(400);
}

#[test]
fn wrong_paths_are_rejected_with_the_reason() {
    let server = TestServer::new();
    for (path, status, expected) in [
        ("/v1/projects/x/regions/eu01/keyrings".to_owned(), 400, "projectId must be a UUID; this is \"x\""),
        (project_path("/keyrings").replace("eu01", "eu02"), 404, "no region \"eu02\""),
        (project_path("/keyrings/7"), 400, "keyRingId must be a UUID"),
        (project_path("/keyrings/22222222222242228222222222222222"), 400, "keyRingId must be a UUID"),
        (project_path("/keyrings/{id}/keys/%FF"), 400, "not UTF-8"),
        (
            project_path("/keyrings/{id}/keys/{id}/versions/one"),
            400,
            "versionNumber must be a whole number; this is \"one\"",
        ),
        (project_path("/keyrings/{id}/keys/{id}/versions/99999999999999999999"), 400, "whole number"),
        (project_path("/keyrings?limit=0"), 400, "limit must be 1 to 1000"),
        (project_path("/keyrings?limit=x"), 400, "limit must be 1 to 1000"),
        (project_path("/nothing"), 404, "/openapi.json"),
        ("/".to_owned(), 404, "/openapi.json"),
    ] {
        let response = server.send(request("GET", &path).body(Body::empty()).unwrap());
        let message = response.problem(status);
        assert!(message.contains(expected), "{path}: {message}");
        assert!(response.header("x-trace-id").is_some());
    }
    // Numbers that no version has are passed on: the 404 comes from the dispatcher.
    for number in ["0", "-1", "+1"] {
        server.call("GET", &format!("/keyrings/{{id}}/keys/{{id}}/versions/{number}"), Body::empty());
        server.take_operation();
    }
    let response = server.call("PUT", "/keyrings", Body::empty());
    assert!(response.problem(405).contains("method"));
    assert_eq!(response.header("allow"), Some("GET,HEAD,POST"));
}

#[test]
fn wrong_bodies_are_rejected_with_the_field() {
    let server = TestServer::new();
    let keys = "/keyrings/{id}/keys";
    for (path, body, expected) in [
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
        let message = server.call("POST", path, body).problem(400);
        assert!(message.contains(expected), "{body}: {message}");
    }
    let form = request("POST", &project_path("/keyrings"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert!(server.send(form.body("a=b".into()).unwrap()).problem(400).contains("application/json"));
    let again = request("POST", &project_path("/keyrings"))
        .header("idempotency-key", "x")
        .body(r#"{"displayName":"a"}"#.into());
    assert!(server.send(again.unwrap()).problem(400).contains("Idempotency-Key"));
    assert!(server.backend.operations.lock().unwrap().is_empty());
}

#[test]
fn sizes_are_limited_as_the_service_states() {
    let server = TestServer::new();
    let body = |bytes: usize| {
        let zeros = "AAAA".repeat(bytes / 3);
        let rest = ["", "AA==", "AAA="][bytes % 3];
        format!(r#"{{"data":"{zeros}{rest}"}}"#)
    };
    let encrypt = "/keyrings/{id}/keys/{id}/versions/1/encrypt";
    assert_eq!(server.call("POST", encrypt, body(65_536)).status, 200);
    assert!(server.call("POST", encrypt, body(65_537)).problem(400).contains("at most 65536 bytes"));
    assert!(server.call("POST", encrypt, body(100_000)).problem(400).contains("at most 65536 bytes"));
    server.take_operation();
    let decrypt = "/keyrings/{id}/keys/{id}/versions/1/decrypt";
    assert_eq!(server.call("POST", decrypt, body(65_536 + 33)).status, 200);
    assert!(server.call("POST", decrypt, body(65_536 + 1025)).problem(400).contains("at most 66560 bytes"));
    assert!(server.call("POST", decrypt, body(300_000)).problem(413).contains("at most 262144 bytes"));
}

#[test]
fn problems_of_the_backend_are_passed_on_and_panics_become_500() {
    for quick in [true, false] {
        let server = TestServer::with(super::settings(), quick);
        for status in [Status::Forbidden, Status::NotFound, Status::Conflict, Status::Unavailable] {
            *server.backend.outcome.lock().unwrap() = Err(Problem::new(status, "because"));
            let response = server.call("GET", "/keyrings", Body::empty());
            assert_eq!(response.problem(status.code()), "because");
            assert_eq!(response.header("retry-after").is_some(), status == Status::Unavailable);
        }
        let panics = request("GET", &project_path("/keyrings"))
            .header(header::USER_AGENT, "panic")
            .body(Body::empty());
        let response = server.send(panics.unwrap());
        assert_eq!(response.problem(500), "internal error");
        assert!(response.header("x-trace-id").is_some());
    }
}

#[test]
fn authentication_comes_first() {
    let server = TestServer::new();
    for path in [project_path("/keyrings"), "/v1/projects/x/regions/y/keyrings".to_owned()] {
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
            let response = server.send(call.body(Body::empty()).unwrap());
            response.problem(401);
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
            assert_eq!(response.header("ratelimit-limit"), None);
        }
    }
    let call =
        Request::builder().uri(project_path("/keyrings")).header(header::AUTHORIZATION, "bearer  owner ");
    assert_eq!(server.send(call.body(Body::empty()).unwrap()).status, 200);
    let (context, _) = server.backend.operations.lock().unwrap().remove(0);
    assert_eq!(context.endpoint, format!("GET {}", project_path("/keyrings")));
    assert_eq!(
        (context.account.email.as_str(), context.source.to_string().as_str()),
        ("owner@test", "127.0.0.1")
    );
}

#[test]
fn wrapping_keys_take_every_algorithm_with_either_purpose() {
    let server = TestServer::new();
    for algorithm in kms_core::api::WrappingAlgorithm::ALL {
        for (name, purpose) in [
            ("wrap_symmetric_key", WrappingPurpose::WrapSymmetricKey),
            ("wrap_asymmetric_key", WrappingPurpose::WrapAsymmetricKey),
        ] {
            let body = format!(
                r#"{{"displayName":"w","protection":"software","purpose":"{name}","algorithm":"{}"}}"#,
                algorithm.name()
            );
            assert_eq!(server.call("POST", "/keyrings/{id}/wrappingkeys", body).status, 202);
            let Operation::CreateWrappingKey { ask, .. } = server.take_operation() else {
                panic!("another operation")
            };
            assert_eq!((ask.algorithm, ask.purpose), (algorithm, purpose));
        }
    }
}
