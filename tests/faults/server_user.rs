//! The module sends nothing to a process of a user whom it does not expect behind the socket.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kms_protocol::Rv;
use kms_tests::artefacts::artefacts;
use kms_tests::daemon::Daemon;
use kms_tests::program::runs_as_root;
use kms_tests::raw::Module;
use kms_tests::{Policy, Stack, program};

/// The user `nobody` of Debian, as whom the daemon runs here; the application is root.
const UID: u32 = 65534;

/// The slots with a token under a configuration.
fn tokens(stack: &Stack, config: &Path) -> Result<usize, Rv> {
    let module = Module::load(&stack.module());
    module.initialize(config)?;
    let tokens = module.slots(true).map(|slots| slots.len());
    module.finalize()?;
    tokens
}

#[test]
fn nothing_is_sent_to_another_users_process() {
    let stack = Stack::stopped(Policy::Strict);
    let (path, config) = (stack.folder().join("sock"), stack.folder().join("p.toml"));
    let listener = UnixListener::bind(&path).expect("a socket");
    let own = rustix::process::geteuid().as_raw();
    let text = format!("socket = {path:?}\nserver_uid = {}\nlog = \"log\"\n", own + 1);
    fs::write(&config, text).expect("a configuration");
    let received = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the module connects");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes)
    });
    assert_eq!(tokens(&stack, &config), Ok(0));
    assert_eq!(received.join().expect("it read").expect("the module closes the connection"), b"");
    let log = fs::read_to_string(stack.folder().join("log")).expect("the module's log");
    assert!(log.contains(&format!("set server_uid = {own} in pkcs11.toml")), "{log}");
}

#[test]
fn a_daemon_of_another_user_is_trusted_by_folder_owner_or_configuration() {
    if !runs_as_root("starts processes of other users") {
        return;
    }
    let stack = Stack::stopped(Policy::Strict);
    // Below /run, where nobody else can write: a folder of the daemon's user, as a package or a unit makes it.
    let run = tempfile::Builder::new().prefix("kms-tests-").tempdir_in("/run").expect("a folder in /run");
    fs::set_permissions(run.path(), Permissions::from_mode(0o755)).expect("its mode");
    stack.configure("socket", "path", &format!("{:?}", run.path().join("kms.sock")));
    let kms = stack.folder().join("kms");
    fs::copy(&artefacts().kms, &kms).expect("the program can be copied");
    let owner = format!("{UID}:{UID}");
    for folder in [stack.folder(), run.path()] {
        program::run(Command::new("chown").args(["--recursive", &owner]).arg(folder)).ok();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &UID.to_string(), "--regid", &UID.to_string(), "--clear-groups", "--"]);
    command.arg(&kms).arg("serve").arg("--home").arg(stack.home());
    let _daemon = Daemon::start_with(command, &stack.log());
    // Configurations of root's.
    let socket = run.path().join("kms.sock");
    let configs = tempfile::tempdir().expect("a folder");
    let with = |more: &str| {
        let config = configs.path().join("pkcs11.toml");
        fs::write(&config, format!("socket = {socket:?}\n{more}")).expect("a configuration");
        tokens(&stack, &config)
    };
    assert_eq!(with(""), Ok(1), "the folder's owner");
    // Another user could have put the socket there.
    fs::set_permissions(run.path(), Permissions::from_mode(0o777)).expect("its mode");
    assert_eq!(with(""), Ok(0), "a folder that everybody can write");
    assert_eq!(with(&format!("server_uid = {UID}\n")), Ok(1), "the user that the configuration names");
    assert_eq!(with("server_uid = 0\n"), Ok(0), "another one");
    fs::set_permissions(run.path(), Permissions::from_mode(0o755)).expect("its mode");
    program::run(Command::new("chown").arg("1:1").arg(run.path())).ok();
    assert_eq!(with(""), Ok(0), "the folder of a third user");
    // A configuration of the daemon's user.
    let config = configs.path().join("pkcs11.toml");
    program::run(Command::new("chown").arg(&owner).arg(&config)).ok();
    assert_eq!(tokens(&stack, &config), Ok(1), "the owner of the configuration");
}
