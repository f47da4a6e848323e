//! Service accounts: created by commands, used over PKCS#11 with a static token as the PIN, and over REST.

use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::session::UserType;
use kms_tests::Stack;
use kms_tests::client::{Client, pin, refused};
use kms_tests::rest::Rest;
use serde_json::Value;

use crate::keys;

const CI: &str = "ci@acme.sa.kms.local";

/// The output of a command with `--json`.
#[track_caller]
fn json(stack: &Stack, arguments: &[&str]) -> Value {
    let text = stack.kms(&[arguments, &["--json"]].concat()).ok();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Creates an account with a role in the test's ring; returns its token.
#[track_caller]
fn account(stack: &Stack, role: &str) -> String {
    json(stack, &["account", "add", CI, "--role", role, "--ring", "test"]);
    let created = json(stack, &["token", "create", CI]);
    created["token"].as_str().expect("the token is shown once").to_owned()
}

/// Waits until a condition holds. The daemon must see changes of other processes within a second; a busy machine gets
/// ten.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a timeout")]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}: not within ten seconds");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_static_token_is_a_pin_and_its_revocation_ends_the_login() {
    let stack = Stack::strict();
    let token = account(&stack, "kms.admin");
    let client = Client::public(&stack);
    refused(client.session.login(UserType::So, Some(&pin(&token))), RvError::PinIncorrect);
    let mut forged = token.clone();
    forged.replace_range(10..11, if &token[10..11] == "A" { "B" } else { "A" });
    refused(client.session.login(UserType::User, Some(&pin(&forged))), RvError::PinIncorrect);
    client.session.login(UserType::User, Some(&pin(&token))).expect("the account logs in");
    let key = keys::aes(&client, "account-key");
    client.session.encrypt(&Mechanism::AesEcb, key, &[0; 16]).expect("an admin uses keys");

    let listed = json(&stack, &["token", "list", CI]);
    assert!(listed[0].get("token").is_none() && !listed.to_string().contains(&token), "{listed}");
    stack.kms(&["token", "revoke", CI, "default"]).ok();
    wait_until("the login ends", || client.session.encrypt(&Mechanism::AesEcb, key, &[0; 16]).is_err());
    refused(client.session.encrypt(&Mechanism::AesEcb, key, &[0; 16]), RvError::UserNotLoggedIn);
    client.session.logout().unwrap_or_default();
    refused(client.session.login(UserType::User, Some(&pin(&token))), RvError::PinIncorrect);
}

#[test]
fn a_reader_lists_a_key_over_both_apis_and_cannot_use_it() {
    let stack = Stack::strict();
    let (token, rest) = (account(&stack, "kms.reader"), Rest::of(&stack));
    let admin = Client::user(&stack);
    let key = keys::aes(&admin, "admins-key");
    admin.session.encrypt(&Mechanism::AesEcb, key, &[0; 16]).expect("the ring's user can use it");
    admin.session.logout().expect("the ring's user logs out");
    admin.session.login(UserType::User, Some(&pin(&token))).expect("a reader logs in");
    let found = admin.session.find_objects(&[]).expect("a reader sees keys");
    assert_eq!(found.len(), 1);
    let used = admin.session.encrypt(&Mechanism::AesEcb, found[0], &[0; 16]);
    refused(used, RvError::KeyFunctionNotPermitted);

    let rings = rest.read("keyrings").json(200);
    let ring = rings["keyRings"][0]["id"].as_str().expect("there is a ring").to_owned();
    let reader = rest.with_token(Some(&token));
    let seen = reader.read(&format!("keyrings/{ring}/keys")).json(200);
    assert_eq!(seen["keys"].as_array().map(Vec::len), Some(1), "{seen}");
}

#[test]
fn error_messages_name_the_problem_and_the_next_step() {
    let stack = Stack::stopped(kms_tests::Policy::Strict);
    json(&stack, &["account", "add", CI]);
    for (arguments, expected) in [
        (&["account", "add", CI] as &[&str], "exists already"),
        (&["account", "add", "a b@c"], "no address"),
        (&["account", "add", "alice", "--ring", "test", "--role", "owner"], "service account"),
        (&["account", "add", "x@y", "--ring", "test"], "--role"),
        (&["account", "add", "x@y", "--secret-file", "f"], "kms token create"),
        (&["account", "disable", "nobody@y"], "kms account list"),
        (&["account", "remove", "user", "--ring", "test"], "the ring's own"),
        (&["role", "grant", CI, "kms.user", "--ring", "none"], "kms ring list"),
        (&["role", "grant", CI, "kms.user", "--project", "none"], "kms project list"),
        (&["role", "revoke", CI, "kms.user"], "kms role list"),
        (&["token", "revoke", CI, "none"], "kms token list"),
        (&["token", "create", CI, "--expires-in", "soon"], "90d"),
        (&["account", "key", "revoke", "none"], "kms account key list"),
        (&["account", "key", "add", CI, "--public-key", "/nonexistent"], "public key"),
        (&["project", "add", "default"], "exists already"),
    ] {
        let message = stack.kms(arguments).refused();
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    let out = stack.folder().join("token");
    let path = out.to_str().expect("a path");
    let created =
        json(&stack, &["token", "create", CI, "--name", "ci", "--out", path, "--expires-in", "90d"]);
    assert!(created.get("token").is_none(), "{created}");
    assert_eq!(std::fs::metadata(&out).expect("it is written").permissions().mode() & 0o777, 0o600);
    let again = stack.kms(&["token", "create", CI, "--name", "more", "--out", path]).refused();
    assert!(again.contains("nothing was made"), "{again}");
    let listed = json(&stack, &["token", "list", CI]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    json(&stack, &["project", "add", "acme", "--id", "3f1c9a52-8a0e-4f0c-9d0e-2f1f6c0a7b11"]);
    json(&stack, &["role", "grant", CI, "kms.editor", "--project", "acme"]);
    let other_project =
        stack.kms(&["role", "grant", CI, "kms.user", "--project", "acme", "--ring", "test"]).refused();
    assert!(other_project.contains("not in project"), "{other_project}");
    json(&stack, &["account", "remove", CI]);
    assert_eq!(
        json(&stack, &["role", "list"]).as_array().map(Vec::len),
        Some(1),
        "only the administrator's role is left"
    );
}
