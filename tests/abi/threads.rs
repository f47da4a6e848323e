//! Calls from many threads, and `C_Finalize` while they run.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cryptoki_sys::{
    CKA_DECRYPT, CKA_ENCRYPT, CKA_LABEL, CKA_TOKEN, CKA_VALUE_LEN, CKF_RW_SESSION, CKF_SERIAL_SESSION,
    CKM_AES_CBC_PAD, CKM_AES_KEY_GEN, CKM_SHA256,
};
use kms_protocol::Rv;
use kms_tests::Policy;
use kms_tests::child::isolated;
use kms_tests::raw::{Mechanism, Module, OutputSize, Template};

fn template(label: &[u8]) -> Template {
    let template = Template::new().bool(CKA_TOKEN, true).ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, label);
    template.bool(CKA_ENCRYPT, true).bool(CKA_DECRYPT, true)
}

#[test]
fn eight_threads_with_a_session_each() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        let key = session
            .generate(Mechanism::plain(CKM_AES_KEY_GEN), template(b"shared"))
            .expect("the key is generated");
        let slot = module.slot("test");
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                scope.spawn(move || {
                    let session =
                        module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
                    for round in 0..200_u8 {
                        let data = vec![thread ^ round; 100 + usize::from(round)];
                        let mechanism = || Mechanism::with(CKM_AES_CBC_PAD, &[thread; 16]);
                        let sealed = session.encrypt(mechanism(), key, &data).expect("it encrypts");
                        assert_eq!(session.decrypt(mechanism(), key, &sealed), Ok(data));
                        let found =
                            session.find(Template::new().bytes(CKA_LABEL, b"shared")).expect("a search");
                        assert_eq!(found, [key]);
                    }
                    let own = session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template(&[b'0' + thread]));
                    session.destroy(own.expect("the key is generated")).expect("the key is destroyed");
                    session.close().expect("the session closes");
                });
            }
        });
    });
}

#[test]
fn a_session_shared_by_threads_stays_consistent() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        // The specification requires the application to serialise calls in one session; without that, calls return
        // error codes and do not crash.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(move || {
                    for _ in 0..500 {
                        let known = [Rv::OPERATION_ACTIVE, Rv::OPERATION_NOT_INITIALIZED];
                        let begun = session.digest_init(Mechanism::plain(CKM_SHA256));
                        assert!(
                            begun.is_ok_and(|()| true) || begun.is_err_and(|rv| known.contains(&rv)),
                            "{begun:?}"
                        );
                        let done = session.digest_into(b"abc", OutputSize::Bytes(32)).map_err(|(rv, _)| rv);
                        match done {
                            Ok((digest, _)) => assert_eq!(digest[0], 0xba),
                            Err(rv) => assert!(known.contains(&rv), "{rv}"),
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn finalising_during_calls() {
    isolated(Policy::Strict, |target| {
        let module = &Module::load(&target.module);
        for _ in 0..20 {
            module.initialize_bare().expect("it initialises");
            let session = module.user("test");
            let key = session
                .generate(Mechanism::plain(CKM_AES_KEY_GEN), template(b"k"))
                .expect("the key is generated");
            let slot = module.slot("test");
            let (finalised, calls) = (&AtomicBool::new(false), &AtomicU32::new(0));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(move || {
                        let Ok(session) = module.open(slot, CKF_SERIAL_SESSION) else { return };
                        loop {
                            let result =
                                session.encrypt(Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]), key, b"x");
                            calls.fetch_add(1, Ordering::Relaxed);
                            match result {
                                Ok(_) => {
                                    assert!(
                                        !finalised.load(Ordering::Acquire),
                                        "a call succeeds after C_Finalize"
                                    )
                                }
                                Err(rv) => {
                                    let end = [Rv::CRYPTOKI_NOT_INITIALIZED, Rv::SESSION_HANDLE_INVALID];
                                    let midway = [Rv::OPERATION_NOT_INITIALIZED, Rv::KEY_HANDLE_INVALID];
                                    assert!(end.contains(&rv) || midway.contains(&rv), "{rv}");
                                    break;
                                }
                            }
                        }
                    });
                }
                while calls.load(Ordering::Relaxed) < 20 {
                    std::thread::yield_now();
                }
                module.finalize().expect("it finalises");
            });
            finalised.store(true, Ordering::Release);
        }
    });
}
