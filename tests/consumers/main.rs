//! Programs that people use, with our module in place of a token: pkcs11-tool, OpenSSL, GnuTLS, OpenSSH, Java.
//! A program that is not installed is skipped with a line; in CI (`CI=true`) that is a failure.
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

/// A program in a stack's folder, with the module's configuration in its environment and nobody's other.
pub(crate) fn command(stack: &Stack, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(stack.folder()).env("KMS_PKCS11_CONFIG", stack.config());
    command.env("OPENSSL_CONF", "/dev/null").env("HOME", stack.folder()).env_remove("SSH_AUTH_SOCK");
    command
}

/// pkcs11-tool, logged in, with these further words.
pub(crate) fn pkcs11_tool<A: AsRef<OsStr>>(stack: &Stack, words: &[A]) -> Ran {
    let mut tool = command(stack, "pkcs11-tool");
    tool.arg("--module").arg(stack.module()).args([
        "--token-label",
        stack.ring(),
        "--login",
        "--pin",
        USER_PIN,
    ]);
    program::run(tool.args(words))
}

/// A file in the stack's folder.
pub(crate) fn file(stack: &Stack, name: &str, contents: &[u8]) -> PathBuf {
    let path = stack.folder().join(name);
    std::fs::write(&path, contents).expect("a file can be written");
    path
}

/// Words of a command line, as one writes them; no quoting.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
