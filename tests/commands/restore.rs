//! `kms restore` is a deliberate act: what comes back to life is listed and confirmed, and logins and revoked credentials
//! end (docs/decisions/0051).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kms_protocol::{
    Attribute, AttributeType, Mechanism, MechanismType, ObjectRef, Request, Response, Role, Rv, Secret,
    Template,
};
use kms_tests::artefacts::artefacts;
use kms_tests::peer::Peer;
use kms_tests::program::{self, Ran, TIMEOUT};
use kms_tests::rest::Rest;
use kms_tests::{SO_PIN, Stack, USER_PIN};
use serde_json::Value;

use crate::json;

const CI: &str = "ci@acme.sa.kms.local";
const GONE: &str = "gone@acme.sa.kms.local";

/// The user's PIN after the officer has set a new one.
const NEW_PIN: &str = "a new PIN";

/// A home whose backup is older than some revocations, and what an attacker kept.
struct Revoked {
    stack: Stack,
    copy: PathBuf,
    /// A login of the user from before the backup.
    user: Peer,
    token_key: ObjectRef,
    session_key: ObjectRef,
    destroyed: ObjectRef,
    /// A token that was revoked since the backup, one of an account that was removed, and one that is valid.
    tokens: [String; 3],
}

fn typed(path: &Path) -> &str {
    path.to_str().expect("a path")
}

fn generate(client: &mut Peer, label: &str, token: bool) -> ObjectRef {
    let flag = |kind, value| Attribute::bool(kind, value);
    let template = vec![
        Attribute::ulong(AttributeType::VALUE_LEN, 32),
        Attribute::bytes(AttributeType::LABEL, label),
        flag(AttributeType::TOKEN, token),
        flag(AttributeType::ENCRYPT, true),
        flag(AttributeType::DECRYPT, true),
    ];
    let mechanism = Mechanism::plain(MechanismType::AES_KEY_GEN);
    let response = client.send(Request::Generate { mechanism, template: Template(template) });
    let Ok(Response::Object(view)) = response else { panic!("{response:?}") };
    view.object
}

fn account_with_token(stack: &Stack, account: &str, name: &str) -> String {
    let created =
        json(stack.kms(&["token", "create", account, "--name", name, "--expires-in", "90d", "--json"]));
    created["token"].as_str().expect("a token").to_owned()
}

/// Everything that the finding did: a backup, then revocations; the daemon is stopped.
fn revoked() -> Revoked {
    let mut stack = Stack::strict();
    for account in [CI, GONE] {
        stack.kms(&["account", "add", account, "--role", "kms.user"]).ok();
    }
    stack.kms(&["role", "grant", CI, "kms.admin"]).ok();
    stack.kms(&["account", "add", "alice", "--ring", "test"]).ok();
    let tokens = [(CI, "revoked"), (GONE, "removed"), (CI, "valid")]
        .map(|(account, name)| account_with_token(&stack, account, name));
    let mut user = Peer::of(&stack);
    user.enter(Role::User, USER_PIN).expect("the user logs in");
    let token_key = generate(&mut user, "kept", true);
    let destroyed = generate(&mut user, "destroyed", true);
    let session_key = generate(&mut user, "session", false);
    let copy = stack.folder().join("copy.db");
    stack.kms(&["backup", "--to", typed(&copy)]).ok();

    stack.kms(&["token", "revoke", CI, "revoked"]).ok();
    stack.kms(&["role", "revoke", CI, "kms.admin"]).ok();
    stack.kms(&["account", "remove", GONE]).ok();
    stack.kms(&["account", "remove", "alice", "--ring", "test"]).ok();
    user.send(Request::Destroy { object: destroyed.clone() }).expect("the key is destroyed");
    generate(&mut user, "since", true);
    let mut officer = Peer::of(&stack);
    officer.enter(Role::Officer, SO_PIN).expect("the officer logs in");
    let pin = Secret::from(NEW_PIN.as_bytes());
    officer.send(Request::InitPin { pin }).expect("the officer sets a new PIN");
    assert_eq!(user.encrypt(&token_key), Err(Rv::USER_NOT_LOGGED_IN));
    let [first, second, third] = tokens.each_ref().map(|token| status(&stack, token));
    assert_eq!((first, second, third), (401, 401, 200));
    stack.stop();
    Revoked { stack, copy, user, token_key, session_key, destroyed, tokens }
}

/// The status of a call with a token.
fn status(stack: &Stack, token: &str) -> u16 {
    Rest::of(stack).with_token(Some(token)).read("keyrings").status
}

impl Revoked {
    fn restore(&self, options: &[&str]) -> Ran {
        self.stack.kms(&[&["restore", "--from", typed(&self.copy)], options].concat())
    }

    /// A new connection of the attacker, with the ticket from before the backup.
    fn again(&self) -> Peer {
        let mut again = Peer::of(&self.stack);
        again.ticket.clone_from(&self.user.ticket);
        again
    }
}

/// What comes back, as lines of the plan.
const RETURNING: [&str; 6] = [
    "comes back: PIN user of ring test",
    "comes back: principal alice of ring test",
    "comes back: account gone@acme.sa.kms.local",
    "comes back: role kms.user of gone@acme.sa.kms.local",
    "comes back: role kms.admin of ci@acme.sa.kms.local",
    "comes back: key version destroyed version 1 in ring test (replaced database: scheduled for destruction",
];

#[test]
fn what_comes_back_is_listed_and_must_be_confirmed() {
    let mut revoked = revoked();
    let database = revoked.stack.home().join("kms.db");
    let refused = revoked.restore(&[]);
    assert_eq!(refused.status.code(), Some(1), "{refused}");
    for line in RETURNING {
        assert!(refused.errors.contains(line), "{line:?} is missing: {refused}");
    }
    for line in [
        "ends: token ci@acme.sa.kms.local/revoked",
        "ends: token gone@acme.sa.kms.local/removed",
        "is lost: key version since version 1",
        "all logins, session objects and access tokens end",
        "nothing was restored, because it was not confirmed",
        "--yes",
    ] {
        assert!(refused.errors.contains(line), "{line:?} is missing: {refused}");
    }
    assert!(!refused.errors.contains("kept version 1"), "what did not change is not listed: {refused}");
    assert!(!refused.errors.contains("/valid"), "a valid token does not end: {refused}");
    let refused = revoked.restore(&["--json"]);
    let plan: Value = serde_json::from_slice(&refused.output).expect("JSON, although it is refused");
    assert_eq!(
        (&plan["restored"], plan["plan"]["returning"].as_array().map(Vec::len)),
        (&Value::Bool(false), Some(7))
    );
    assert!(!revoked.stack.home().join("kms.db.replaced-1").exists() && database.exists());

    let restored = json(revoked.restore(&["--yes", "--json"]));
    assert_eq!(restored["plan"], plan["plan"]);
    revoked.stack.start();
    // The ticket, the session object and the revoked tokens of before are worth nothing.
    let mut old = revoked.again();
    for key in [&revoked.token_key, &revoked.session_key, &revoked.destroyed] {
        assert_eq!(old.encrypt(key), Err(Rv::USER_NOT_LOGGED_IN));
    }
    let statuses = revoked.tokens.each_ref().map(|token| status(&revoked.stack, token));
    assert_eq!(statuses, [401, 401, 200]);
    // What was listed and confirmed is there: the operator knows which PIN to change.
    old.enter(Role::User, NEW_PIN).expect_err("the new PIN is lost");
    old.enter(Role::User, USER_PIN).expect("the PIN of the copy");
    old.encrypt(&revoked.token_key).expect("the key works in a new login");
    assert_eq!(
        old.encrypt(&revoked.session_key).map(drop),
        Err(Rv::KEY_HANDLE_INVALID),
        "the old session object"
    );
    old.encrypt(&revoked.destroyed).expect("the destroyed key is active again, as was listed");
    generate(&mut old, "after", true);
    revoked.stack.kms(&["audit", "verify"]).ok();
    let log = revoked.stack.kms(&["audit", "list", "--json"]).ok();
    let entry = log.lines().find(|line| line.contains("kms.home.restore")).unwrap_or_else(|| panic!("{log}"));
    for part in ["replacedHead", "kms.db.replaced-1", "gone@acme.sa.kms.local/removed", "user of ring test"] {
        assert!(entry.contains(part), "{part:?} is not in {entry}");
    }
}

#[test]
fn logins_and_credentials_are_kept_on_request_only() {
    let mut revoked = revoked();
    let wrong = revoked.restore(&["--yes", "--keep-credential", "nobody@acme.sa.kms.local/x"]);
    assert!(wrong.to_string().contains("no token or account key"), "{wrong}");
    let token = format!("{CI}/revoked");
    let text = revoked.restore(&["--yes", "--keep-credential", &token]).ok();
    assert!(text.contains(&format!("comes back: token {token}")), "{text}");
    revoked.stack.start();
    let statuses = revoked.tokens.each_ref().map(|token| status(&revoked.stack, token));
    assert_eq!(statuses, [200, 401, 200]);
    assert_eq!(revoked.again().encrypt(&revoked.token_key), Err(Rv::USER_NOT_LOGGED_IN));
    revoked.stack.stop();
    // The same copy again, replacing the restored database: now with everything.
    let text = revoked.restore(&["--yes", "--keep-logins"]).ok();
    assert!(text.contains("whatever was revoked since"), "{text}");
    revoked.stack.start();
    let statuses = revoked.tokens.each_ref().map(|token| status(&revoked.stack, token));
    assert_eq!(statuses, [200, 200, 200]);
    let mut old = revoked.again();
    old.encrypt(&revoked.token_key).expect("the login is kept");
    old.encrypt(&revoked.session_key).expect("the session object is kept");
}

#[test]
fn without_a_previous_database_static_tokens_end_and_numbers_jump() {
    let mut revoked = revoked();
    let database = revoked.stack.home().join("kms.db");
    fs::remove_file(&database).expect("the database is lost");
    let refused = revoked.restore(&[]);
    assert!(refused.errors.contains("there is no previous database"), "{refused}");
    let text = revoked.restore(&["--yes"]).ok();
    for name in ["revoked", "valid"] {
        assert!(text.contains(&format!("ends: token {CI}/{name}")), "{text}");
    }
    assert!(text.contains("2^29"), "{text}");
    revoked.stack.start();
    let statuses = revoked.tokens.each_ref().map(|token| status(&revoked.stack, token));
    assert_eq!(statuses, [401, 401, 401]);
    let mut user = revoked.again();
    assert_eq!(user.encrypt(&revoked.token_key), Err(Rv::USER_NOT_LOGGED_IN));
    user.enter(Role::User, USER_PIN).expect("the user logs in");
    let ObjectRef::Token(after) = generate(&mut user, "after", true) else { panic!("a token object") };
    let ObjectRef::Token(before) = revoked.destroyed else { panic!("a token object") };
    assert!(after.0 > before.0 + (1 << 31), "a number that an application remembers names no other object");
    // A database that cannot be read is no obstacle, but it is said.
    revoked.stack.stop();
    fs::write(&database, b"no database").expect("it can be written");
    let text = revoked.restore(&["--yes"]).ok();
    assert!(text.contains("the previous database cannot be read"), "{text}");
}

#[test]
fn the_replaced_database_is_deleted_on_request() {
    let revoked = revoked();
    let text = revoked.restore(&["--yes"]).ok();
    let replaced = revoked.stack.home().join("kms.db.replaced-1");
    assert!(text.contains("shred -u") && replaced.exists(), "{text}");
    // A second name for the same file shows that it is overwritten, not only removed.
    let (second, link) = (revoked.stack.home().join("kms.db"), revoked.stack.folder().join("link.db"));
    fs::hard_link(&second, &link).expect("a link");
    let restored = json(revoked.restore(&["--yes", "--delete-replaced", "--json"]));
    assert_eq!(restored["replacedDeleted"], true, "{restored}");
    assert!(!revoked.stack.home().join("kms.db.replaced-2").exists());
    let bytes = fs::read(&link).expect("the link can be read");
    assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0), "it is overwritten");
}

#[test]
fn at_the_terminal_the_operator_is_asked() {
    if !program::installed(&["script"]) {
        return;
    }
    let revoked = revoked();
    let replaced = revoked.stack.home().join("kms.db.replaced-1");
    let kms = artefacts().kms.display().to_string();
    let home = revoked.stack.home();
    let line = format!("{kms} restore --from {} --home {}", typed(&revoked.copy), home.display());
    for (answer, done) in [("n\n", false), ("\n", false), ("y\n", true)] {
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let ran = program::run_with(&mut command, answer.as_bytes(), TIMEOUT);
        assert!(ran.text().contains("restore nevertheless? [y/N]"), "{ran}");
        assert_eq!((ran.status.success(), replaced.exists()), (done, done), "{answer:?}: {ran}");
    }
}
