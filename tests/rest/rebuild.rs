//! Rebuilds the contents of a home from its export: in an empty home, through the API and the operator's commands, from
//! nothing but the exported document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use kms_tests::rest::{Field, PROJECT, Rest};
use kms_tests::{Stack, openssl};

/// A home with every kind of object that the API can create.
fn original() -> Stack {
    let stack = Stack::in_network_area();
    let rest = Rest::of(&stack);
    let described = json!({ "displayName": "payments", "description": "cards and such" });
    let payments = rest.post("keyrings", described).json(202).text("id");
    let archive = rest.create_ring("archive");
    rest.create_ring("empty");
    let keys = format!("keyrings/{payments}/keys");
    let create = |body: Value| format!("{keys}/{}", rest.post(&keys, body).json(202).text("id"));
    let whole = create(json!({
        "displayName": "whole", "description": "with everything", "protection": "software",
        "purpose": "symmetric_encrypt_decrypt", "algorithm": "aes_256_gcm", "access_scope": "SNA",
        "tags": { "team": "cards", "cost": "4711" }, "rotationDays": 90,
    }));
    for _ in 0..3 {
        rest.post_empty(&format!("{whole}/rotate")).json(202);
    }
    rest.post_empty(&format!("{whole}/versions/1/disable")).empty(204);
    rest.post_empty(&format!("{whole}/versions/2/destroy")).empty(204);
    rest.post_empty(&format!("{whole}/versions/3/disable")).empty(204);
    rest.post_empty(&format!("{whole}/versions/3/destroy")).empty(204);
    for (name, algorithm) in
        [("sign", "ecdsa_p384_sha384"), ("open", "rsa_2048_oaep_sha256"), ("mac", "hmac_sha512")]
    {
        rest.create_key(&archive, name, algorithm);
    }
    let leaving = rest.create_key(&archive, "leaving", "aes_256_gcm");
    rest.delete(&leaving).empty(202);
    let import_only = json!({
        "displayName": "imported", "protection": "software", "importOnly": true,
        "purpose": "message_authentication_code", "algorithm": "hmac_sha256",
    });
    let import_only = create(import_only);
    let wrapping = json!({
        "displayName": "wrapping-key", "description": "for the bank", "protection": "software",
        "purpose": "wrap_symmetric_key", "algorithm": "rsa_2048_oaep_sha256",
    });
    let wrapping = rest.post(&format!("keyrings/{payments}/wrappingkeys"), wrapping).json(202);
    upload(&rest, &import_only, &wrapping);
    stack.kms(&["account", "add", "ci@acme.sa.kms.local", "--role", "kms.user"]).ok();
    stack.kms(&["account", "add", "ops@acme.sa.kms.local"]).ok();
    stack.kms(&["role", "grant", "ops@acme.sa.kms.local", "kms.admin", "--ring", "payments"]).ok();
    stack.kms(&["role", "grant", "ops@acme.sa.kms.local", "audit-log.reader", "--project", PROJECT]).ok();
    stack.kms(&["account", "add", "disabled@acme.sa.kms.local", "--role", "kms.reader"]).ok();
    stack.kms(&["account", "disable", "disabled@acme.sa.kms.local"]).ok();
    stack
}

/// Imports a key's next version, with fixed material.
fn upload(rest: &Rest, key: &str, wrapping: &Value) {
    let public = openssl::PublicKey::new(&kms_tests::rest::der(&wrapping.text("publicKey")));
    let options = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"];
    let wrapped = kms_tests::rest::base64(public.encrypt(&options, &[9; 32]));
    let body = json!({ "wrappingKeyId": wrapping.text("id"), "wrappedKey": wrapped });
    rest.post(&format!("{key}/import"), body).json(202);
}

/// A request body with these fields of an exported object, if they are present.
fn request_body(exported: &Value, fields: &[&str]) -> Value {
    let present = fields.iter().filter(|field| !exported[**field].is_null());
    Value::Object(present.map(|field| ((*field).to_owned(), exported[*field].clone())).collect())
}

/// Creates the contents of a document in a home that has only the default project and the administrator.
fn rebuild(document: &Value, stack: &Stack) {
    let rest = Rest::of(stack);
    let mut labels = BTreeMap::new();
    for ring in document["projects"][0]["keyRings"].as_array().expect("a list") {
        labels.insert(ring.text("id"), ring.text("label"));
        if ring["slot"] == 0 {
            // `kms init` created this ring.
            continue;
        }
        let id =
            rest.post("keyrings", request_body(ring, &["displayName", "description"])).json(202).text("id");
        for key in ring["keys"].as_array().expect("a list") {
            rebuild_key(&rest, &id, key);
        }
    }
    for account in document["accounts"].as_array().expect("a list") {
        let email = account.text("email");
        if email == "admin@default.sa.kms.local" {
            continue;
        }
        stack.kms(&["account", "add", &email]).ok();
        for grant in account["grants"].as_array().expect("a list") {
            let role = grant.text("role");
            let mut arguments = vec!["role", "grant", &email, &role];
            let ring = grant["keyRing"].as_str().map(|id| labels[id].as_str());
            match (ring, grant["project"].as_str()) {
                (Some(ring), _) => arguments.extend(["--ring", ring]),
                (None, Some(project)) => arguments.extend(["--project", project]),
                (None, None) => {}
            }
            stack.kms(&arguments).ok();
        }
        if !account["disabledAt"].is_null() {
            stack.kms(&["account", "disable", &email]).ok();
        }
    }
}

fn rebuild_key(rest: &Rest, ring: &str, key: &Value) {
    const COMMON: [&str; 6] =
        ["displayName", "description", "protection", "purpose", "algorithm", "access_scope"];
    if key["use"] == "wrapping" {
        rest.post(&format!("keyrings/{ring}/wrappingkeys"), request_body(key, &COMMON)).json(202);
        return;
    }
    let fields = [&COMMON[..], &["importOnly", "tags", "rotationDays"]].concat();
    let id = rest.post(&format!("keyrings/{ring}/keys"), request_body(key, &fields)).json(202).text("id");
    let path = format!("keyrings/{ring}/keys/{id}");
    let versions = key["versions"].as_array().expect("a list");
    let import_only = key["importOnly"] == true;
    for _ in usize::from(!import_only)..versions.len() {
        if import_only {
            let wrapping = json!({
                "displayName": "once", "protection": "software", "purpose": "wrap_symmetric_key",
                "algorithm": "rsa_2048_oaep_sha256",
            });
            let wrapping = rest.post(&format!("keyrings/{ring}/wrappingkeys"), wrapping).json(202);
            upload(rest, &path, &wrapping);
            rest.delete(&format!("keyrings/{ring}/wrappingkeys/{}", wrapping.text("id"))).empty(204);
        } else {
            rest.post_empty(&format!("{path}/rotate")).json(202);
        }
    }
    for version in versions {
        let path = format!("{path}/versions/{}", version["number"]);
        if version["disabled"] == true {
            rest.post_empty(&format!("{path}/disable")).empty(204);
        }
        if version["state"] == "destroyed" {
            rest.post_empty(&format!("{path}/destroy")).empty(204);
        }
    }
    if !key["deletionDate"].is_null() {
        rest.delete(&path).empty(202);
    }
}

/// A document without the values that differ between homes: ids, times and public keys. Their presence is still
/// compared; ids of rings are replaced by the rings' labels.
fn comparable(document: &Value) -> Value {
    let rings = document["projects"][0]["keyRings"].as_array().expect("a list");
    let labels: BTreeMap<_, _> = rings.iter().map(|ring| (ring.text("id"), ring.text("label"))).collect();
    let mut document = without_varying_values(document, &labels);
    document["exportedAt"] = Value::Null;
    document
}

fn without_varying_values(value: &Value, labels: &BTreeMap<String, String>) -> Value {
    match value {
        Value::Object(fields) => Value::Object(Map::from_iter(fields.iter().map(|(name, value)| {
            let replaced = match name.as_str() {
                "keyRing" => value.as_str().map_or(Value::Null, |id| json!(labels[id])),
                "id" if value == PROJECT => value.clone(),
                "id" | "keyId" | "keyRingId" | "publicKey" | "tokens" => json!("some"),
                other if other.ends_with("At") || other.ends_with("Date") => json!("some"),
                _ => without_varying_values(value, labels),
            };
            (name.clone(), replaced)
        }))),
        Value::Array(values) => {
            // Objects that were created within one second are sorted by their ids, which are random.
            let mut values: Vec<Value> =
                values.iter().map(|value| without_varying_values(value, labels)).collect();
            values.sort_by_key(Value::to_string);
            Value::Array(values)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[test]
fn a_home_is_rebuilt_from_its_export() {
    let original = original();
    let document = Rest::of(&original).read("export").json(200);
    let text = document.to_string();
    for expected in
        ["with everything", "SNA", "cards", "rotationDays", "wrapping-key", "payments", "\"compat\""]
    {
        assert_eq!(text.contains(expected), expected != "\"compat\"", "{expected} in {document:#}");
    }
    let copy = Stack::in_network_area();
    rebuild(&document, &copy);
    let again = Rest::of(&copy).read("export").json(200);
    let (expected, found) = (comparable(&document), comparable(&again));
    let (expected_text, found_text) = (format!("{expected:#}"), format!("{found:#}"));
    let differs = expected_text.lines().zip(found_text.lines()).find(|(expected, found)| expected != found);
    assert!(
        expected == found,
        "{differs:?}: the rebuilt home exports\n{found_text}\nexpected\n{expected_text}"
    );
    // The command exports the same for that project.
    let by_command: Value =
        serde_json::from_str(&copy.kms(&["export", "--project", PROJECT]).ok()).expect("JSON");
    assert_eq!(comparable(&by_command), found);
}
