//! The pure part of the backend: objects, the KMS API's domain, policy, the audit chain, integrity and seals.
//!
//! No I/O, no clock, no randomness: times and random bytes are arguments, and no dependency provides them. Everything
//! here can be tested, mutated and fuzzed without a database, an HSM or a socket.
#![forbid(unsafe_code)]

mod error_chain;

// The public interface is:

/// The KMS API's domain: operations, requests, responses, states, permissions.
pub mod api;
/// Audit entries, the audit chain that makes changes to the log detectable, and counters of uses.
pub mod audit;
/// MACs that bind a row, and a key's material, to its identity.
pub mod integrity;
/// Objects, key material, key specifications and callers: the types that the backend's crates pass to each other.
pub mod object;
/// Policy: what a caller may do with an object, and the attributes that a template gives an object.
pub mod policy;
/// Seals: session objects, encrypted so that only the backend can open them.
pub mod seal;
/// The state digest: that the rows of the database are those that were written.
pub mod state_digest;

pub use error_chain::error_chain;
