//! A full disk: a clean error, nothing lost, and all goes on when there is room again.

use std::path::PathBuf;
use std::process::Command;

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::Session;
use kms_tests::client::Client;
use kms_tests::{Policy, Stack, program};

use crate::restart::template;

/// Makes pairs with a long subject in both halves, until one is refused: how many objects there are, and the refusal.
fn fill(session: &Session) -> (usize, Error) {
    let subject = Attribute::Subject(vec![0x30; 8000]);
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let public = [Attribute::Token(true), Attribute::EcParams(p256), subject.clone()];
    let private = [Attribute::Token(true), subject];
    for made in 0..1000 {
        if let Err(refusal) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private) {
            return (2 * made, refusal);
        }
    }
    panic!("the disk never fills");
}

/// Fills the disk, checks that the old keys work, makes room, and checks that new ones can be made.
fn check(stack: &mut Stack, known: impl Fn(&Error) -> bool, make_room: impl FnOnce(&mut Stack)) {
    let client = Client::user(stack);
    let session = &client.session;
    let count = || session.find_objects(&[]).expect("a search").len();
    let first = session.generate_key(&Mechanism::AesKeyGen, &template("first", true)).expect("a key is made");
    let sealed = session.encrypt(&Mechanism::AesCbcPad([0; 16]), first, b"data").expect("it encrypts");
    let (made, refusal) = fill(session);
    assert!(known(&refusal), "{refusal:?}");
    assert!(made > 4, "{made} objects before the disk was full");
    assert_eq!(
        session.decrypt(&Mechanism::AesCbcPad([0; 16]), first, &sealed).expect("it decrypts"),
        b"data"
    );
    assert_eq!(count(), made + 1, "what was refused is not there, what was made is");
    assert!(stack.daemon().ended().is_none(), "the daemon lives");
    make_room(stack);
    session.generate_key(&Mechanism::AesKeyGen, &template("after", true)).expect("there is room again");
    assert_eq!(count(), made + 2);
    stack.restart();
    assert_eq!(count(), made + 2);
    assert_eq!(
        session.decrypt(&Mechanism::AesCbcPad([0; 16]), first, &sealed).expect("it decrypts"),
        b"data"
    );
}

/// A small file system mounted over a stack's home; unmounted when dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn under(stack: &Stack, size: &str) -> Self {
        let (at, aside) = (stack.home(), stack.folder().join("aside"));
        std::fs::rename(&at, &aside).expect("the home can be moved");
        std::fs::create_dir(&at).expect("a folder can be made");
        let options = format!("size={size},mode=700");
        program::run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "kms-test"]).arg(&at)).ok();
        let disk = Self { at };
        program::run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&disk.at)).ok();
        disk
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        program::run(Command::new("mount").args(["-o", &options]).arg(&self.at)).ok();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.at).status().map(drop).unwrap_or_default();
    }
}

#[test]
fn a_full_disk_refuses_new_keys_and_keeps_the_old() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may mount a small disk");
        return;
    }
    let mut stack = Stack::stopped(Policy::Strict);
    let disk = SmallDisk::under(&stack, "1500k");
    stack.start();
    let full = |refusal: &Error| matches!(refusal, Error::Pkcs11(RvError::DeviceMemory, _));
    check(&mut stack, full, |_| disk.grow("16m"));
    // Unmounted before the stack's folder is removed.
    stack.stop();
}

#[test]
fn a_disk_that_fails_to_write_loses_nothing() {
    if !program::installed(&["prlimit", "sh"]) {
        return;
    }
    let mut stack = Stack::stopped(Policy::Strict);
    // Files may be no larger than this. The signal must be ignored, or the kernel would kill whoever writes too much;
    // a shell can ignore it for what it starts.
    let script = "trap '' XFSZ; exec prlimit --fsize=614400:unlimited -- \"$@\"";
    stack.start_under("sh", &["-c", script, "sh"]);
    let failed =
        |refusal: &Error| matches!(refusal, Error::Pkcs11(RvError::DeviceMemory | RvError::DeviceError, _));
    check(&mut stack, failed, |stack| {
        let pid = stack.daemon().pid().to_string();
        program::run(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"])).ok();
    });
}
