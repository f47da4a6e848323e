//! The vendor's own Python client (`stackit-kms`) against a running backend. What is checked stands in `sdk.py` and
//! `own_key.py`.

use std::process::Command;
use std::time::Duration;

use kms_tests::rest::PROJECT;
use kms_tests::{Stack, program, python};

/// How long a Python part may take: some hundred calls, RSA-4096 keys among them, on a machine with other work.
const DONE_WITHIN: Duration = Duration::from_secs(600);

#[test]
fn the_vendors_client_works() {
    let stack = Stack::strict();
    stack.kms(&["account", "add", "reader@tests.local", "--role", "kms.reader"]).ok();
    let token = stack.folder().join("reader.token");
    let key = stack.folder().join("admin-key.json");
    let [token_text, key_text] = [&token, &key].map(|path| path.to_str().expect("a path of letters"));
    stack.kms(&["token", "create", "reader@tests.local", "--out", token_text]).ok();
    stack.kms(&["account", "add", "admin@tests.local", "--role", "kms.admin"]).ok();
    stack.kms(&["account", "key", "create", "admin@tests.local", "--out", key_text]).ok();
    let token = std::fs::read_to_string(&token).expect("a token is written");
    let mut command = python::pytest("sdk.py");
    command.env("KMS_READER_TOKEN", token.trim()).env("KMS_KEY_FILE", &key);
    program::run_with(on(&stack, &mut command), b"", DONE_WITHIN).ok();
}

#[test]
fn own_keys_come_in_wrapped() {
    let stack = Stack::strict();
    let mut command = python::pytest("own_key.py");
    program::run_with(on(&stack, &mut command), b"", DONE_WITHIN).ok();
}

/// Tells a Python part where the backend is, and who it is there.
fn on<'a>(stack: &Stack, command: &'a mut Command) -> &'a mut Command {
    command.env("KMS_ENDPOINT", stack.rest_address()).env("KMS_TOKEN", stack.admin_token());
    command.env("KMS_PROJECT", PROJECT)
}
