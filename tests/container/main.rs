//! The backend with SoftHSM in a container, used from outside through the module over the mounted socket.
//!
//! `softhsm-config/build-image` builds the image. Without a Docker engine the tests print a line and are skipped; in CI
//! (`CI=true`) that is a failure.
//!
//! One test: `cargo test -p kms-tests --test container secrets_stay_inside_the_containers_home`.
#![allow(missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use kms_tests::artefacts::{artefacts, in_ci, workspace};
use kms_tests::client::{self, pin};
use kms_tests::openssl::PublicKey;
use kms_tests::{SO_PIN, USER_PIN, openssl, program};
use tempfile::TempDir;
use testcontainers::core::{Mount, WaitFor};
use testcontainers::runners::SyncRunner;
use testcontainers::{Container, GenericImage, ImageExt};

/// How long the build of the image may take if no image can be pulled: debootstrap, then a package.
const BUILT_WITHIN: Duration = Duration::from_secs(15 * 60);

/// A running container and the folder that contains its mounted home.
struct Fixture {
    container: Container<GenericImage>,
    folder: TempDir,
}

impl Fixture {
    /// Builds the image and starts a container with an empty home; `None` without a Docker engine.
    #[expect(clippy::print_stderr, reason = "reports that a test is skipped")]
    fn start() -> Option<Self> {
        let engine = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
        if !engine.is_ok_and(|output| output.status.success()) {
            assert!(!in_ci(), "there is no Docker engine, but it is required in CI");
            eprintln!("skipped: there is no Docker engine");
            return None;
        }
        let mut build = Command::new(workspace().join("softhsm-config/build-image"));
        build.env("KMS_BINARY", &artefacts().kms);
        let built = program::run_with(&mut build, b"", BUILT_WITHIN);
        let tag = built.ok();
        let (name, tag) = tag.trim().split_once(':').expect("build-image prints name:tag");
        let folder = tempfile::Builder::new().prefix("kmsc-").tempdir_in("/tmp").expect("a temporary folder");
        let home = folder.path().join("h");
        std::fs::create_dir(&home).expect("a folder can be created");
        let user = format!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let image = GenericImage::new(name, tag).with_wait_for(WaitFor::message_on_stdout("kms: ready"));
        let request = image
            .with_mount(Mount::bind_mount(home.display().to_string(), "/kms"))
            .with_user(user)
            .with_env_var("KMS_RING", "container")
            .with_env_var("KMS_USER_PIN", USER_PIN)
            .with_env_var("KMS_SO_PIN", SO_PIN)
            .with_startup_timeout(Duration::from_secs(120));
        let container = request.start().expect("the container starts and is ready");
        Some(Self { container, folder })
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("h/pkcs11.toml")
    }

    /// A copy of the module, because initialisation belongs to the loaded file.
    fn module(&self) -> PathBuf {
        let copy = self.folder.path().join("module.so");
        if !copy.exists() {
            std::fs::copy(&artefacts().module, &copy).expect("the module can be copied");
        }
        copy
    }
}

#[test]
fn keys_work_with_the_backend_in_a_container() {
    let Some(fixture) = Fixture::start() else { return };
    let pkcs11 = client::load(&fixture.module(), &fixture.config());
    let slot = client::slot(&pkcs11, "container");
    let session = pkcs11.open_rw_session(slot).expect("a session opens");
    session.login(UserType::User, Some(&pin(USER_PIN))).expect("the user logs in");
    let aes = [
        Attribute::Token(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
    ];
    let key = session.generate_key(&Mechanism::AesKeyGen, &aes).expect("the key is generated");
    let sealed =
        session.encrypt(&Mechanism::AesCbcPad([1; 16]), key, b"into a container").expect("it encrypts");
    let public = [
        Attribute::Token(true),
        Attribute::ModulusBits(2048.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
    ];
    let private = [Attribute::Token(true), Attribute::Sign(true)];
    let pair = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private);
    let (public, private) = pair.expect("the pair is generated");
    let kinds = [cryptoki::object::AttributeType::PublicKeyInfo];
    let info = session.get_attributes(public, &kinds).expect("the public key can be read");
    let outside = PublicKey::new(&client::bytes_of(&info[0]));
    let check = || {
        let signature = session.sign(&Mechanism::Sha256RsaPkcs, private, b"message").expect("it signs");
        let digest = openssl::digest("sha256", b"message");
        assert!(outside.verifies(&["digest:sha256"], &digest, &signature));
        let opened = session.decrypt(&Mechanism::AesCbcPad([1; 16]), key, &sealed).expect("it decrypts");
        assert_eq!(opened, b"into a container");
    };
    check();
    // The container is killed and started again: the mounted home contains the token and the database.
    let id = fixture.container.id();
    for action in ["kill", "start"] {
        program::run(Command::new("docker").args([action, id])).ok();
    }
    wait_for(&fixture.folder.path().join("h/kms.sock"));
    check();
}

#[test]
fn secrets_stay_inside_the_containers_home() {
    let Some(fixture) = Fixture::start() else { return };
    let inspected = program::run(Command::new("docker").args(["logs", fixture.container.id()]));
    assert!(!inspected.text().contains(USER_PIN) || !inspected.text().contains(SO_PIN), "{inspected}");
    let text = std::fs::read_to_string(fixture.config()).expect("pkcs11.toml can be read");
    assert!(!text.contains(USER_PIN), "{text}");
}

/// Waits until `connect` succeeds, for at most a minute.
#[expect(clippy::disallowed_methods, reason = "a deadline")]
fn wait_for(socket: &Path) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(std::time::Instant::now() < until, "no listener on {}", socket.display());
        std::thread::yield_now();
    }
}
