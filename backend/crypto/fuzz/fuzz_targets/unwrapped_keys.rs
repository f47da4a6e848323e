//! Keys that are unwrapped, in PKCS #8.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kms_crypto::fuzz_support::unwrapped_keys(bytes));
