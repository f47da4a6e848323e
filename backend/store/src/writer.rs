//! The one thread that writes. Everything that waits goes into one transaction, so that many callers pay for one
//! `fsync`; each job has a savepoint of its own, so that one that fails undoes nothing of the others'. Nobody is
//! answered before the commit.
//!
//! The thread also watches for other processes' writes: only its own connection can tell them from our own.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use kms_core::audit::Entry;
use kms_core::integrity::RowKey;
use rusqlite::{Connection, Error as Sql, ffi};

use super::StoreError;
use super::cache::{Memory, Stale};

/// Jobs in one transaction: with 100 microseconds each it ends before anybody notices.
const GROUP_MAX: usize = 128;

/// Jobs that wait: one for each connection there may be.
const QUEUE_MAX: usize = 1024;

/// How long a caller waits for its job, in the queue and at work: less than the provider waits for the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// How often other processes' writes are looked for. They are promised to be seen within a second.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// What a job writes with.
pub(super) struct WriteTx<'a> {
    /// The connection, inside a transaction.
    pub(super) connection: &'a Connection,
    /// For the rows' MACs.
    pub(super) key: &'a RowKey,
    stale: RefCell<Vec<Stale>>,
}

impl WriteTx<'_> {
    /// Appends an entry to the audit log, in the same transaction.
    pub(super) fn record(&self, entry: &Entry) -> Result<(), StoreError> {
        super::audit::append(self, entry)
    }

    /// To be forgotten once it is committed.
    pub(super) fn forget(&self, stale: Stale) {
        self.stale.borrow_mut().push(stale);
    }
}

/// The handle of the thread that writes. Dropping it lets the thread finish what waits.
pub(super) struct Writer {
    jobs: Option<Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        connection: Connection,
        key: Arc<RowKey>,
        memory: Arc<Memory>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = bounded(QUEUE_MAX);
        let mut work = Work { connection, key, memory, queue, version: None, watched: now() };
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || work.run())?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does a job in a transaction, and answers once it is on the disk.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let until = now() + ANSWER_WITHIN;
        let (reply, answer) = bounded(1);
        let job = Box::new(Write { work: Some(work), until, result: None, reply });
        let jobs = self.jobs.as_ref().ok_or(StoreError::Stopped)?;
        jobs.send_deadline(job, until).map_err(|error| match error.is_timeout() {
            true => StoreError::TimedOut,
            false => StoreError::Stopped,
        })?;
        match answer.recv_deadline(until) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(StoreError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(StoreError::Stopped),
        }
    }
}

impl Writer {
    /// Does a job in a transaction some time later. Nobody waits for it and nobody is told; where the queue is full it
    /// is not done, which the answer says.
    pub(super) fn post(
        &self,
        work: impl FnOnce(&WriteTx<'_>) -> Result<(), StoreError> + Send + 'static,
    ) -> bool {
        let job = Box::new(Post { work: Some(work) });
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the database had panicked");
        }
    }
}

/// A caller's work, its result kept until the commit.
trait Job: Send {
    /// Does it. An error of SQLite's is told, for it may have ended the whole transaction.
    fn run(&mut self, tx: &WriteTx<'_>) -> Result<(), Option<ffi::Error>>;
    /// Answers the caller; `lost` says why nothing of the transaction was kept.
    fn answer(self: Box<Self>, lost: Option<&Sql>);
}

struct Write<T, F> {
    work: Option<F>,
    until: Instant,
    result: Option<Result<T, StoreError>>,
    reply: Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&WriteTx<'_>) -> Result<T, StoreError> + Send> Job for Write<T, F> {
    fn run(&mut self, tx: &WriteTx<'_>) -> Result<(), Option<ffi::Error>> {
        let result = match self.work.take() {
            Some(work) if now() < self.until => work(tx),
            Some(_) | None => Err(StoreError::TimedOut),
        };
        let outcome = match &result {
            Ok(_) => Ok(()),
            Err(error) => Err(error.sqlite().copied()),
        };
        self.result = Some(result);
        outcome
    }

    fn answer(self: Box<Self>, lost: Option<&Sql>) {
        let result = match (self.result, lost) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(_)) | None, Some(lost)) => Err(StoreError::again(lost)),
            (Some(Ok(result)), None) => Ok(result),
            (None, None) => Err(StoreError::Stopped),
        };
        if self.reply.send(result).is_err() {
            tracing::warn!("a caller had stopped waiting for the database");
        }
    }
}

/// Work that nobody waits for.
struct Post<F> {
    work: Option<F>,
}

impl<F: FnOnce(&WriteTx<'_>) -> Result<(), StoreError> + Send> Job for Post<F> {
    fn run(&mut self, tx: &WriteTx<'_>) -> Result<(), Option<ffi::Error>> {
        let Some(work) = self.work.take() else { return Ok(()) };
        work(tx).map_err(|error| {
            tracing::warn!(
                error = kms_core::error_chain(&error),
                "something that can be lost was not written"
            );
            error.sqlite().copied()
        })
    }

    fn answer(self: Box<Self>, _lost: Option<&Sql>) {}
}

/// The thread's own.
struct Work {
    connection: Connection,
    key: Arc<RowKey>,
    memory: Arc<Memory>,
    queue: Receiver<Box<dyn Job>>,
    version: Option<i64>,
    watched: Instant,
}

impl Work {
    fn run(&mut self) {
        self.watch();
        loop {
            let first = match self.queue.recv_timeout(WATCH_EVERY) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.watched.elapsed() >= WATCH_EVERY {
                self.watch();
            }
            let mut group: Vec<_> = first.into_iter().collect();
            if !group.is_empty() {
                group.extend(self.queue.try_iter().take(GROUP_MAX - 1));
            }
            // A disk that is full in the middle ends the transaction; what comes after gets a new one.
            while !group.is_empty() {
                group = self.transaction(group);
            }
        }
    }

    /// Forgets everything if another process has written since the last look.
    fn watch(&mut self) {
        self.watched = now();
        let read = self.connection.prepare_cached("PRAGMA data_version");
        match read.and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0))) {
            Ok(version) if self.version == Some(version) => {}
            Ok(version) => {
                if self.version.replace(version).is_some() {
                    tracing::debug!("another process changed the database");
                }
                self.memory.forget(&Stale::All);
            }
            Err(error) => {
                tracing::error!(%error, "the database could not be watched for changes");
                self.memory.forget(&Stale::All);
            }
        }
    }

    /// Does as many jobs as one transaction takes, answers them, and gives back the rest.
    fn transaction(&self, mut group: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let tx = WriteTx { connection: &self.connection, key: &self.key, stale: RefCell::default() };
        let (done, lost) = match self.statement("BEGIN IMMEDIATE") {
            Ok(()) => self.fill(&mut group, &tx),
            Err(error) => (group.len(), Some(error)),
        };
        let rest = group.split_off(done);
        let lost = lost.or_else(|| self.statement("COMMIT").err());
        if lost.is_some()
            && !self.connection.is_autocommit()
            && let Err(error) = self.statement("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be undone");
        }
        // Before anybody is answered: who was told of a change must not see what was before it.
        for stale in tx.stale.borrow().iter() {
            self.memory.forget(stale);
        }
        for job in group {
            job.answer(lost.as_ref());
        }
        rest
    }

    /// Runs the jobs until all are done or the transaction is lost; tells how many have been tried.
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
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }
}

#[expect(clippy::disallowed_methods, reason = "a shell that waits owns a clock")]
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
        let writer = Writer::start(connection, key, Arc::new(Memory::default())).unwrap();
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
    fn a_job_that_fails_undoes_itself_alone() {
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
    fn a_job_that_panics_harms_nobody_else() {
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
    fn a_transaction_lost_in_the_middle_is_lost_for_all_in_it_and_the_next_works() {
        let (_folder, writer) = writer();
        assert_eq!(add(&writer, 1).unwrap(), 1);
        let lost = writer.write(|tx| {
            tx.connection.execute("INSERT INTO t (a) VALUES (2)", [])?;
            tx.connection.execute_batch("ROLLBACK")?; // as SQLite does by itself when the disk is full
            Ok(())
        });
        assert!(lost.is_err());
        assert_eq!(add(&writer, 3).unwrap(), 3);
        assert_eq!(count(&writer), 2);
    }

    #[test]
    fn what_waits_is_written_before_the_thread_ends() {
        let (folder, writer) = writer();
        add(&writer, 1).unwrap();
        drop(writer);
        let after = Connection::open(folder.path().join("test.db")).unwrap();
        assert_eq!(after.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }
}
