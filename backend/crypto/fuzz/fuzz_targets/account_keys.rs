//! Public keys of accounts, in PEM and DER.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kms_crypto::fuzz_support::account_keys(bytes));
