//! The pool of read connections. A reader never waits for the writer: SQLite's write-ahead log gives each its own
//! snapshot.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::trust::Trust;
use super::{StoreError, open};

/// The maximum number of connections. Rows in use are cached (`cache`), so few callers read at the same time.
const CONNECTIONS_MAX: usize = 8;

/// The maximum wait of a caller for a connection: less than the provider waits for a response.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(8);

#[derive(Default)]
struct Pool {
    free: Vec<Connection>,
    open: usize,
}

/// A pool of connections, each opened when it is first needed.
pub(super) struct Readers {
    path: PathBuf,
    trust: Arc<Trust>,
    pool: Mutex<Pool>,
    returned: Condvar,
}

impl Readers {
    /// Creates the pool without open connections.
    pub(super) fn new(path: PathBuf, trust: Arc<Trust>) -> Self {
        Self { path, trust, pool: Mutex::default(), returned: Condvar::new() }
    }

    /// Returns the path of the database.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` with a free connection; waits for one if there is none.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.trust.check()?;
        let pooled = self.acquire()?;
        let connection = pooled.connection.as_ref().expect("it has a connection until it is dropped");
        work(connection)
    }

    fn acquire(&self) -> Result<PooledConnection<'_>, StoreError> {
        let none_free = |pool: &mut Pool| pool.free.is_empty() && pool.open >= CONNECTIONS_MAX;
        let waited = self.returned.wait_timeout_while(self.pool(), ACQUIRE_TIMEOUT, none_free);
        let (mut pool, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = pool.free.pop() {
            return Ok(PooledConnection { readers: self, connection: Some(connection) });
        }
        if pool.open >= CONNECTIONS_MAX {
            return Err(StoreError::TimedOut);
        }
        pool.open += 1;
        drop(pool);
        // The connection is counted already, so the lock is not held while it opens; dropping `pooled` uncounts it if
        // that fails.
        let mut pooled = PooledConnection { readers: self, connection: None };
        let connection = open::connect(&self.path)?;
        connection.pragma_update(None, "query_only", true)?;
        pooled.connection = Some(connection);
        Ok(pooled)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that returns to the pool when it is dropped.
struct PooledConnection<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for PooledConnection<'_> {
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
