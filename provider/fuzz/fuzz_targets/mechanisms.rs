//! Reads mechanisms with their parameters from C memory that is built from any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kms_pkcs11::fuzz_support::mechanisms(bytes));
