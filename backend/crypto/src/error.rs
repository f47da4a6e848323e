//! The error of key generation and of opening keys.

use kms_core::object::EdwardsMontgomery;
use kms_protocol::{KeyType, ObjectClass};

/// Why a key cannot be generated, opened or exported. The error is internal: it is logged, and callers do not see it.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// Keys of this class and type are not supported. Policy and store reject them earlier.
    #[error("keys of class {0} and type {1} are not supported")]
    Unsupported(ObjectClass, KeyType),
    /// The material is not that of a key of its object's type.
    #[error("the material is not that of a key of type {0}")]
    Material(KeyType),
    /// The key is on a curve that this build leaves out.
    #[error(
        "the key is on {0:?}, a curve whose library is a pre-release: this build has no such keys; install a `kms` (and \
         libkms_pkcs11.so) that is built with `--features pre-release-curves`"
    )]
    PreReleaseCurve(EdwardsMontgomery),
    /// The library could not generate a key.
    #[error("a key of type {0} could not be generated")]
    Generation(KeyType),
    /// The permit is for another operation.
    #[error("the permit is for another operation")]
    Permit,
}
