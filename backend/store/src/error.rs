//! Errors of the database, with messages that tell an operator what to do next.

use std::io;
use std::path::PathBuf;

use rusqlite::ffi;
use rusqlite::{Error as Sql, ErrorCode};

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The requested row does not exist.
    #[error("it is not in the database")]
    NotFound,
    /// A row whose MAC is not one of this home, or which cannot be read.
    #[error(
        "key_material_invalid: row {id} of table {table} was not written by this KMS, or was changed since"
    )]
    RowInvalid {
        /// The table.
        table: &'static str,
        /// The row.
        id: String,
    },
    /// No space on the disk.
    #[error("the disk is full; free some space, nothing has been lost")]
    Full(#[source] Sql),
    /// The database's file is corrupt.
    #[error("the database is damaged; stop the daemon and restore it from a backup")]
    Damaged(#[source] Sql),
    /// Another process has locked the database.
    #[error("another process keeps the database locked")]
    Busy(#[source] Sql),
    /// SQLite failed otherwise.
    #[error("the database failed")]
    Sql(#[source] Sql),
    /// The database does not exist.
    #[error("the database {} does not exist; check [store] path in kms.toml", .0.display())]
    Missing(PathBuf),
    /// The file exists already.
    #[error("the database {} exists already and is left unchanged", .0.display())]
    Exists(PathBuf),
    /// The file is not an SQLite database.
    #[error("{} is not a database; check [store] path in kms.toml, or restore it from a backup", .0.display())]
    NotADatabase(PathBuf),
    /// The file is another program's database.
    #[error("{} is another program's database; check [store] path in kms.toml", .0.display())]
    Foreign(PathBuf),
    /// The database was written by a newer version of `kms`.
    #[error("{} was written by a newer version of kms (schema {found}, this one knows {known}); update kms", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The newest schema version that this program supports.
        known: u32,
    },
    /// The operating system failed.
    #[error("cannot open the database {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The name is taken.
    #[error("{0} exists already")]
    NameInUse(String),
    /// The maximum number of rings is reached.
    #[error("there are {0} rings already, which is the maximum")]
    TooManyRings(usize),
    /// The maximum number of something is reached.
    #[error("there are {most} {what} already, which is the maximum")]
    TooMany {
        /// The name of what is counted.
        what: &'static str,
        /// The maximum.
        most: u64,
    },
    /// The schema is not the one that the migrations make.
    #[error(
        "the database's {object} {what}: kms did not make its schema so. Keep a copy for the investigation, and restore a \
         backup with `kms restore`"
    )]
    ForeignSchema {
        /// The kind and the name of the object.
        object: String,
        /// What happened to it.
        what: &'static str,
    },
    /// The rows of a table are not those that were written.
    #[error(
        "the database was changed from outside: {0}. Nothing is answered from it. Keep a copy for the investigation; then \
         restore a backup with `kms restore`, or go on with the rows as they are with `kms audit restart`"
    )]
    Tampered(String),
    /// A statement changed another number of rows than it must.
    #[error(
        "the database changed {changed} rows of table {table} where it must change {expected}; nothing was changed. Check \
         it with `kms doctor`"
    )]
    RowCount {
        /// The table.
        table: &'static str,
        /// The number of rows that were changed.
        changed: usize,
        /// The number that is right.
        expected: usize,
    },
    /// A counter would give a number that is in use.
    #[error(
        "the counter of the {name}s is at {next}, which is in use: it was changed from outside, and nothing is replaced. \
         `kms audit verify` says more; restore a backup with `kms restore`"
    )]
    CounterBehind {
        /// The counter.
        name: &'static str,
        /// The number that it would give.
        next: u64,
    },
    /// A ring names a project that does not exist.
    #[error(
        "ring {ring} is not served: its project {project} is not in the database, or its row was changed. \
         `kms audit verify` says more; restore a backup with `kms restore`"
    )]
    ProjectMissing {
        /// The ring's id.
        ring: String,
        /// The project's id.
        project: String,
    },
    /// The system's clock is behind what was recorded.
    #[error(
        "the system's clock is {behind} seconds behind {what}, so nothing is granted or created: set the clock right, and \
         repeat the command"
    )]
    ClockBehind {
        /// How many seconds.
        behind: u64,
        /// What is later: the newest project, or the last entry of the audit log.
        what: &'static str,
    },
    /// The database is older than the number in the HSM's token says.
    #[error(
        "the database is an old copy: the HSM's token has counted to {counted}, the database to {found}. What happened \
         since, revocations among it, is not in it. Put the right file back; to go back to this one on purpose, stop the \
         daemon and use `kms restore`"
    )]
    OldCopy {
        /// The number in the token.
        counted: u64,
        /// The number in the database.
        found: u64,
    },
    /// The operating system returned no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
    /// The disk has so little space left that nothing more is created, while keys can be used, revoked and deleted.
    #[error(
        "only {} MiB are free on the disk, and below {} MiB nothing more is created; free some space",
        free >> 20,
        floor >> 20
    )]
    DiskFloor {
        /// Free bytes.
        free: u64,
        /// Free bytes that are kept.
        floor: u64,
    },
    /// An object exceeds the maximum size.
    #[error("an object has {0} bytes of attributes, more than can be stored")]
    TooLarge(usize),
    /// Too many callers wait for the database, or it did not respond in time.
    #[error("the database did not respond in time")]
    TimedOut,
    /// The store's write thread has ended.
    #[error("the store has stopped")]
    Stopped,
}

impl From<Sql> for StoreError {
    fn from(error: Sql) -> Self {
        if matches!(error, Sql::QueryReturnedNoRows) {
            return Self::NotFound;
        }
        let code = error.sqlite_error_code();
        // The index of the write-ahead log could not grow: the disk is full here, too.
        let no_space =
            error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
        if no_space || matches!(code, Some(ErrorCode::DiskFull)) {
            Self::Full(error)
        } else if matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) {
            Self::Damaged(error)
        } else if matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) {
            Self::Busy(error)
        } else {
            Self::Sql(error)
        }
    }
}

impl StoreError {
    /// Returns SQLite's own error, if it is one.
    pub(super) fn sqlite(&self) -> Option<&ffi::Error> {
        if let Self::Full(error) | Self::Damaged(error) | Self::Busy(error) | Self::Sql(error) = self {
            error.sqlite_error()
        } else {
            None
        }
    }

    /// Copies an error of the transaction for one of the callers that shared it.
    pub(super) fn of_transaction(error: &Sql) -> Self {
        let copy = match error.sqlite_error() {
            Some(failure) => Sql::SqliteFailure(*failure, Some(error.to_string())),
            None => Sql::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(error.to_string())),
        };
        Self::from(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32) -> StoreError {
        StoreError::from(Sql::SqliteFailure(ffi::Error::new(code), None))
    }

    #[test]
    fn each_failure_has_its_own_message() {
        assert!(matches!(of(ffi::SQLITE_FULL), StoreError::Full(_)));
        assert!(matches!(of(ffi::SQLITE_IOERR_SHMSIZE), StoreError::Full(_)));
        assert!(matches!(of(ffi::SQLITE_IOERR_READ), StoreError::Sql(_)));
        assert!(matches!(of(ffi::SQLITE_CORRUPT), StoreError::Damaged(_)));
        assert!(matches!(of(ffi::SQLITE_NOTADB), StoreError::Damaged(_)));
        assert!(matches!(of(ffi::SQLITE_BUSY_SNAPSHOT), StoreError::Busy(_)));
        assert!(matches!(StoreError::from(Sql::QueryReturnedNoRows), StoreError::NotFound));
    }
}
