//! Fork: the child has no sessions and gets `CRYPTOKI_NOT_INITIALIZED`; it may initialise at once, or finalise first.
//! The parent continues unaffected.

use cryptoki_sys::{
    CK_OBJECT_HANDLE, CKA_DECRYPT, CKA_ENCRYPT, CKA_LABEL, CKA_TOKEN, CKA_VALUE_LEN, CKF_SERIAL_SESSION,
    CKM_AES_CBC_PAD, CKM_AES_KEY_GEN,
};
use kms_protocol::Rv;
use kms_tests::child::{Target, isolated};
use kms_tests::raw::{Mechanism, Module, Session, Template};
use kms_tests::{Policy, SetOnDrop};

/// The exit status of a child that succeeds: neither 0 nor 101, which an unexpected exit or a panic would give.
pub(super) const SUCCESS: i32 = 42;

/// Runs `body` in a forked child that then exits at once; returns its exit status, or the negated signal.
pub(super) fn in_fork(body: impl FnOnce() -> bool) -> i32 {
    // SAFETY: besides the test harness's thread, which waits, only one thread of this process runs; the child calls the
    // module and ends with `_exit`, so nothing of the harness runs in it.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // A hanging child must not hang the test: SIGALRM ends it.
        // SAFETY: sets a timer of the child process.
        unsafe { libc::alarm(60) };
        let succeeded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
        // SAFETY: ends the child without running exit handlers of the parent.
        unsafe { libc::_exit(if succeeded { SUCCESS } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for a child of this process; `status` can be written.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

fn start(target: &Target) -> (&'static Module, Session<'static>, CK_OBJECT_HANDLE) {
    let module: &'static Module = Box::leak(Box::new(Module::load(&target.module)));
    module.initialize_bare().expect("it initialises");
    let session = module.user("test");
    let template = Template::new().bool(CKA_TOKEN, true).ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, b"forked");
    let template = template.bool(CKA_ENCRYPT, true).bool(CKA_DECRYPT, true);
    let key = session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template).expect("the key is generated");
    (module, session, key)
}

fn round_trip(session: &Session<'_>, key: CK_OBJECT_HANDLE) -> bool {
    let mechanism = || Mechanism::with(CKM_AES_CBC_PAD, &[9; 16]);
    let Ok(sealed) = session.encrypt(mechanism(), key, b"through the fork") else { return false };
    session.decrypt(mechanism(), key, &sealed).is_ok_and(|opened| opened == b"through the fork")
}

/// Logs in and uses the key, in a child that has initialised the module.
fn works_after_initialise(module: &Module) -> bool {
    let session = module.user("test");
    let found = session.find(Template::new().bytes(CKA_LABEL, b"forked"));
    found.is_ok_and(|found| found.len() == 1 && round_trip(&session, found[0]))
}

#[test]
fn a_child_that_does_not_initialise_gets_not_initialized() {
    isolated(Policy::Strict, |target| {
        let (module, session, key) = start(target);
        let ended = in_fork(|| {
            let expected = Rv::CRYPTOKI_NOT_INITIALIZED;
            session.encrypt_init(Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]), key) == Err(expected)
                && module.slots(true) == Err(expected)
                && session.info().err() == Some(expected)
                && session.close() == Err(expected)
        });
        assert_eq!(ended, SUCCESS);
        assert!(round_trip(&session, key), "the parent still works");
    });
}

#[test]
fn a_child_initialises_at_once() {
    isolated(Policy::Strict, |target| {
        let (module, session, key) = start(target);
        let ended = in_fork(|| {
            module.initialize_bare() == Ok(())
                && module.initialize_bare() == Err(Rv::CRYPTOKI_ALREADY_INITIALIZED)
                && session.info().err() == Some(Rv::SESSION_HANDLE_INVALID)
                && works_after_initialise(module)
                && module.finalize() == Ok(())
        });
        assert_eq!(ended, SUCCESS);
        assert!(round_trip(&session, key), "the parent still works");
    });
}

#[test]
fn a_child_finalises_then_initialises() {
    isolated(Policy::Strict, |target| {
        let (module, session, key) = start(target);
        let ended = in_fork(|| {
            // Modules differ in the code of this call; what counts is that the child can initialise afterwards.
            let finalised = module.finalize();
            let known = matches!(finalised, Ok(()) | Err(Rv::CRYPTOKI_NOT_INITIALIZED));
            known && module.initialize_bare() == Ok(()) && works_after_initialise(module)
        });
        assert_eq!(ended, SUCCESS);
        assert!(round_trip(&session, key), "the parent still works");
        assert!(session.logout().is_ok(), "the parent is still logged in");
    });
}

#[test]
fn session_objects_belong_to_the_login_of_their_process() {
    isolated(Policy::Strict, |target| {
        let (module, session, _) = start(target);
        let template = || Template::new().bool(CKA_TOKEN, false).ulong(CKA_VALUE_LEN, 32);
        let template = || template().bool(CKA_ENCRYPT, true).bool(CKA_DECRYPT, true);
        let generate =
            |session: &Session<'_>| session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template());
        let key = generate(&session).expect("a session key");
        for _ in 0..3 {
            let ended = in_fork(|| {
                let initialised = module.initialize_bare() == Ok(());
                let own = module.user("test");
                let works = generate(&own).is_ok_and(|key| round_trip(&own, key));
                // The child's logout ends its own login, and no other of the same principal.
                initialised && works && own.logout() == Ok(()) && module.finalize() == Ok(())
            });
            assert_eq!(ended, SUCCESS);
            assert!(round_trip(&session, key), "the parent's session key still works");
        }
        session.logout().expect("the parent logs out");
        assert!(!round_trip(&session, key));
    });
}

#[test]
fn a_grandchild_and_many_children() {
    isolated(Policy::Strict, |target| {
        let (module, session, key) = start(target);
        for round in 0..20 {
            let ended = in_fork(|| {
                let child =
                    round % 2 == 0 || (module.initialize_bare() == Ok(()) && works_after_initialise(module));
                child
                    && in_fork(|| module.initialize_bare() == Ok(()) && works_after_initialise(module))
                        == SUCCESS
            });
            assert_eq!(ended, SUCCESS, "round {round}");
            assert!(round_trip(&session, key), "the parent still works in round {round}");
        }
    });
}

#[test]
fn a_fork_in_the_middle_of_other_threads_calls() {
    isolated(Policy::Strict, |target| {
        let (module, session, key) = start(target);
        let slot = module.slot("test");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ending = SetOnDrop(&stop);
            for _ in 0..3 {
                scope.spawn(|| {
                    let session = module.open(slot, CKF_SERIAL_SESSION).expect("a session opens");
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        assert!(round_trip(&session, key));
                    }
                });
            }
            // A lock that another thread holds at the time of the fork is never released in the child.
            let ended: Vec<_> = (0..100)
                .map(|_| in_fork(|| module.initialize_bare() == Ok(()) && works_after_initialise(module)))
                .collect();
            drop(ending);
            assert!(ended.iter().all(|end| *end == SUCCESS), "{ended:?}");
        });
        assert!(round_trip(&session, key), "the parent still works");
    });
}
