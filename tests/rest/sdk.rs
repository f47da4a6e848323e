//! The vendor's Python client (`stackit-kms`) against a running daemon. `sdk.py` and `import_key.py` contain the
//! checks.

use std::process::Command;
use std::time::Duration;

use kms_tests::rest::PROJECT;
use kms_tests::{Stack, program, python};

/// How long a Python script may take: hundreds of calls, some of them RSA-4096 keys, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(600);

#[test]
fn the_vendors_python_client_works() {
    let stack = Stack::in_network_area();
    stack.kms(&["account", "add", "reader@tests.local", "--role", "kms.reader"]).ok();
    let token = stack.folder().join("reader.token");
    let key = stack.folder().join("admin-key.json");
    let [token_text, key_text] = [&token, &key].map(|path| path.to_str().expect("a UTF-8 path"));
    stack.kms(&["token", "create", "reader@tests.local", "--out", token_text]).ok();
    stack.kms(&["account", "add", "admin@tests.local", "--role", "kms.admin"]).ok();
    stack.kms(&["account", "key", "create", "admin@tests.local", "--out", key_text]).ok();
    let token = std::fs::read_to_string(&token).expect("a token is written");
    let mut command = python::pytest("sdk.py");
    command.env("KMS_READER_TOKEN", token.trim()).env("KMS_KEY_FILE", &key);
    program::run_with(configured(&stack, &mut command), b"", TIMEOUT).ok();
}

#[test]
fn wrapped_keys_are_imported() {
    let stack = Stack::strict();
    let mut command = python::pytest("import_key.py");
    program::run_with(configured(&stack, &mut command), b"", TIMEOUT).ok();
}

/// Sets the environment variables with the daemon's address, the token and the project.
fn configured<'a>(stack: &Stack, command: &'a mut Command) -> &'a mut Command {
    command.env("KMS_ENDPOINT", stack.rest_address()).env("KMS_TOKEN", stack.admin_token());
    command.env("KMS_PROJECT", PROJECT)
}
