//! Hardening of the daemon's process, which holds keys and the HSM's PIN in memory.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;

/// Keeps the process's memory from other processes of the same user and from core dumps, and keeps it from gaining
/// privileges: not dumpable (`prctl(2)`: no core, no `ptrace` and no `/proc/PID/mem` without CAP_SYS_PTRACE), a core
/// limit of 0 for its children as well, and `no_new_privs`. A step that the system rejects is logged, and the daemon
/// serves without it.
pub(super) fn apply() {
    let steps = [
        ("PR_SET_DUMPABLE", set_dumpable_behavior(DumpableBehavior::NotDumpable)),
        ("RLIMIT_CORE", setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })),
        ("PR_SET_NO_NEW_PRIVS", set_no_new_privs(true)),
    ];
    for (step, result) in steps {
        if let Err(error) = result {
            tracing::warn!(step, %error, "the process is not hardened as intended");
        }
    }
}
