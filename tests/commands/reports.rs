//! `kms export`, `kms usage`, `kms amounts`.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use kms_tests::Stack;
use kms_tests::rest::{PROJECT, Rest};

use crate::{json, refuses};

const STRANGER: &str = "11111111-1111-1111-1111-111111111111";

#[test]
fn amounts_counts_rings_keys_and_versions() {
    let stack = Stack::strict();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("counted");
    let key = rest.create_key(&ring, "one", "aes_256_gcm");
    rest.create_key(&ring, "two", "hmac_sha256");
    rest.post_empty(&format!("{key}/rotate")).json(202);
    rest.post_empty(&format!("{key}/versions/1/disable")).empty(204);
    let amounts = json(stack.kms(&["amounts", "--json"]));
    let right = json!({
        "keyRings": 2, "keys": 2, "versions": 3, "availableVersions": 2, "wrappingKeys": 0,
    });
    assert_eq!(amounts, right);
    assert_eq!(rest.read("amounts").json(200), right, "REST counts the same");
    assert_eq!(json(stack.kms(&["amounts", "--project", PROJECT, "--json"])), right);
    let table = stack.kms(&["amounts"]).ok();
    let row =
        |what: &str, count: &str| table.lines().any(|line| line.starts_with(what) && line.ends_with(count));
    assert!(row("WHAT", "COUNT") && row("available versions", " 2") && row("key rings", " 2"), "{table}");
    refuses(stack.kms(&["amounts", "--project", STRANGER]), "there is no such project", "`kms project list`");
}

#[test]
fn usage_is_version_hours() {
    let stack = Stack::strict();
    let rest = Rest::of(&stack);
    let none = json(stack.kms(&["usage", "--json"]));
    assert_eq!((&none["versionHours"], &none["hours"]), (&json!(0), &json!([])));
    assert!(stack.kms(&["usage"]).ok().starts_with("no version was available\n0 version-hours"));
    let ring = rest.create_ring("used");
    rest.create_key(&ring, "one", "aes_256_gcm");
    rest.create_key(&ring, "two", "aes_256_gcm");
    // A version counts from the second after its creation on.
    let usage = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        let usage = json(stack.kms(&["usage", "--json"]));
        usage["hours"][0]["versions"].as_u64().is_some_and(|versions| versions == 2).then_some(usage)
    });
    let usage = usage.expect("both versions are counted");
    let hours = usage["hours"].as_array().expect("a list");
    // Two versions in this hour, and in the next one if it begins meanwhile.
    assert!(matches!(hours.len(), 1 | 2), "{usage}");
    assert_eq!(usage["versionHours"], 2 * hours.len(), "{usage}");
    assert!(hours[0]["hour"].as_str().is_some_and(|hour| hour.ends_with(":00:00Z")), "{usage}");
    assert!(usage["from"].as_str() < usage["to"].as_str(), "{usage}");
    let text = stack.kms(&["usage", "--project", PROJECT]).ok();
    assert!(text.starts_with("HOUR ") && text.trim_end().ends_with("version-hours"), "{text}");

    let refused = |arguments: &[&str], what: &str, next: &str| {
        refuses(stack.kms(&[&["usage"], arguments].concat()), what, next);
    };
    refused(&["--project", STRANGER], "there is no such project", "`kms project list`");
    refused(&["--from", "2030-01-01T00:00:00Z"], "is after", "--from");
    refused(
        &["--from", "2020-01-01T00:00:00Z", "--to", "2021-06-01T00:00:00Z"],
        "366 days",
        "--from and --to",
    );
    let usage = stack.kms(&["usage", "--from", "yesterday"]).refused();
    assert!(usage.contains("2026-11-26T08:00:00Z"), "the format of a time: {usage}");
}

#[test]
fn an_export_is_written_to_standard_output_or_to_a_new_file() {
    let stack = Stack::strict();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("exported");
    rest.create_key(&ring, "one", "ecdsa_p256_sha256");
    let export = json(stack.kms(&["export"]));
    let fields: Vec<&String> = export.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["accounts", "exportedAt", "format", "projects", "region", "service"]);
    let rings = export["projects"][0]["keyRings"].as_array().expect("a list");
    let found = rings.iter().find(|found| found["id"] == ring.as_str()).expect("the ring is in it");
    assert!(found["keys"][0]["versions"][0]["publicKey"].as_str().is_some(), "{found}");

    let file = stack.folder().join("export.json");
    let name = file.to_str().expect("a path");
    assert_eq!(stack.kms(&["export", "--project", PROJECT, "--to", name]).ok(), "");
    let mode = file.metadata().expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let written: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("it can be read")).expect("JSON");
    assert_eq!(written["projects"], export["projects"]);
    // An existing file is not overwritten, and a failed export leaves no file.
    let before = std::fs::read(&file).expect("it can be read");
    refuses(stack.kms(&["export", "--to", name]), "cannot create", "never overwritten");
    assert_eq!(std::fs::read(&file).expect("it is still there"), before);
    let other = stack.folder().join("other.json");
    let arguments = ["export", "--project", STRANGER, "--to", other.to_str().expect("a path")];
    refuses(stack.kms(&arguments), "there is no such project", "`kms project list`");
    assert!(!other.exists(), "an incomplete export");
}
