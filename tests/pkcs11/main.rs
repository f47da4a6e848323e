//! PKCS #11 through the `cryptoki` crate, a module per chapter of the specification, each test with a KMS of its own.
//! What comes out is checked by openssl or another library than the one that made it.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::wildcard_enum_match_arm, reason = "the enums matched on here are cryptoki's")]

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
