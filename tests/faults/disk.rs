//! A full disk: calls return a clean error, no data is lost, and the KMS continues when there is space again.

use std::process::Command;

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::Session;
use kms_tests::client::Client;
use kms_tests::small_disk::SmallDisk;
use kms_tests::{Policy, Stack, program};

use crate::restart::template;

/// Generates pairs with a long subject in both keys until one fails; returns the number of objects and the error.
fn fill(session: &Session) -> (usize, Error) {
    let subject = Attribute::Subject(vec![0x30; 8000]);
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let public = [Attribute::Token(true), Attribute::EcParams(p256), subject.clone()];
    let private = [Attribute::Token(true), subject];
    for pairs in 0..1000 {
        if let Err(error) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private) {
            return (2 * pairs, error);
        }
    }
    panic!("the disk does not become full");
}

/// Fills the disk, checks that existing keys work, frees space, and checks that new keys can be generated.
fn check(stack: &mut Stack, expected: impl Fn(&Error) -> bool, free_space: impl FnOnce(&mut Stack)) {
    let client = Client::user(stack);
    let session = &client.session;
    let count = || session.find_objects(&[]).expect("a search").len();
    let first =
        session.generate_key(&Mechanism::AesKeyGen, &template("first", true)).expect("the key is generated");
    let sealed = session.encrypt(&Mechanism::AesCbcPad([0; 16]), first, b"data").expect("it encrypts");
    let (objects, error) = fill(session);
    assert!(expected(&error), "{error:?}");
    assert!(objects > 4, "{objects} objects before the disk was full");
    assert_eq!(
        session.decrypt(&Mechanism::AesCbcPad([0; 16]), first, &sealed).expect("it decrypts"),
        b"data"
    );
    assert_eq!(count(), objects + 1, "only the objects of successful calls exist");
    assert!(stack.daemon().ended().is_none(), "the daemon still runs");
    free_space(stack);
    session.generate_key(&Mechanism::AesKeyGen, &template("after", true)).expect("there is space again");
    assert_eq!(count(), objects + 2);
    stack.restart();
    assert_eq!(count(), objects + 2);
    assert_eq!(
        session.decrypt(&Mechanism::AesCbcPad([0; 16]), first, &sealed).expect("it decrypts"),
        b"data"
    );
}

#[test]
fn a_full_disk_rejects_new_keys_and_keeps_existing_ones() {
    let mut stack = Stack::stopped(Policy::Strict);
    // Until the disk is really full.
    stack.configure("store", "disk_floor_mib", "0");
    let Some(disk) = SmallDisk::mount_over_home(&stack, "1500k") else { return };
    stack.start();
    let full = |error: &Error| matches!(error, Error::Pkcs11(RvError::DeviceMemory, _));
    check(&mut stack, full, |_| disk.grow("16m"));
    // Unmounted before the stack's folder is removed.
    stack.stop();
}

#[test]
fn a_failing_write_loses_no_keys() {
    if !program::installed(&["prlimit", "sh"]) {
        return;
    }
    let mut stack = Stack::stopped(Policy::Strict);
    // The limit of file sizes. SIGXFSZ must be ignored, or the kernel would kill the daemon when it writes too much; a
    // shell can ignore it for the program that it starts.
    let script = "trap '' XFSZ; exec prlimit --fsize=614400:unlimited -- \"$@\"";
    stack.start_under("sh", &["-c", script, "sh"]);
    let failed =
        |error: &Error| matches!(error, Error::Pkcs11(RvError::DeviceMemory | RvError::DeviceError, _));
    check(&mut stack, failed, |stack| {
        let pid = stack.daemon().pid().to_string();
        program::run(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"])).ok();
    });
}
