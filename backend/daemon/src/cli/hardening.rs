//! Hardening of every process that opens a home: it holds keys and the HSM's PIN in memory.

use std::fs;

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_no_new_privs};

/// What a user does so that memory can be locked.
const NEXT: &str = "permit it (`LimitMEMLOCK=infinity` in the unit, `ulimit -l unlimited`, or CAP_IPC_LOCK), or turn swap \
    off or encrypt it";

/// Keeps the process's memory from other processes of the same user and from core dumps, and keeps it from gaining
/// privileges: not dumpable (`prctl(2)`: no core, no `ptrace` and no `/proc/PID/mem` without CAP_SYS_PTRACE), a core
/// limit of 0 for its children as well, and `no_new_privs`. Returns the steps that the system rejected, for the user:
/// the command runs without them.
pub(super) fn apply() -> Vec<String> {
    let steps = [
        ("PR_SET_DUMPABLE", set_dumpable_behavior(DumpableBehavior::NotDumpable)),
        ("RLIMIT_CORE", setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })),
        ("PR_SET_NO_NEW_PRIVS", set_no_new_privs(true)),
    ];
    let problem = |(step, result): (&str, Result<(), Errno>)| {
        result.err().map(|error| format!("the process is not hardened as intended: {step} failed: {error}"))
    };
    steps.into_iter().filter_map(problem).collect()
}

/// Locks all memory of the process, that of now and of later, as it is touched: none of it is written to swap. It does so
/// only where no limit applies, because under a limit some later allocation would fail.
///
/// # Errors
/// Why memory is not locked, with the next step, on a system that has swap. Without swap there is nothing to lock out.
pub(super) fn lock_memory() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let unlimited = limit.current.is_none()
        || (limit.maximum.is_none() && setrlimit(Resource::Memlock, raised).is_ok())
        || may_lock();
    let locked = if unlimited {
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
            .map_err(|error| error.to_string())
    } else {
        Err(format!("RLIMIT_MEMLOCK is {} bytes", limit.current.unwrap_or_default()))
    };
    match locked {
        Err(cause) if has_swap() => {
            Err(format!("memory is not locked, so keys may be written to swap: {cause}; {NEXT}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a daemon's memory cannot reach swap: it is locked, or there is no swap.
///
/// # Errors
/// What is wrong, with the next step.
pub(super) fn check_locked(pid: i32) -> Result<String, (String, &'static str)> {
    if !has_swap() {
        return Ok("this system has no swap".to_owned());
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    match locked_kib(&status) {
        Some(0) => {
            Err(("the daemon's memory is not locked, so keys may be written to swap".to_owned(), NEXT))
        }
        Some(kib) => Ok(format!("{kib} KiB of the daemon's memory are locked")),
        None => Err((format!("/proc/{pid}/status does not say whether memory is locked"), "mount /proc")),
    }
}

fn locked_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether the process may lock memory beyond its limit.
fn may_lock() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

/// Whether there is swap: the list has a heading and a line for each. If it cannot be read, there may be.
fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps").map_or(true, |list| list.lines().count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_memory_is_read_from_the_status() {
        assert_eq!(locked_kib("Name:\tkms\nVmLck:\t    1234 kB\nVmPin:\t 0 kB\n"), Some(1234));
        assert_eq!(locked_kib("Name:\tkms\n"), None);
    }
}
