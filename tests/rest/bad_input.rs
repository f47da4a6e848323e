//! Invalid requests: each is rejected with the declared status and a message, and the daemon keeps running.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use kms_tests::Stack;
use kms_tests::rest::{Field, Response, Rest, base64, key};

/// A KMS with a ring and a key, and the administrator's client.
struct Fixture {
    stack: Stack,
    rest: Rest,
    ring: String,
    key: String,
}

impl Fixture {
    fn new() -> Self {
        let mut stack = Stack::stopped(kms_tests::Policy::Strict);
        stack.configure("rest", "calls_per_hour", "1000000");
        stack.start();
        let rest = Rest::of(&stack);
        let ring = rest.create_ring("ring");
        let key = rest.create_key(&ring, "key", "aes_256_gcm");
        Self { stack, rest, ring, key }
    }

    fn keys(&self) -> String {
        format!("keyrings/{}/keys", self.ring)
    }

    fn encrypt(&self) -> String {
        format!("{}/versions/1/encrypt", self.key)
    }

    /// POSTs these bytes to a path below the region.
    fn send(&self, path: &str, body: &[u8]) -> Response {
        self.rest.call("POST", &self.rest.path(path), Some(body), &[])
    }

    /// Asserts that the daemon runs and serves requests.
    #[track_caller]
    fn assert_running(&mut self) {
        assert_eq!(self.stack.daemon().ended(), None, "the daemon still runs");
        self.rest.post(&self.encrypt(), json!({ "data": "" })).json(200);
    }
}

#[test]
fn invalid_bodies_get_400() {
    let mut fixture = Fixture::new();
    let deep = |open: &str, close: &str| [open.repeat(10_000), close.repeat(10_000)].concat();
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"{\"displayName\":\"r\"".to_vec(),
        b"{\"displayName\":\"r\",}".to_vec(),
        b"{\"displayName\":\"r\"} {}".to_vec(),
        b"{'displayName':'r'}".to_vec(),
        b"{\"displayName\":NaN}".to_vec(),
        b"{\"displayName\":Infinity}".to_vec(),
        b"{\"displayName\":1e999}".to_vec(),
        b"{\"displayName\":\"a\",\"displayName\":\"b\"}".to_vec(),
        b"{\"displayName\":\"\\ud800\"}".to_vec(),
        b"{\"displayName\":\"\xff\"}".to_vec(),
        b"{\"displayName\":\"r\0\"}".to_vec(),
        b"\xef\xbb\xbf{\"displayName\":\"r\"}".to_vec(),
        b"{\0\"\0d\0".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"r\"".to_vec(),
        b"7".to_vec(),
        b"displayName=r".to_vec(),
        deep("[", "]").into_bytes(),
        deep("{\"displayName\":", "").into_bytes(),
        format!("{{\"displayName\":{}}}", deep("[", "]")).into_bytes(),
        format!("{{\"displayName\":{}}}", "9".repeat(10_000)).into_bytes(),
    ];
    for body in bodies {
        let response = fixture.send("keyrings", &body);
        let message = response.refused(400);
        assert!(message.len() < 500, "the message does not echo the body: {message}");
    }
    let rings = fixture.rest.read("keyrings").json(200);
    let names: Vec<_> =
        rings["keyRings"].as_array().expect("a list").iter().map(|r| r.text("displayName")).collect();
    assert!(
        !names.iter().any(|name| ["r", "a", "b"].contains(&name.as_str())),
        "no ring was created: {names:?}"
    );
    fixture.assert_running();
}

#[test]
fn fields_of_wrong_types_and_values_get_400() {
    let mut fixture = Fixture::new();
    let wrong = [
        ("displayName", vec![json!(null), json!(1), json!([]), json!({}), json!(true)]),
        (
            "displayName",
            vec![json!(""), json!("a b"), json!("ab\n"), json!("ä"), json!("x".repeat(65)), json!("a/b")],
        ),
        ("description", vec![json!("x".repeat(257)), json!("x".repeat(300)), json!(1), json!([])]),
        ("algorithm", vec![json!("AES_256_GCM"), json!("aes_256_gcm "), json!(1), json!(null), json!({})]),
        ("algorithm", vec![json!("unknown_default_open_api"), json!({ "aes_256_gcm": null })]),
        ("purpose", vec![json!("asymmetric_sign_verify"), json!("wrap_symmetric_key"), json!(0)]),
        ("protection", vec![json!("hsm"), json!("SOFTWARE"), json!(""), json!(null), json!(1)]),
        ("importOnly", vec![json!("true"), json!(1), json!(0), json!([true])]),
        ("access_scope", vec![json!("public"), json!("PRIVATE"), json!(1)]),
    ];
    for (field, values) in wrong {
        for value in values {
            let mut body = key("k", "aes_256_gcm");
            body[field] = value.clone();
            let message = fixture.rest.post(&fixture.keys(), body).refused(400);
            assert!(message.contains(field), "{field} = {value}: {message:?} names the field");
        }
    }
    for field in ["displayName", "algorithm", "purpose", "protection"] {
        let mut body = key("k", "aes_256_gcm");
        body.as_object_mut().expect("an object").remove(field);
        let message = fixture.rest.post(&fixture.keys(), body).refused(400);
        assert!(message.contains(field), "without {field}: {message:?} names the field");
    }
    let keys = fixture.rest.read(&fixture.keys()).json(200);
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1), "no key was created");
    fixture.assert_running();
}

#[test]
fn invalid_and_unknown_paths_are_rejected() {
    let mut fixture = Fixture::new();
    let rest = &fixture.rest;
    let (ring, key) = (&fixture.ring, &fixture.key);
    for (path, status) in [
        ("keyrings/1".to_owned(), 400),
        (format!("keyrings/{ring}x"), 400),
        (format!("keyrings/{}", "a".repeat(5000)), 400),
        ("keyrings/%00".to_owned(), 400),
        ("keyrings/..%2f..%2f".to_owned(), 400),
        ("keyrings/%ff%fe".to_owned(), 400),
        (format!("keyrings/{ring}/keys/1"), 400),
        (format!("{key}/versions/x"), 400),
        (format!("{key}/versions/1e3"), 400),
        (format!("{key}/versions/ 1").replace(' ', "%20"), 400),
        (format!("{key}/versions/9223372036854775808"), 400),
        (format!("{key}/versions/9223372036854775807"), 404),
        (format!("{key}/versions/4294967297"), 404),
        (format!("{key}/versions/-1"), 404),
        (format!("{key}/versions/0"), 404),
        (format!("{key}/nothing"), 404),
        ("keyring".to_owned(), 404),
        ("".to_owned(), 404),
    ] {
        rest.read(&path).refused(status);
    }
    for (path, status) in [
        ("/v1/projects/x/regions/eu01/keyrings".to_owned(), 400),
        (rest.path("keyrings").replace("eu01", "eu02"), 404),
        (rest.path("keyrings").replace("v1", "v2"), 404),
        ("/".to_owned(), 404),
        ("/v1".to_owned(), 404),
        ("/../../etc/passwd".to_owned(), 404),
        ("/%2e%2e/%2e%2e/etc/passwd".to_owned(), 404),
    ] {
        rest.call("GET", &path, None, &[]).refused(status);
    }
    for method in ["PUT", "TRACE", "DELETE", "PROPFIND", "FROBNICATE"] {
        let response = rest.call(method, &rest.path("keyrings"), None, &[]);
        response.refused(405);
        assert!(response.header("allow").is_some_and(|allow| allow.contains("POST")), "{response}");
    }
    let message =
        rest.call("GET", &format!("/{}", rest.path("keyrings")), None, &[]).json(404).text("message");
    assert!(message.contains("remove the slash at the end"), "{message}");
    fixture.assert_running();
}

#[test]
fn oversized_bodies_are_rejected_before_they_are_read() {
    let mut fixture = Fixture::new();
    let largest = json!({ "data": base64(vec![7; 65_536]) });
    let sealed = fixture.rest.post(&fixture.encrypt(), largest).json(200).text("data");
    let decrypt = fixture.encrypt().replace("encrypt", "decrypt");
    let opened = fixture.rest.post(&decrypt, json!({ "data": sealed })).json(200).text("data");
    assert_eq!(opened, base64(vec![7; 65_536]));
    fixture.rest.post(&fixture.encrypt(), json!({ "data": base64(vec![7; 65_537]) })).refused(400);
    let huge = json!({ "data": "A".repeat(8 << 20) }).to_string();
    let response =
        fixture.rest.try_call("POST", &fixture.rest.path(&fixture.encrypt()), Some(huge.as_bytes()), &[]);
    // The response may arrive before the body is read, and the daemon may then close the connection.
    if let Ok(response) = response {
        response.refused(413);
    }
    // The daemon neither waits for a body of this length nor allocates memory for it.
    let header = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 1099511627776\r\n\r\n",
        fixture.rest.path(&fixture.encrypt()),
        fixture.rest.token().unwrap_or_default()
    );
    let mut stream = connect(&fixture.rest);
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket has a time-out");
    stream.write_all(header.as_bytes()).expect("a socket takes some bytes");
    let mut received = [0; 12];
    stream.read_exact(&mut received).expect("the response does not wait for the body");
    assert_eq!(&received, b"HTTP/1.1 413");
    fixture.assert_running();
}

#[test]
fn callers_without_a_valid_token_get_401() {
    let mut fixture = Fixture::new();
    let good = fixture.rest.token().expect("the administrator has a token").to_owned();
    let path = fixture.rest.path("keyrings");
    let anonymous = fixture.rest.with_token(None);
    let jwt = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhZG1pbiIsImV4cCI6OTk5OTk5OTk5OX0.";
    for value in [
        "",
        "Bearer",
        "Bearer ",
        &format!("Basic {good}"),
        &good,
        &format!("Bearer {good}x"),
        &format!("Bearer {}", &good[..good.len() - 1]),
        &format!("Bearer {good} {good}"),
        &format!("Bearer {}", "x".repeat(4000)),
        &format!("Bearer {jwt}"),
        &format!("Bearer {jwt}AAAA"),
        "Bearer ..",
        "Bearer null",
    ] {
        let response = anonymous.call("GET", &path, None, &[("authorization", value)]);
        response.refused(401);
        assert!(
            response.header("www-authenticate").is_some_and(|value| value.contains("Bearer")),
            "{response}"
        );
    }
    anonymous.call("GET", &path, None, &[]).refused(401);
    // An unauthenticated caller learns neither what exists nor what else is wrong with the request.
    anonymous.call("GET", &anonymous.path("keyrings/1"), None, &[]).refused(401);
    anonymous.call("POST", &path, Some(b"{"), &[]).refused(401);
    // The name of the scheme is case-insensitive (RFC 9110).
    anonymous.call("GET", &path, None, &[("authorization", &format!("bearer {good}"))]).json(200);
    fixture.assert_running();
}

#[test]
fn ids_of_another_project_are_not_found() {
    let mut fixture = Fixture::new();
    let other = "22222222-2222-4222-8222-222222222222";
    fixture.stack.kms(&["project", "add", "other", "--id", other]).ok();
    let other_project = fixture.rest.in_project(other);
    seen_within_two_seconds(&other_project);
    assert_eq!(other_project.read("keyrings").json(200)["keyRings"], json!([]));
    other_project.read(&format!("keyrings/{}", fixture.ring)).refused(404);
    other_project.delete(&format!("keyrings/{}", fixture.ring)).refused(404);
    other_project.read(&fixture.keys()).refused(404);
    other_project.post(&fixture.keys(), key("k", "aes_256_gcm")).refused(404);
    other_project.read(&fixture.key).refused(404);
    other_project.delete(&fixture.key).refused(404);
    other_project.post(&fixture.encrypt(), json!({ "data": "" })).refused(404);
    let ring = other_project.create_ring("theirs");
    let key = fixture.key.replace(&fixture.ring, &ring);
    other_project.read(&key).refused(404);
    fixture.rest.read(&key).refused(404);
    fixture.rest.read("keyrings/33333333-3333-4333-8333-333333333333").refused(404);
    fixture.assert_running();
}

/// Waits until the daemon sees the change of another process, which must take at most a second.
#[expect(clippy::disallowed_methods, reason = "a timeout")]
fn seen_within_two_seconds(rest: &Rest) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while rest.read("keyrings").status != 200 {
        assert!(Instant::now() < deadline, "a project that was added is not seen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn too_many_and_too_long_headers_are_rejected() {
    let mut fixture = Fixture::new();
    let many: String = (0..2000).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(1 << 20));
    for headers in [many, long] {
        let header = format!("GET {} HTTP/1.1\r\nhost: x\r\n{headers}\r\n", fixture.rest.path("keyrings"));
        let received = raw(&fixture.rest, header.as_bytes());
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 4"), "{received}");
    }
    for garbage in
        [b"\0\0\0\0".as_slice(), b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\r\n\r\n\r\n\r\n"]
    {
        let received = raw(&fixture.rest, garbage);
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 4"), "{received}");
    }
    fixture.assert_running();
}

#[test]
fn slow_clients_do_not_block_others() {
    let mut fixture = Fixture::new();
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = connect(&fixture.rest);
        stream.write_all(b"POST /v1/pro").expect("a socket takes some bytes");
        slow.push(stream);
        let mut stream = connect(&fixture.rest);
        let header = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
            fixture.rest.path(&fixture.encrypt()),
            fixture.rest.token().unwrap_or_default()
        );
        stream.write_all(header.as_bytes()).expect("a socket takes some bytes");
        slow.push(stream);
    }
    fixture.assert_running();
    // Slow connections are closed after a timeout.
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(90))).expect("a socket has a time-out");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("the daemon closes the connection");
        let received = String::from_utf8_lossy(&received);
        assert!(received.is_empty() || received.contains("\"message\""), "{received}");
        assert!(!received.starts_with("HTTP/1.1 2") && !received.starts_with("HTTP/1.1 5"), "{received}");
    }
    fixture.assert_running();
}

#[test]
fn bad_input_does_not_leak_memory() {
    let mut fixture = Fixture::new();
    let before = {
        send_bad_requests(&fixture, 500);
        memory(fixture.stack.daemon().pid())
    };
    send_bad_requests(&fixture, 3000);
    let after = memory(fixture.stack.daemon().pid());
    // A leak of the bodies alone (64 KiB each) would be 190 MiB.
    assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
    fixture.assert_running();
}

/// Sends bad requests of several kinds, `calls` of each.
fn send_bad_requests(fixture: &Fixture, calls: usize) {
    let bad = json!({ "data": "!".repeat(64 << 10) }).to_string();
    let invalid = fixture.rest.with_token(Some("kms_invalid"));
    for number in 0..calls {
        fixture.send(&fixture.encrypt(), bad.as_bytes()).refused(400);
        fixture.rest.read(&format!("keyrings/00000000-0000-4000-8000-{number:012}")).refused(404);
        // Too many requests with wrong credentials get 429.
        let response = invalid.read("keyrings");
        response.refused(if response.status == 429 { 429 } else { 401 });
    }
}

/// Resident memory, in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the status has the line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}

fn connect(rest: &Rest) -> TcpStream {
    let address = rest.base().trim_start_matches("http://");
    TcpStream::connect(address).expect("the listener accepts connections")
}

/// Sends these bytes; returns what is received until the connection ends.
fn raw(rest: &Rest, bytes: &[u8]) -> String {
    let mut stream = connect(rest);
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket has a time-out");
    // The daemon may have closed the connection before it has read all of it.
    stream.write_all(bytes).unwrap_or_default();
    stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection does not end: {error}"),
    }
    String::from_utf8_lossy(&received).into_owned()
}

#[test]
fn unknown_fields_are_reported() {
    let mut fixture = Fixture::new();
    // A misspelt field is reported and not ignored, because its value would be missing later.
    let message =
        fixture.rest.post("keyrings", json!({ "displayName": "r", "descripton": "blue" })).refused(400);
    assert!(message.contains("descripton"), "{message}");
    fixture.assert_running();
}
