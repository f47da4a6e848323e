//! The OpenAPI document against the daemon: schemathesis generates valid and invalid requests from the document and
//! checks the responses.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use kms_tests::artefacts::variable;
use kms_tests::rest::{Field, PROJECT, Rest};
use kms_tests::{Policy, SetOnDrop, Stack, program, python};

/// How long requests are sent, in seconds; `KMS_TESTS_SCHEMATHESIS_SECONDS` overrides it (`make suites` sets it).
const SECONDS: u64 = 120;

/// The checks that are disabled. `positive_data_acceptance`: OpenAPI cannot express that a purpose must fit its
/// algorithm, or that data must be ciphertext. `ensure_resource_availability`: it takes a ring's id for a key's, and
/// expects a key with that id after the ring's creation. All other checks are enabled.
const DISABLED_CHECKS: &str = "positive_data_acceptance,ensure_resource_availability";

#[test]
fn the_daemon_conforms_to_the_document() {
    let mut stack = Stack::stopped(Policy::Strict);
    stack.configure("rest", "calls_per_hour", "100000000");
    stack.start();
    let rest = Rest::of(&stack);
    let (config, keys) = prepare(&stack, &rest);
    let seconds = variable("KMS_TESTS_SCHEMATHESIS_SECONDS")
        .and_then(|text| text.to_str().and_then(|text| text.parse().ok()))
        .unwrap_or(SECONDS);
    let done = AtomicBool::new(false);
    let ran = std::thread::scope(|scope| {
        let _ending = SetOnDrop(&done);
        // It also deletes, disables and destroys, so the keys are restored again and again to keep valid requests
        // valid.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for key in &keys {
                    rest.post_empty(&format!("{key}/restore"));
                    rest.post_empty(&format!("{key}/versions/1/restore"));
                    rest.post_empty(&format!("{key}/versions/1/enable"));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let mut command = Command::new(python::bin().join("st"));
        command
            .arg("--no-color")
            .arg("--config-file")
            .arg(&config)
            .arg("run")
            .arg(format!("{}/openapi.json", rest.base()));
        command.args(["--max-time", &seconds.to_string(), "--exclude-checks", DISABLED_CHECKS]);
        command.args(["--continue-on-failure", "--output-truncate", "false"]);
        python::clear_environment(&mut command);
        command.current_dir(stack.folder()).env("HOME", stack.folder());
        program::run_with(&mut command, b"", Duration::from_secs(seconds * 3 + 120))
    });
    assert_eq!(stack.daemon().ended(), None, "the daemon still runs");
    ran.ok();
}

/// Writes a configuration with existing ids for schemathesis; returns its path and the keys that must be kept usable.
fn prepare(stack: &Stack, rest: &Rest) -> (PathBuf, Vec<String>) {
    let ring = rest.create_ring("ring");
    let algorithms = ["aes_256_gcm", "hmac_sha256", "ecdsa_p256_sha256", "rsa_2048_oaep_sha256"];
    let keys: Vec<_> = algorithms.iter().map(|algorithm| rest.create_key(&ring, "key", algorithm)).collect();
    let body = json!({
        "displayName": "wrapping-key",
        "protection": "software",
        "algorithm": "rsa_2048_oaep_sha256",
        "purpose": "wrap_symmetric_key",
    });
    let wrapping: Vec<_> = (0..20)
        .map(|_| rest.post(&format!("keyrings/{ring}/wrappingkeys"), body.clone()).json(202).text("id"))
        .collect();
    let ids: Vec<_> = keys.iter().filter_map(|key| key.rsplit('/').next()).collect();
    let token = rest.token().expect("the administrator has a token");
    let config = format!(
        r#"
[headers]
Authorization = "Bearer {token}"

[dictionaries.projects]
values = ["{PROJECT}"]
[dictionaries.regions]
values = ["eu01"]
[dictionaries.rings]
values = ["{ring}"]
[dictionaries.keys]
values = {keys}
[dictionaries.wrapping]
values = {wrapping}
[dictionaries.numbers]
values = [1]

[parameters]
"path.projectId" = {{ dictionary = "projects", probability = 0.95 }}
"path.regionId" = {{ dictionary = "regions", probability = 0.95 }}
"path.keyRingId" = {{ dictionary = "rings", probability = 0.9 }}
"path.keyId" = {{ dictionary = "keys", probability = 0.9 }}
"path.wrappingKeyId" = {{ dictionary = "wrapping", probability = 0.9 }}
"path.versionNumber" = {{ dictionary = "numbers", probability = 0.9 }}
"#,
        keys = Value::from(ids),
        wrapping = Value::from(wrapping.clone()),
    );
    let path = stack.folder().join("schemathesis.toml");
    std::fs::write(&path, config).expect("a configuration can be written");
    (path, keys)
}
