//! The C ABI as host programs use and misuse it: function lists and symbols, wrong pointers and lengths, calls out of
//! order, fork, threads, unloading. No call may crash, hang or abort; each returns the code that the specification
//! names. Runs against the module and a daemon for each test, mostly in a child process.
//!
//! One test: `cargo test -p kms-tests --test abi misuse::null_pointers`.
#![allow(unsafe_code, reason = "this suite calls the C API")]
#![allow(missing_docs, reason = "tests")]

mod context_login;
mod fork;
mod initialise;
mod lists;
mod misuse;
mod output;
mod threads;
mod unload;
