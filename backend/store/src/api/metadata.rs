//! Metadata of rings and keys that only the REST API has.

use kms_core::api::{AccessScope, Algorithm, WrappingAlgorithm, WrappingPurpose};
use uuid::Uuid;

/// Metadata of a ring. A ring that was created over PKCS#11 or by a command may have none of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RingMetadata {
    /// Its project.
    pub project: Uuid,
    /// Its name in the API; if `None`, one is derived from its label.
    pub display_name: Option<String>,
    /// Its description.
    pub description: Option<String>,
}

/// Metadata of a key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyMetadata {
    /// Its algorithm in the API; `None` if the API has no name for it, and for wrapping keys.
    pub algorithm: Option<Algorithm>,
    /// Its algorithm and purpose, if it is a wrapping key.
    pub wrapping: Option<(WrappingAlgorithm, WrappingPurpose)>,
    /// Its name in the API.
    pub display_name: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Whether all its versions must be imported.
    pub import_only: bool,
    /// The networks from which it may be used.
    pub access_scope: AccessScope,
    /// When a wrapping key expires, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// When it will be erased, in seconds since 1970. Until then, no version can be used.
    pub deletion_at: Option<u64>,
    /// The period of its automatic rotation, in days.
    pub rotation_days: Option<u32>,
    /// The time of its next automatic rotation, in seconds since 1970.
    pub rotate_at: Option<u64>,
    /// Its tags, as JSON.
    pub tags: Option<String>,
}
