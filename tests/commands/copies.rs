//! `kms backup` and `kms restore`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::json;

use kms_tests::rest::{Field, Rest, base64};
use kms_tests::{Policy, Stack};

use crate::{json, refuses};

/// A path as an argument.
fn typed(path: &std::path::Path) -> &str {
    path.to_str().expect("a path")
}

/// A backup of a running home with a ring, a key, and an account with a role, a token and a key.
fn backed_up() -> (Stack, PathBuf) {
    let stack = Stack::strict();
    let rest = Rest::of(&stack);
    rest.create_key(&rest.create_ring("kept"), "key", "aes_256_gcm");
    stack.kms(&["account", "add", "ci@acme.sa.kms.local", "--role", "kms.user"]).ok();
    stack.kms(&["token", "create", "ci@acme.sa.kms.local", "--expires-in", "90d"]).ok();
    let key = stack.folder().join("ci.json");
    stack.kms(&["account", "key", "create", "ci@acme.sa.kms.local", "--out", typed(&key)]).ok();
    let copy = stack.folder().join("copy.db");
    stack.kms(&["backup", "--to", typed(&copy)]).ok();
    (stack, copy)
}

#[test]
fn a_backup_can_be_restored_and_used() {
    let mut stack = Stack::strict();
    let rest = Rest::of(&stack);
    let key = rest.create_key(&rest.create_ring("kept"), "key", "aes_256_gcm");
    let sealed =
        rest.post(&format!("{key}/encrypt"), json!({ "data": base64("kept") })).json(200).text("data");
    let (copy, again) = (stack.folder().join("copy.db"), stack.folder().join("again.db"));
    let text = stack.kms(&["backup", "--to", typed(&copy)]).ok();
    assert!(
        text.contains("is written and verified: 2 rings, 1 keys") && text.contains("1 accounts"),
        "{text}"
    );
    assert_eq!(copy.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    let backup = json(stack.kms(&["backup", "--to", typed(&again), "--json"]));
    assert_eq!(backup["file"], typed(&again));
    let counts =
        ["rings", "principals", "keys", "versions", "objects", "accounts"].map(|name| backup[name].as_u64());
    assert_eq!(counts, [Some(2), Some(2), Some(1), Some(1), Some(1), Some(1)], "{backup}");
    assert_eq!(backup["audit"]["whole"], true);
    assert_eq!(backup["audit"]["entries"].as_u64().map(|entries| entries > 3), Some(true), "{backup}");
    let head = backup["audit"]["head"].as_str().expect("a head").to_owned();

    refuses(stack.kms(&["backup", "--to", typed(&copy)]), "exists already", "does not exist");
    refuses(stack.kms(&["backup", "--to", "/nowhere/copy.db"]), "/nowhere/copy.db", "existing folder");
    refuses(stack.kms(&["restore", "--from", typed(&copy)]), "already running", "stop the daemon");

    // What was created since is missing after the restore, and still in the previous database.
    let later = rest.create_ring("later");
    stack.stop();
    let restored = json(stack.kms(&["restore", "--from", typed(&copy), "--json"]));
    assert_eq!((&restored["file"], &restored["keys"]), (&json!(typed(&copy)), &json!(1)), "{restored}");
    let replaced = restored["replaced"].as_str().expect("there is a previous database").to_owned();
    assert!(fs::exists(&replaced).expect("a folder can be read"), "{replaced}");
    stack.start();
    let rest = Rest::of(&stack);
    rest.read(&format!("keyrings/{later}")).refused(404);
    let opened = rest.post(&format!("{key}/decrypt"), json!({ "data": sealed })).json(200);
    assert_eq!(opened.text("data"), base64("kept"));
    stack.kms(&["audit", "verify"]).ok();
    // The restored log ends before the head that was stored elsewhere.
    stack.kms(&["audit", "verify", "--head", &head]).refused();

    stack.stop();
    let text = stack.kms(&["restore", "--from", &replaced, "--yes"]).ok();
    assert!(text.contains("is restored: 3 rings") && text.contains("the previous database is"), "{text}");
}

#[test]
fn an_invalid_copy_is_named_and_changes_nothing() {
    let stack = Stack::stopped(Policy::Strict);
    let before = fs::read(stack.home().join("kms.db")).expect("the database can be read");
    let refused = |name: &str, contents: Option<&[u8]>, what: &str| {
        let file = stack.folder().join(name);
        if let Some(contents) = contents {
            fs::write(&file, contents).expect("a file can be written");
        }
        let ran = stack.kms(&["restore", "--from", typed(&file)]);
        refuses(ran, what, "`kms backup`");
    };
    refused("missing.db", None, "missing.db cannot be read");
    refused("letter.txt", Some(&b"Dear grandmother, ".repeat(500)), "letter.txt is not a KMS database");
    let mut damaged = before.clone();
    damaged[4096..].fill(0xa5);
    refused("damaged.db", Some(&damaged), "damaged.db is damaged");
    let other = Stack::stopped(Policy::Strict);
    let foreign = other.folder().join("copy.db");
    other.kms(&["backup", "--to", typed(&foreign)]).ok();
    refuses(
        stack.kms(&["restore", "--from", typed(&foreign)]),
        typed(&foreign),
        "whose token wraps its keys",
    );
    assert_eq!(fs::read(stack.home().join("kms.db")).expect("it is still there"), before);
    let beside = fs::read_dir(stack.home()).expect("the home can be read");
    let left = beside.filter(|entry| {
        entry.as_ref().expect("an entry").file_name().to_string_lossy().contains("restoring")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn each_edited_row_of_a_copy_is_detected_and_named() {
    let (mut stack, copy) = backed_up();
    stack.stop();
    let edits = [
        ("projects", "UPDATE projects SET name = 'theirs'"),
        ("rings", "UPDATE rings SET policy = 3 - policy WHERE slot = 0"),
        ("principals", "UPDATE principals SET standing = 1 WHERE name = 'user'"),
        ("keys", "UPDATE keys SET display_name = 'other'"),
        ("versions", "UPDATE versions SET state = 2"),
        ("objects", "UPDATE objects SET label = NULL"),
        ("accounts", "UPDATE accounts SET disabled = 1 WHERE email LIKE 'ci@%'"),
        ("grants", "UPDATE grants SET role = 'owner' WHERE role = 'kms.user'"),
        ("grants", "UPDATE grants SET project = zeroblob(16) WHERE role = 'kms.user'"),
        ("tokens", "UPDATE tokens SET expires = NULL WHERE expires IS NOT NULL"),
        ("tokens", "UPDATE tokens SET digest = zeroblob(32) WHERE expires IS NOT NULL"),
        ("account_keys", "UPDATE account_keys SET public_key = zeroblob(32)"),
    ];
    for (table, edit) in edits {
        let changed = stack.folder().join("changed.db");
        fs::copy(&copy, &changed).expect("a file can be copied");
        let rows = Connection::open(&changed).and_then(|database| database.execute(edit, []));
        assert!(rows.expect("the statement runs") > 0, "{edit}");
        let ran = stack.kms(&["restore", "--from", typed(&changed)]);
        assert!(!ran.status.success(), "{edit}: {ran}");
        refuses(ran, &format!("of table {table} was not written by this KMS"), "another copy");
        fs::remove_file(&changed).expect("a file can be removed");
    }
    // The same if the row is in the home's own database: no backup is written, and no file is left.
    let database = Connection::open(stack.home().join("kms.db")).expect("the database opens");
    let edit = "UPDATE grants SET role = 'owner' WHERE role = 'kms.user'";
    assert_eq!(database.execute(edit, []).expect("the statement runs"), 1);
    drop(database);
    let to = stack.folder().join("second.db");
    refuses(stack.kms(&["backup", "--to", typed(&to)]), "of table grants", "keep the existing backups");
    assert!(!to.exists());
    stack.kms(&["restore", "--from", typed(&copy), "--yes"]).ok();
}

#[test]
fn a_row_without_its_parent_is_detected() {
    let (mut stack, copy) = backed_up();
    stack.stop();
    let database = Connection::open(&copy).expect("the copy opens");
    database.pragma_update(None, "foreign_keys", false).expect("a setting");
    assert!(database.execute("DELETE FROM accounts WHERE email LIKE 'ci@%'", []).expect("it runs") > 0);
    drop(database);
    refuses(
        stack.kms(&["restore", "--from", typed(&copy)]),
        "references a missing row of accounts",
        "`kms backup`",
    );
}
