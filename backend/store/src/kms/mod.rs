//! What the service's API knows: projects, and rings, keys and versions as it sees them.

mod facts;
mod known;
mod life;
mod projects;
mod purge;
mod repeats;
mod rings;

pub use facts::{KeyFacts, RingFacts};
pub use known::{KnownKey, KnownVersion};
pub use projects::Project;
pub use purge::{Due, Purged};
pub use repeats::Repeat;

pub(super) use known::all_keys;
pub(super) use projects::projects;

/// What a job answers when it has looked and will not: nothing is written, and the caller is told why.
pub type Judged<T> = Result<Result<T, kms_core::api::Refusal>, super::StoreError>;
