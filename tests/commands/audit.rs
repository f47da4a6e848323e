//! `kms audit verify` and `kms audit restart`, on a log that was edited in the database.

use rusqlite::Connection;
use serde_json::json;

use kms_tests::Stack;
use kms_tests::client::Client;
use kms_tests::daemon::read_log;
use kms_tests::rest::Rest;

use crate::{json, refuses};

/// Edits a stack's database by hand, the daemon running or not.
fn edit(stack: &Stack, statement: &str) {
    let database = Connection::open(stack.home().join("kms.db")).expect("the database opens");
    let changed = database.execute(statement, []).expect("the statement runs");
    assert!(changed > 0, "{statement} changes something");
}

#[test]
fn a_log_with_an_unknown_end_prevents_changes_until_it_is_restarted() {
    let mut stack = Stack::strict();
    let rest = Rest::of(&stack);
    let key = rest.create_key(&rest.create_ring("used"), "key", "aes_256_gcm");
    refuses(stack.kms(&["audit", "restart"]), "is intact", "`kms audit verify`");
    stack.stop();
    edit(&stack, "DELETE FROM audit_head");
    // The daemon starts and logs it; existing keys can be used, and nothing can be changed.
    stack.start();
    let rest = Rest::of(&stack);
    let sealed = rest.post(&format!("{key}/encrypt"), json!({ "data": "aGVsbG8=" })).json(200);
    rest.post(&format!("{key}/decrypt"), json!({ "data": sealed["data"] })).json(200);
    let refused = rest.post("keyrings", json!({ "displayName": "new" }));
    assert!(refused.status >= 400, "{refused}");
    let log = read_log(&stack.log());
    assert!(log.contains("`kms audit restart`"), "the daemon's log states the next step: {log}");
    refuses(stack.kms(&["audit", "verify"]), "the end of the log is missing", "`kms audit restart`");
    let doctor = stack.kms(&["doctor", "--json", "--module", stack.module().to_str().expect("a path")]);
    let found = String::from_utf8_lossy(&doctor.output).into_owned();
    assert!(found.contains("accepts no entries") && found.contains("`kms audit restart`"), "{found}");

    // While the daemon runs, which accepts changes at once.
    let text = stack.kms(&["audit", "restart"]).ok();
    assert!(text.contains("a new audit log starts after entry") && text.contains("are set aside"), "{text}");
    rest.create_ring("new");
    Client::user(&stack);
    let text = stack.kms(&["audit", "verify"]).ok();
    assert!(text.starts_with("the audit log is intact: "), "{text}");
    let line = text.lines().find(|line| line.starts_with("restarted after entry "));
    let line = line.unwrap_or_else(|| panic!("the restart is reported: {text}"));
    assert!(line.contains("by uid ") && line.contains("the end of the log is missing"), "{line}");
    refuses(stack.kms(&["audit", "restart"]), "is intact", "`kms audit verify`");
    let copy = stack.folder().join("copy.db");
    stack.kms(&["backup", "--to", copy.to_str().expect("a path")]).ok();
}

#[test]
fn an_edited_entry_is_always_reported_and_set_aside_unchanged() {
    let stack = Stack::strict();
    let rest = Rest::of(&stack);
    rest.create_ring("seen");
    let kept = stack.kms(&["audit", "head"]).ok().trim().to_owned();
    edit(&stack, "UPDATE audit SET body = replace(body, 'seen', 'gone') WHERE body LIKE '%seen%'");
    let broken = stack.kms(&["audit", "verify", "--json"]);
    assert_eq!(broken.status.code(), Some(1), "{broken}");
    let copy = stack.folder().join("copy.db");
    let to = ["backup", "--to", copy.to_str().expect("a path")];
    refuses(stack.kms(&to), "audit log in the copy is not intact", "`kms audit restart`");
    std::fs::remove_file(&copy).expect("the copy is kept for the investigation");

    let last = stack.kms(&["audit", "head"]).ok().trim().to_owned();
    let restart = json(stack.kms(&["audit", "restart", "--json"]));
    assert_eq!(restart["number"], 1);
    assert!(
        restart["problem"].as_str().is_some_and(|problem| problem.ends_with("moved here from elsewhere")),
        "{restart}"
    );
    assert_eq!(restart["head"], last.as_str(), "the head as it was found");
    assert_eq!(restart["by"].as_str().map(|name| name.starts_with("uid ")), Some(true), "{restart}");
    let whole = json(stack.kms(&["audit", "verify", "--json"]));
    assert_eq!((&whole["whole"], &whole["restarts"]), (&json!(true), &json!([restart])), "{whole}");
    // The head that was stored before names an entry that is set aside; another one does not.
    stack.kms(&["audit", "verify", "--head", &kept]).ok();
    let (number, mac) = kept.split_once(':').expect("a head");
    let other = format!("{number}:{}", mac.chars().rev().collect::<String>());
    refuses(stack.kms(&["audit", "verify", "--head", &other]), "not the one that the given head names", "");
    let entries = stack.kms(&["audit", "list", "--json"]).ok();
    assert!(entries.contains("kms.audit.restart") && !entries.contains("gone"), "{entries}");
    stack.kms(&to).ok();
    // A change to the entries that were set aside is detected.
    edit(&stack, "UPDATE audit_set_aside SET body = replace(body, 'gone', 'seen') WHERE body LIKE '%gone%'");
    refuses(
        stack.kms(&["audit", "verify"]),
        "restart 1 of the log has set aside was changed",
        "`kms audit restart`",
    );
}
