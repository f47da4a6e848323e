//! Erases a database that a restore has replaced.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use kms_store::{StoreError, sync_folder};

use super::ServiceError;
use super::backup::with_suffix;

/// How many bytes are overwritten at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Overwrites a database and its write-ahead log, and removes them. A file system that copies on write, a snapshot or a
/// solid-state disk may still have the old blocks.
///
/// # Errors
/// When a file cannot be overwritten or removed.
pub fn erase_database(path: &Path) -> Result<(), ServiceError> {
    for suffix in ["-wal", "-shm", ""] {
        let file = with_suffix(path, suffix);
        match overwrite(&file).and_then(|()| fs::remove_file(&file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !suffix.is_empty() => {}
            Err(source) => return Err(StoreError::Io { path: file, source }.into()),
            Ok(()) => {}
        }
    }
    Ok(sync_folder(path)?)
}

fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    let zeros = vec![0; BLOCK_BYTES];
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        file.write_all(&zeros[..count])?;
        left -= u64::try_from(count).unwrap_or(left);
    }
    file.sync_all()
}
