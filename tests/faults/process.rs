//! What the daemon's process gives away: nothing to other processes of its own user, to core dumps, and to children.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

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

/// The value of a line of `/proc/PID/status`.
fn status_of(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

/// Where no limit applies, all memory is locked; under a limit, some later allocation would fail.
#[test]
fn the_daemon_locks_its_memory_if_it_may() {
    const CAP_IPC_LOCK: u32 = 14;
    let mut stack = Stack::strict();
    let pid = stack.daemon().pid();
    let capabilities = u64::from_str_radix(&status_of(pid, "CapEff"), 16).expect("a number");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process lives");
    let limit = limits.lines().find(|line| line.starts_with("Max locked memory")).expect("a limit");
    let may = capabilities >> CAP_IPC_LOCK & 1 == 1 || limit.contains("unlimited");
    assert_eq!(status_of(pid, "VmLck") != "0 kB", may, "{limit}");
    // The daemon works with it: a thread for each connection, argon2's memory.
    let client = kms_tests::client::Client::user(&stack);
    assert!(client.session.get_session_info().is_ok());
}

/// Each command that opens a home has its keys and PINs in memory. This one waits for a PIN.
#[test]
fn commands_are_hardened_like_the_daemon() {
    let mut stack = Stack::strict();
    stack.stop();
    let fifo = stack.folder().join("pin");
    program::run(Command::new("mkfifo").args(["--mode", "600"]).arg(&fifo)).ok();
    let mut command = Command::new(&artefacts().kms);
    command.arg("doctor").arg("--home").arg(stack.home()).arg("--pin-file").arg(&fifo);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    // Opened when the command reads it.
    let writer = fs::OpenOptions::new().write(true).open(&fifo).expect("the command reads the PIN");
    assert_eq!(status_of(child.id(), "NoNewPrivs"), "1");
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("the process lives");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a core limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    drop(writer);
    let mut child = child;
    child.wait().expect("it ends");
}
