//! C memory ⇄ Rust values: the only unsafe code in the project, and the page that says why it is sound.
//!
//! # What C promises us
//!
//! A pointer that is not null points at memory of the type and length that the function's signature says, readable
//! or writable until the call returns, and no other thread writes to it meanwhile. That cannot be checked. Everything
//! else is: null, lengths beyond any object, lengths that do not fit the type. Alignment is not assumed: hosts pack
//! their structures, so every read and write of a caller's value is unaligned.
//!
//! # What we promise C
//!
//! - No panic leaves a function (`boundary`), and `errno` is what it was.
//! - Input and output of one call may be the same memory. A `&[u8]` of the input lives only while the call computes
//!   (`input`); the output is copied by raw pointer after that (`output`). There is never a `&mut` on caller memory.
//! - Nothing is written beyond the length the caller gave, and no length is written before it was read.
//! - The function lists and interfaces are immutable statics that stay mapped (`-z nodelete`).
//! - A forked child touches no lock, socket or allocation that its parent had in use (`generation`).

/// What each call passes: initialised, forked, panicked, logged.
mod boundary;
/// The parameters of key derivations.
mod derivation;
/// What the process says: environment, `errno`.
mod environment;
/// What a row of the function table becomes.
#[macro_use]
mod rows;
/// What a fuzzer does with all of this.
#[cfg(any(test, fuzzing))]
pub mod fuzz_support;
/// Slot, token and mechanism information as C structures.
mod info;
/// Pointers to slices, templates, arguments.
mod input;
/// SlotFilter generation of the module this process has.
mod instance;
/// The function lists and interfaces.
mod interface;
/// `CK_MECHANISM` with its parameters.
mod mechanism;
/// The parameters of one message.
mod message;
/// Replies to the caller's memory, after the call is over.
mod output;
/// The page on what is supported.
#[cfg(test)]
mod support;
/// Every function once: exports and lists.
mod table;
