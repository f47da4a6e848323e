//! C memory made of any bytes, read as parameters of messages.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kms_pkcs11::fuzz_support::messages(bytes));
