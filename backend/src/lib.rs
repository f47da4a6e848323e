//! The daemon that owns the keys, and the operator's command line.
//!
//! A request's way: `server` (a door) → `dispatch`: load (`store`) → decide (`policy`) → act (`keys`, `hsm`, `crypto`)
//! → record → answer. There is no second path to a key.
#![deny(unsafe_code)]

/// What is recorded of each call, and what chains the records. Pure.
pub mod audit;
/// The operator's command line.
pub mod cli;
/// The one typed configuration, checked while it is read.
pub mod config;
/// Bytes and keys in, bytes out. Pure.
pub mod crypto;
/// Load → decide → act → record: where the rooms meet.
pub mod dispatch;
/// What the daemon does by itself, once a minute.
mod duties;
/// Every failure of a request, and what the doors say for it.
pub mod error;
/// The master key's home.
pub mod hsm;
/// What binds a row, and a key's material, to its identity. Pure.
pub mod integrity;
/// Opened keys in memory: bounded, wiped, each opened once for all who wait.
pub mod keys;
/// The words of the key management service: operations, answers, states. Pure.
pub mod kms;
/// What the rooms hand each other: objects, callers, key bytes. Pure.
pub mod object;
/// PINs: stored as argon2id, checked one at a time, slow for who guesses.
pub mod pins;
/// May this be done? Pure.
pub mod policy;
/// The REST door: HTTP in, the dispatcher's answers out.
pub mod rest;
/// Session objects under the backends' seal. Pure.
pub mod seal;
/// The doors.
pub mod server;
/// The backend as its owner handles it: made, opened, served.
pub mod service;
/// The database.
pub mod store;

/// A SoftHSM token for a test of the rooms that need one.
#[cfg(test)]
mod softhsm;
