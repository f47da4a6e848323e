//! Connections for reading. A reader never waits for the writer: SQLite's log shows each a state of its own.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::{StoreError, open};

/// Connections at once. What is in use is remembered (`cache`), so few callers read at any time.
const CONNECTIONS_MAX: usize = 8;

/// How long a caller waits for a connection: less than the provider waits for the answer.
const TURN_WITHIN: Duration = Duration::from_secs(8);

#[derive(Default)]
struct Pool {
    free: Vec<Connection>,
    open: usize,
}

/// A few connections, opened when they are first needed.
pub(super) struct Readers {
    path: PathBuf,
    pool: Mutex<Pool>,
    returned: Condvar,
}

impl Readers {
    /// None is open yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, pool: Mutex::default(), returned: Condvar::new() }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads with a connection that is free, or waits for one.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let lease = self.lease()?;
        let connection = lease.connection.as_ref().expect("a lease holds its connection until it drops");
        work(connection)
    }

    fn lease(&self) -> Result<Lease<'_>, StoreError> {
        let none_free = |pool: &mut Pool| pool.free.is_empty() && pool.open >= CONNECTIONS_MAX;
        let waited = self.returned.wait_timeout_while(self.pool(), TURN_WITHIN, none_free);
        let (mut pool, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = pool.free.pop() {
            return Ok(Lease { readers: self, connection: Some(connection) });
        }
        if pool.open >= CONNECTIONS_MAX {
            return Err(StoreError::TimedOut);
        }
        pool.open += 1;
        drop(pool);
        // The place is taken already, so that the lock is not held meanwhile; the lease gives it back if this fails.
        let mut lease = Lease { readers: self, connection: None };
        let connection = open::connect(&self.path)?;
        connection.pragma_update(None, "query_only", true)?;
        lease.connection = Some(connection);
        Ok(lease)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that goes back however the reading ends.
struct Lease<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool();
        match self.connection.take() {
            Some(connection) => pool.free.push(connection),
            None => pool.open -= 1,
        }
        drop(pool);
        self.readers.returned.notify_one();
    }
}
