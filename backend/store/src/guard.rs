//! The check of all rows against the state digest: when the daemon starts, and when somebody else has written while it
//! runs. What no single row shows, a row that was deleted, inserted or put back, ends the trust in the database (`trust`).

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use kms_core::audit::ChainFault;
use kms_core::integrity::RowKey;
use rusqlite::Connection;

use super::trust::Trust;
use super::{Store, StoreError, audit, open, state};

/// How often the thread looks whether somebody else has written.
const INTERVAL: Duration = Duration::from_millis(250);

/// After a check, the thread waits for this many times its duration: it takes at most a twentieth of one core, however
/// often commands write.
const REST_FACTOR: u32 = 19;

/// The handle of the thread that checks. Dropping it ends the thread after the check in progress.
pub struct Guard {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that checks the database's rows had panicked");
        }
    }
}

/// Checks the rows in one snapshot. A row that was edited is refused where it is read, and is an error in the log here;
/// so is a head that cannot be read. Everything else ends the trust.
fn check(connection: &Connection, key: &RowKey, trust: &Trust) -> Result<(), StoreError> {
    // Read before the snapshot begins, which therefore has this entry.
    let sequence = trust.sequence();
    let snapshot = connection.unchecked_transaction()?;
    let faults = match audit::faults(&snapshot, key)? {
        Ok((head, _)) if head.last.sequence < sequence => {
            let last = head.last.sequence;
            trust.end(format!(
                "its log ends at entry {last}, and entry {sequence} was written: it is an older copy"
            ));
            return Ok(());
        }
        Ok((head, faults)) => {
            trust.note_sequence(head.last.sequence);
            faults
        }
        Err(broken) => {
            tracing::error!(
                "whether rows were deleted or put back is not known: {broken}. See `kms audit verify` and `kms audit restart`"
            );
            return Ok(());
        }
    };
    for fault in faults {
        let broken = ChainFault::from(&fault);
        if fault.is_explained() {
            tracing::error!(
                rows = fault.unreadable,
                "key_material_invalid: {broken}. The rows that kms did not write are refused, the others are served. See \
                 `kms audit verify`"
            );
        } else {
            trust.end(broken.to_string());
        }
    }
    Ok(())
}

impl Store {
    /// Checks all rows against the state digest.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] when rows were deleted, inserted or put back: from then on the store answers nothing. When
    /// the database fails.
    pub fn check_rows(&self) -> Result<(), StoreError> {
        self.readers.read(|connection| check(connection, &self.key, &self.cache.trust))?;
        self.cache.trust.check()
    }

    /// Starts a thread that checks the rows and the schema whenever another process has written.
    ///
    /// # Errors
    /// When the database cannot be opened again, or the thread cannot be started.
    pub fn guard(&self) -> Result<Guard, StoreError> {
        let path = self.readers.path().to_owned();
        let connection = open::connect(&path)?;
        connection.pragma_update(None, "query_only", true)?;
        let (key, trust) = (Arc::clone(&self.key), Arc::clone(&self.cache.trust));
        let (stop, stopped) = bounded::<()>(0);
        let mut seen = trust.foreign_writes();
        let run = move || {
            let mut wait = INTERVAL;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) && !trust.has_ended() {
                wait = INTERVAL;
                let written = trust.foreign_writes();
                if written == seen {
                    continue;
                }
                let begun = now();
                match check(&connection, &key, &trust) {
                    Ok(()) => seen = written,
                    Err(error) => {
                        let cause = kms_core::error_chain(&error);
                        tracing::error!(cause, "the database's rows could not be checked; it is tried again");
                    }
                }
                wait = wait.max(begun.elapsed().saturating_mul(REST_FACTOR));
            }
        };
        let thread = std::thread::Builder::new().name("store-guard".to_owned()).spawn(run);
        let thread = thread.map_err(|source| StoreError::Io { path, source })?;
        Ok(Guard { stop: Some(stop), thread: Some(thread) })
    }

    /// The faults of the rows, named, if there are any; and those of the schema.
    ///
    /// # Errors
    /// When the database fails.
    pub fn row_faults(&self) -> Result<Vec<String>, StoreError> {
        self.readers.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            super::schema::check(&snapshot)?;
            Ok(match audit::faults(&snapshot, &self.key)? {
                Ok((_, faults)) => faults.iter().map(|fault| ChainFault::from(fault).to_string()).collect(),
                Err(broken) => vec![broken.to_string()],
            })
        })
    }
}

impl state::TableFault {
    /// Whether all rows that differ are rows that are refused anyway, as far as can be said: there are as many rows as
    /// were written, and some of them were not written by this program.
    fn is_explained(&self) -> bool {
        self.unreadable > 0 && self.found == self.written
    }
}

#[expect(clippy::disallowed_methods, reason = "I/O that waits needs a clock")]
fn now() -> Instant {
    Instant::now()
}
