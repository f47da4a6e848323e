//! The audit log of operations over REST: each operation has an event with its fields, and no secret is stored in the
//! home.

use serde_json::{Value, json};

use kms_tests::Stack;
use kms_tests::rest::{Field, PROJECT, Rest, base64, bytes, der};
use kms_tests::{openssl, program};

/// Plaintext that must not be stored: neither in the log nor in the database.
const SECRET: &str = "the-plaintext-that-is-not-stored";

/// Performs each operation once; returns the names of the expected events, and the secrets that must not be stored.
fn perform_each_operation(stack: &Stack, rest: &Rest) -> (Vec<&'static str>, Vec<Vec<u8>>) {
    let ring = rest.create_ring("audited");
    let empty = rest.create_ring("empty");
    rest.delete(&format!("keyrings/{empty}")).empty(204);
    let aes = rest.create_key(&ring, "aes", "aes_256_gcm");
    let mac = rest.create_key(&ring, "mac", "hmac_sha256");
    rest.post_empty(&format!("{aes}/rotate")).json(202);
    for step in ["disable", "enable", "destroy", "restore"] {
        rest.post_empty(&format!("{aes}/versions/1/{step}")).empty(204);
    }
    let body = json!({
        "displayName": "wrapping-key",
        "protection": "software",
        "algorithm": "rsa_2048_oaep_sha256",
        "purpose": "wrap_symmetric_key",
    });
    let wrapping = rest.post(&format!("keyrings/{ring}/wrappingkeys"), body).json(202);
    let material = openssl::digest("sha256", b"material");
    let public = openssl::PublicKey::new(&der(&wrapping.text("publicKey")));
    let options = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"];
    let wrapped = base64(public.encrypt(&options, &material));
    let upload = json!({ "wrappingKeyId": wrapping.text("id"), "wrappedKey": wrapped });
    rest.post(&format!("{aes}/import"), upload).json(202);
    rest.delete(&format!("keyrings/{ring}/wrappingkeys/{}", wrapping.text("id"))).empty(204);
    let data = json!({ "data": base64(SECRET) });
    let sealed = rest.post(&format!("{aes}/versions/1/encrypt"), data.clone()).json(200).text("data");
    rest.post(&format!("{aes}/versions/1/decrypt"), json!({ "data": sealed })).json(200);
    let tag = rest.post(&format!("{mac}/versions/1/sign"), data).json(200).text("signature");
    rest.post(&format!("{mac}/versions/1/verify"), json!({ "data": base64(SECRET), "signature": tag }))
        .json(200);
    rest.delete(&mac).empty(202);
    rest.post_empty(&format!("{mac}/restore")).empty(204);
    let events = vec![
        "kms.keyring.create",
        "kms.keyring.delete",
        "kms.key.create",
        "kms.key.rotate",
        "kms.key.import",
        "kms.key.delete",
        "kms.key.restore",
        "kms.key.version.disable",
        "kms.key.version.enable",
        "kms.key.version.destroy",
        "kms.key.version.restore",
        "kms.wrapping-key.create",
        "kms.wrapping-key.delete",
    ];
    let token = stack.admin_token();
    let secrets = vec![
        SECRET.into(),
        base64(SECRET).into_bytes(),
        material,
        bytes(&wrapped),
        bytes(&tag),
        token.into(),
    ];
    (events, secrets)
}

#[test]
fn each_operation_is_audited_and_no_secret_is_stored() {
    let mut stack = Stack::strict();
    let rest = Rest::of(&stack);
    let (events, secrets) = perform_each_operation(&stack, &rest);
    let listed = stack.kms(&["audit", "list", "--json"]).ok();
    let entries: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).expect("lines of JSON")).collect();
    for event in events {
        // Excludes the events of `kms init`, which also creates a ring and has no source address.
        let over_rest =
            |entry: &&Value| entry["eventName"] == event && entry["sourceIpAddress"] == "127.0.0.1";
        let found = entries.iter().find(over_rest);
        let entry = found.unwrap_or_else(|| panic!("no {event} in {listed}"));
        for field in
            ["id", "eventTimeStamp", "eventType", "severity", "sourceIpAddress", "userAgent", "initiator"]
        {
            assert!(!entry[field].is_null(), "{event} has {field}: {entry}");
        }
        assert_eq!(entry["eventType"], "ADMIN_ACTIVITY", "{entry}");
    }
    stack.kms(&["audit", "verify"]).ok();
    stack.stop();
    for secret in secrets {
        assert_not_stored(&stack, &secret);
    }
}

/// Asserts that these bytes are neither in the daemon's log nor in a file of the home, except the file of the
/// administrator's token.
fn assert_not_stored(stack: &Stack, secret: &[u8]) {
    let mut folders = vec![stack.home()];
    let mut files = vec![stack.log()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the home can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    for file in files.iter().filter(|file| !file.ends_with("admin.token")) {
        let contents = std::fs::read(file).unwrap_or_default();
        let found = contents.windows(secret.len()).any(|window| window == secret);
        assert!(!found, "{} contains {:?}", file.display(), String::from_utf8_lossy(secret));
    }
}

#[test]
fn the_audit_log_is_read_over_rest_in_the_vendors_format() {
    let stack = Stack::strict();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("listed");
    let path = |more: &str| format!("/v2/projects/{PROJECT}{more}");
    let range = "?startTimeRange=2026-01-01T00:00:00Z&endTimeRange=2026-01-01T12:00:00Z";
    let none = rest.call("GET", &path(range), None, &[]).json(200);
    assert_eq!(none["items"], json!([]));
    let (from, to) = today();
    let today = format!("?startTimeRange={from}&endTimeRange={to}");
    let all = rest.call("GET", &path(&today), None, &[]).json(200);
    let items = all["items"].as_array().expect("a list");
    let of_ring = |item: &&Value| {
        item["eventName"] == "kms.keyring.create" && item["resourceId"].to_string().contains(&ring)
    };
    let creation = items.iter().find(of_ring).unwrap_or_else(|| panic!("no creation of the ring in {all}"));
    for field in [
        "id",
        "receivedTimeStamp",
        "eventVersion",
        "eventSource",
        "region",
        "severity",
        "visibility",
        "eventType",
        "eventTimeStamp",
        "eventName",
        "sourceIpAddress",
        "userAgent",
        "initiator",
        "request",
    ] {
        assert!(!creation[field].is_null(), "{field} is required: {creation}");
    }
    for wrong in ["", "?startTimeRange=2026-01-01T00:00:00Z", "?startTimeRange=x&endTimeRange=y"] {
        assert_eq!(rest.call("GET", &path(wrong), None, &[]).status, 400, "{wrong}");
    }
    assert_eq!(rest.with_token(None).call("GET", &path(&today), None, &[]).status, 401);
}

/// The range from an hour ago to in an hour, in the API's format; by the system's `date` program.
fn today() -> (String, String) {
    let time = |when: &str| {
        let mut date = std::process::Command::new("date");
        program::run(date.args(["-u", "-d", when, "+%Y-%m-%dT%H:%M:%SZ"])).ok().trim().to_owned()
    };
    (time("1 hour ago"), time("1 hour"))
}
