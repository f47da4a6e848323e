//! What the service's API knows: projects, and rings, keys and versions as it sees them.

mod idempotency;
mod lifecycle;
mod metadata;
mod projects;
mod purge;
mod queries;
mod rings;

pub use idempotency::IdempotencyKey;
pub use metadata::{KeyMetadata, RingMetadata};
pub use projects::Project;
pub use purge::{DueRotation, Purged};
pub use queries::{KeyRecord, VersionRecord};

pub(super) use projects::projects;
pub(super) use queries::all_keys;

/// What a job answers when it has looked and will not: nothing is written, and the caller is told why.
pub type Decided<T> = Result<Result<T, kms_core::api::Problem>, super::StoreError>;
