//! The PKCS#11 module that applications load: it translates calls of the C API into requests to the backend.
//!
//! It runs in the application's process, which forks, unloads libraries and has its own signal handlers and locks. So
//! it has no thread, no async runtime and no exit handler, and prints nothing. It stores sessions, handles and the
//! login, and never sees keys (architecture, D1 to D4).
#![deny(unsafe_code)]

/// The functions of PKCS#11 in safe Rust; one file for each chapter of the specification.
mod calls;
/// Requests to the backend over a pool of connections.
mod client;
/// The configuration file, `pkcs11.toml`.
pub mod config;
/// The C API: exported functions, and reading and writing C memory. `unsafe` is allowed only here.
#[allow(unsafe_code)]
mod ffi;
/// The state of the module between `C_Initialize` and `C_Finalize`.
mod module;
/// Operations with public keys, inside the application.
mod public;
/// The state machines of sessions and operations. Pure: no socket and no clock.
mod session;

#[cfg(any(test, fuzzing))]
pub use ffi::fuzz_support;
