//! Assertions and tokens (JWT), with valid signatures and without.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kms_crypto::fuzz_support::tokens(bytes));
