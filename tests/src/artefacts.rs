//! The artefacts under test: built once per test process, so that plain `cargo test` is enough.
//!
//! They are release artefacts: what users run, and fast enough for RSA in a thousand calls.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the artefacts are.
#[derive(Debug)]
pub struct Artefacts {
    /// The daemon and command line.
    pub kms: PathBuf,
    /// The module.
    pub module: PathBuf,
}

/// The artefacts, built if need be. `KMS_TESTS_BUILT=1` says that somebody has built them already;
/// `KMS_TESTS_ARTEFACTS` names a folder with others to test, such as installed ones.
///
/// # Panics
/// When they cannot be built, or are not there.
pub fn artefacts() -> &'static Artefacts {
    static BUILT: OnceLock<Artefacts> = OnceLock::new();
    BUILT.get_or_init(|| {
        let given = variable("KMS_TESTS_ARTEFACTS").map(PathBuf::from);
        if given.is_none() && variable("KMS_TESTS_BUILT").is_none() {
            build();
        }
        let folder = given.unwrap_or_else(|| target().join("release"));
        let found = Artefacts { kms: folder.join("kms"), module: folder.join("libkms_pkcs11.so") };
        for file in [&found.kms, &found.module] {
            assert!(
                file.is_file(),
                "{} is missing: cargo build --release -p kms-provider -p kms-daemon",
                file.display()
            );
        }
        found
    })
}

/// The folder of the workspace.
///
/// # Panics
/// Never: this crate is a member of it.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies inside the workspace")
}

/// A variable of the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "how the suites are run is said in the environment, and read here only"
)]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether we run where a missing tool is a failure rather than a reason to skip.
pub fn in_ci() -> bool {
    variable("CI").is_some_and(|value| value != "false" && value != "0")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |folder| workspace().join(folder))
}

fn build() {
    let cargo = variable("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet", "-p", "kms-provider", "-p", "kms-daemon"])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(
        built.status.success(),
        "the artefacts do not build:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
}
