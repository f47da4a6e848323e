//! The responses of every operation as committed text, which shows each change that clients would see. Ids, times, keys
//! and random values are replaced by names.
//!
//! `UPDATE_EXPECT=1 cargo test -p kms-tests --test rest snapshots` writes the files again.

use std::fmt::Write as _;

use expect_test::{ExpectFile, expect_file};
use serde_json::{Map, Value, json};

use kms_tests::Stack;
use kms_tests::rest::{Field, PROJECT, Response, Rest, base64, key};

/// A client that writes its requests and the responses to a text.
struct Transcript<'a> {
    rest: Rest,
    /// The text so far.
    text: String,
    /// Ids, and the names that replace them.
    names: Vec<(String, String)>,
    _stack: &'a Stack,
}

impl<'a> Transcript<'a> {
    fn new(stack: &'a Stack) -> Self {
        let names = vec![(PROJECT.to_owned(), "PROJECT".to_owned())];
        Self { rest: Rest::of(stack), text: String::new(), names, _stack: stack }
    }

    /// Sends a request, and writes it and its response.
    fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> Response {
        let whole = self.rest.path(path);
        let bytes = body.as_ref().map(Value::to_string);
        let response = self.rest.call(method, &whole, bytes.as_deref().map(str::as_bytes), &[]);
        let sent = body.map_or(String::new(), |body| format!(" {body}"));
        let sent = self.with_names(&format!("{method} {path}{sent}"));
        writeln!(self.text, "{sent}\n-> {}", response.status).expect("a text can be written to");
        if !response.body.is_empty() {
            let body = serde_json::from_slice(&response.body).expect("bodies are JSON");
            let body = serde_json::to_string_pretty(&self.normalized("", body)).expect("JSON can be written");
            let body = self.with_names(&body);
            writeln!(self.text, "{body}").expect("a text can be written to");
        }
        self.text.push('\n');
        response
    }

    fn get(&mut self, path: &str) -> Response {
        self.call("GET", path, None)
    }

    fn post(&mut self, path: &str, body: Value) -> Response {
        self.call("POST", path, Some(body))
    }

    fn post_empty(&mut self, path: &str) -> Response {
        self.call("POST", path, None)
    }

    fn delete(&mut self, path: &str) -> Response {
        self.call("DELETE", path, None)
    }

    /// Replaces the id of a created object by a name, in its response and from then on; returns the id.
    fn name_id(&mut self, response: &Response, name: &str) -> String {
        let id = response.json(202).text("id");
        self.names.push((id.clone(), name.to_owned()));
        // The response with the id is already in the text.
        self.text = self.text.replace(&id, name);
        id
    }

    /// Replaces values that differ between runs by names.
    fn normalized(&self, field: &str, value: Value) -> Value {
        match value {
            Value::Object(map) => Value::Object(
                map.into_iter().map(|(k, v)| (k.clone(), self.normalized(&k, v))).collect::<Map<_, _>>(),
            ),
            Value::Array(values) => {
                let values = values.into_iter().map(|value| self.normalized(field, value));
                let mut values: Vec<Value> = values.collect();
                // Objects of the same second are sorted by their ids, which are random.
                values.sort_by_key(|value| value["id"].as_str().map(|id| self.with_names(id)));
                Value::Array(values)
            }
            Value::String(text) => Value::String(match field {
                "publicKey" if text.starts_with("-----BEGIN PUBLIC KEY-----\n") => "PEM".to_owned(),
                "signature" | "wrapped" | "plaintext" => "BASE64".to_owned(),
                // Ciphertext is random; decrypted plaintext is not.
                "data" if text.len() > 40 => "BASE64".to_owned(),
                _ if is_time(&text) => "TIME".to_owned(),
                _ => text,
            }),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
        }
    }

    fn with_names(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name))
    }

    fn check(self, expected: ExpectFile) {
        expected.assert_eq(&self.text);
    }
}

/// Whether a text is a time such as `2026-11-26T08:00:00Z`.
fn is_time(text: &str) -> bool {
    let pattern = "0000-00-00T00:00:00Z";
    text.len() == pattern.len()
        && text.chars().zip(pattern.chars()).all(|(a, b)| if b == '0' { a.is_ascii_digit() } else { a == b })
}

#[test]
fn rings() {
    let stack = Stack::strict();
    let mut transcript = Transcript::new(&stack);
    let created = transcript.post("keyrings", json!({ "displayName": "ring-1", "description": "the first" }));
    let ring = transcript.name_id(&created, "RING");
    transcript.get(&format!("keyrings/{ring}"));
    let created = transcript.post("keyrings", json!({ "displayName": "ring-2", "description": "" }));
    let other = transcript.name_id(&created, "OTHER");
    let key = transcript.post(&format!("keyrings/{other}/keys"), key("k", "aes_256_gcm"));
    transcript.name_id(&key, "KEY");
    transcript.delete(&format!("keyrings/{other}"));
    transcript.delete(&format!("keyrings/{ring}"));
    transcript.delete(&format!("keyrings/{ring}"));
    transcript.get(&format!("keyrings/{ring}"));
    transcript.get("keyrings/no-uuid");
    transcript.post("keyrings", json!({ "displayName": "two words" }));
    transcript.post("keyrings", json!({}));
    transcript.post("keyrings", json!({ "displayName": 7 }));
    transcript.post("keyrings", json!({ "displayName": "r", "description": "x".repeat(257) }));
    transcript.check(expect_file!["snapshots/rings.txt"]);
}

#[test]
fn keys() {
    let stack = Stack::in_network_area();
    let mut transcript = Transcript::new(&stack);
    let created = transcript.post("keyrings", json!({ "displayName": "ring" }));
    let ring = transcript.name_id(&created, "RING");
    let keys = format!("keyrings/{ring}/keys");
    transcript.get(&keys);
    let mut whole = key("key-1", "rsa_2048_oaep_sha256");
    whole["description"] = json!("for letters");
    whole["access_scope"] = json!("SNA");
    let created = transcript.post(&keys, whole);
    let rsa = transcript.name_id(&created, "RSA");
    let mut empty = key("key-2", "aes_256_gcm");
    empty["importOnly"] = json!(true);
    let created = transcript.post(&keys, empty);
    let waiting = transcript.name_id(&created, "WAITING");
    transcript.get(&keys);
    transcript.post_empty(&format!("{keys}/{rsa}/rotate"));
    transcript.post_empty(&format!("{keys}/{waiting}/rotate"));
    transcript.delete(&format!("{keys}/{rsa}"));
    transcript.get(&format!("{keys}/{rsa}"));
    transcript.delete(&format!("{keys}/{rsa}"));
    transcript.post_empty(&format!("{keys}/{rsa}/rotate"));
    transcript.post_empty(&format!("{keys}/{rsa}/restore"));
    transcript.post_empty(&format!("{keys}/{rsa}/restore"));
    transcript.get(&format!("{keys}/{PROJECT}"));
    transcript.get(&format!("keyrings/{PROJECT}/keys"));
    for (field, value) in [
        ("algorithm", json!("aes_128_gcm")),
        ("purpose", json!("asymmetric_sign_verify")),
        ("purpose", json!("everything")),
        ("protection", json!("hsm")),
        ("protection", json!("")),
        ("access_scope", json!("public")),
        ("importOnly", json!("yes")),
        ("displayName", json!("")),
        ("displayName", Value::Null),
    ] {
        let mut wrong = key("k", "aes_256_gcm");
        wrong[field] = value;
        transcript.post(&keys, wrong);
    }
    transcript.check(expect_file!["snapshots/keys.txt"]);
}

#[test]
fn versions() {
    let stack = Stack::strict();
    let mut transcript = Transcript::new(&stack);
    let created = transcript.post("keyrings", json!({ "displayName": "ring" }));
    let ring = transcript.name_id(&created, "RING");
    let created = transcript.post(&format!("keyrings/{ring}/keys"), key("key", "ecdsa_p256_sha256"));
    let key = format!("keyrings/{ring}/keys/{}", transcript.name_id(&created, "KEY"));
    transcript.get(&format!("{key}/versions"));
    let version = format!("{key}/versions/1");
    transcript.get(&version);
    for step in
        ["disable", "disable", "enable", "enable", "restore", "destroy", "destroy", "disable", "restore"]
    {
        transcript.post_empty(&format!("{version}/{step}"));
        transcript.get(&version);
    }
    for number in ["0", "2", "-1", "one", "1.0", "99999999999999999999"] {
        transcript.get(&format!("{key}/versions/{number}"));
    }
    transcript.check(expect_file!["snapshots/versions.txt"]);
}

#[test]
fn uses() {
    let stack = Stack::strict();
    let mut transcript = Transcript::new(&stack);
    let created = transcript.post("keyrings", json!({ "displayName": "ring" }));
    let ring = transcript.name_id(&created, "RING");
    for (name, algorithm) in [("AES", "aes_256_gcm"), ("HMAC", "hmac_sha256"), ("EC", "ecdsa_p256_sha256")] {
        let created = transcript.post(&format!("keyrings/{ring}/keys"), key("key", algorithm));
        let id = transcript.name_id(&created, name);
        let at = format!("keyrings/{ring}/keys/{id}/versions/1");
        let data = json!({ "data": base64("hello") });
        if algorithm == "aes_256_gcm" {
            let sealed = transcript.post(&format!("{at}/encrypt"), data.clone()).json(200).text("data");
            transcript.names.push((sealed.clone(), "CIPHERTEXT".to_owned()));
            transcript.post(&format!("{at}/decrypt"), json!({ "data": sealed }));
            transcript.post(&format!("{at}/decrypt"), json!({ "data": base64([1; 40]) }));
            transcript.post(&format!("{at}/decrypt"), data.clone());
            transcript.post(&format!("{at}/sign"), data.clone());
            transcript.post(&format!("{at}/encrypt"), json!({ "data": "aGVsbG8" }));
            transcript.post(&format!("{at}/encrypt"), json!({ "data": 5 }));
            transcript.post(&format!("{at}/encrypt"), json!({}));
            transcript.post_empty(&format!("{at}/disable"));
            transcript.post(&format!("{at}/encrypt"), data);
            continue;
        }
        let signature = transcript.post(&format!("{at}/sign"), data.clone()).json(200).text("signature");
        transcript.names.push((signature.clone(), "SIGNATURE".to_owned()));
        transcript.post(&format!("{at}/verify"), json!({ "data": base64("hello"), "signature": signature }));
        transcript.post(&format!("{at}/verify"), json!({ "data": base64("Hello"), "signature": signature }));
        transcript.post(&format!("{at}/verify"), data.clone());
        transcript.post(&format!("{at}/encrypt"), data);
    }
    transcript.check(expect_file!["snapshots/uses.txt"]);
}

#[test]
fn wrapping_keys() {
    let stack = Stack::strict();
    let mut transcript = Transcript::new(&stack);
    let created = transcript.post("keyrings", json!({ "displayName": "ring" }));
    let ring = transcript.name_id(&created, "RING");
    let wrapping = format!("keyrings/{ring}/wrappingkeys");
    transcript.get(&wrapping);
    let body = json!({
        "displayName": "way-in",
        "protection": "software",
        "algorithm": "rsa_2048_oaep_sha256",
        "purpose": "wrap_symmetric_key",
    });
    let created = transcript.post(&wrapping, body.clone());
    let wrapping_key = transcript.name_id(&created, "WAY-IN");
    transcript.get(&format!("{wrapping}/{wrapping_key}"));
    transcript.get(&wrapping);
    let created = transcript.post(&format!("keyrings/{ring}/keys"), key("key", "aes_256_gcm"));
    let key = transcript.name_id(&created, "KEY");
    let import = format!("keyrings/{ring}/keys/{key}/import");
    transcript.post(&import, json!({ "wrappingKeyId": wrapping_key, "wrappedKey": base64("too short") }));
    transcript.post(&import, json!({ "wrappingKeyId": wrapping_key, "wrappedKey": "***" }));
    transcript.post(&import, json!({ "wrappingKeyId": PROJECT, "wrappedKey": base64([0; 256]) }));
    transcript.post(&import, json!({ "wrappingKeyId": "x", "wrappedKey": base64([0; 256]) }));
    transcript.delete(&format!("{wrapping}/{wrapping_key}"));
    transcript.delete(&format!("{wrapping}/{wrapping_key}"));
    transcript.get(&format!("{wrapping}/{wrapping_key}"));
    let mut wrong = body;
    wrong["algorithm"] = json!("aes_256_gcm");
    transcript.post(&wrapping, wrong.clone());
    wrong["algorithm"] = json!("rsa_2048_oaep_sha256");
    wrong["purpose"] = json!("symmetric_encrypt_decrypt");
    transcript.post(&wrapping, wrong);
    transcript.check(expect_file!["snapshots/wrapping_keys.txt"]);
}

#[test]
fn rejected_requests() {
    let stack = Stack::strict();
    let mut transcript = Transcript::new(&stack);
    transcript.rest = transcript.rest.with_token(None);
    transcript.get("keyrings");
    transcript.rest = transcript.rest.with_token(Some("kms_wrong"));
    transcript.get("keyrings");
    transcript.rest = Rest::of(&stack);
    transcript.call("PUT", "keyrings", Some(json!({})));
    transcript.get("rings");
    transcript.rest = Rest::of(&stack).in_project("11111111-1111-4111-8111-111111111111");
    transcript.get("keyrings");
    transcript.post("keyrings", json!({ "displayName": "r" }));
    transcript.rest = Rest::of(&stack).in_project("no-project");
    transcript.get("keyrings");
    transcript.check(expect_file!["snapshots/strangers.txt"]);
}
