//! The boundary that every call passes: a panic becomes `CKR_GENERAL_ERROR` and never terminates the host.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki_sys::{CK_RV, CKR_OK};
use kms_protocol::Rv;

use super::environment::Errno;
use super::instance;
use crate::module::Module;

/// Runs a call that needs the module.
pub(crate) fn call(name: &'static str, body: impl FnOnce(&Module) -> Result<(), Rv>) -> CK_RV {
    without_module(name, || {
        let module = instance::current()?;
        let result = catch_panic(|| body(&module));
        module.log_result(name, result);
        result
    })
}

/// Runs a call that works without the module, or creates it.
pub(crate) fn without_module(_name: &'static str, body: impl FnOnce() -> Result<(), Rv>) -> CK_RV {
    let _errno = Errno::save();
    catch_panic(body).map_or_else(|rv| CK_RV::from(rv.0), |()| CKR_OK)
}

fn catch_panic(body: impl FnOnce() -> Result<(), Rv>) -> Result<(), Rv> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Rv::GENERAL_ERROR))
}

/// Keeps panics from printing to the host's standard error: our copy of the standard library has its own panic hook.
pub(crate) fn silence_panics() {
    static SILENCED: AtomicBool = AtomicBool::new(false);
    if !cfg!(test) && !SILENCED.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|_| {}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_return_value() {
        assert_eq!(without_module("C_Test", || panic!("this is the test")), CK_RV::from(Rv::GENERAL_ERROR.0));
    }

    #[test]
    fn errno_is_restored() {
        let before = Errno::save();
        let returned = without_module("C_Test", || {
            drop(std::fs::metadata("/nonexistent/file"));
            Ok(())
        });
        assert_eq!(returned, CKR_OK);
        assert_eq!(Errno::save(), before);
    }
}
