//! Whether the rows may still be believed. Once it is found that somebody else changed the database in a way that no row
//! shows, nothing is read or written any more until the process starts again, and the operator has decided.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;

/// What was found, if anything was.
#[derive(Debug, Default)]
pub(super) struct Trust {
    ended: OnceLock<String>,
    /// How often another process was seen to have written.
    foreign_writes: AtomicU64,
    /// The number of the last audit entry that this process has written or seen.
    sequence: AtomicU64,
}

impl Trust {
    /// Fails once something was found.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.ended.get().map_or(Ok(()), |what| Err(StoreError::Tampered(what.clone())))
    }

    /// Ends the trust. The first reason stays.
    pub(super) fn end(&self, what: String) {
        if self.ended.set(what.clone()).is_ok() {
            tracing::error!(
                "the database was changed from outside, and nothing is answered any more: {what}. Stop the daemon, keep a \
                 copy of the database, and see `kms audit verify`"
            );
        }
    }

    /// Counts that another process has written.
    pub(super) fn count_foreign_write(&self) {
        self.foreign_writes.fetch_add(1, Ordering::SeqCst);
    }

    /// How often another process was seen to have written.
    pub(super) fn foreign_writes(&self) -> u64 {
        self.foreign_writes.load(Ordering::SeqCst)
    }

    /// Notes the number of the last audit entry, once it is durable.
    pub(super) fn note_sequence(&self, sequence: u64) {
        self.sequence.fetch_max(sequence, Ordering::SeqCst);
    }

    /// The highest number that was noted. A database that ends before it is an older one.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::SeqCst)
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }
}
