//! Two threads use one token key: once one thread has removed a permission, the other can no longer use it.

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

/// The number of races of each kind.
const ROUNDS: usize = 60;

fn aes(session: &Session<'_>, kinds: &[u64]) -> CK_OBJECT_HANDLE {
    let template = Template::new().ulong(CKA_VALUE_LEN, 32).bool(CKA_TOKEN, true);
    let template = kinds.iter().fold(template, |template, kind| template.bool(*kind, true));
    session.generate(Mechanism::plain(CKM_AES_KEY_GEN), template).expect("the key is generated")
}

/// Removes a permission in one thread while another thread uses it again and again. A use that starts after the removal
/// must be rejected; returns how many uses succeeded before.
fn race(
    module: &Module,
    ring: &str,
    remove: impl Fn(&Session<'_>) -> Result<(), Rv> + Sync,
    use_it: impl Fn(&Session<'_>) -> Result<(), Rv> + Sync,
) -> usize {
    let (removed, start, slot) = (AtomicBool::new(false), Barrier::new(2), module.slot(ring));
    let open = || module.open(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            let (session, mut successes) = (open(), 0);
            start.wait();
            loop {
                let was_removed = removed.load(Ordering::SeqCst);
                let used = use_it(&session);
                assert!(!(was_removed && used.is_ok()), "a removed permission was used");
                successes += usize::from(used.is_ok());
                if was_removed {
                    session.close().expect("the session closes");
                    return successes;
                }
            }
        });
        let session = open();
        start.wait();
        remove(&session).expect("the permission is removed");
        removed.store(true, Ordering::SeqCst);
        session.close().expect("the session closes");
        user.join().expect("no use after the removal")
    })
}

fn no(kind: u64) -> Template {
    Template::new().bool(kind, false)
}

#[test]
fn a_removed_permission_is_removed_for_every_thread() {
    let stack = Stack::strict();
    let module = Module::of(&stack);
    let (session, ring) = (module.user(stack.ring()), stack.ring());
    let wrapping = aes(&session, &[CKA_WRAP, CKA_UNWRAP]);
    let kwp = || Mechanism::plain(CKM_AES_KEY_WRAP_KWP);
    let ecb = || Mechanism::plain(CKM_AES_ECB);
    let mut successes = [0; 4];
    for _ in 0..ROUNDS {
        let key = aes(&session, &[CKA_EXTRACTABLE, CKA_COPYABLE, CKA_ENCRYPT, CKA_DECRYPT]);
        let wrap = |session: &Session<'_>| session.wrap(kwp(), wrapping, key).map(drop);
        successes[0] += race(&module, ring, |session| session.set(key, no(CKA_EXTRACTABLE)), wrap);
        let encrypt = |session: &Session<'_>| session.encrypt(ecb(), key, &[0; 16]).map(drop);
        successes[1] += race(&module, ring, |session| session.set(key, no(CKA_ENCRYPT)), encrypt);
        let copy = |session: &Session<'_>| session.copy(key, no(CKA_TOKEN)).map(drop);
        successes[2] += race(&module, ring, |session| session.set(key, no(CKA_COPYABLE)), copy);
        let decrypt = |session: &Session<'_>| session.decrypt(ecb(), key, &[0; 16]).map(drop);
        successes[3] += race(&module, ring, |session| session.destroy(key), decrypt);
    }
    // Each use succeeded at least once before the removal; otherwise there was no race.
    assert!(successes.into_iter().all(|count| count > 0), "{successes:?}");
}

/// Two threads each add a usage to one key. A key with both usages is what the wrap-then-decrypt attack needs.
#[test]
fn concurrent_changes_cannot_add_both_usages() {
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
                    // Policy may allow one of the two changes, never both.
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
