//! Loaded and unloaded a thousand times: no descriptor, no memory and no thread stays behind.

use std::fs;
use std::path::Path;

use cryptoki_sys::{
    CKA_ENCRYPT, CKA_LABEL, CKA_TOKEN, CKA_VALUE_LEN, CKM_AES_CBC_PAD, CKM_AES_KEY_GEN, CKM_SHA256,
};
use kms_tests::Policy;
use kms_tests::child::isolated;
use kms_tests::raw::{Mechanism, Module, Room, Template};

/// Cycles: what the issue promises.
const CYCLES: u32 = 1000;

/// After so many, every cache, arena and lazily made table is as large as it gets.
const WARM: u32 = 200;

/// What the resident memory may have grown by after the warm-up. A leak of one 4 KiB page per cycle is 3.1 MiB.
const GROWTH_KIB_MAX: u64 = 1024;

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line =
        status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel tells the resident memory");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of KiB")
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).expect("the kernel tells").count()
}

fn cycle(path: &Path) {
    let module = Module::load(path);
    module.initialize_bare().expect("it initialises");
    {
        let session = module.user("test");
        let found = session.find(Template::new().bytes(CKA_LABEL, b"kept")).expect("a search");
        session
            .encrypt(Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]), found[0], b"a thousand times")
            .expect("sealed");
        session.digest_init(Mechanism::plain(CKM_SHA256)).expect("an operation that is never ended");
        session.encrypt_init(Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]), found[0]).expect("and another");
        session.encrypt_update(b"left behind", Room::Bytes(64)).expect("with data");
    }
    module.finalize().expect("it finalises");
    module.unload();
}

#[test]
fn a_thousand_lives_leave_nothing_behind() {
    isolated(Policy::Strict, |target| {
        let module = Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let template =
            Template::new().bool(CKA_TOKEN, true).ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, b"kept");
        let template = template.bool(CKA_ENCRYPT, true);
        module.user("test").generate(Mechanism::plain(CKM_AES_KEY_GEN), template).expect("a key is made");
        module.finalize().expect("it finalises");
        module.unload();
        for _ in 0..WARM {
            cycle(&target.module);
        }
        let before = (count("/proc/self/fd"), count("/proc/self/task"));
        let memory = resident_kib();
        for _ in WARM..CYCLES {
            cycle(&target.module);
        }
        assert_eq!((count("/proc/self/fd"), count("/proc/self/task")), before, "descriptors and threads");
        let grown = resident_kib().saturating_sub(memory);
        assert!(grown <= GROWTH_KIB_MAX, "{grown} KiB more after {} cycles", CYCLES - WARM);
    });
}

#[test]
fn no_thread_is_ever_made() {
    isolated(Policy::Strict, |target| {
        let before = count("/proc/self/task");
        let module = Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let session = module.user("test");
        session.find(Template::new()).expect("a search");
        assert_eq!(count("/proc/self/task"), before);
    });
}

#[test]
fn ended_without_finalising() {
    isolated(Policy::Strict, |target| {
        let module = Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        module.user("test").digest_init(Mechanism::plain(CKM_SHA256)).expect("an operation begins");
        // The test process now ends as it is: no atexit handler, no destructor may trip over it.
    });
}
