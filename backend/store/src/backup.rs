//! A copy of the database while it is in use; `check` tells whether it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::check::Checked;
use super::{Store, StoreError, open};

/// Pages copied between two reports of progress: 4 MiB.
const PAGES_AT_ONCE: i32 = 1024;

/// How long to wait for somebody who keeps the database locked, before it is tried again.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often it is tried again: some seconds in all.
const ATTEMPTS_MAX: u32 = 100;

/// A file that is being written: gone when dropped, unless it is kept.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "an unfinished copy could not be removed");
        }
    }
}

impl Store {
    /// Copies the database as it is at one moment to a new file that its owner alone can read, while others go on
    /// writing. `progress` is told how many pages are done, and of how many.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken; when it cannot be written; when the copy does not verify.
    pub fn backup(&self, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Checked, StoreError> {
        let io = |source| StoreError::Io { path: to.to_owned(), source };
        if fs::symlink_metadata(to).is_ok() {
            return Err(StoreError::Exists(to.to_owned()));
        }
        let unfinished = Unfinished(beside(to, "unfinished"));
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished.0);
        created.map_err(io)?;
        self.readers.read(|connection| {
            // One state of the database from the first page to the last: writers go on in the log meanwhile.
            let snapshot = connection.unchecked_transaction()?;
            snapshot.query_row("SELECT count(*) FROM home", [], |_| Ok(()))?;
            copy(&snapshot, &unfinished.0, &mut progress)
        })?;
        let checked = self.check_copy(&unfinished.0)?;
        File::open(&unfinished.0).and_then(|file| file.sync_all()).map_err(io)?;
        // A link, unlike a rename, never replaces what somebody has put there meanwhile.
        fs::hard_link(&unfinished.0, to).map_err(|source| {
            let taken = source.kind() == ErrorKind::AlreadyExists;
            if taken { StoreError::Exists(to.to_owned()) } else { io(source) }
        })?;
        drop(unfinished);
        sync_folder(to)?;
        Ok(checked)
    }
}

/// Copies page by page; the copy is one file, without a log beside it.
fn copy(from: &Connection, to: &Path, progress: &mut impl FnMut(u64, u64)) -> Result<(), StoreError> {
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    {
        let backup = Backup::new(from, &mut target)?;
        let mut attempts = 0;
        loop {
            let step = backup.step(PAGES_AT_ONCE)?;
            if step == StepResult::Done {
                break;
            }
            if step == StepResult::More {
                let at = backup.progress();
                let pages = |number: i32| u64::try_from(number).unwrap_or(0);
                progress(pages(at.pagecount - at.remaining), pages(at.pagecount));
            } else if attempts < ATTEMPTS_MAX {
                attempts += 1;
                std::thread::sleep(PATIENCE);
            } else {
                return Err(StoreError::TimedOut);
            }
        }
    }
    let journal: String = target.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
    if journal != "delete" {
        tracing::warn!(journal, "the copy keeps a log of its own beside it");
    }
    Ok(())
}

/// A name in the same folder that says what the file is.
pub fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

/// A file's name is on the disk when this returns.
///
/// # Errors
/// When the folder cannot be written to the disk.
pub fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| StoreError::Io { path: path.to_owned(), source })
}

/// A database of ours at this path, brought to today's schema, without any log beside it.
///
/// # Errors
/// When it is missing, damaged, somebody else's, or of a newer version.
pub fn settle(path: &Path) -> Result<(), StoreError> {
    let connection = open::connect(path)?;
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
    if journal == "delete" { Ok(()) } else { Err(StoreError::TimedOut) }
}
