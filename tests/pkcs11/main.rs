//! PKCS #11 through the `cryptoki` crate and the C API, with one module per chapter of the specification; each test has
//! its own KMS. Results are checked by openssl or another library that shares no code with the KMS.
//!
//! One test: `cargo test -p kms-tests --test pkcs11 sign::ecdsa`.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::wildcard_enum_match_arm, reason = "the matched enums are cryptoki's")]

mod accounts;
mod attacks;
mod cipher;
mod create;
mod derive;
mod digest;
mod edwards;
mod general;
mod hash_ml_dsa;
mod keys;
mod login;
mod objects;
mod policy;
mod session;
mod sha3;
mod sign;
mod slot;
mod token;
mod version3;
mod versions;
mod wrap;
