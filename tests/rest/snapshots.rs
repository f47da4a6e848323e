//! Every operation's answers, as committed text: who changes what a client sees, sees it here. Ids, times, keys and
//! what is random are replaced by words.
//!
//! `UPDATE_EXPECT=1 cargo test -p kms-tests --test rest snapshots` writes them anew.

use std::fmt::Write as _;

use expect_test::{ExpectFile, expect_file};
use serde_json::{Map, Value, json};

use kms_tests::Stack;
use kms_tests::rest::{Field, PROJECT, Response, Rest, base64, key};

/// A caller whose calls and answers are written down.
struct Pen<'a> {
    rest: Rest,
    /// What has been written.
    text: String,
    /// Ids, and the words they are replaced by.
    names: Vec<(String, String)>,
    _stack: &'a Stack,
}

impl<'a> Pen<'a> {
    fn new(stack: &'a Stack) -> Self {
        let names = vec![(PROJECT.to_owned(), "PROJECT".to_owned())];
        Self { rest: Rest::of(stack), text: String::new(), names, _stack: stack }
    }

    /// Calls, and writes it down.
    fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> Response {
        let whole = self.rest.path(path);
        let bytes = body.as_ref().map(Value::to_string);
        let answer = self.rest.call(method, &whole, bytes.as_deref().map(str::as_bytes), &[]);
        let sent = body.map_or(String::new(), |body| format!(" {body}"));
        let sent = self.plain(&format!("{method} {path}{sent}"));
        writeln!(self.text, "{sent}\n-> {}", answer.status).expect("a text can be written to");
        if !answer.body.is_empty() {
            let body = serde_json::from_slice(&answer.body).expect("bodies are JSON");
            let body = serde_json::to_string_pretty(&self.replaced("", body)).expect("JSON can be written");
            let body = self.plain(&body);
            writeln!(self.text, "{body}").expect("a text can be written to");
        }
        self.text.push('\n');
        answer
    }

    fn get(&mut self, path: &str) -> Response {
        self.call("GET", path, None)
    }

    fn post(&mut self, path: &str, body: Value) -> Response {
        self.call("POST", path, Some(body))
    }

    fn act(&mut self, path: &str) -> Response {
        self.call("POST", path, None)
    }

    fn delete(&mut self, path: &str) -> Response {
        self.call("DELETE", path, None)
    }

    /// Gives the id of what was made a name, from its answer on.
    fn named(&mut self, answer: &Response, name: &str) -> String {
        let id = answer.json(202).text("id");
        self.names.push((id.clone(), name.to_owned()));
        // The answer that brought it is written already.
        self.text = self.text.replace(&id, name);
        id
    }

    /// What differs from run to run, replaced by words.
    fn replaced(&self, field: &str, value: Value) -> Value {
        match value {
            Value::Object(map) => Value::Object(
                map.into_iter().map(|(k, v)| (k.clone(), self.replaced(&k, v))).collect::<Map<_, _>>(),
            ),
            Value::Array(values) => {
                let values = values.into_iter().map(|value| self.replaced(field, value));
                let mut values: Vec<Value> = values.collect();
                // What was made in the same second is listed in the order of its ids, which are random.
                values.sort_by_key(|value| value["id"].as_str().map(|id| self.plain(id)));
                Value::Array(values)
            }
            Value::String(text) => Value::String(match field {
                "publicKey" if text.starts_with("-----BEGIN PUBLIC KEY-----\n") => "PEM".to_owned(),
                "signature" | "wrapped" | "plaintext" => "BASE64".to_owned(),
                // Ciphertext is random; what comes back of plaintext is not.
                "data" if text.len() > 40 => "BASE64".to_owned(),
                _ if is_time(&text) => "TIME".to_owned(),
                _ => text,
            }),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
        }
    }

    fn plain(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name))
    }

    fn check(self, expected: ExpectFile) {
        expected.assert_eq(&self.text);
    }
}

/// `2026-11-26T08:00:00Z`: with seconds and in UTC.
fn is_time(text: &str) -> bool {
    let form = "0000-00-00T00:00:00Z";
    text.len() == form.len()
        && text.chars().zip(form.chars()).all(|(a, b)| if b == '0' { a.is_ascii_digit() } else { a == b })
}

#[test]
fn rings() {
    let stack = Stack::strict();
    let mut pen = Pen::new(&stack);
    let made = pen.post("keyrings", json!({ "displayName": "ring-1", "description": "the first" }));
    let ring = pen.named(&made, "RING");
    pen.get(&format!("keyrings/{ring}"));
    let made = pen.post("keyrings", json!({ "displayName": "ring-2", "description": "" }));
    let other = pen.named(&made, "OTHER");
    let key = pen.post(&format!("keyrings/{other}/keys"), key("k", "aes_256_gcm"));
    pen.named(&key, "KEY");
    pen.delete(&format!("keyrings/{other}"));
    pen.delete(&format!("keyrings/{ring}"));
    pen.delete(&format!("keyrings/{ring}"));
    pen.get(&format!("keyrings/{ring}"));
    pen.get("keyrings/no-uuid");
    pen.post("keyrings", json!({ "displayName": "two words" }));
    pen.post("keyrings", json!({}));
    pen.post("keyrings", json!({ "displayName": 7 }));
    pen.post("keyrings", json!({ "displayName": "r", "description": "x".repeat(257) }));
    pen.check(expect_file!["snapshots/rings.txt"]);
}

#[test]
fn keys() {
    let stack = Stack::strict();
    let mut pen = Pen::new(&stack);
    let made = pen.post("keyrings", json!({ "displayName": "ring" }));
    let ring = pen.named(&made, "RING");
    let keys = format!("keyrings/{ring}/keys");
    pen.get(&keys);
    let mut whole = key("key-1", "rsa_2048_oaep_sha256");
    whole["description"] = json!("for letters");
    whole["access_scope"] = json!("SNA");
    let made = pen.post(&keys, whole);
    let rsa = pen.named(&made, "RSA");
    let mut empty = key("key-2", "aes_256_gcm");
    empty["importOnly"] = json!(true);
    let made = pen.post(&keys, empty);
    let waiting = pen.named(&made, "WAITING");
    pen.get(&keys);
    pen.act(&format!("{keys}/{rsa}/rotate"));
    pen.act(&format!("{keys}/{waiting}/rotate"));
    pen.delete(&format!("{keys}/{rsa}"));
    pen.get(&format!("{keys}/{rsa}"));
    pen.delete(&format!("{keys}/{rsa}"));
    pen.act(&format!("{keys}/{rsa}/rotate"));
    pen.act(&format!("{keys}/{rsa}/restore"));
    pen.act(&format!("{keys}/{rsa}/restore"));
    pen.get(&format!("{keys}/{PROJECT}"));
    pen.get(&format!("keyrings/{PROJECT}/keys"));
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
        pen.post(&keys, wrong);
    }
    pen.check(expect_file!["snapshots/keys.txt"]);
}

#[test]
fn versions() {
    let stack = Stack::strict();
    let mut pen = Pen::new(&stack);
    let made = pen.post("keyrings", json!({ "displayName": "ring" }));
    let ring = pen.named(&made, "RING");
    let made = pen.post(&format!("keyrings/{ring}/keys"), key("key", "ecdsa_p256_sha256"));
    let key = format!("keyrings/{ring}/keys/{}", pen.named(&made, "KEY"));
    pen.get(&format!("{key}/versions"));
    let version = format!("{key}/versions/1");
    pen.get(&version);
    for step in
        ["disable", "disable", "enable", "enable", "restore", "destroy", "destroy", "disable", "restore"]
    {
        pen.act(&format!("{version}/{step}"));
        pen.get(&version);
    }
    for number in ["0", "2", "-1", "one", "1.0", "99999999999999999999"] {
        pen.get(&format!("{key}/versions/{number}"));
    }
    pen.check(expect_file!["snapshots/versions.txt"]);
}

#[test]
fn uses() {
    let stack = Stack::strict();
    let mut pen = Pen::new(&stack);
    let made = pen.post("keyrings", json!({ "displayName": "ring" }));
    let ring = pen.named(&made, "RING");
    for (name, algorithm) in [("AES", "aes_256_gcm"), ("HMAC", "hmac_sha256"), ("EC", "ecdsa_p256_sha256")] {
        let made = pen.post(&format!("keyrings/{ring}/keys"), key("key", algorithm));
        let id = pen.named(&made, name);
        let at = format!("keyrings/{ring}/keys/{id}/versions/1");
        let data = json!({ "data": base64("hello") });
        if algorithm == "aes_256_gcm" {
            let sealed = pen.post(&format!("{at}/encrypt"), data.clone()).json(200).text("data");
            pen.names.push((sealed.clone(), "CIPHERTEXT".to_owned()));
            pen.post(&format!("{at}/decrypt"), json!({ "data": sealed }));
            pen.post(&format!("{at}/decrypt"), json!({ "data": base64([1; 40]) }));
            pen.post(&format!("{at}/decrypt"), data.clone());
            pen.post(&format!("{at}/sign"), data.clone());
            pen.post(&format!("{at}/encrypt"), json!({ "data": "aGVsbG8" }));
            pen.post(&format!("{at}/encrypt"), json!({ "data": 5 }));
            pen.post(&format!("{at}/encrypt"), json!({}));
            pen.act(&format!("{at}/disable"));
            pen.post(&format!("{at}/encrypt"), data);
            continue;
        }
        let signature = pen.post(&format!("{at}/sign"), data.clone()).json(200).text("signature");
        pen.names.push((signature.clone(), "SIGNATURE".to_owned()));
        pen.post(&format!("{at}/verify"), json!({ "data": base64("hello"), "signature": signature }));
        pen.post(&format!("{at}/verify"), json!({ "data": base64("Hello"), "signature": signature }));
        pen.post(&format!("{at}/verify"), data.clone());
        pen.post(&format!("{at}/encrypt"), data);
    }
    pen.check(expect_file!["snapshots/uses.txt"]);
}

#[test]
fn wrapping_keys() {
    let stack = Stack::strict();
    let mut pen = Pen::new(&stack);
    let made = pen.post("keyrings", json!({ "displayName": "ring" }));
    let ring = pen.named(&made, "RING");
    let wrapping = format!("keyrings/{ring}/wrappingkeys");
    pen.get(&wrapping);
    let ask = json!({
        "displayName": "way-in",
        "protection": "software",
        "algorithm": "rsa_2048_oaep_sha256",
        "purpose": "wrap_symmetric_key",
    });
    let made = pen.post(&wrapping, ask.clone());
    let way_in = pen.named(&made, "WAY-IN");
    pen.get(&format!("{wrapping}/{way_in}"));
    pen.get(&wrapping);
    let made = pen.post(&format!("keyrings/{ring}/keys"), key("key", "aes_256_gcm"));
    let key = pen.named(&made, "KEY");
    let import = format!("keyrings/{ring}/keys/{key}/import");
    pen.post(&import, json!({ "wrappingKeyId": way_in, "wrappedKey": base64("too short") }));
    pen.post(&import, json!({ "wrappingKeyId": way_in, "wrappedKey": "***" }));
    pen.post(&import, json!({ "wrappingKeyId": PROJECT, "wrappedKey": base64([0; 256]) }));
    pen.post(&import, json!({ "wrappingKeyId": "x", "wrappedKey": base64([0; 256]) }));
    pen.delete(&format!("{wrapping}/{way_in}"));
    pen.delete(&format!("{wrapping}/{way_in}"));
    pen.get(&format!("{wrapping}/{way_in}"));
    let mut wrong = ask;
    wrong["algorithm"] = json!("aes_256_gcm");
    pen.post(&wrapping, wrong.clone());
    wrong["algorithm"] = json!("rsa_2048_oaep_sha256");
    wrong["purpose"] = json!("symmetric_encrypt_decrypt");
    pen.post(&wrapping, wrong);
    pen.check(expect_file!["snapshots/wrapping_keys.txt"]);
}

#[test]
fn strangers_and_wrong_ways() {
    let stack = Stack::strict();
    let mut pen = Pen::new(&stack);
    pen.rest = pen.rest.with_token(None);
    pen.get("keyrings");
    pen.rest = pen.rest.with_token(Some("kms_wrong"));
    pen.get("keyrings");
    pen.rest = Rest::of(&stack);
    pen.call("PUT", "keyrings", Some(json!({})));
    pen.get("rings");
    pen.rest = Rest::of(&stack).in_project("11111111-1111-4111-8111-111111111111");
    pen.get("keyrings");
    pen.post("keyrings", json!({ "displayName": "r" }));
    pen.rest = Rest::of(&stack).in_project("no-project");
    pen.get("keyrings");
    pen.check(expect_file!["snapshots/strangers.txt"]);
}
