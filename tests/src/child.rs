//! A test in a process of its own: for what belongs to a process (environment, fork, descriptors, memory), and so that a
//! crash of the module is a failure with a name instead of the end of the suite.

use std::path::PathBuf;
use std::process::Command;

use crate::artefacts::variable;
use crate::program;
use crate::stack::{Policy, Stack};

/// Set in the child: the stack's module, its configuration, and the test's own words.
const MODULE: &str = "KMS_TESTS_CHILD_MODULE";
const CONFIG: &str = "KMS_TESTS_CHILD_CONFIG";

/// What a test in a child has.
#[derive(Debug)]
pub struct Target {
    /// The module to load.
    pub module: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
}

/// Runs `body` in a child process with a stack of its own; the environment's `KMS_PKCS11_CONFIG` names it.
///
/// Call it as the only statement of a test: the test's name is read from the closure's type.
///
/// # Panics
/// When the body does, or the child dies, or it hangs.
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
    let mut command = Command::new(std::env::current_exe().expect("a test knows its own program"));
    command.args(["--exact", test_name::<F>(), "--nocapture", "--test-threads=1"]).envs(environment);
    let ran = program::run(&mut command);
    assert!(ran.status.success() && ran.text().contains("1 passed"), "in its own process, {ran}");
}

/// Runs `body` in a child process with `environment` set; nothing else is made for it.
///
/// # Panics
/// As [`isolated`].
pub fn with_environment<F: FnOnce()>(environment: &[(&str, PathBuf)], body: F) {
    if variable(MODULE).is_some() {
        body();
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("a test knows its own program"));
    command.args(["--exact", test_name::<F>(), "--nocapture", "--test-threads=1"]);
    command.envs(environment.iter().cloned()).env(MODULE, "none");
    let ran = program::run_with(&mut command, b"", program::PATIENCE * 3);
    assert!(ran.status.success() && ran.text().contains("1 passed"), "in its own process, {ran}");
}

/// Whether this is such a child.
pub fn is_child() -> bool {
    variable(MODULE).is_some()
}

/// `suite::chapter::test::{{closure}}` is in the test `chapter::test`.
fn test_name<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    let (_, name) = name.split_once("::").expect("a closure lies in a crate");
    name.strip_suffix("::{{closure}}").expect("the body is a closure in the test itself")
}
