//! Threads that each own one session with the token, and the bounded queue in front of them.
//!
//! A job whose session is lost is repeated once with a new session, so that a token's short absence causes no error. A
//! second failure is returned to the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::error::HsmError;
use crate::token::{Access, Token};

/// The maximum number of waiting jobs: one for each possible connection.
const QUEUE_MAX: usize = 1024;

/// The maximum time that a call takes in the queue and in the HSM: less than the provider waits for its response.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The maximum time that the threads take to close their sessions at shutdown. A module whose threads still run when
/// the process ends may crash it; a module that hangs must not prevent the process from ending.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The queue and its threads. When it is dropped, the waiting jobs are finished.
pub(super) struct Workers {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    calls: AtomicU64,
    failures: AtomicU64,
}

impl Workers {
    /// Starts the threads. The first session is opened here, so that a wrong PIN is tried once, and reported at once.
    pub(super) fn start(access: Access, threads: usize) -> Result<Self, HsmError> {
        let (jobs, queue) = bounded(QUEUE_MAX);
        let access = Arc::new(access);
        let mut first = Some(access.session()?);
        let (calls, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut workers = Self { jobs: Some(jobs), threads: Vec::new(), calls, failures };
        for number in 0..threads.max(1) {
            let mut worker = Worker { access: Arc::clone(&access), token: first.take() };
            let queue: Receiver<Job> = queue.clone();
            let thread = std::thread::Builder::new().name(format!("hsm-{number}"));
            let started = thread.spawn(move || {
                for job in queue {
                    job(&mut worker);
                }
            });
            workers.threads.push(started.map_err(HsmError::Thread)?);
        }
        Ok(workers)
    }

    /// The number of calls since the start, and how many of them failed.
    pub(super) fn call_counts(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// Runs `work` on one of the threads, with its session.
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Token) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let result = self.submit(work);
        self.calls.fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn submit<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Token) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let deadline = now() + CALL_TIMEOUT;
        let (sender, receiver) = bounded(1);
        let job: Job = Box::new(move |worker| {
            // Jobs whose caller has stopped waiting are skipped: otherwise the delay behind a slow HSM would only grow.
            let result = if now() < deadline { worker.run(&work) } else { Err(HsmError::TimedOut) };
            if sender.send(result).is_err() {
                tracing::warn!("a caller had stopped waiting for the HSM");
            }
        });
        let jobs = self.jobs.as_ref().ok_or(HsmError::Stopped)?;
        jobs.send_deadline(job, deadline).map_err(|error| match error.is_timeout() {
            true => HsmError::TimedOut,
            false => HsmError::Stopped,
        })?;
        match receiver.recv_deadline(deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(HsmError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(HsmError::Stopped),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let deadline = now() + SHUTDOWN_TIMEOUT;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                tracing::warn!("a thread still waits for the HSM; it is not joined");
            } else if thread.join().is_err() {
                tracing::error!("a thread of the HSM had panicked");
            }
        }
    }
}

/// The state of one thread.
struct Worker {
    access: Arc<Access>,
    token: Option<Token>,
}

impl Worker {
    fn run<T>(&mut self, work: impl Fn(&mut Token) -> Result<T, HsmError>) -> Result<T, HsmError> {
        let had_session = self.token.is_some();
        match self.run_once(&work) {
            Err(error) if error.is_lost_session() && had_session => {
                tracing::warn!(%error, "the HSM's session is lost; trying once more with a new one");
                self.token = None;
                self.run_once(&work)
            }
            result => result,
        }
    }

    fn run_once<T>(&mut self, work: impl Fn(&mut Token) -> Result<T, HsmError>) -> Result<T, HsmError> {
        let mut token = match self.token.take() {
            Some(token) => token,
            None => self.access.session()?,
        };
        let result = work(&mut token);
        // A lost session is closed here; one that works is reused.
        if !matches!(&result, Err(error) if error.is_lost_session()) {
            self.token = Some(token);
        }
        result
    }
}

#[expect(clippy::disallowed_methods, reason = "I/O code that waits reads the clock")]
fn now() -> Instant {
    Instant::now()
}
