//! Keys that are created from their parts.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kms_crypto::fuzz_support::created_keys(bytes));
