//! The artefacts under test: built once per test process, so that plain `cargo test` is enough.
//!
//! They are of the same profile as the tests themselves: `cargo test` builds each dependency once, and checks integer
//! overflow in the artefacts, too. `make test-release` runs the same tests on what users run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The paths of the artefacts.
#[derive(Debug)]
pub struct Artefacts {
    /// The program `kms`: daemon and command line.
    pub kms: PathBuf,
    /// The PKCS#11 module.
    pub module: PathBuf,
}

/// Returns the artefacts, and builds them unless `KMS_TESTS_BUILT=1` is set. `KMS_TESTS_ARTEFACTS` names a folder with
/// other artefacts to test, such as installed ones.
///
/// # Panics
/// When they cannot be built, or are missing.
pub fn artefacts() -> &'static Artefacts {
    static BUILT: OnceLock<Artefacts> = OnceLock::new();
    BUILT.get_or_init(|| {
        let given = variable("KMS_TESTS_ARTEFACTS").map(PathBuf::from);
        if given.is_none() && variable("KMS_TESTS_BUILT").is_none() {
            build();
        }
        let folder = given.unwrap_or_else(own_profile);
        let found = Artefacts { kms: folder.join("kms"), module: folder.join("libkms_pkcs11.so") };
        for file in [&found.kms, &found.module] {
            assert!(
                file.is_file(),
                "{} is missing: build kms-provider and kms-daemon with the profile of the tests",
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

/// An environment variable; `None` if it is unset or empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads the suites' settings from the environment"
)]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether the artefacts have Ed448 and X448: the feature `pre-release-curves`, which `KMS_TESTS_PRE_RELEASE_CURVES=1`
/// says. Without it the tests expect these curves to be refused. `make curves` runs them with it.
pub fn pre_release_curves() -> bool {
    variable("KMS_TESTS_PRE_RELEASE_CURVES").is_some()
}

/// Whether the suites run in CI, where a missing tool is a failure and not a reason to skip a test.
pub fn in_ci() -> bool {
    variable("CI").is_some_and(|value| value != "false" && value != "0")
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |folder| workspace().join(folder))
}

/// The folder of this executable's profile: `target/debug` for `target/debug/deps/rest-0123456789abcdef`.
fn own_profile() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this executable is known");
    let folder = own.parent().expect("an executable is in a folder");
    let profile = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    profile.expect("a folder above").to_owned()
}

fn build() {
    let cargo = variable("CARGO").unwrap_or_else(|| "cargo".into());
    let release = own_profile().ends_with("release").then_some("--release");
    let curves: &[&str] = if pre_release_curves() {
        &["--features", "kms-provider/pre-release-curves,kms-daemon/pre-release-curves"]
    } else {
        &[]
    };
    let built = Command::new(cargo)
        .args(["build", "--locked", "--quiet", "-p", "kms-provider", "-p", "kms-daemon"])
        .args(release)
        .args(curves)
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(
        built.status.success(),
        "the artefacts do not build:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
}
