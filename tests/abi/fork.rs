//! Fork. The child has no session and says so; it may initialise at once, or finalise first; the parent goes on.

use cryptoki_sys::{
    CK_OBJECT_HANDLE, CKA_DECRYPT, CKA_ENCRYPT, CKA_LABEL, CKA_TOKEN, CKA_VALUE_LEN, CKF_SERIAL_SESSION,
    CKM_AES_CBC_PAD, CKM_AES_KEY_GEN,
};
use kms_protocol::Rv;
use kms_tests::Policy;
use kms_tests::child::{Target, isolated};
use kms_tests::raw::{Mechanism, Module, Session, Template};

/// How a child ends when all is well. Not 0 and not 101, which a stray exit or panic would give.
const WELL: i32 = 42;

/// Runs `body` in a forked child that then ends at once, and says how it ended.
fn in_fork(body: impl FnOnce() -> bool) -> i32 {
    // SAFETY: this process has one thread at work besides the test harness's, which waits; the child calls the module
    // and ends by `_exit`, so nothing of the harness runs in it.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // A hanging child must not hang the test: the alarm's default is death.
        // SAFETY: sets a timer of the child's own.
        unsafe { libc::alarm(60) };
        let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(if well { WELL } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child; `status` can be written.
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
    let key = session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template).expect("a key is made");
    (module, session, key)
}

fn round_trip(session: &Session<'_>, key: CK_OBJECT_HANDLE) -> bool {
    let mechanism = || Mechanism::with(CKM_AES_CBC_PAD, &[9; 16]);
    let Ok(sealed) = session.encrypt(mechanism(), key, b"through the fork") else { return false };
    session.decrypt(mechanism(), key, &sealed).is_ok_and(|opened| opened == b"through the fork")
}

/// Logs in and uses the key: what a child does once it has initialised.
fn works_anew(module: &Module) -> bool {
    let session = module.user("test");
    let found = session.find(Template::new().bytes(CKA_LABEL, b"forked"));
    found.is_ok_and(|found| found.len() == 1 && round_trip(&session, found[0]))
}

#[test]
fn a_child_that_does_not_initialise_is_told() {
    isolated(Policy::Strict, |target| {
        let (module, session, key) = start(target);
        let ended = in_fork(|| {
            let gone = Rv::CRYPTOKI_NOT_INITIALIZED;
            session.encrypt_init(Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]), key) == Err(gone)
                && module.slots(true) == Err(gone)
                && session.info().err() == Some(gone)
                && session.close() == Err(gone)
        });
        assert_eq!(ended, WELL);
        assert!(round_trip(&session, key), "the parent goes on");
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
                && works_anew(module)
                && module.finalize() == Ok(())
        });
        assert_eq!(ended, WELL);
        assert!(round_trip(&session, key), "the parent goes on");
    });
}

#[test]
fn a_child_finalises_then_initialises() {
    isolated(Policy::Strict, |target| {
        let (module, session, key) = start(target);
        let ended = in_fork(|| {
            // Whether there was anything to finalise is told differently by modules; what counts is what follows.
            let finalised = module.finalize();
            let known = matches!(finalised, Ok(()) | Err(Rv::CRYPTOKI_NOT_INITIALIZED));
            known && module.initialize_bare() == Ok(()) && works_anew(module)
        });
        assert_eq!(ended, WELL);
        assert!(round_trip(&session, key), "the parent goes on");
        assert!(session.logout().is_ok(), "and is still logged in");
    });
}

#[test]
fn a_grandchild_and_many_children() {
    isolated(Policy::Strict, |target| {
        let (module, session, key) = start(target);
        for round in 0..20 {
            let ended = in_fork(|| {
                let child = round % 2 == 0 || (module.initialize_bare() == Ok(()) && works_anew(module));
                child && in_fork(|| module.initialize_bare() == Ok(()) && works_anew(module)) == WELL
            });
            assert_eq!(ended, WELL, "round {round}");
            assert!(round_trip(&session, key), "the parent goes on in round {round}");
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
            for _ in 0..3 {
                scope.spawn(|| {
                    let session = module.open(slot, CKF_SERIAL_SESSION).expect("a session opens");
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        assert!(round_trip(&session, key));
                    }
                });
            }
            // Whatever lock one of them holds at that moment is held for ever in the child.
            let ended: Vec<_> = (0..100)
                .map(|_| in_fork(|| module.initialize_bare() == Ok(()) && works_anew(module)))
                .collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(ended.iter().all(|end| *end == WELL), "{ended:?}");
        });
        assert!(round_trip(&session, key), "the parent goes on");
    });
}
