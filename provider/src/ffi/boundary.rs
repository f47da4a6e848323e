//! One boundary for all calls: a panic becomes `CKR_GENERAL_ERROR`, never the death of the host.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki_sys::{CK_RV, CKR_OK};
use kms_protocol::Rv;

use super::environment::Errno;
use super::instance;
use crate::module::Module;

/// Runs a call that needs the module.
pub(crate) fn call(name: &'static str, body: impl FnOnce(&Module) -> Result<(), Rv>) -> CK_RV {
    bare(name, || {
        let module = instance::current()?;
        let result = caught(|| body(&module));
        module.returned(name, result);
        result
    })
}

/// Runs a call that works without the module, or makes it.
pub(crate) fn bare(_name: &'static str, body: impl FnOnce() -> Result<(), Rv>) -> CK_RV {
    let _errno = Errno::saved();
    caught(body).map_or_else(|rv| CK_RV::from(rv.0), |()| CKR_OK)
}

fn caught(body: impl FnOnce() -> Result<(), Rv>) -> Result<(), Rv> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Rv::GENERAL_ERROR))
}

/// Keeps a panic from printing to the host's standard error: our copy of the standard library has a hook of its own.
pub(crate) fn be_quiet() {
    static QUIET: AtomicBool = AtomicBool::new(false);
    if !cfg!(test) && !QUIET.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|_| {}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_code() {
        assert_eq!(bare("C_Test", || panic!("this is the test")), CK_RV::from(Rv::GENERAL_ERROR.0));
    }

    #[test]
    fn errno_is_left_as_it_was() {
        let before = Errno::saved();
        let returned = bare("C_Test", || {
            drop(std::fs::metadata("/nonexistent/file"));
            Ok(())
        });
        assert_eq!(returned, CKR_OK);
        assert_eq!(Errno::saved(), before);
    }
}
