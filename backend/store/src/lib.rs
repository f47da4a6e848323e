//! The database: SQLite, durable before a write returns, each row bound to its identity by a MAC.
//!
//! One thread writes, a few connections read, and rows in use are cached: a signature needs its ring, principal and
//! object, and none of them costs a read of the disk. Only the list of rings is loaded as a whole. The crate stores
//! wrapped key material and cannot unwrap it.
//!
//! | modules | content |
//! |---|---|
//! | `store`, `open`, `error` | [`Store`]; creating, opening and migrating the file (`schema/`); the errors |
//! | `writer`, `readers`, `cache` | the write thread with group commit, the pool of read connections, the row cache |
//! | `records`, `rows`, `object_rows`, `key_rows`, `version_rows` | the values callers exchange; their rows and MACs |
//! | `rings`, `principals`, `keys`, `objects`, `iv_blocks` | operations of the PKCS#11 API and of the commands |
//! | `find`, `change`, `rotation` | the queries behind them, and the writes inside the writer's transaction |
//! | `api` | operations of the REST API: projects, rings, the lifecycle of keys, purging, idempotency keys |
//! | `login_failures`, `used_proofs` | wrong PINs, counted across restarts; proofs of context-specific logins, each good once |
//! | `accounts` | service accounts with their grants, tokens and public keys |
//! | `audit`, `usage` | the audit log; the hours that are billed |
//! | `unlock`, `trust`, `guard` | what is done once the row key is there; whether the rows may still be believed |
//! | `write`, `state`, `schema`, `spans` | every change of a row, with its count; the state digest; the pinned schema; spans of usage |
//! | `backup`, `check`, `restore`, `snapshot`, `log_once` | copies, their verification and what a restore renews in them, exports, the log of unreadable rows |

mod accounts;
mod api;
mod audit;
mod backup;
mod cache;
mod capacity;
mod change;
mod check;
mod error;
mod find;
mod guard;
mod iv_blocks;
mod key_rows;
mod keys;
mod log_once;
mod login_failures;
mod object_rows;
mod objects;
mod open;
mod principals;
mod readers;
mod records;
mod restore;
mod rings;
mod rotation;
mod rows;
mod schema;
mod snapshot;
mod spans;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod trust;
mod unlock;
mod usage;
mod used_proofs;
mod version_rows;
mod write;
mod writer;

// The public interface is:

/// The fuzz target and the replay of its corpus.
#[cfg(any(test, fuzzing))]
pub mod fuzz_support;
pub use accounts::{
    AccountGrant, AccountKey, AccountWithGrants, Assertion, AssertionExchange, KeyAlgorithm, RefreshExchange,
    RefreshFamily, RefreshUse, ServiceAccount, Token,
};
pub use api::{
    ApiResult, DueRotation, IdempotencyKey, KeyMetadata, KeyRecord, Project, Purged, RingMetadata,
    VersionRecord,
};
pub use audit::{AuditCursor, AuditFilter};
pub use backup::{beside, settle, sync_folder};
pub use capacity::{DiskSpace, RingLimits, StoreLimits};
pub use check::CheckReport;
pub use error::StoreError;
pub use guard::Guard;
pub use login_failures::{LoginFailures, LoginTrack};
pub use objects::{Found, Search};
pub use open::LockedStore;
pub use records::{KeptLogin, KeySummary, NewKey, NewObject, NewRing, NextVersion, PinKind, Principal, Ring};
pub use restore::{HighWaterMarks, Renewal, Restores};
pub use snapshot::Snapshot;
pub use store::Store;
pub use usage::{HourUsage, USAGE_HOURS_MAX, UsageScope};
