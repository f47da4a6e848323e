//! Operations of the REST API: projects, rings, keys, versions.

mod access_scope;
mod idempotency;
mod lifecycle;
mod metadata;
pub(crate) mod projects;
mod purge;
mod queries;
mod rings;

pub use idempotency::IdempotencyKey;
pub use metadata::{KeyMetadata, RingMetadata};
pub use projects::Project;
pub use purge::{DueRotation, Purged};
pub use queries::{KeyRecord, VersionRecord};

pub(super) use queries::all_keys;

/// The result of a job that may reject the request: then it writes nothing and returns the problem.
pub type ApiResult<T> = Result<Result<T, kms_core::api::Problem>, super::StoreError>;
