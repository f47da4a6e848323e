//! The audit log of what was done over REST: an event of each kind with its fields, denials among them, and nothing
//! secret anywhere in the home.

use serde_json::{Value, json};

use kms_tests::Stack;
use kms_tests::rest::{Field, PROJECT, Rest, base64, bytes, der};
use kms_tests::{openssl, program};

/// Data that must be nowhere: neither in the log nor in the database.
const SECRET: &str = "the-plaintext-nobody-may-keep";

/// Does one of everything; gives the names of the events that must follow, and what must be nowhere.
fn one_of_everything(stack: &Stack, rest: &Rest) -> (Vec<&'static str>, Vec<Vec<u8>>) {
    let ring = rest.make_ring("audited");
    let empty = rest.make_ring("empty");
    rest.delete(&format!("keyrings/{empty}")).empty(204);
    let aes = rest.make_key(&ring, "aes", "aes_256_gcm");
    let mac = rest.make_key(&ring, "mac", "hmac_sha256");
    rest.act(&format!("{aes}/rotate")).json(202);
    for step in ["disable", "enable", "destroy", "restore"] {
        rest.act(&format!("{aes}/versions/1/{step}")).empty(204);
    }
    let ask = json!({
        "displayName": "way-in",
        "protection": "software",
        "algorithm": "rsa_2048_oaep_sha256",
        "purpose": "wrap_symmetric_key",
    });
    let wrapping = rest.post(&format!("keyrings/{ring}/wrappingkeys"), ask).json(202);
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
    rest.act(&format!("{mac}/restore")).empty(204);
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
fn each_kind_of_call_has_its_event_and_no_secret_stays() {
    let mut stack = Stack::strict();
    let rest = Rest::of(&stack);
    let (events, secrets) = one_of_everything(&stack, &rest);
    let listed = stack.kms(&["audit", "list", "--json"]).ok();
    let entries: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).expect("lines of JSON")).collect();
    for event in events {
        // `kms init` made a ring as well, and came from no address.
        let here = |entry: &&Value| entry["eventName"] == event && entry["sourceIpAddress"] == "127.0.0.1";
        let found = entries.iter().find(here);
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
        assert_nowhere(&stack, &secret);
    }
}

/// That these bytes are in no file of the home but the one that holds the owner's token, nor in the daemon's log.
fn assert_nowhere(stack: &Stack, secret: &[u8]) {
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
        assert!(!found, "{} holds {:?}", file.display(), String::from_utf8_lossy(secret));
    }
}

#[test]
fn the_log_is_read_over_rest_in_the_vendors_form() {
    let stack = Stack::strict();
    let rest = Rest::of(&stack);
    let ring = rest.make_ring("seen");
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
    let made = items.iter().find(of_ring).unwrap_or_else(|| panic!("the ring's creation is in {all}"));
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
        assert!(!made[field].is_null(), "{field} is required: {made}");
    }
    for wrong in ["", "?startTimeRange=2026-01-01T00:00:00Z", "?startTimeRange=x&endTimeRange=y"] {
        assert_eq!(rest.call("GET", &path(wrong), None, &[]).status, 400, "{wrong}");
    }
    assert_eq!(rest.with_token(None).call("GET", &path(&today), None, &[]).status, 401);
}

/// From an hour ago to in an hour, as the API takes times; by the system's own clock and program.
fn today() -> (String, String) {
    let time = |when: &str| {
        let mut date = std::process::Command::new("date");
        program::run(date.args(["-u", "-d", when, "+%Y-%m-%dT%H:%M:%SZ"])).ok().trim().to_owned()
    };
    (time("1 hour ago"), time("1 hour"))
}
