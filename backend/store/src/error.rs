//! Why the database did not do its part, told so that an operator knows what to do next.

use std::io;
use std::path::PathBuf;

use rusqlite::ffi;
use rusqlite::{Error as Sql, ErrorCode};

/// Why the database did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is asked for is not there.
    #[error("it is not in the database")]
    NotFound,
    /// A row does not bear the MAC of this home, or cannot be read.
    #[error(
        "key_material_invalid: row {id} of table {table} was not written by this KMS, or was changed since"
    )]
    RowInvalid {
        /// The table.
        table: &'static str,
        /// The row.
        id: String,
    },
    /// No room on the disk.
    #[error("the disk is full; make room, nothing has been lost")]
    Full(#[source] Sql),
    /// The database's file is broken.
    #[error("the database is damaged; stop the daemon and restore it from a backup")]
    Damaged(#[source] Sql),
    /// Another process keeps the database to itself.
    #[error("another process keeps the database locked")]
    Busy(#[source] Sql),
    /// SQLite failed otherwise.
    #[error("the database failed")]
    Sql(#[source] Sql),
    /// There is no database.
    #[error("the database {} does not exist; check [store] path in kms.toml", .0.display())]
    Missing(PathBuf),
    /// There is one already.
    #[error("the database {} exists already and is left as it is", .0.display())]
    Exists(PathBuf),
    /// The file is none of SQLite's.
    #[error("{} is not a database; check [store] path in kms.toml, or restore it from a backup", .0.display())]
    NotADatabase(PathBuf),
    /// The file is another program's.
    #[error("{} is another program's database; check [store] path in kms.toml", .0.display())]
    Foreign(PathBuf),
    /// The database is of a later version.
    #[error("{} was written by a newer version of kms (schema {found}, this one knows {known}); update kms", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema this program knows.
        known: u32,
    },
    /// The operating system says no.
    #[error("cannot open the database {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The name is taken.
    #[error("{0} exists already")]
    Taken(String),
    /// As many rings as there may be.
    #[error("there are {0} rings, and no more may be made")]
    TooManyRings(usize),
    /// As many of something as there may be.
    #[error("there are {most} {what}, and no more may be made")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        most: u64,
    },
    /// An object is larger than may be stored.
    #[error("an object has {0} bytes of attributes, more than may be stored")]
    TooLarge(usize),
    /// Too many wait for the database, or it did not answer in time.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The store's thread has ended.
    #[error("the store has stopped")]
    Stopped,
}

impl From<Sql> for StoreError {
    fn from(error: Sql) -> Self {
        if matches!(error, Sql::QueryReturnedNoRows) {
            return Self::NotFound;
        }
        let code = error.sqlite_error_code();
        // The log's index could not grow: the same full disk, met in another file.
        let no_room =
            error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
        if no_room || matches!(code, Some(ErrorCode::DiskFull)) {
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
    /// SQLite's own error, where it is one.
    pub(super) fn sqlite(&self) -> Option<&ffi::Error> {
        if let Self::Full(error) | Self::Damaged(error) | Self::Busy(error) | Self::Sql(error) = self {
            error.sqlite_error()
        } else {
            None
        }
    }

    /// The same failure for another caller of the same transaction.
    pub(super) fn again(error: &Sql) -> Self {
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
