//! SlotFilter module this process has.
//!
//! A process has at most one generation: allocated at its first `C_Initialize`, never freed, and used by every later
//! one. A forked child sees its parent's through the same pointer and knows by the pid that it is not its own. It
//! reads the two fields that never need a lock and goes no further: the lock inside may be held by a thread that does
//! not exist in the child, and the sockets behind it are the parent's.

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kms_protocol::Rv;

use crate::module::Module;

/// One process's module.
struct Instance {
    pid: u32,
    initialized: AtomicBool,
    module: RwLock<Option<Arc<Module>>>,
    /// What a forked child leaves alone. Kept so that a leak checker in the host sees that it is not lost.
    _inherited: Option<&'static Instance>,
}

static CURRENT: AtomicPtr<Instance> = AtomicPtr::new(std::ptr::null_mut());

/// The module, held by the call as long as it runs: `C_Finalize` in another thread takes it away from later calls only.
///
/// # Errors
/// `CKR_CRYPTOKI_NOT_INITIALIZED`, in a forked child too.
pub(crate) fn current() -> Result<Arc<Module>, Rv> {
    let own = seen().filter(|generation| generation.is_own()).ok_or(Rv::CRYPTOKI_NOT_INITIALIZED)?;
    let module = own.module.read().unwrap_or_else(PoisonError::into_inner);
    module.as_ref().map(Arc::clone).ok_or(Rv::CRYPTOKI_NOT_INITIALIZED)
}

/// `C_Initialize`. In a forked child, the parent's module is left where it is: unused, and its descriptors
/// close-on-exec.
///
/// # Errors
/// `CKR_CRYPTOKI_ALREADY_INITIALIZED`, or why the module cannot be made.
pub(crate) fn initialize(make: impl FnOnce() -> Result<Module, Rv>) -> Result<(), Rv> {
    let own = own();
    let mut module = own.module.write().unwrap_or_else(PoisonError::into_inner);
    if module.is_some() {
        return Err(Rv::CRYPTOKI_ALREADY_INITIALIZED);
    }
    *module = Some(Arc::new(make()?));
    own.initialized.store(true, Ordering::Release);
    Ok(())
}

/// `C_Finalize`. In a forked child whose parent had initialised, it succeeds once and does nothing else.
///
/// # Errors
/// `CKR_CRYPTOKI_NOT_INITIALIZED`.
pub(crate) fn finalize() -> Result<(), Rv> {
    let seen = seen().ok_or(Rv::CRYPTOKI_NOT_INITIALIZED)?;
    if !seen.is_own() {
        let inherited = seen.initialized.load(Ordering::Acquire);
        own();
        return if inherited { Ok(()) } else { Err(Rv::CRYPTOKI_NOT_INITIALIZED) };
    }
    let module = {
        let mut module = seen.module.write().unwrap_or_else(PoisonError::into_inner);
        seen.initialized.store(false, Ordering::Release);
        module.take()
    };
    if let Some(module) = &module {
        module.close();
    }
    // Connections close here, or when the last call that runs returns; not under the lock.
    module.map(drop).ok_or(Rv::CRYPTOKI_NOT_INITIALIZED)
}

impl Instance {
    fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }
}

/// The generation the pointer shows: this process's or, in a forked child, its parent's.
fn seen() -> Option<&'static Instance> {
    let generation = CURRENT.load(Ordering::Acquire);
    // SAFETY: null, or a leaked box that `own` published with release ordering: valid for ever, and only ever shared.
    unsafe { generation.as_ref() }
}

/// This process's generation, made if it has none. One allocation for each process that initialises.
fn own() -> &'static Instance {
    loop {
        let shown = CURRENT.load(Ordering::Acquire);
        // SAFETY: as in `seen`.
        let inherited = match unsafe { shown.as_ref() } {
            Some(generation) if generation.is_own() => return generation,
            other => other,
        };
        let fresh = Box::into_raw(Box::new(Instance {
            pid: std::process::id(),
            initialized: AtomicBool::new(false),
            module: RwLock::new(None),
            _inherited: inherited,
        }));
        if CURRENT.compare_exchange(shown, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: `fresh` came out of a box above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test that initialises: the state is the process's.
    #[test]
    fn a_module_is_there_from_initialize_to_finalize() {
        let make = || Module::open(None).map_err(|_| Rv::FUNCTION_FAILED);
        assert_eq!(current().err(), Some(Rv::CRYPTOKI_NOT_INITIALIZED));
        assert_eq!(finalize(), Err(Rv::CRYPTOKI_NOT_INITIALIZED));
        assert_eq!(initialize(|| Err(Rv::FUNCTION_FAILED)), Err(Rv::FUNCTION_FAILED));
        assert_eq!(initialize(make), Ok(()));
        assert_eq!(initialize(make), Err(Rv::CRYPTOKI_ALREADY_INITIALIZED));
        let held = current().unwrap();
        assert_eq!(finalize(), Ok(()));
        assert_eq!(current().err(), Some(Rv::CRYPTOKI_NOT_INITIALIZED));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(initialize(make), Ok(()));
        assert_eq!(finalize(), Ok(()));
    }
}
