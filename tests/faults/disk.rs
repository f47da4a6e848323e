//! A full disk: a clean error, nothing lost, and all goes on when there is room again.

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use kms_tests::client::Client;
use kms_tests::{Policy, Stack, program};

use crate::restart::template;

/// Files of the daemon may be no larger than this. SQLite takes the refusal for a full disk.
const FILE_BYTES_MAX: u64 = 600 << 10;

#[test]
fn a_full_disk_refuses_new_keys_and_keeps_the_old() {
    let mut stack = Stack::stopped(Policy::Strict);
    // Without SIGXFSZ ignored, the kernel would kill whoever writes too much; a shell can ignore it for its children.
    if !program::installed(&["prlimit", "sh"]) {
        return;
    }
    let limit = format!("prlimit --fsize={FILE_BYTES_MAX} -- ");
    let script = format!("trap '' XFSZ; exec {limit}\"$@\"");
    stack.start_under("sh", &["-c", &script, "sh"]);
    let client = Client::user(&stack);
    let session = &client.session;
    let first = session.generate_key(&Mechanism::AesKeyGen, &template("first", true)).expect("a key is made");
    let sealed = session.encrypt(&Mechanism::AesCbcPad([0; 16]), first, b"data").expect("it encrypts");
    // Pairs with a long subject in both halves fill a disk quickly.
    let subject = Attribute::Subject(vec![0x30; 8000]);
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let public = [Attribute::Token(true), Attribute::EcParams(p256), subject.clone()];
    let private = [Attribute::Token(true), subject];
    let mut made = 1;
    let refusal = loop {
        match session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private) {
            Ok(_) => made += 2,
            Err(refusal) => break refusal,
        }
        assert!(made < 1000, "the disk never fills");
    };
    assert!(matches!(refusal, Error::Pkcs11(RvError::DeviceMemory, _)), "{refusal:?}");
    // The old keys are there and work.
    assert_eq!(session.decrypt(&Mechanism::AesCbcPad([0; 16]), first, &sealed).expect("it decrypts"), b"data");
    assert_eq!(session.find_objects(&[]).expect("a search").len(), made);
    assert!(stack.daemon().ended().is_none(), "the daemon lives");
    // Room again: the same daemon goes on.
    let pid = stack.daemon().pid().to_string();
    program::run(std::process::Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"])).ok();
    session.generate_key(&Mechanism::AesKeyGen, &template("after", true)).expect("there is room again");
    assert_eq!(session.find_objects(&[]).expect("a search").len(), made + 1);
    stack.restart();
    assert_eq!(session.find_objects(&[]).expect("a search").len(), made + 1);
}
