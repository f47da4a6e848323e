//! Every `C_` function once: its C signature, whether it is supported, and what it does; one file for each group of
//! chapters of the specification. These rows become the exports and `provider/SUPPORT.md` (`rows.rs`).
#![allow(non_snake_case, reason = "the names are the specification's")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one block for each row; the SAFETY comment in rows.rs says why"
)]

/// Encryption, decryption, digests, dual-function operations and random numbers.
mod encryption_and_digests;
/// The function lists of PKCS#11 2.40, 3.0 and 3.2.
mod lists;
/// Message-based encryption, decryption, signatures and verification.
mod messages;
/// Object management and key management.
mod objects_and_keys;
/// Signatures and MACs, and their verification.
mod signatures;
/// General-purpose functions, slots, tokens and sessions.
mod slots_and_sessions;

use kms_protocol::Rv;

use crate::module::Module;

#[cfg(test)]
pub(crate) use lists::ADDED;
pub(crate) use lists::{LIST_2_40, LIST_3_0, LIST_3_2};
#[cfg(test)]
pub(crate) use signatures::C_Sign;

/// The rows of all files.
#[cfg(test)]
pub(crate) const SUPPORT: [&[(&str, &str, &str)]; 5] = [
    slots_and_sessions::SUPPORT,
    objects_and_keys::SUPPORT,
    encryption_and_digests::SUPPORT,
    signatures::SUPPORT,
    messages::SUPPORT,
];

/// The body of unsupported functions; the notes of their rows say why.
fn unsupported(_: &Module) -> Result<(), Rv> {
    Err(Rv::FUNCTION_NOT_SUPPORTED)
}
