//! Common programs that load the module: pkcs11-tool, OpenSSL, GnuTLS, OpenSSH, Java; each test with its own KMS. If a
//! program is not installed, its tests print a line and are skipped; in CI (`CI=true`) that is a failure.
//!
//! One test: `cargo test -p kms-tests --test consumers openssl::the_engine_signs`.
#![allow(missing_docs, reason = "tests")]

mod gnutls;
mod java;
mod openssh;
mod openssl;
mod pkcs11_tool;
mod web_servers;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use kms_tests::program::{self, Ran};
use kms_tests::{Stack, USER_PIN};

/// A command that runs a program in a stack's folder with the module's configuration, without the user's configuration.
pub(crate) fn command(stack: &Stack, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(stack.folder()).env("KMS_PKCS11_CONFIG", stack.config());
    command.env("OPENSSL_CONF", "/dev/null").env("HOME", stack.folder()).env_remove("SSH_AUTH_SOCK");
    command
}

/// Runs pkcs11-tool with a login and these arguments.
pub(crate) fn pkcs11_tool<A: AsRef<OsStr>>(stack: &Stack, arguments: &[A]) -> Ran {
    let mut tool = command(stack, "pkcs11-tool");
    tool.arg("--module").arg(stack.module()).args([
        "--token-label",
        stack.ring(),
        "--login",
        "--pin",
        USER_PIN,
    ]);
    program::run(tool.args(arguments))
}

/// Writes a file in the stack's folder.
pub(crate) fn file(stack: &Stack, name: &str, contents: &[u8]) -> PathBuf {
    let path = stack.folder().join(name);
    std::fs::write(&path, contents).expect("a file can be written");
    path
}

/// Splits a command line at white space; there is no quoting.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
