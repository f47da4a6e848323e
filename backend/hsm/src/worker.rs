//! Threads that each own one session with the token, and the bounded queue in front of them.
//!
//! A job that finds its session gone is done once more with a new one: a token that was away for a moment is not felt.
//! A second failure is the caller's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::HsmError;
use super::token::{Access, Token};

/// Jobs that wait: one for each connection there may be.
const QUEUE_MAX: usize = 1024;

/// How long a caller waits, in the queue and for the HSM: less than the provider waits for the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// How long the threads may take to close their sessions at the end. A module whose threads still work when the
/// process ends may crash it; one that hangs must not keep it from ending.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// The queue and the threads behind it. Dropping it lets them finish what waits.
pub(super) struct Workers {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    calls: AtomicU64,
    failures: AtomicU64,
}

impl Workers {
    /// Starts the threads. The first session is opened here, so that a wrong PIN is tried once, and told at once.
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

    /// How often something was asked since the start, and how often it failed.
    pub(super) fn asked(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// Has a thread do something with its session.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Token) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let result = self.hand_over(work);
        self.calls.fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn hand_over<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Token) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let until = now() + ANSWER_WITHIN;
        let (reply, answer) = bounded(1);
        let job: Job = Box::new(move |worker| {
            // Who has stopped waiting is not worked for: a queue behind a slow HSM would only grow older.
            let result = if now() < until { worker.run(&work) } else { Err(HsmError::TimedOut) };
            if reply.send(result).is_err() {
                tracing::warn!("a caller had stopped waiting for the HSM");
            }
        });
        let jobs = self.jobs.as_ref().ok_or(HsmError::Stopped)?;
        jobs.send_deadline(job, until).map_err(|error| match error.is_timeout() {
            true => HsmError::TimedOut,
            false => HsmError::Stopped,
        })?;
        match answer.recv_deadline(until) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(HsmError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(HsmError::Stopped),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let until = now() + LEAVE_WITHIN;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                tracing::warn!("the HSM still works on something; it is left to it");
            } else if thread.join().is_err() {
                tracing::error!("a thread of the HSM had panicked");
            }
        }
    }
}

/// One thread's own.
struct Worker {
    access: Arc<Access>,
    token: Option<Token>,
}

impl Worker {
    fn run<T>(&mut self, work: impl Fn(&mut Token) -> Result<T, HsmError>) -> Result<T, HsmError> {
        let had_session = self.token.is_some();
        match self.once(&work) {
            Err(error) if error.is_lost_session() && had_session => {
                tracing::warn!(%error, "the HSM's session is lost; trying once more with a new one");
                self.token = None;
                self.once(&work)
            }
            result => result,
        }
    }

    fn once<T>(&mut self, work: impl Fn(&mut Token) -> Result<T, HsmError>) -> Result<T, HsmError> {
        let mut token = match self.token.take() {
            Some(token) => token,
            None => self.access.session()?,
        };
        let result = work(&mut token);
        // A session that is gone is closed here; one that works is kept.
        if !matches!(&result, Err(error) if error.is_lost_session()) {
            self.token = Some(token);
        }
        result
    }
}

#[expect(clippy::disallowed_methods, reason = "a shell that waits owns a clock")]
fn now() -> Instant {
    Instant::now()
}
