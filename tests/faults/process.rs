//! What the daemon's process gives away: nothing to other processes of its own user, to core dumps, and to children.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use kms_tests::artefacts::artefacts;
use kms_tests::daemon::Daemon;
use kms_tests::{Policy, Stack, program};

/// The user `nobody` of Debian, for a daemon that does not run as root.
const UID: u32 = 65534;

#[test]
fn the_daemon_is_not_dumpable_and_gains_no_privileges() {
    let stack = Stack::stopped(Policy::Strict);
    // A copy, because the other user may not be able to enter the folder of the artefacts.
    let kms = stack.folder().join("kms");
    fs::copy(&artefacts().kms, &kms).expect("the program can be copied");
    let mut command = Command::new(&kms);
    if rustix::process::geteuid().is_root() {
        // Another user than root, because root's files in /proc belong to root in any case.
        let owner = format!("{UID}:{UID}");
        program::run(Command::new("chown").args(["--recursive", &owner]).arg(stack.folder())).ok();
        command = Command::new("setpriv");
        command
            .args(["--reuid", &UID.to_string(), "--regid", &UID.to_string(), "--clear-groups", "--"])
            .arg(&kms);
    }
    command.arg("serve").arg("--home").arg(stack.home());
    let daemon = Daemon::start_with(command, &stack.log());
    let pid = daemon.pid();
    let read =
        |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("a file of /proc is read");
    let status = read("status");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let limits = read("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a core limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // The kernel gives the files of a process that is not dumpable to root: its user cannot read its memory.
    let memory = fs::metadata(format!("/proc/{pid}/mem")).expect("the process lives");
    assert_eq!(memory.uid(), 0, "dumpable");
}
