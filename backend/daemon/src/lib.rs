//! The daemon that owns the keys, and the operator's command line.
//!
//! The path of a request: `server` or `rest` (listeners) → `dispatch`: load (`kms_store`), decide
//! (`kms_core::policy`), act (`keys`, `kms_hsm`, `kms_crypto`), record → response. There is no second path to a key.
#![deny(unsafe_code)]

/// The operator's command line.
pub mod cli;
/// The typed configuration, checked while it is read.
pub mod config;
/// Load, decide, act, record: where the crates meet.
pub mod dispatch;
/// Every failure of a request, and the return code it maps to.
pub mod error;
/// Opened keys in memory: bounded, wiped, each opened once for all callers that wait for it.
pub mod keys;
/// PINs: stored as argon2id hashes, checked one at a time, delayed after failures.
pub mod pins;
/// The REST API: HTTP requests in, the dispatcher's responses out.
pub mod rest;
/// Background jobs, once a minute.
mod scheduler;
/// The listener for providers on a Unix socket.
pub mod server;
/// The backend as a whole: created, opened, served.
pub mod service;

/// A home with a SoftHSM token, for unit tests.
#[cfg(test)]
mod test_home;
