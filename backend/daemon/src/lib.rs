//! The daemon that owns the keys, and the operator's command line.
//!
//! The path of a request: `server` or `rest` (listeners) → `dispatch`: load (`kms_store`), decide
//! (`kms_core::policy`), act (`keys`, `kms_hsm`, `kms_crypto`), record → response. There is no second path to a key.
#![deny(unsafe_code)]

/// Shares of what tenants have in common: connections, processors, memory, calls.
mod fairness;
/// Background jobs, once a minute.
mod scheduler;
/// A home with a SoftHSM token, for unit tests.
#[cfg(test)]
mod test_home;

// The public interface is:

/// The operator's command line.
pub mod cli;
/// The configuration: typed, and validated when it is read.
pub mod config;
/// Load, decide, act, record: the one path to a key.
pub mod dispatch;
/// Every failure of a request, and the return code it maps to.
pub mod error;
/// The cache of opened keys: bounded, wiped on eviction, each key opened once for all callers that wait for it.
pub mod keys;
/// PINs: stored as argon2id hashes, checked one at a time, delayed after failures.
pub mod pins;
/// The REST API: HTTP requests in, the dispatcher's responses out.
pub mod rest;
/// The listeners for providers and for the REST API, signals, and graceful shutdown.
pub mod server;
/// The backend as a whole: creation, opening, serving.
pub mod service;
