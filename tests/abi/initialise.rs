//! `C_Initialize` and `C_Finalize`: all combinations of arguments, and calls before and after them.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::{
    CK_RV, CKF_LIBRARY_CANT_CREATE_OS_THREADS, CKF_OS_LOCKING_OK, CKF_RW_SESSION, CKF_SERIAL_SESSION,
    CKR_GENERAL_ERROR,
};
use kms_protocol::Rv;
use kms_tests::child::isolated;
use kms_tests::raw::{Module, arguments};
use kms_tests::{Policy, call};

unsafe extern "C" fn create(_: *mut *mut c_void) -> CK_RV {
    CKR_GENERAL_ERROR
}

unsafe extern "C" fn touch(_: *mut c_void) -> CK_RV {
    CKR_GENERAL_ERROR
}

#[test]
fn the_argument_matrix() {
    isolated(Policy::Strict, |target| {
        let module = Module::load(&target.module);
        module.initialize_bare().expect("NULL arguments");
        assert_eq!(module.initialize_bare(), Err(Rv::CRYPTOKI_ALREADY_INITIALIZED));
        module.finalize().expect("it finalises");
        for flags in [0, CKF_OS_LOCKING_OK, CKF_LIBRARY_CANT_CREATE_OS_THREADS, CKF_OS_LOCKING_OK | 1] {
            module.initialize_with(&mut arguments(flags)).expect("no callbacks, any flags");
            assert!(!module.slots(true).expect("slots can be listed").is_empty());
            module.finalize().expect("it finalises");
        }
        let mut all = arguments(CKF_OS_LOCKING_OK);
        all.CreateMutex = Some(create);
        all.DestroyMutex = Some(touch);
        all.LockMutex = Some(touch);
        all.UnlockMutex = Some(touch);
        module.initialize_with(&mut all).expect("callbacks with OS locking allowed");
        assert!(!module.slots(true).expect("slots can be listed").is_empty(), "the callbacks are not called");
        module.finalize().expect("it finalises");
        all.flags = 0;
        assert_eq!(module.initialize_with(&mut all), Err(Rv::CANT_LOCK));
        for missing in 0..4 {
            let mut some = all;
            some.flags = CKF_OS_LOCKING_OK;
            match missing {
                0 => some.CreateMutex = None,
                1 => some.DestroyMutex = None,
                2 => some.LockMutex = None,
                _ => some.UnlockMutex = None,
            }
            assert_eq!(module.initialize_with(&mut some), Err(Rv::ARGUMENTS_BAD));
        }
        // A rejected call leaves the module uninitialised.
        assert_eq!(module.slots(true), Err(Rv::CRYPTOKI_NOT_INITIALIZED));
        module.initialize_bare().expect("the module initialises afterwards");
        let mut reserved = 0_u64;
        assert_eq!(call!(module, C_Finalize(ptr::from_mut(&mut reserved).cast())), Err(Rv::ARGUMENTS_BAD));
        module.slots(true).expect("the module is still initialised");
    });
}

#[test]
fn foreign_reserved_strings_are_ignored() {
    isolated(Policy::Strict, |target| {
        let module = Module::load(&target.module);
        // NSS passes its own configuration string; the environment names the module's configuration.
        for reserved in [c"configdir='sql:/etc/pki/nssdb' flags=readOnly", c"", c"\xff\xfe"] {
            let mut given = arguments(CKF_OS_LOCKING_OK);
            given.pReserved = reserved.as_ptr().cast_mut().cast();
            module.initialize_with(&mut given).expect("a foreign string is ignored");
            assert!(!module.slots(true).expect("slots can be listed").is_empty());
            module.finalize().expect("it finalises");
        }
    });
}

#[test]
fn calls_fail_before_initialise_and_after_finalise() {
    isolated(Policy::Strict, |target| {
        let module = Module::load(&target.module);
        let attempt = |when: &str| {
            let mut byte = 0_u8;
            let mut count = 1;
            let expected = Err(Rv::CRYPTOKI_NOT_INITIALIZED);
            assert_eq!(module.slots(false), expected.map(|()| vec![]), "C_GetSlotList {when}");
            assert_eq!(
                call!(module, C_GenerateRandom(1, &raw mut byte, 1)),
                expected,
                "C_GenerateRandom {when}"
            );
            assert_eq!(call!(module, C_CloseSession(1)), expected, "C_CloseSession {when}");
            assert_eq!(
                call!(module, C_Sign(1, &raw mut byte, 1, &raw mut byte, &raw mut count)),
                expected,
                "C_Sign {when}"
            );
            assert_eq!(call!(module, C_GetInfo(ptr::null_mut())), expected, "C_GetInfo {when}");
            assert_eq!(call!(module, C_Logout(1)), expected, "C_Logout {when}");
        };
        attempt("before");
        module.initialize_bare().expect("it initialises");
        let slot = module.slots(true).expect("slots can be listed")[0];
        let session = module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
        module.finalize().expect("it finalises");
        attempt("after");
        module.initialize_bare().expect("it initialises again");
        assert_eq!(
            session.info().err(),
            Some(Rv::SESSION_HANDLE_INVALID),
            "a session from before C_Finalize"
        );
    });
}

#[test]
fn a_broken_configuration_is_an_error_and_an_absent_backend_is_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("module.so");
    std::fs::copy(&kms_tests::artefacts::artefacts().module, &copy).expect("the module can be copied");
    let module = Module::load(&copy);
    let broken = folder.path().join("broken.toml");
    for text in ["socket = ", "sock = \"/tmp/x\"", "timeout_ms = 5", "socket = \"/tmp/x\"\ntimeout_ms = -1"] {
        std::fs::write(&broken, text).expect("a file can be written");
        assert_eq!(module.initialize(&broken), Err(Rv::FUNCTION_FAILED), "{text}");
    }
    assert_eq!(module.initialize(&folder.path().join("absent.toml")), Err(Rv::FUNCTION_FAILED));
    std::fs::write(&broken, "socket = \"no-listener.sock\"").expect("a file can be written");
    module.initialize(&broken).expect("a configuration, but no backend");
    assert_eq!(module.slots(true), Ok(vec![]));
    assert_eq!(module.slots(false).map(|slots| slots.len()), Ok(1), "a slot without a token");
    module.finalize().expect("it finalises");
}
