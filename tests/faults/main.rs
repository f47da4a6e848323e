//! What goes wrong around the KMS: a backend killed, absent or stuck; homes, configurations, databases and tokens that
//! are not what they should be; a full disk; a peer that talks nonsense.
#![allow(missing_docs, reason = "tests")]

mod absent;
mod disk;
mod homes;
mod peer;
mod restart;
mod rows;
