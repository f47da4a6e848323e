//! Two threads on one token key: what was taken away is not to be had any more, however close the other one is.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use cryptoki_sys::{
    CK_OBJECT_HANDLE, CKA_COPYABLE, CKA_DECRYPT, CKA_ENCRYPT, CKA_EXTRACTABLE, CKA_TOKEN, CKA_UNWRAP,
    CKA_VALUE_LEN, CKA_WRAP, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKM_AES_ECB, CKM_AES_KEY_GEN,
    CKM_AES_KEY_WRAP_KWP,
};
use kms_protocol::Rv;
use kms_tests::Stack;
use kms_tests::raw::{Mechanism, Module, Session, Template};

/// Races of each kind.
const ROUNDS: usize = 60;

fn aes(session: &Session<'_>, kinds: &[u64]) -> CK_OBJECT_HANDLE {
    let template = Template::new().ulong(CKA_VALUE_LEN, 32).bool(CKA_TOKEN, true);
    let template = kinds.iter().fold(template, |template, kind| template.bool(*kind, true));
    session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template).expect("a key is made")
}

/// Takes something away in one thread while the other tries to use it, over and over. A use that began after it was
/// taken away must be refused; gives how many uses went well before.
fn race(
    module: &Module,
    ring: &str,
    take_away: impl Fn(&Session<'_>) -> Result<(), Rv> + Sync,
    using: impl Fn(&Session<'_>) -> Result<(), Rv> + Sync,
) -> usize {
    let (gone, start, slot) = (AtomicBool::new(false), Barrier::new(2), module.slot(ring));
    let open = || module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            let (session, mut went_well) = (open(), 0);
            start.wait();
            loop {
                let was_gone = gone.load(Ordering::SeqCst);
                let used = using(&session);
                assert!(!(was_gone && used.is_ok()), "what was taken away was used");
                went_well += usize::from(used.is_ok());
                if was_gone {
                    session.close().expect("the session closes");
                    return went_well;
                }
            }
        });
        let session = open();
        start.wait();
        take_away(&session).expect("it is taken away");
        gone.store(true, Ordering::SeqCst);
        session.close().expect("the session closes");
        user.join().expect("no use after the end")
    })
}

fn no(kind: u64) -> Template {
    Template::new().bool(kind, false)
}

#[test]
fn what_is_taken_away_is_gone_for_every_thread() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let (session, ring) = (module.user(stack.ring()), stack.ring());
    let wrapping = aes(&session, &[CKA_WRAP, CKA_UNWRAP]);
    let kwp = || Mechanism::plain(CKM_AES_KEY_WRAP_KWP);
    let ecb = || Mechanism::plain(CKM_AES_ECB);
    let mut went_well = [0; 4];
    for _ in 0..ROUNDS {
        let key = aes(&session, &[CKA_EXTRACTABLE, CKA_COPYABLE, CKA_ENCRYPT, CKA_DECRYPT]);
        let wrap = |session: &Session<'_>| session.wrap(kwp(), wrapping, key).map(drop);
        went_well[0] += race(&module, ring, |session| session.set(key, no(CKA_EXTRACTABLE)), wrap);
        let encrypt = |session: &Session<'_>| session.encrypt(ecb(), key, &[0; 16]).map(drop);
        went_well[1] += race(&module, ring, |session| session.set(key, no(CKA_ENCRYPT)), encrypt);
        let copy = |session: &Session<'_>| session.copy(key, no(CKA_TOKEN)).map(drop);
        went_well[2] += race(&module, ring, |session| session.set(key, no(CKA_COPYABLE)), copy);
        let decrypt = |session: &Session<'_>| session.decrypt(ecb(), key, &[0; 16]).map(drop);
        went_well[3] += race(&module, ring, |session| session.destroy(key), decrypt);
    }
    // Each was possible before it was taken away, at least sometimes: else nothing was raced.
    assert!(went_well.into_iter().all(|count| count > 0), "{went_well:?}");
}

/// Two that each add a use to one key: neither may, and a key with both is what wrap-then-decrypt needs.
#[test]
fn no_two_uses_are_added_at_once() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let session = module.user(stack.ring());
    let (start, slot) = (Barrier::new(2), module.slot(stack.ring()));
    for _ in 0..ROUNDS {
        let key = aes(&session, &[CKA_COPYABLE]);
        std::thread::scope(|scope| {
            for kind in [CKA_WRAP, CKA_DECRYPT] {
                let (module, start) = (&module, &start);
                scope.spawn(move || {
                    let session =
                        module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
                    start.wait();
                    // Whether one of them is allowed is the policy's; both never are.
                    let added = session.set(key, Template::new().bool(kind, true));
                    assert!(added.is_ok() || session.attribute(key, kind) == Ok(vec![0]), "{added:?}");
                    session.close().expect("the session closes");
                });
            }
        });
        let has = |kind| session.attribute(key, kind) == Ok(vec![1]);
        assert!(!(has(CKA_WRAP) && has(CKA_DECRYPT)), "a key wraps and decrypts");
        session.destroy(key).expect("it is destroyed");
    }
}
