//! Common code of the test suites: a complete KMS for each test, and clients that use it from outside.
//!
//! [`Stack`] is a home with a daemon and a copy of the module, for one test. [`raw`] calls a module through the C API,
//! [`client`] through the `cryptoki` crate, [`frames`] sends frames without a module; [`rest`] is an HTTP client; [`child`] runs a test in its own process;
//! [`program`] runs other programs. Nothing here uses the internals of provider or backend: only their artefacts and
//! the types of `protocol`.
#![allow(
    clippy::macro_metavars_in_unsafe,
    reason = "`call!` takes pointers and numbers that safe code creates"
)]

/// Builds and locates the artefacts under test.
pub mod artefacts;
/// Runs a test in a child process.
pub mod child;
/// A client that uses a module through the `cryptoki` crate.
pub mod client;
/// The daemon as a child process: start, kill, pause.
pub mod daemon;
/// Reference results by the openssl program: signatures, ciphertexts, digests, MACs.
pub mod openssl;
/// A provider that speaks the protocol's frames as any user of the operating system.
pub mod peer;
/// Runs programs with a timeout, and finds out which are installed.
pub mod program;
/// The Python environment of the tests.
pub mod python;
/// Calls a module through the C API. The only unsafe code of this library.
#[allow(unsafe_code)]
pub mod raw;
/// A client of the REST API.
pub mod rest;
mod set_on_drop;
/// A small file system over a home.
pub mod small_disk;
mod stack;

pub use set_on_drop::SetOnDrop;
pub use stack::{Policy, SO_PIN, Stack, USER_PIN, init};
