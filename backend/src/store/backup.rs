//! A copy of the database while it is in use, and whether a copy is whole: the file, the MAC of every row, the audit log.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kms_protocol::Template;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, Error as Sql, OpenFlags, ffi};

use super::find::Narrowing;
use super::{Store, StoreError, audit, find, open};
use crate::audit::{Broken, Chain, Verified};

/// Pages copied between two reports of progress: 4 MiB.
const PAGES_AT_ONCE: i32 = 1024;

/// Rows read at once.
const PAGE: usize = 1000;

/// How long to wait for somebody who keeps the database locked, before it is tried again.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often it is tried again: some seconds in all.
const ATTEMPTS_MAX: u32 = 100;

/// What was found of a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checked {
    /// Rings whose rows bear their MACs.
    pub rings: u64,
    /// Keys, likewise.
    pub keys: u64,
    /// Objects, likewise.
    pub objects: u64,
    /// The audit log.
    pub audit: Result<Verified, Broken>,
}

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

    /// Whether a copy of this database is whole.
    ///
    /// # Errors
    /// When the file is damaged, or a row does not bear its MAC. What is wrong with the audit log is told.
    pub fn check_copy(&self, path: &Path) -> Result<Checked, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            let damaged = Sql::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(found));
            return Err(StoreError::Damaged(damaged));
        }
        let (rings, refused) = find::rings(&connection, &self.key)?;
        sound(refused)?;
        let mut checked = Checked { rings: 0, keys: 0, objects: 0, audit: Err(Broken::HEAD) };
        for ring in rings.list() {
            let (keys, refused) = find::keys(&connection, &self.key, ring.id)?;
            sound(refused)?;
            checked.rings += 1;
            checked.keys += count(keys.len());
            let (everything, mut after) = (Narrowing::by(&Template::default()), None);
            loop {
                let page = find::page(&connection, &self.key, ring.id, &everything, (after, PAGE))?;
                sound(page.refused)?;
                checked.objects += count(page.stored.len());
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        checked.audit = audit::verify(&connection, &Chain::of(&self.key), None, |_, _| {})?;
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
pub(crate) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

/// A file's name is on the disk when this returns.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| StoreError::Io { path: path.to_owned(), source })
}

fn sound(refused: Vec<StoreError>) -> Result<(), StoreError> {
    refused.into_iter().next().map_or(Ok(()), Err)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A database of ours at this path, brought to today's schema, without any log beside it.
///
/// # Errors
/// When it is missing, damaged, somebody else's, or of a newer version.
pub(crate) fn settle(path: &Path) -> Result<(), StoreError> {
    let connection = open::connect(path)?;
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
    if journal == "delete" { Ok(()) } else { Err(StoreError::TimedOut) }
}
