//! The automaton: what an attacker with write access to the database, or to a backup, can do in one step. It deletes,
//! inserts, swaps, edits and puts back rows of every table, edits every column, adds every kind of schema object, and puts
//! the whole of an older file back. Each step must be named by `kms audit verify` and refused by `kms restore`; on the
//! file of a running daemon, the daemon must name it by itself. The figures stand in docs/attacks.md.

mod mutations;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kms_tests::Stack;
use kms_tests::client::Client;
use kms_tests::daemon::read_log;
use kms_tests::rest::{Rest, base64};
use rusqlite::Connection;
use serde_json::json;

use mutations::{Mutation, everything_put_back, mutations};

const ACCOUNT: &str = "mallory@acme.sa.kms.local";

/// A stopped home with rows in every table that has rows in operation; its database, and an older state of it.
struct Victim {
    stack: Stack,
    whole: PathBuf,
    old: PathBuf,
    /// A token that was revoked after the older state.
    token: String,
    /// The path of a key.
    key: String,
}

/// Copies the database of a stopped home into one file.
fn copy(stack: &Stack, name: &str) -> PathBuf {
    let (from, to) = (stack.home().join("kms.db"), stack.folder().join(name));
    let database = Connection::open(&from).expect("the database opens");
    let _: i64 =
        database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).expect("it is merged");
    drop(database);
    fs::copy(from, &to).expect("a file can be copied");
    to
}

fn put(stack: &Stack, from: &Path) {
    for suffix in ["kms.db-wal", "kms.db-shm"] {
        // There may be none.
        drop(fs::remove_file(stack.home().join(suffix)));
    }
    fs::copy(from, stack.home().join("kms.db")).expect("a file can be copied");
}

fn victim() -> Victim {
    let mut stack = Stack::strict();
    let rest = Rest::of(&stack);
    let (ring, gone) = (rest.create_ring("kept"), rest.create_ring("gone"));
    let key = rest.create_key(&ring, "key", "aes_256_gcm");
    let other = rest.create_key(&ring, "other", "hmac_sha256");
    stack.kms(&["project", "add", "acme"]).ok();
    stack.kms(&["account", "add", ACCOUNT, "--role", "kms.admin"]).ok();
    stack.kms(&["account", "add", "ci@acme.sa.kms.local", "--role", "kms.user"]).ok();
    let file = stack.folder().join("mallory.token");
    stack.kms(&["token", "create", ACCOUNT, "--name", "one", "--out", file.to_str().expect("a path")]).ok();
    let token = fs::read_to_string(&file).expect("a token").trim().to_owned();
    for number in ["1", "2"] {
        let out = stack.folder().join(format!("key-{number}.json"));
        stack.kms(&["account", "key", "create", ACCOUNT, "--out", out.to_str().expect("a path")]).ok();
    }
    rest.with_token(Some(&token)).read("keyrings").json(200);
    // A repeated creation, and vectors of a key.
    let body = serde_json::to_vec(&kms_tests::rest::key("repeated", "aes_256_gcm")).expect("JSON");
    let repeat =
        [("Idempotency-Key", "6f2f9a44-3d7c-4d6e-9a0d-6b1f0f0d8a11"), ("Content-Type", "application/json")];
    rest.call("POST", &rest.path(&format!("keyrings/{ring}/keys")), Some(&body), &repeat).json(202);
    rest.post(&format!("{key}/encrypt"), json!({ "data": base64("data") })).json(200);
    let client = Client::user(&stack);
    let template = crate::restart::template("made by an application", true);
    client.session.generate_key(&cryptoki::mechanism::Mechanism::AesKeyGen, &template).expect("a key");
    drop(client);
    stack.stop();
    // A log that was restarted once.
    let database = Connection::open(stack.home().join("kms.db")).expect("the database opens");
    database.execute("UPDATE audit SET at = at + 1 WHERE sequence = 1", []).expect("it runs");
    drop(database);
    stack.kms(&["audit", "restart"]).ok();
    let old = copy(&stack, "old.db");
    stack.start();
    let rest = Rest::of(&stack);
    rest.post_empty(&format!("{key}/rotate")).json(202);
    rest.post_empty(&format!("{key}/versions/1/disable")).empty(204);
    rest.delete(&other).empty(202);
    rest.delete(&format!("keyrings/{gone}")).empty(204);
    stack.kms(&["token", "revoke", ACCOUNT, "one"]).ok();
    stack.kms(&["token", "create", ACCOUNT, "--name", "two"]).ok();
    stack.kms(&["role", "revoke", ACCOUNT, "kms.admin"]).ok();
    stack.kms(&["account", "disable", ACCOUNT]).ok();
    stack.stop();
    let whole = copy(&stack, "whole.db");
    Victim { stack, whole, old, token, key }
}

/// Applies a mutation to a copy of the whole database; returns it, or nothing if the step changes nothing or SQLite refuses
/// it.
fn mutated(victim: &Victim, mutation: &Mutation) -> Option<PathBuf> {
    let path = victim.stack.folder().join("mutated.db");
    fs::copy(&victim.whole, &path).expect("a file can be copied");
    mutation.apply(&path, &victim.old).then_some(path)
}

#[test]
fn every_step_on_a_database_or_a_backup_is_named() {
    let victim = victim();
    let stack = &victim.stack;
    stack.kms(&["audit", "verify"]).ok();
    let all = mutations(&victim.whole, &victim.old);
    let (mut tried, mut undetected) = (0, Vec::new());
    for mutation in &all {
        let Some(path) = mutated(&victim, mutation) else { continue };
        tried += 1;
        put(stack, &path);
        let verified = stack.kms(&["audit", "verify"]);
        if verified.status.success() {
            undetected.push(format!("verify: {mutation}"));
        }
        put(stack, &victim.whole);
        let restored = stack.kms(&["restore", "--from", path.to_str().expect("a path"), "--yes"]);
        if restored.status.success() {
            undetected.push(format!("restore: {mutation}"));
            // The token has counted on: whatever follows would be refused as an old copy.
            break;
        }
    }
    // The whole of the older file: not as the home's database; as a backup, it is restored on purpose.
    put(stack, &victim.old);
    let refused = stack.kms(&["audit", "verify"]);
    assert!(!refused.status.success() && refused.to_string().contains("an old copy"), "{refused}");
    put(stack, &victim.whole);
    stack.kms(&["restore", "--from", victim.old.to_str().expect("a path"), "--yes"]).ok();
    stack.kms(&["audit", "verify"]).ok();
    // From then on, the one that it replaced is an old copy, too.
    put(stack, &victim.whole);
    assert!(stack.kms(&["doctor"]).to_string().contains("an old copy"));
    println!("{} steps, {tried} of them possible, twice each: {} undetected", all.len(), undetected.len());
    assert!(tried > 250, "only {tried} steps were possible");
    assert!(undetected.is_empty(), "{undetected:#?}");
}

#[test]
fn a_running_daemon_names_what_is_done_to_its_file_and_acts_on_none_of_it() {
    let mut victim = victim();
    // The same file is put back for each step, which the number in the token would find.
    victim.stack.configure("hsm", "counter", "false");
    let mut live: Vec<Mutation> =
        mutations(&victim.whole, &victim.old).into_iter().filter(Mutation::is_for_a_running_daemon).collect();
    assert!(live.len() > 30, "only {} steps", live.len());
    live.push(everything_put_back(&victim.whole));
    let (mut tried, mut by_verify, mut undetected, mut wrong) = (0, 0, Vec::new(), Vec::new());
    for mutation in &live {
        put(&victim.stack, &victim.whole);
        let old = victim.old.clone();
        drop(fs::remove_file(victim.stack.log()));
        victim.stack.start();
        let rest = Rest::of(&victim.stack);
        if mutation.apply(&victim.stack.home().join("kms.db"), &old) {
            tried += 1;
            // The daemon does not walk the entries of a log of any length: `kms audit verify` does.
            if !named_in_time(&victim.stack) {
                let verified = victim.stack.kms(&["audit", "verify"]);
                by_verify += 1;
                if verified.status.success() {
                    undetected.push(mutation.to_string());
                }
            }
            // Whoever was revoked gets nothing, and no key is used in a state that was put back.
            let listed = rest.with_token(Some(&victim.token)).read("keyrings").status;
            let data = json!({ "data": base64("data") });
            let used = rest.post(&format!("{}/versions/1/encrypt", victim.key), data).status;
            if (200..300).contains(&listed) || (200..300).contains(&used) {
                wrong.push(format!("{mutation}: {listed}, {used}"));
            }
        }
        victim.stack.kill9();
    }
    println!(
        "{tried} steps on a live file, {by_verify} of them named by `kms audit verify` alone: {} undetected, {} wrong answers",
        undetected.len(),
        wrong.len()
    );
    assert!(undetected.is_empty() && wrong.is_empty(), "{undetected:#?} {wrong:#?}");
}

/// Waits until the daemon's log names a fault.
fn named_in_time(stack: &Stack) -> bool {
    // Four seconds: the daemon looks four times a second.
    (0..40).any(|_| {
        let log = read_log(&stack.log());
        let faults = ["was changed from outside", "key_material_invalid", "or put back is not known"];
        let is_named = faults.iter().any(|fault| log.contains(fault));
        if !is_named {
            std::thread::sleep(Duration::from_millis(100));
        }
        is_named
    })
}
