//! What no client should send: each is refused with its declared status and a sentence, and the daemon lives on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use kms_tests::Stack;
use kms_tests::rest::{Field, Response, Rest, base64, key};

/// A ring, a key, and who owns them.
struct Place {
    stack: Stack,
    rest: Rest,
    ring: String,
    key: String,
}

impl Place {
    fn new() -> Self {
        let mut stack = Stack::stopped(kms_tests::Policy::Strict);
        stack.configure("rest", "calls_per_hour", "1000000");
        stack.start();
        let rest = Rest::of(&stack);
        let ring = rest.make_ring("ring");
        let key = rest.make_key(&ring, "key", "aes_256_gcm");
        Self { stack, rest, ring, key }
    }

    fn keys(&self) -> String {
        format!("keyrings/{}/keys", self.ring)
    }

    fn encrypt(&self) -> String {
        format!("{}/versions/1/encrypt", self.key)
    }

    /// A body as it is, sent to a path below the region.
    fn send(&self, path: &str, body: &[u8]) -> Response {
        self.rest.call("POST", &self.rest.path(path), Some(body), &[])
    }

    /// That the daemon is there and answers well.
    #[track_caller]
    fn lives(&mut self) {
        assert_eq!(self.stack.daemon().ended(), None, "the daemon still runs");
        self.rest.post(&self.encrypt(), json!({ "data": "" })).json(200);
    }
}

#[test]
fn bodies_that_are_no_payload_are_400() {
    let mut place = Place::new();
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
        let answer = place.send("keyrings", &body);
        let message = answer.refused(400);
        assert!(message.len() < 500, "a sentence, not an echo: {message}");
    }
    let rings = place.rest.read("keyrings").json(200);
    let names: Vec<_> =
        rings["keyRings"].as_array().expect("a list").iter().map(|r| r.text("displayName")).collect();
    assert!(
        !names.iter().any(|name| ["r", "a", "b"].contains(&name.as_str())),
        "nothing was made: {names:?}"
    );
    place.lives();
}

#[test]
fn fields_of_other_types_and_values_are_400() {
    let mut place = Place::new();
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
            let message = place.rest.post(&place.keys(), body).refused(400);
            assert!(message.contains(field), "{field} = {value}: {message:?} names the field");
        }
    }
    for field in ["displayName", "algorithm", "purpose", "protection"] {
        let mut body = key("k", "aes_256_gcm");
        body.as_object_mut().expect("an object").remove(field);
        let message = place.rest.post(&place.keys(), body).refused(400);
        assert!(message.contains(field), "without {field}: {message:?} names the field");
    }
    let keys = place.rest.read(&place.keys()).json(200);
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1), "nothing was made");
    place.lives();
}

#[test]
fn paths_that_lead_nowhere_are_refused() {
    let mut place = Place::new();
    let rest = &place.rest;
    let (ring, key) = (&place.ring, &place.key);
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
        let answer = rest.call(method, &rest.path("keyrings"), None, &[]);
        answer.refused(405);
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{answer}");
    }
    rest.call("GET", &format!("/{}", rest.path("keyrings")), None, &[]).json(200);
    place.lives();
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let mut place = Place::new();
    let most = json!({ "data": base64(vec![7; 65_536]) });
    let sealed = place.rest.post(&place.encrypt(), most).json(200).text("data");
    let decrypt = place.encrypt().replace("encrypt", "decrypt");
    let opened = place.rest.post(&decrypt, json!({ "data": sealed })).json(200).text("data");
    assert_eq!(opened, base64(vec![7; 65_536]));
    place.rest.post(&place.encrypt(), json!({ "data": base64(vec![7; 65_537]) })).refused(400);
    let huge = json!({ "data": "A".repeat(8 << 20) }).to_string();
    let answer = place.rest.try_call("POST", &place.rest.path(&place.encrypt()), Some(huge.as_bytes()), &[]);
    // The answer may come before the body is taken, and the connection may be closed for it.
    if let Ok(answer) = answer {
        answer.refused(413);
    }
    // A length that is promised is not waited for, nor made room for.
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 1099511627776\r\n\r\n",
        place.rest.path(&place.encrypt()),
        place.rest.token().unwrap_or_default()
    );
    let mut stream = connect(&place.rest);
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket has a time-out");
    stream.write_all(head.as_bytes()).expect("a socket takes some bytes");
    let mut answered = [0; 12];
    stream.read_exact(&mut answered).expect("the answer does not wait for the body");
    assert_eq!(&answered, b"HTTP/1.1 413");
    place.lives();
}

#[test]
fn callers_without_a_right_token_are_401() {
    let mut place = Place::new();
    let good = place.rest.token().expect("the owner has a token").to_owned();
    let path = place.rest.path("keyrings");
    let nobody = place.rest.with_token(None);
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
        let answer = nobody.call("GET", &path, None, &[("authorization", value)]);
        answer.refused(401);
        assert!(answer.header("www-authenticate").is_some_and(|value| value.contains("Bearer")), "{answer}");
    }
    nobody.call("GET", &path, None, &[]).refused(401);
    // Who is not known learns nothing of what is there, nor of what is wrong with the rest.
    nobody.call("GET", &nobody.path("keyrings/1"), None, &[]).refused(401);
    nobody.call("POST", &path, Some(b"{"), &[]).refused(401);
    // The scheme's name has no case (RFC 9110).
    nobody.call("GET", &path, None, &[("authorization", &format!("bearer {good}"))]).json(200);
    place.lives();
}

#[test]
fn another_projects_ids_are_not_found() {
    let mut place = Place::new();
    let other = "22222222-2222-4222-8222-222222222222";
    place.stack.kms(&["project", "add", "other", "--id", other]).ok();
    let elsewhere = place.rest.in_project(other);
    seen_within_two_seconds(&elsewhere);
    assert_eq!(elsewhere.read("keyrings").json(200)["keyRings"], json!([]));
    elsewhere.read(&format!("keyrings/{}", place.ring)).refused(404);
    elsewhere.delete(&format!("keyrings/{}", place.ring)).refused(404);
    elsewhere.read(&place.keys()).refused(404);
    elsewhere.post(&place.keys(), key("k", "aes_256_gcm")).refused(404);
    elsewhere.read(&place.key).refused(404);
    elsewhere.delete(&place.key).refused(404);
    elsewhere.post(&place.encrypt(), json!({ "data": "" })).refused(404);
    let ring = elsewhere.make_ring("theirs");
    let key = place.key.replace(&place.ring, &ring);
    elsewhere.read(&key).refused(404);
    place.rest.read(&key).refused(404);
    place.rest.read("keyrings/33333333-3333-4333-8333-333333333333").refused(404);
    place.lives();
}

/// Waits until the daemon knows what another process did: promised within a second.
#[expect(clippy::disallowed_methods, reason = "the second is measured")]
fn seen_within_two_seconds(rest: &Rest) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while rest.read("keyrings").status != 200 {
        assert!(Instant::now() < deadline, "a project that was added is not seen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_flood_of_headers_is_refused() {
    let mut place = Place::new();
    let many: String = (0..2000).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(1 << 20));
    for flood in [many, long] {
        let head = format!("GET {} HTTP/1.1\r\nhost: x\r\n{flood}\r\n", place.rest.path("keyrings"));
        let answered = raw(&place.rest, head.as_bytes());
        assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 4"), "{answered}");
    }
    for garbage in
        [b"\0\0\0\0".as_slice(), b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\r\n\r\n\r\n\r\n"]
    {
        let answered = raw(&place.rest, garbage);
        assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 4"), "{answered}");
    }
    place.lives();
}

#[test]
fn who_is_slow_does_not_keep_others() {
    let mut place = Place::new();
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = connect(&place.rest);
        stream.write_all(b"POST /v1/pro").expect("a socket takes some bytes");
        slow.push(stream);
        let mut stream = connect(&place.rest);
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
            place.rest.path(&place.encrypt()),
            place.rest.token().unwrap_or_default()
        );
        stream.write_all(head.as_bytes()).expect("a socket takes some bytes");
        slow.push(stream);
    }
    place.lives();
    // And none of them is waited for without end.
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(90))).expect("a socket has a time-out");
        let mut answered = Vec::new();
        stream.read_to_end(&mut answered).expect("the daemon ends the connection by itself");
        let answered = String::from_utf8_lossy(&answered);
        assert!(answered.is_empty() || answered.contains("\"message\""), "{answered}");
        assert!(!answered.starts_with("HTTP/1.1 2") && !answered.starts_with("HTTP/1.1 5"), "{answered}");
    }
    place.lives();
}

#[test]
fn bad_input_leaves_no_memory_behind() {
    let mut place = Place::new();
    let before = {
        storm(&place, 500);
        memory(place.stack.daemon().pid())
    };
    storm(&place, 3000);
    let after = memory(place.stack.daemon().pid());
    // A leak of the bodies alone (64 KiB each) would be 190 MiB.
    assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
    place.lives();
}

/// Bad calls of several kinds, so many of each.
fn storm(place: &Place, calls: usize) {
    let bad = json!({ "data": "!".repeat(64 << 10) }).to_string();
    let stranger = place.rest.with_token(Some("kms_nobody"));
    for number in 0..calls {
        place.send(&place.encrypt(), bad.as_bytes()).refused(400);
        place.rest.read(&format!("keyrings/00000000-0000-4000-8000-{number:012}")).refused(404);
        // Whoever comes with wrong credentials too often is told so.
        let answer = stranger.read("keyrings");
        answer.refused(if answer.status == 429 { 429 } else { 401 });
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
    TcpStream::connect(address).expect("the door is open")
}

/// Bytes as they are; gives what comes back until the connection ends or nothing more comes.
fn raw(rest: &Rest, bytes: &[u8]) -> String {
    let mut stream = connect(rest);
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket has a time-out");
    // The daemon may have closed it before it has read all.
    stream.write_all(bytes).unwrap_or_default();
    stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
    let mut answered = Vec::new();
    match stream.read_to_end(&mut answered) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("no end: {error}"),
    }
    String::from_utf8_lossy(&answered).into_owned()
}

#[test]
fn fields_that_nobody_knows_are_told() {
    let mut place = Place::new();
    // A misspelt field is told, and not dropped: its value would be missed later.
    let message =
        place.rest.post("keyrings", json!({ "displayName": "r", "descripton": "blue" })).refused(400);
    assert!(message.contains("descripton"), "{message}");
    place.lives();
}
