//! C memory ⇄ Rust values: the only unsafe code in the project. This page says why it is sound.
//!
//! # What the caller promises
//!
//! A pointer that is not null points at memory of the type and length that the function's signature says, readable
//! or writable until the call returns, and no other thread writes to it meanwhile. That cannot be checked. The rest is
//! checked: null pointers, lengths beyond any object, lengths that do not fit the type. Alignment is not assumed: hosts
//! pack their structures, so every read and write of a caller's value is unaligned.
//!
//! # What we promise the caller
//!
//! - No panic leaves a function (`boundary`), and `errno` is what it was before the call.
//! - Input and output of one call may be the same memory. A `&[u8]` of the input lives only while the call computes
//!   (`input`); the output is copied by raw pointer after that (`output`). There is never a `&mut` on caller memory.
//! - Nothing is written beyond the length that the caller passed, and no length is written before it was read.
//! - The function lists and interfaces are immutable statics that stay mapped (`-z nodelete`).
//! - A forked child touches no lock, socket or allocation that its parent had in use (`instance`).

/// The boundary that every call passes: panics, `errno`, the log.
mod boundary;
/// The parameters of key derivation mechanisms.
mod derivation;
/// Environment variables and `errno`.
mod environment;
/// The macros of the function table.
#[macro_use]
mod rows;
/// The fuzz targets and the replay of their corpus.
#[cfg(any(test, fuzzing))]
pub mod fuzz_support;
/// Slot, token and mechanism information as C structures.
mod info;
/// Reads C memory: slices, templates, arguments.
mod input;
/// The process's instance of the module, and fork detection.
mod instance;
/// The interfaces of `C_GetInterface`.
mod interface;
/// `CK_MECHANISM` with its parameters.
mod mechanism;
/// The parameter of one message.
mod message_parameter;
/// Writes replies to C memory after the call has computed them.
mod output;
/// Generates `provider/SUPPORT.md`.
#[cfg(test)]
mod support;
/// Every `C_` function once, and the function lists.
mod table;
