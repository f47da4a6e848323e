//! Backups that were edited: checked, and opened as a restore does.
#![no_main]

use std::sync::LazyLock;

use kms_store::fuzz_support::Backups;
use libfuzzer_sys::fuzz_target;

static BACKUPS: LazyLock<Backups> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("kms-fuzz-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    Backups::create(&folder)
});

fuzz_target!(|bytes: &[u8]| BACKUPS.check(bytes));
