//! Runs a test in a child process: for tests of per-process state (environment, fork, descriptors, memory), and so that
//! a crash of the module fails one test and does not end the suite.

use std::path::PathBuf;
use std::process::Command;

use crate::artefacts::variable;
use crate::program;
use crate::stack::{Policy, Stack};

/// Environment variables of the child: the path of the stack's module, and of its configuration.
const MODULE: &str = "KMS_TESTS_CHILD_MODULE";
const CONFIG: &str = "KMS_TESTS_CHILD_CONFIG";

/// What is passed to a test in a child process.
#[derive(Debug)]
pub struct Target {
    /// The module to load.
    pub module: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
}

/// Runs `body` in a child process with a new stack; `KMS_PKCS11_CONFIG` names the stack's configuration.
///
/// Call it as the only statement of a test: the test's name is read from the closure's type.
///
/// # Panics
/// When the body panics, or the child crashes or hangs.
pub fn isolated<F: FnOnce(&Target)>(policy: Policy, body: F) {
    if let (Some(module), Some(config)) = (variable(MODULE), variable(CONFIG)) {
        body(&Target { module: module.into(), config: config.into() });
        return;
    }
    let stack = Stack::new(policy);
    let environment = [
        (MODULE, stack.module().into_os_string()),
        (CONFIG, stack.config().into_os_string()),
        ("KMS_PKCS11_CONFIG", stack.config().into_os_string()),
    ];
    let mut command = Command::new(std::env::current_exe().expect("the path of the test program is known"));
    command.args(["--exact", test_name::<F>(), "--nocapture", "--test-threads=1"]).envs(environment);
    let ran = program::run(&mut command);
    assert!(ran.status.success() && ran.text().contains("1 passed"), "in a child process: {ran}");
}

/// Runs `body` in a child process with `environment` set, without a stack.
///
/// # Panics
/// As [`isolated`].
pub fn with_environment<F: FnOnce()>(environment: &[(&str, PathBuf)], body: F) {
    if variable(MODULE).is_some() {
        body();
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("the path of the test program is known"));
    command.args(["--exact", test_name::<F>(), "--nocapture", "--test-threads=1"]);
    command.envs(environment.iter().cloned()).env(MODULE, "none");
    let ran = program::run_with(&mut command, b"", program::TIMEOUT * 3);
    assert!(ran.status.success() && ran.text().contains("1 passed"), "in a child process: {ran}");
}

/// Whether this process is such a child.
pub fn is_child() -> bool {
    variable(MODULE).is_some()
}

/// The name of the test that contains a closure: `chapter::test` for the type `suite::chapter::test::{{closure}}`.
fn test_name<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    let (_, name) = name.split_once("::").expect("the type name starts with the crate");
    name.strip_suffix("::{{closure}}").expect("the body is a closure of the test function")
}
