//! The PKCS#11 module applications load: C ABI in, requests to the backend out.
//!
//! It lives in somebody else's process, which forks, unloads libraries and has signal handlers and locks of its own.
//! So it has no thread, no async runtime, no exit handler, and prints nothing. It keeps sessions, handles and the
//! login; keys it never sees (architecture, D1 to D4).
#![deny(unsafe_code)]

/// What each function means, in safe Rust; one file per chapter of the specification.
mod calls;
/// One request, one response.
mod client;
/// Where the backend is.
pub mod config;
/// A signature scheme that is put together here from a library's parts.
/// C memory in, C memory out. `unsafe` is allowed only here.
#[allow(unsafe_code)]
mod ffi;
/// One generation of the module, from `C_Initialize` to `C_Finalize`.
mod module;
/// What public keys do, inside the application.
mod public;
/// Sessions and operations. Pure: knows no socket and no clock.
mod session;

#[cfg(any(test, fuzzing))]
pub use ffi::fuzz_support;
