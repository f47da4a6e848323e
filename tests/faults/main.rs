//! Faults around the KMS: a backend that is killed, absent or suspended; broken homes, configurations, databases and
//! tokens; a full disk; a peer that violates the protocol. Runs against the module and a daemon for each test.
//!
//! One test: `cargo test -p kms-tests --test faults rows::changed_state`.
#![allow(missing_docs, reason = "tests")]

mod absent;
mod connections;
mod context_login;
mod disk;
mod guesses;
mod homes;
mod hostile;
mod limits;
mod memory;
mod peer;
mod process;
mod restart;
mod rows;
mod seals;
mod server_user;
