//! What the suites stand on: a whole KMS per test, and hands to reach for it from outside.
//!
//! [`Stack`] is a home, a daemon and a module of one test's own; [`raw`] speaks C to a module, [`client`] speaks to it
//! through the `cryptoki` crate; [`child`] gives a test a process of its own; [`program`] runs real clients.
//! Nothing here knows the insides of provider or backend: only their artefacts and the words of `protocol`.
#![allow(clippy::macro_metavars_in_unsafe, reason = "`call!` takes pointers and numbers, made in safe code")]

/// The artefacts under test, built once.
pub mod artefacts;
/// A test in a process of its own.
pub mod child;
/// A module as the `cryptoki` crate sees it.
pub mod client;
/// The daemon as a process: started, killed, paused.
pub mod daemon;
/// Public keys and signatures, checked by the openssl program.
pub mod openssl;
/// Programs run with a deadline, and which of them are installed.
pub mod program;
/// A Python of the tests' own.
pub mod python;
/// A module as C sees it. The only unsafe code of this library.
#[allow(unsafe_code)]
pub mod raw;
/// The REST door as its clients see it.
pub mod rest;
mod stack;

pub use stack::{Policy, SO_PIN, Stack, USER_PIN, init};
