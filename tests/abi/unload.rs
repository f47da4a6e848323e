//! Loading and unloading the module a thousand times leaks no descriptor, memory or thread.

use std::fs;
use std::path::Path;

use cryptoki_sys::{
    CKA_ENCRYPT, CKA_LABEL, CKA_TOKEN, CKA_VALUE_LEN, CKM_AES_CBC_PAD, CKM_AES_KEY_GEN, CKM_SHA256,
};
use kms_tests::Policy;
use kms_tests::child::isolated;
use kms_tests::raw::{Mechanism, Module, OutputSize, Template};

/// The number of cycles that the requirement names.
const CYCLES: u32 = 1000;

/// The number of warm-up cycles, after which every cache, arena and lazily built table has its final size.
const WARM: u32 = 200;

/// How much the resident memory may grow after the warm-up. A leak of one 4 KiB page per cycle is 3.1 MiB.
const GROWTH_KIB_MAX: u64 = 1024;

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc can be read");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the status has VmRSS");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number of KiB")
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).expect("/proc can be read").count()
}

fn cycle(path: &Path) {
    let module = Module::load(path);
    module.initialize_bare().expect("it initialises");
    {
        let session = module.user("test");
        let found = session.find(Template::new().bytes(CKA_LABEL, b"kept")).expect("a search");
        session
            .encrypt(Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]), found[0], b"a thousand times")
            .expect("it encrypts");
        session.digest_init(Mechanism::plain(CKM_SHA256)).expect("an operation begins and does not end");
        session
            .encrypt_init(Mechanism::with(CKM_AES_CBC_PAD, &[0; 16]), found[0])
            .expect("a second operation begins");
        session.encrypt_update(b"left behind", OutputSize::Bytes(64)).expect("it has data");
    }
    module.finalize().expect("it finalises");
    module.unload();
}

#[test]
fn a_thousand_load_cycles_leak_nothing() {
    isolated(Policy::Strict, |target| {
        let module = Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        let template =
            Template::new().bool(CKA_TOKEN, true).ulong(CKA_VALUE_LEN, 32).bytes(CKA_LABEL, b"kept");
        let template = template.bool(CKA_ENCRYPT, true);
        module
            .user("test")
            .generate(Mechanism::plain(CKM_AES_KEY_GEN), template)
            .expect("the key is generated");
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
fn no_thread_is_created() {
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
fn process_exit_without_finalising() {
    isolated(Policy::Strict, |target| {
        let module = Module::load(&target.module);
        module.initialize_bare().expect("it initialises");
        module.user("test").digest_init(Mechanism::plain(CKM_SHA256)).expect("an operation begins");
        // The test process exits now; atexit handlers and destructors must not crash.
    });
}
