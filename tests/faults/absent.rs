//! No backend, or one that does not respond: every call returns within the timeout, with an error code for it.
#![expect(clippy::disallowed_methods, reason = "the tests measure timeouts")]

use std::time::{Duration, Instant};

use cryptoki_sys::{
    CK_MECHANISM_INFO, CK_SLOT_INFO, CKA_ENCRYPT, CKA_LABEL, CKA_TOKEN, CKA_VALUE_LEN, CKF_RW_SESSION,
    CKF_SERIAL_SESSION, CKF_TOKEN_PRESENT, CKM_AES_ECB, CKM_AES_KEY_GEN, CKU_USER,
};
use kms_protocol::Rv;
use kms_tests::raw::{Mechanism, Module, Template};
use kms_tests::{Policy, Stack, call};

/// The configured timeout, and how long a call may take on a busy machine.
const TIMEOUT_MS: u32 = 1000;
const IN_TIME: Duration = Duration::from_millis(1000 + 1500);

/// Runs a call and checks that it returns in time.
#[track_caller]
fn in_time<T>(call: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = call();
    assert!(started.elapsed() < IN_TIME, "returned after {:?}", started.elapsed());
    result
}

fn aes() -> Template {
    let template = Template::new().bool(CKA_TOKEN, true).ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, b"k");
    template.bool(CKA_ENCRYPT, true)
}

#[test]
fn backend_absent_from_the_start() {
    let stack = Stack::stopped(Policy::Strict);
    let module = &Module::load(&stack.module());
    in_time(|| module.initialize(&stack.config_with_timeout(TIMEOUT_MS)))
        .expect("it initialises without a backend");
    assert_eq!(in_time(|| module.slots(true)), Ok(vec![]));
    let slots = in_time(|| module.slots(false)).expect("slots can be listed");
    assert_eq!(slots.len(), 1, "a slot without a token");
    let mut info = CK_SLOT_INFO::default();
    in_time(|| call!(module, C_GetSlotInfo(slots[0], &raw mut info))).expect("slot info is returned");
    assert_eq!(info.flags & CKF_TOKEN_PRESENT, 0);
    let absent = Some(Rv::TOKEN_NOT_PRESENT);
    assert_eq!(in_time(|| module.token(slots[0])).err(), absent);
    assert_eq!(in_time(|| module.open(slots[0], CKF_SERIAL_SESSION)).err(), absent);
    let mut mechanism = CK_MECHANISM_INFO::default();
    let result = in_time(|| call!(module, C_GetMechanismInfo(slots[0], CKM_AES_ECB, &raw mut mechanism)));
    assert_eq!(result.err(), absent);
    module.finalize().expect("it finalises");
}

#[test]
fn backend_killed_during_use() {
    let mut stack = Stack::strict();
    let module = &Module::load(&stack.module());
    module.initialize(&stack.config_with_timeout(TIMEOUT_MS)).expect("it initialises");
    let session = module.user("test");
    let key = session.generate(Mechanism::plain(CKM_AES_KEY_GEN), aes()).expect("the key is generated");
    let slot = module.slot("test");
    stack.kill9();
    let expected = [Rv::DEVICE_REMOVED, Rv::TOKEN_NOT_PRESENT];
    let refused =
        |result: Result<(), Rv>| assert!(matches!(result, Err(rv) if expected.contains(&rv)), "{result:?}");
    refused(in_time(|| session.encrypt(Mechanism::plain(CKM_AES_ECB), key, &[0; 16]).map(drop)));
    refused(in_time(|| session.find(Template::new()).map(drop)));
    refused(in_time(|| session.generate(Mechanism::plain(CKM_AES_KEY_GEN), aes()).map(drop)));
    // Calls that need no backend still work, and the slot stays, without its token.
    session.info().expect("the session is there");
    assert_eq!(session.attribute(key, CKA_LABEL), Ok(b"k".to_vec()));
    assert_eq!(in_time(|| module.slots(false)), Ok(vec![slot]));
    // The module caches slot information for a second; after that the token is absent.
    let until = Instant::now() + Duration::from_secs(5);
    while in_time(|| module.slots(true)) != Ok(vec![]) {
        assert!(Instant::now() < until, "the slot still shows a token");
        std::thread::yield_now();
    }
    session.close().expect("the session closes");
    module.finalize().expect("it finalises");
}

#[test]
fn a_suspended_backend_does_not_hang_applications() {
    let mut stack = Stack::strict();
    let module = &Module::load(&stack.module());
    module.initialize(&stack.config_with_timeout(TIMEOUT_MS)).expect("it initialises");
    let session = module.user("test");
    let key = session.generate(Mechanism::plain(CKM_AES_KEY_GEN), aes()).expect("the key is generated");
    let slot = module.slot("test");
    stack.daemon().pause();
    let expected = [Rv::DEVICE_REMOVED, Rv::DEVICE_ERROR, Rv::TOKEN_NOT_PRESENT];
    let refused =
        |result: Result<(), Rv>| assert!(matches!(result, Err(rv) if expected.contains(&rv)), "{result:?}");
    refused(in_time(|| session.encrypt(Mechanism::plain(CKM_AES_ECB), key, &[0; 16]).map(drop)));
    refused(in_time(|| session.find(Template::new()).map(drop)));
    in_time(|| module.slots(true)).expect("slots can be listed");
    let flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
    if let Ok(other) = in_time(|| module.open(slot, flags)) {
        in_time(|| other.logout()).expect("a logout needs no backend");
        refused(in_time(|| other.login(CKU_USER, b"1234")));
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || in_time(|| session.find(Template::new())).map(drop).unwrap_or_default());
        }
    });
    stack.daemon().resume();
    let logged_in = in_time(|| session.login(CKU_USER, b"1234"));
    assert!(matches!(logged_in, Ok(()) | Err(Rv::USER_ALREADY_LOGGED_IN)), "{logged_in:?}");
    session
        .encrypt(Mechanism::plain(CKM_AES_ECB), key, &[0; 16])
        .expect("the key works when the backend is resumed");
}

#[test]
fn a_listener_that_never_responds_does_not_hang_the_module() {
    let stack = Stack::stopped(Policy::Strict);
    // A listener that is not the backend: connections succeed, and nothing is ever sent.
    let silent = std::os::unix::net::UnixListener::bind(stack.socket()).expect("a socket can be created");
    let module = Module::load(&stack.module());
    in_time(|| module.initialize(&stack.config_with_timeout(TIMEOUT_MS)))
        .expect("it initialises without a backend");
    assert_eq!(in_time(|| module.slots(true)), Ok(vec![]));
    drop(silent);
}
