//! An edited database row is rejected as `key_material_invalid`; other rows still work.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use kms_tests::Stack;
use kms_tests::client::Client;
use kms_tests::daemon::read_log;
use rusqlite::Connection;

use crate::restart::template;

/// Runs a statement on the database of a stopped stack.
fn edit(stack: &Stack, statement: &str) {
    let database = Connection::open(stack.home().join("kms.db")).expect("the database opens");
    let changed = database.execute(statement, []).expect("the statement runs");
    assert!(changed > 0, "{statement} changes something");
}

/// Generates two keys, edits the database, and checks that the first is rejected and the second works.
fn check(statement: &str) {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    let generate = |label| {
        session.generate_key(&Mechanism::AesKeyGen, &template(label, true)).expect("the key is generated")
    };
    let (edited, kept) = (generate("edited"), generate("kept"));
    let mechanism = Mechanism::AesCbcPad([0; 16]);
    let sealed = [edited, kept].map(|key| session.encrypt(&mechanism, key, b"data").expect("it encrypts"));
    stack.stop();
    edit(&stack, statement);
    stack.start();
    let result = session.decrypt(&mechanism, edited, &sealed[0]);
    assert!(result.is_err(), "{statement}: {result:?}");
    assert_eq!(
        session.decrypt(&mechanism, kept, &sealed[1]).expect("the other key works"),
        b"data",
        "{statement}"
    );
    let found = session.find_objects(&[Attribute::Label(b"kept".to_vec())]).expect("a search");
    assert_eq!(found, [kept], "{statement}");
    generate("new");
    let log = read_log(&stack.log());
    assert!(log.contains("key_material_invalid"), "{statement}: {log}");
}

#[test]
fn changed_material() {
    check(
        "UPDATE versions SET wrapped = (SELECT wrapped FROM versions v JOIN keys k ON k.id = v.key WHERE k.label = \
         CAST('kept' AS BLOB)) WHERE key = (SELECT id FROM keys WHERE label = CAST('edited' AS BLOB))",
    );
}

#[test]
fn changed_attributes() {
    check(
        "UPDATE objects SET attributes = CAST(attributes || x'00' AS BLOB) WHERE label = CAST('edited' AS BLOB)",
    );
}

#[test]
fn changed_type() {
    check("UPDATE objects SET key_type = 16 WHERE label = CAST('edited' AS BLOB)");
}

#[test]
fn changed_state() {
    check(
        "UPDATE versions SET state = state + 1 WHERE key = (SELECT id FROM keys WHERE label = CAST('edited' AS BLOB))",
    );
}

#[test]
fn a_login_with_an_edited_principal_row_fails() {
    let mut stack = Stack::strict();
    stack.stop();
    edit(&stack, "UPDATE principals SET standing = standing + 1 WHERE name = 'user'");
    stack.start();
    let client = Client::public(&stack);
    let pin = kms_tests::client::pin(kms_tests::USER_PIN);
    let login = client.session.login(cryptoki::session::UserType::User, Some(&pin));
    assert!(login.is_err(), "{login:?}");
    assert!(read_log(&stack.log()).contains("key_material_invalid"));
}
