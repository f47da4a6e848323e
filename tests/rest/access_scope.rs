//! `access_scope: SNA`: the networks of `[rest] sna_networks` decide, by the address of the connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use kms_tests::Stack;
use kms_tests::client::Client;
use kms_tests::rest::{Field, Rest};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::{Value, json};

/// Where the daemon listens is reached from each of these addresses; the first is inside.
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// A call from one of this machine's loopback addresses: status and body.
fn call_from(
    from: Ipv4Addr,
    rest: &Rest,
    (method, path): (&str, &str),
    body: &Value,
    headers: &str,
) -> (u16, String) {
    let address: SocketAddrV4 = rest.base().trim_start_matches("http://").parse().expect("an IPv4 address");
    let connection = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&connection, &SocketAddrV4::new(from, 0)).expect("a loopback address can be bound");
    connect(&connection, &address).expect("the daemon accepts connections");
    let mut stream = TcpStream::from(connection);
    let body = body.to_string();
    let request = format!(
        "{method} {} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        rest.path(path),
        rest.token().expect("the administrator's token"),
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    let (header, body) = response.split_once("\r\n\r\n").expect("a header section");
    let status = header.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

fn sna_key(name: &str) -> Value {
    json!({
        "displayName": name, "protection": "software", "purpose": "symmetric_encrypt_decrypt",
        "algorithm": "aes_256_gcm", "access_scope": "SNA",
    })
}

fn wrapping_key() -> Value {
    json!({
        "displayName": "w", "protection": "software", "purpose": "wrap_symmetric_key",
        "algorithm": "rsa_2048_oaep_sha256", "access_scope": "SNA",
    })
}

#[test]
fn without_networks_the_scope_is_refused() {
    let mut stack = Stack::strict();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("area");
    for (path, body) in [("keys", sna_key("k")), ("wrappingkeys", wrapping_key())] {
        let message = rest.post(&format!("keyrings/{ring}/{path}"), body).json(400).text("message");
        assert!(message.contains("PUBLIC") && message.contains("[rest] sna_networks"), "{message}");
    }
    assert_eq!(rest.read(&format!("keyrings/{ring}/keys")).json(200)["keys"], json!([]));

    // A key that has the scope already: with the networks gone, it is inside of none of them.
    stack.stop();
    stack.configure("rest", "sna_networks", "[\"127.0.0.0/8\"]");
    stack.start();
    let rest = Rest::of(&stack);
    let key = rest.post(&format!("keyrings/{ring}/keys"), sna_key("k")).json(202).text("id");
    let encrypt = format!("keyrings/{ring}/keys/{key}/versions/1/encrypt");
    rest.post(&encrypt, json!({ "data": "AAAA" })).json(200);
    stack.stop();
    stack.configure("rest", "sna_networks", "[]");
    stack.start();
    let rest = Rest::of(&stack);
    let message = rest.post(&encrypt, json!({ "data": "AAAA" })).json(403).text("message");
    assert!(message.contains("[rest] sna_networks"), "{message}");
    let module = stack.module();
    let ran = stack.kms(&["doctor", "--json", "--module", module.to_str().expect("a path")]);
    let report: Value = serde_json::from_slice(&ran.output).unwrap_or_else(|error| panic!("{error}: {ran}"));
    let check =
        report["checks"].as_array().expect("a list").iter().find(|check| check["name"] == "access scope");
    let check = check.unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(check["state"], "failed", "{check}");
    assert!(check["detail"].to_string().contains("1 key"), "{check}");
    assert!(check["next"].to_string().contains("sna_networks"), "{check}");
}

#[test]
fn only_the_networks_of_the_scope_use_and_change_a_key() {
    let mut stack = Stack::stopped(kms_tests::Policy::Strict);
    stack.configure("rest", "sna_networks", &format!("[\"10.0.0.0/8\", \"{INSIDE}/32\", \"fd00::/8\"]"));
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("area");
    let keys = format!("keyrings/{ring}/keys");
    let key = rest.post(&keys, sna_key("k")).json(202).text("id");
    let (key, public) = (format!("{keys}/{key}"), rest.create_key(&ring, "public", "aes_256_gcm"));
    let (encrypt, data) = (format!("{key}/versions/1/encrypt"), json!({ "data": "c2VjcmV0" }));
    let inside = |call, body: &Value| call_from(INSIDE, &rest, call, body, "");
    let (status, encrypted) = inside(("POST", &encrypt), &data);
    assert_eq!(status, 200, "{encrypted}");
    let encrypted: Value = serde_json::from_str(&encrypted).expect("JSON");
    let decrypt = format!("{key}/versions/1/decrypt");
    assert_eq!(inside(("POST", &decrypt), &encrypted).0, 200);

    let nothing = json!({});
    let uses = [
        ("POST", encrypt.clone(), &data),
        ("POST", decrypt, &encrypted),
        ("POST", format!("{key}/encrypt"), &data),
        ("POST", format!("{key}/decrypt"), &encrypted),
        ("POST", format!("{key}/reencrypt"), &encrypted),
        ("POST", format!("{key}/datakeys"), &nothing),
        ("POST", format!("{key}/rotate"), &nothing),
        ("POST", format!("{key}/versions/1/disable"), &nothing),
        ("POST", format!("{key}/versions/1/destroy"), &nothing),
        ("PATCH", key.clone(), &nothing),
        ("DELETE", key.clone(), &nothing),
    ];
    // A header does not bring anybody inside.
    for headers in
        ["", "x-forwarded-for: 127.0.0.2\r\n", "forwarded: for=127.0.0.2\r\nx-real-ip: 10.0.0.1\r\n"]
    {
        for (method, path, body) in &uses {
            let (status, answer) = call_from(OUTSIDE, &rest, (method, path), body, headers);
            assert_eq!(status, 403, "{method} {path}: {answer}");
            assert!(answer.contains("access_scope is SNA"), "{answer}");
        }
    }
    // What is known of the key is shown to who may see it, and other keys are not concerned.
    for path in [&key, &format!("{key}/versions"), &format!("{key}/versions/1")] {
        assert_eq!(call_from(OUTSIDE, &rest, ("GET", path), &nothing, "").0, 200, "{path}");
    }
    assert_eq!(
        call_from(OUTSIDE, &rest, ("POST", &format!("{public}/versions/1/encrypt")), &data, "").0,
        200
    );
    let denied = stack.kms(&["audit", "list", "--json", "--limit", "1000"]).ok();
    assert!(denied.contains("policy_denied") || denied.contains("POLICY_DENIED"), "{denied}");
}

/// An import uses two keys: the one that it adds a version to, and the wrapping key.
#[test]
fn an_import_needs_its_wrapping_keys_scope() {
    let mut stack = Stack::stopped(kms_tests::Policy::Strict);
    stack.configure("rest", "sna_networks", &format!("[\"{INSIDE}/32\"]"));
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("area");
    let public = rest.create_key(&ring, "public", "aes_256_gcm");
    let wrapping = rest.post(&format!("keyrings/{ring}/wrappingkeys"), wrapping_key()).json(202).text("id");
    let import = json!({ "wrappedKey": "AAAA", "wrappingKeyId": wrapping });
    let path = format!("{public}/import");
    let (status, answer) = call_from(OUTSIDE, &rest, ("POST", &path), &import, "");
    assert!(status == 403 && answer.contains("access_scope is SNA"), "{status} {answer}");
    let (status, answer) = call_from(INSIDE, &rest, ("POST", &path), &import, "");
    assert!(status == 400, "it is inside, and no wrapped key: {status} {answer}");
}

/// A proxy's header is trusted for the client's address only, and not for the scope.
#[test]
fn a_trusted_proxys_header_does_not_bring_inside() {
    let mut stack = Stack::stopped(kms_tests::Policy::Strict);
    stack.configure("rest", "sna_networks", &format!("[\"{INSIDE}/32\"]"));
    stack.configure("rest", "trust_forwarded_for", "true");
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("area");
    let key = rest.post(&format!("keyrings/{ring}/keys"), sna_key("k")).json(202).text("id");
    let encrypt = format!("keyrings/{ring}/keys/{key}/versions/1/encrypt");
    let data = json!({ "data": "c2VjcmV0" });
    let (status, _) = call_from(OUTSIDE, &rest, ("POST", &encrypt), &data, "x-forwarded-for: 127.0.0.2\r\n");
    assert_eq!(status, 403);
    let (status, _) = call_from(INSIDE, &rest, ("POST", &encrypt), &data, "x-forwarded-for: 192.0.2.1\r\n");
    assert_eq!(status, 200);
}

/// A provider's socket is on the machine of the keys, which is inside.
#[test]
fn providers_are_inside() {
    let mut stack = Stack::stopped(kms_tests::Policy::Strict);
    stack.configure("rest", "sna_networks", "[\"192.0.2.0/24\"]");
    stack.start();
    let rest = Rest::of(&stack);
    let ring = rest.read("keyrings").json(200)["keyRings"][0]["id"].as_str().expect("a ring").to_owned();
    let mut hmac = sna_key("mac");
    hmac["purpose"] = json!("message_authentication_code");
    hmac["algorithm"] = json!("hmac_sha256");
    let key = rest.post(&format!("keyrings/{ring}/keys"), hmac).json(202).text("id");
    let sign = format!("keyrings/{ring}/keys/{key}/versions/1/sign");
    rest.post(&sign, json!({ "data": "AAAA" })).json(403);
    let client = Client::user(&stack);
    let [mac] = client.session.find_objects(&[Attribute::Label("mac".into())]).expect("a search")[..] else {
        panic!("the key is found")
    };
    client.session.sign(&Mechanism::Sha256Hmac, mac, b"data").expect("it signs");
}
