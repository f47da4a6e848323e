//! The process's instance of the module.
//!
//! A process has at most one instance: allocated at its first `C_Initialize`, never freed, and reused by later calls of
//! it. A forked child sees its parent's instance through the same pointer and recognises by the pid that it is not its
//! own. The child reads only the two fields that need no lock: the lock inside may be held by a thread that does not
//! exist in the child, and the sockets behind it are the parent's.

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kms_protocol::Rv;

use crate::module::Module;

/// The module of one process.
struct Instance {
    pid: u32,
    initialized: AtomicBool,
    module: RwLock<Option<Arc<Module>>>,
    /// The parent's instance, which a forked child does not use. Stored so that a leak checker in the host finds it.
    _inherited: Option<&'static Instance>,
}

static CURRENT: AtomicPtr<Instance> = AtomicPtr::new(std::ptr::null_mut());

/// The module, held by a call while it runs: `C_Finalize` in another thread removes it for later calls only.
///
/// # Errors
/// `CKR_CRYPTOKI_NOT_INITIALIZED`, in a forked child too.
pub(crate) fn current() -> Result<Arc<Module>, Rv> {
    let own = published().filter(|instance| instance.is_own()).ok_or(Rv::CRYPTOKI_NOT_INITIALIZED)?;
    let module = own.module.read().unwrap_or_else(PoisonError::into_inner);
    module.as_ref().map(Arc::clone).ok_or(Rv::CRYPTOKI_NOT_INITIALIZED)
}

/// `C_Initialize`. In a forked child, the parent's module stays allocated and unused; its descriptors are
/// close-on-exec.
///
/// # Errors
/// `CKR_CRYPTOKI_ALREADY_INITIALIZED`, or why the module cannot be created.
pub(crate) fn initialize(create: impl FnOnce() -> Result<Module, Rv>) -> Result<(), Rv> {
    let own = own_or_create();
    let mut module = own.module.write().unwrap_or_else(PoisonError::into_inner);
    if module.is_some() {
        return Err(Rv::CRYPTOKI_ALREADY_INITIALIZED);
    }
    *module = Some(Arc::new(create()?));
    own.initialized.store(true, Ordering::Release);
    Ok(())
}

/// `C_Finalize`. In a forked child whose parent had initialised the module, it succeeds once and does nothing else.
///
/// # Errors
/// `CKR_CRYPTOKI_NOT_INITIALIZED`.
pub(crate) fn finalize() -> Result<(), Rv> {
    let instance = published().ok_or(Rv::CRYPTOKI_NOT_INITIALIZED)?;
    if !instance.is_own() {
        let inherited = instance.initialized.load(Ordering::Acquire);
        own_or_create();
        return if inherited { Ok(()) } else { Err(Rv::CRYPTOKI_NOT_INITIALIZED) };
    }
    let module = {
        let mut module = instance.module.write().unwrap_or_else(PoisonError::into_inner);
        instance.initialized.store(false, Ordering::Release);
        module.take()
    };
    if let Some(module) = &module {
        module.close();
    }
    // Connections close here, or when the last running call returns; not under the lock.
    module.map(drop).ok_or(Rv::CRYPTOKI_NOT_INITIALIZED)
}

impl Instance {
    fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }
}

/// The instance that the pointer leads to: this process's or, in a forked child, its parent's.
fn published() -> Option<&'static Instance> {
    let instance = CURRENT.load(Ordering::Acquire);
    // SAFETY: null, or a leaked box that `own_or_create` published with release ordering: valid for ever and only
    // shared.
    unsafe { instance.as_ref() }
}

/// This process's instance, created if there is none. One allocation for each process that initialises.
fn own_or_create() -> &'static Instance {
    loop {
        let current = CURRENT.load(Ordering::Acquire);
        // SAFETY: as in `published`.
        let inherited = match unsafe { current.as_ref() } {
            Some(instance) if instance.is_own() => return instance,
            other => other,
        };
        let fresh = Box::into_raw(Box::new(Instance {
            pid: std::process::id(),
            initialized: AtomicBool::new(false),
            module: RwLock::new(None),
            _inherited: inherited,
        }));
        if CURRENT.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: `fresh` came out of a box above, and was not published.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test that initialises: the state belongs to the process.
    #[test]
    fn the_module_exists_from_initialize_to_finalize() {
        let create = || Module::open(None).map_err(|_| Rv::FUNCTION_FAILED);
        assert_eq!(current().err(), Some(Rv::CRYPTOKI_NOT_INITIALIZED));
        assert_eq!(finalize(), Err(Rv::CRYPTOKI_NOT_INITIALIZED));
        assert_eq!(initialize(|| Err(Rv::FUNCTION_FAILED)), Err(Rv::FUNCTION_FAILED));
        assert_eq!(initialize(create), Ok(()));
        assert_eq!(initialize(create), Err(Rv::CRYPTOKI_ALREADY_INITIALIZED));
        let held = current().unwrap();
        assert_eq!(finalize(), Ok(()));
        assert_eq!(current().err(), Some(Rv::CRYPTOKI_NOT_INITIALIZED));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(initialize(create), Ok(()));
        assert_eq!(finalize(), Ok(()));
    }
}
