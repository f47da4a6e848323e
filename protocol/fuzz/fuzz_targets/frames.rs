//! Decodes any bytes as each kind of message.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz_support/mod.rs"]
mod fuzz_support;

fuzz_target!(|bytes: &[u8]| fuzz_support::decode_messages(bytes));
