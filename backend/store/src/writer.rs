//! The one thread that writes. All waiting jobs go into one transaction (group commit), so that many callers share one
//! `fsync`; each job has its own savepoint, so a failing job undoes only its own writes. No caller gets a result before
//! the commit.
//!
//! The thread also polls for other processes' writes: only its own connection can tell them from those of this process.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use kms_core::audit::Entry;
use kms_core::integrity::RowKey;
use kms_core::state_digest::{StateDigest, StateKey};
use kms_protocol::RingId;
use rusqlite::{Connection, Error as Sql, ffi};

use super::StoreError;
use super::cache::{Invalidation, StoreCache};
use super::capacity::{Capacity, Size};
use super::trust::Trust;

/// The maximum number of jobs in one transaction: at 100 microseconds each, no caller notices the delay.
const GROUP_MAX: usize = 128;

/// The maximum number of waiting jobs: one for each possible connection.
const QUEUE_MAX: usize = 1024;

/// The maximum wait of a caller for its job, queued and running: less than the provider waits for a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// The interval of polling for other processes' writes, which must be seen within a second.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The write transaction of a job.
pub(super) struct WriteTx<'a> {
    /// The connection, inside a transaction.
    pub(super) connection: &'a Connection,
    /// The key of the row MACs.
    pub(super) key: &'a RowKey,
    /// The keys of the state digest.
    pub(super) state_key: &'a StateKey,
    /// The change of the state digest that is not in the audit head yet.
    pub(super) change: RefCell<StateDigest>,
    /// The number of the last audit entry, if the transaction wrote the head.
    pub(super) sequence: Cell<u64>,
    /// Whether a job of the transaction was undone, which may have written the head.
    undone: Cell<bool>,
    /// What is counted of rings and the disk; nothing while a database is prepared.
    capacity: Option<&'a Capacity>,
    invalidations: RefCell<Vec<Invalidation>>,
}

impl<'a> WriteTx<'a> {
    /// Writes in a transaction that the caller has begun.
    pub(super) fn new(connection: &'a Connection, key: &'a RowKey, state_key: &'a StateKey) -> Self {
        let (change, sequence, invalidations) = (RefCell::default(), Cell::default(), RefCell::default());
        let (undone, capacity) = (Cell::default(), None);
        Self { connection, key, state_key, change, sequence, undone, capacity, invalidations }
    }

    /// Appends an entry to the audit log in this transaction.
    pub(super) fn record(&self, entry: &Entry) -> Result<(), StoreError> {
        super::audit::append(self, entry)
    }

    /// Writes what the state digest has changed since the last entry into the audit head.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        if self.change.borrow().is_zero() { Ok(()) } else { super::audit::settle(self) }
    }

    /// Takes capacity for what is to be added to a ring.
    pub(super) fn reserve(&self, ring: RingId, added: &Size) -> Result<(), StoreError> {
        self.capacity.map_or(Ok(()), |capacity| capacity.take(self.connection, ring, added))
    }

    /// Fails if the disk has too little space for anything new.
    pub(super) fn check_disk(&self) -> Result<(), StoreError> {
        self.capacity.map_or(Ok(()), Capacity::check_disk)
    }

    /// Something was removed from a ring.
    pub(super) fn released(&self, ring: RingId) {
        if let Some(capacity) = self.capacity {
            capacity.forget(ring);
        }
    }

    /// Invalidates cached rows when the transaction ends.
    pub(super) fn invalidate(&self, invalidation: Invalidation) {
        self.invalidations.borrow_mut().push(invalidation);
    }
}

/// Compares the schema of a connection with the one that it must have.
pub(super) type SchemaCheck = fn(&Connection) -> Result<(), StoreError>;

/// The handle of the write thread. Dropping it waits until the thread has finished all queued jobs.
pub(super) struct Writer {
    jobs: Option<Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    trust: Arc<Trust>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        connection: Connection,
        key: Arc<RowKey>,
        cache: Arc<StoreCache>,
        capacity: Arc<Capacity>,
        check_schema: SchemaCheck,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = bounded(QUEUE_MAX);
        let (state_key, trust) = (StateKey::of(&key), Arc::clone(&cache.trust));
        let (data_version, schema_version) = (None, None);
        let mut writer = WriterThread {
            connection,
            key,
            state_key,
            cache,
            capacity,
            queue,
            check_schema,
            data_version,
            schema_version,
            polled: now(),
        };
        let thread =
            std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run())?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), trust })
    }

    /// Runs a job in a transaction, and returns its result once it is on the disk.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.trust.check()?;
        let deadline = now() + WRITE_TIMEOUT;
        let (reply, results) = bounded(1);
        let job = Box::new(AwaitedJob { work: Some(work), deadline, result: None, reply });
        let jobs = self.jobs.as_ref().ok_or(StoreError::Stopped)?;
        jobs.send_deadline(job, deadline).map_err(|error| match error.is_timeout() {
            true => StoreError::TimedOut,
            false => StoreError::Stopped,
        })?;
        match results.recv_deadline(deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(StoreError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(StoreError::Stopped),
        }
    }

    /// Queues a job without waiting for it; its errors are only logged. Returns false, and drops the job, when the
    /// queue is full.
    pub(super) fn write_later(
        &self,
        work: impl FnOnce(&WriteTx<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> bool {
        let job = Box::new(DetachedJob { work: Some(work) });
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the write thread of the database had panicked");
        }
    }
}

/// One queued write, which holds its result until the commit.
trait Job: Send {
    /// Runs it. An error of SQLite is returned, because it may have ended the whole transaction.
    fn run(&mut self, tx: &WriteTx<'_>) -> Result<(), Option<ffi::Error>>;
    /// Sends the result to the caller; `lost` is the error that rolled the transaction back.
    fn finish(self: Box<Self>, lost: Option<&Sql>);
}

/// A job whose caller waits for the result.
struct AwaitedJob<T, F> {
    work: Option<F>,
    deadline: Instant,
    result: Option<Result<T, StoreError>>,
    reply: Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&WriteTx<'_>) -> Result<T, StoreError> + Send> Job for AwaitedJob<T, F> {
    fn run(&mut self, tx: &WriteTx<'_>) -> Result<(), Option<ffi::Error>> {
        let result = match self.work.take() {
            Some(work) if now() < self.deadline => work(tx).and_then(|done| tx.settle().map(|()| done)),
            Some(_) | None => Err(StoreError::TimedOut),
        };
        let outcome = match &result {
            Ok(_) => Ok(()),
            Err(error) => Err(error.sqlite().copied()),
        };
        self.result = Some(result);
        outcome
    }

    fn finish(self: Box<Self>, lost: Option<&Sql>) {
        let result = match (self.result, lost) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(_)) | None, Some(lost)) => Err(StoreError::of_transaction(lost)),
            (Some(Ok(result)), None) => Ok(result),
            (None, None) => Err(StoreError::Stopped),
        };
        if self.reply.send(result).is_err() {
            tracing::warn!("a caller stopped waiting for the database before its result was ready");
        }
    }
}

/// A job whose result no caller waits for.
struct DetachedJob<F> {
    work: Option<F>,
}

impl<F: FnOnce(&WriteTx<'_>) -> Result<(), StoreError> + Send> Job for DetachedJob<F> {
    fn run(&mut self, tx: &WriteTx<'_>) -> Result<(), Option<ffi::Error>> {
        let Some(work) = self.work.take() else { return Ok(()) };
        work(tx).and_then(|()| tx.settle()).map_err(|error| {
            tracing::warn!(error = kms_core::error_chain(&error), "a write whose loss is tolerated failed");
            error.sqlite().copied()
        })
    }

    fn finish(self: Box<Self>, _lost: Option<&Sql>) {}
}

/// The state of the write thread.
struct WriterThread {
    connection: Connection,
    key: Arc<RowKey>,
    state_key: StateKey,
    cache: Arc<StoreCache>,
    capacity: Arc<Capacity>,
    queue: Receiver<Box<dyn Job>>,
    check_schema: SchemaCheck,
    /// `PRAGMA data_version` at the last poll.
    data_version: Option<i64>,
    /// `PRAGMA schema_version` at the last check of the schema, before which nothing is known of it.
    schema_version: Option<i64>,
    polled: Instant,
}

impl WriterThread {
    fn run(&mut self) {
        self.poll_other_writers();
        loop {
            let first = match self.queue.recv_timeout(POLL_INTERVAL) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.polled.elapsed() >= POLL_INTERVAL {
                self.poll_other_writers();
            }
            let mut group: Vec<_> = first.into_iter().collect();
            if !group.is_empty() {
                group.extend(self.queue.try_iter().take(GROUP_MAX - 1));
            }
            // A disk that becomes full ends the transaction early; the remaining jobs get a new one.
            while !group.is_empty() {
                group = self.transaction(group);
            }
        }
    }

    /// Invalidates the whole cache if another process has written since the last poll.
    fn poll_other_writers(&mut self) {
        self.polled = now();
        let read = self.connection.prepare_cached("PRAGMA data_version");
        match read.and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0))) {
            Ok(version) if self.data_version == Some(version) => {}
            Ok(version) => {
                if self.data_version.replace(version).is_some() {
                    tracing::debug!("another process changed the database");
                    self.cache.trust.count_foreign_write();
                }
                self.check_schema();
                self.capacity.forget_all();
                self.cache.invalidate(&Invalidation::All);
            }
            Err(error) => {
                tracing::error!(%error, "polling the database for changes of other processes failed");
                self.cache.invalidate(&Invalidation::All);
            }
        }
    }

    /// Notes the last audit entry of a transaction that is durable. A job that was undone may have counted further than
    /// what was kept: then the next transaction notes it.
    fn note_sequence(&self, tx: &WriteTx<'_>) {
        if !tx.undone.get() {
            self.cache.trust.note_sequence(tx.sequence.get());
        }
    }

    /// Ends the trust if another process has changed the schema.
    fn check_schema(&mut self) {
        let read = self.connection.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0));
        let version = read.map_err(StoreError::from);
        let checked = version.and_then(|version| match self.schema_version == Some(version) {
            true => Ok(()),
            false => {
                (self.check_schema)(&self.connection)?;
                self.schema_version = Some(version);
                Ok(())
            }
        });
        match checked {
            Ok(()) => {}
            Err(error @ StoreError::ForeignSchema { .. }) => self.cache.trust.end(error.to_string()),
            Err(error) => tracing::error!(%error, "the schema could not be checked; it is tried again"),
        }
    }

    /// Runs as many jobs as one transaction takes, sends their results, and returns the remaining jobs.
    fn transaction(&self, mut group: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let tx = WriteTx {
            capacity: Some(&self.capacity),
            ..WriteTx::new(&self.connection, &self.key, &self.state_key)
        };
        let (done, lost) = match self.statement("BEGIN IMMEDIATE") {
            Ok(()) => self.fill(&mut group, &tx),
            Err(error) => (group.len(), Some(error)),
        };
        let rest = group.split_off(done);
        let lost = lost.or_else(|| self.statement("COMMIT").err());
        if lost.is_some() {
            self.capacity.forget_all();
        }
        if lost.is_some()
            && !self.connection.is_autocommit()
            && let Err(error) = self.statement("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
        if lost.is_none() && self.connection.is_autocommit() {
            self.note_sequence(&tx);
        }
        // Before any result is sent: a caller that knows of a change must not read the state before it.
        for invalidation in tx.invalidations.borrow().iter() {
            self.cache.invalidate(invalidation);
        }
        for job in group {
            job.finish(lost.as_ref());
        }
        rest
    }

    /// Runs the jobs until all are done or the transaction is lost; returns how many were tried.
    fn fill(&self, group: &mut [Box<dyn Job>], tx: &WriteTx<'_>) -> (usize, Option<Sql>) {
        let mut done = 0;
        for job in group {
            done += 1;
            if let Err(error) = self.statement("SAVEPOINT job") {
                return (done, Some(error));
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| job.run(tx))).unwrap_or_else(|_| {
                tracing::error!("a write to the database panicked; this is a bug");
                Err(None)
            });
            if outcome.is_err() {
                // The rows are as they were before the job, and so is the digest: each job leaves no change behind.
                tx.change.take();
                tx.undone.set(true);
            }
            if self.connection.is_autocommit() {
                let code = outcome.err().flatten().unwrap_or(ffi::Error::new(ffi::SQLITE_ABORT));
                return (done, Some(Sql::SqliteFailure(code, None)));
            }
            let undone = if outcome.is_err() { self.statement("ROLLBACK TO job") } else { Ok(()) };
            if let Err(error) = undone.and_then(|()| self.statement("RELEASE job")) {
                return (done, Some(error));
            }
        }
        (done, None)
    }

    fn statement(&self, sql: &str) -> Result<(), Sql> {
        self.connection.prepare_cached(sql)?.raw_execute().map(drop)
    }
}

#[expect(clippy::disallowed_methods, reason = "I/O that waits needs a clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use zeroize::Zeroizing;

    use super::*;

    fn writer() -> (tempfile::TempDir, Writer) {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("test.db")).unwrap();
        connection.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (a INTEGER UNIQUE)").unwrap();
        let key = Arc::new(RowKey::from(Zeroizing::new([1; 32])));
        let capacity = Arc::new(Capacity::new(folder.path()));
        let cache = Arc::new(StoreCache::default());
        let writer = Writer::start(connection, key, cache, capacity, |_| Ok(())).unwrap();
        (folder, writer)
    }

    fn add(writer: &Writer, number: i64) -> Result<i64, StoreError> {
        writer.write(move |tx| {
            tx.connection.execute("INSERT INTO t (a) VALUES (?1)", [number])?;
            Ok(number)
        })
    }

    fn count(writer: &Writer) -> i64 {
        writer
            .write(|tx| Ok(tx.connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?))
            .unwrap()
    }

    #[test]
    fn a_job_that_fails_undoes_only_its_own_writes() {
        let (_folder, writer) = writer();
        let start = Barrier::new(16);
        std::thread::scope(|scope| {
            for number in 0..16 {
                let (writer, start) = (&writer, &start);
                scope.spawn(move || {
                    start.wait();
                    let result = writer.write(move |tx| {
                        tx.connection.execute("INSERT INTO t (a) VALUES (?1)", [number])?;
                        if number % 2 == 0 { Ok(number) } else { Err(StoreError::NotFound) }
                    });
                    assert_eq!(result.is_ok(), number % 2 == 0);
                });
            }
        });
        assert_eq!(count(&writer), 8);
    }

    #[test]
    fn a_job_that_panics_does_not_affect_other_jobs() {
        let (_folder, writer) = writer();
        let result: Result<(), _> = writer.write(|tx| {
            tx.connection.execute("INSERT INTO t (a) VALUES (1)", [])?;
            panic!("a bug")
        });
        assert!(matches!(result, Err(StoreError::Stopped)));
        assert_eq!(add(&writer, 2).unwrap(), 2);
        assert_eq!(count(&writer), 1);
    }

    #[test]
    fn a_transaction_that_is_rolled_back_fails_all_its_jobs_and_the_next_one_works() {
        let (_folder, writer) = writer();
        assert_eq!(add(&writer, 1).unwrap(), 1);
        let lost = writer.write(|tx| {
            tx.connection.execute("INSERT INTO t (a) VALUES (2)", [])?;
            tx.connection.execute_batch("ROLLBACK")?; // as SQLite does when the disk is full
            Ok(())
        });
        assert!(lost.is_err());
        assert_eq!(add(&writer, 3).unwrap(), 3);
        assert_eq!(count(&writer), 2);
    }

    #[test]
    fn queued_jobs_are_written_before_the_thread_ends() {
        let (folder, writer) = writer();
        add(&writer, 1).unwrap();
        drop(writer);
        let after = Connection::open(folder.path().join("test.db")).unwrap();
        assert_eq!(after.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }
}
