//! What the service's API knows of rings and keys, beyond what PKCS #11 asks.

use kms_core::api::{AccessScope, Algorithm, WrappingAlgorithm, WrappingPurpose};
use uuid::Uuid;

/// What the API knows of a ring. One that was made over PKCS #11 or by a command may lack all of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RingMetadata {
    /// Its project; the first one without.
    pub project: Option<Uuid>,
    /// Its name in the API; one near its label without.
    pub display_name: Option<String>,
    /// Its description.
    pub description: Option<String>,
}

/// What the API knows of a key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyMetadata {
    /// What it is in the API; none for a shape the API has no name for, and for wrapping keys.
    pub algorithm: Option<Algorithm>,
    /// How and what it wraps, if it is a wrapping key.
    pub wrapping: Option<(WrappingAlgorithm, WrappingPurpose)>,
    /// Its name in the API.
    pub display_name: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Whether its versions come from outside alone.
    pub import_only: bool,
    /// From where it may be used.
    pub access_scope: AccessScope,
    /// From when a wrapping key can no longer be used, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// When it will be deleted for good, in seconds since 1970. No version can be used until then.
    pub deletion_at: Option<u64>,
    /// How often it is rotated by itself.
    pub rotation_days: Option<u32>,
    /// When that is next, in seconds since 1970.
    pub rotate_at: Option<u64>,
    /// Its tags, as JSON.
    pub tags: Option<String>,
}
