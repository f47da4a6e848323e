//! The daemon that owns the keys, and the operator's command line.
//!
//! A request's way: `server` (a door) → `dispatch`: load (`store`) → decide (`policy`) → act (`keys`, `hsm`, `crypto`)
//! → record → answer. There is no second path to a key.
#![deny(unsafe_code)]

/// What the rooms hand each other: objects, callers, key bytes. Pure.
pub mod object;
