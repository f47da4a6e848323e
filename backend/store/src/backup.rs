//! Copies of the database while it is in use; `check` verifies them.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::check::CheckReport;
use super::{Store, StoreError, open};

/// Pages copied between two reports of progress: 4 MiB.
const STEP_PAGES: i32 = 1024;

/// The wait before another attempt while another process has locked the database.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The maximum number of attempts: some seconds in total.
const ATTEMPTS_MAX: u32 = 100;

/// A copy that is being written; its file is removed on drop.
struct PartialCopy(PathBuf);

impl Drop for PartialCopy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "an unfinished copy could not be removed");
        }
    }
}

impl Store {
    /// Copies one snapshot of the database to a new file that only its owner can read, while writes continue.
    /// `progress` gets the number of copied pages and the total.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the file exists; when it cannot be written; when the copy fails verification.
    pub fn backup(&self, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<CheckReport, StoreError> {
        let io = |source| StoreError::Io { path: to.to_owned(), source };
        if fs::symlink_metadata(to).is_ok() {
            return Err(StoreError::Exists(to.to_owned()));
        }
        let partial = PartialCopy(beside(to, "unfinished"));
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial.0);
        created.map_err(io)?;
        self.readers.read(|connection| {
            // One snapshot from the first page to the last: writers continue in the write-ahead log.
            let snapshot = connection.unchecked_transaction()?;
            snapshot.query_row("SELECT count(*) FROM home", [], |_| Ok(()))?;
            copy(&snapshot, &partial.0, &mut progress)
        })?;
        let checked = self.check_copy(&partial.0)?;
        File::open(&partial.0).and_then(|file| file.sync_all()).map_err(io)?;
        // A link, unlike a rename, never replaces a file that was created meanwhile.
        fs::hard_link(&partial.0, to).map_err(|source| {
            let exists = source.kind() == ErrorKind::AlreadyExists;
            if exists { StoreError::Exists(to.to_owned()) } else { io(source) }
        })?;
        drop(partial);
        sync_folder(to)?;
        Ok(checked)
    }
}

/// Copies page by page; the copy is a single file without a write-ahead log.
fn copy(from: &Connection, to: &Path, progress: &mut impl FnMut(u64, u64)) -> Result<(), StoreError> {
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    {
        let backup = Backup::new(from, &mut target)?;
        let mut attempts = 0;
        loop {
            let step = backup.step(STEP_PAGES)?;
            if step == StepResult::Done {
                break;
            }
            if step == StepResult::More {
                let at = backup.progress();
                let pages = |number: i32| u64::try_from(number).unwrap_or(0);
                progress(pages(at.pagecount - at.remaining), pages(at.pagecount));
            } else if attempts < ATTEMPTS_MAX {
                attempts += 1;
                std::thread::sleep(RETRY_INTERVAL);
            } else {
                return Err(StoreError::TimedOut);
            }
        }
    }
    let journal: String = target.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
    if journal != "delete" {
        tracing::warn!(journal, "the copy has a write-ahead log beside it");
    }
    Ok(())
}

/// Returns the path with `.what` appended to the file name.
pub fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

/// Syncs the folder of a file, so that the file's name is on the disk.
///
/// # Errors
/// When the folder cannot be synced.
pub fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| StoreError::Io { path: path.to_owned(), source })
}

/// Merges the write-ahead log of the database at this path into its file, and removes the log.
///
/// # Errors
/// When it is missing, damaged or in use.
pub fn settle(path: &Path) -> Result<(), StoreError> {
    let connection = open::connect(path)?;
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
    if journal == "delete" { Ok(()) } else { Err(StoreError::TimedOut) }
}
