//! The C ABI as hosts use and misuse it: lists and symbols, wrong pointers and lengths, wrong order, fork, threads,
//! unloading. Nothing of it may crash, hang or abort; each gets the code that the specification names.
#![allow(unsafe_code, reason = "this suite speaks C")]
#![allow(missing_docs, reason = "tests")]

mod fork;
mod initialise;
mod lists;
mod misuse;
mod output;
mod threads;
mod unload;
