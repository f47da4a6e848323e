//! The pure part of the backend: objects, the KMS API's domain, policy, the audit chain, integrity and seals.
//!
//! No I/O, no clock, no randomness: times and random bytes are arguments, and the manifest holds nothing to get them
//! with. Everything here can be tested, mutated and fuzzed without a database, an HSM or a socket.
#![forbid(unsafe_code)]

mod error_chain;

// The public interface is:

/// The KMS API's domain: operations, responses, states, permissions.
pub mod api;
/// What is recorded of each call, and the chain that makes a change of the record visible.
pub mod audit;
/// MACs that bind a row, and a key's material, to its identity.
pub mod integrity;
/// Objects, callers and key bytes: what the crates of the backend pass to each other.
pub mod object;
/// Decisions: who may do what with which object, and what a template becomes.
pub mod policy;
/// Session objects, sealed so that only the backends can open them.
pub mod seal;

pub use error_chain::error_chain;
