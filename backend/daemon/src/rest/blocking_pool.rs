//! Execution of blocking jobs outside of the async threads, with a bound on those that run and those that wait.

use std::sync::Arc;
use std::time::Duration;

use kms_core::api::{Operation, Outcome, Problem, RequestContext, Status};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::backend_trait::RestBackend;

/// The maximum number of jobs that run. Most of them wait for the HSM or the disk, so it is far more than there are
/// cores; tokio's own limit for blocking threads is 512.
const RUNNING_MAX: usize = 64;

/// The maximum number of further jobs that wait: of the slowest (RSA-4096 key pairs, half a second each), any more
/// would not start in time.
const WAITING_MAX: usize = 1024;

/// How long a job may wait to start. If it does not start, it has had no effect.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a caller waits for a job that runs. The job is finished even after that.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// The pool.
#[derive(Debug)]
pub(super) struct BlockingPool {
    running: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl BlockingPool {
    pub(super) fn new() -> Self {
        let running = Arc::new(Semaphore::new(RUNNING_MAX));
        Self { running, queue: Arc::new(Semaphore::new(RUNNING_MAX + WAITING_MAX)) }
    }

    /// Executes an operation in the pool.
    pub(super) async fn serve(
        &self,
        backend: &Arc<dyn RestBackend>,
        context: RequestContext,
        operation: Operation,
    ) -> Result<Outcome, Problem> {
        let backend = Arc::clone(backend);
        self.run(move || backend.serve(&context, operation)).await?
    }

    /// Runs a job on a blocking thread.
    ///
    /// # Errors
    /// 503 when the queue is full, or the job does not start or end in time; 500 when it panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let queued = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| busy())?;
        let running = tokio::time::timeout(QUEUE_TIMEOUT, Arc::clone(&self.running).acquire_owned()).await;
        let running = running.map_err(|_| busy())?.map_err(|_| busy())?;
        let permits: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (queued, running);
        let task = tokio::task::spawn_blocking(move || {
            let result = job();
            kms_crypto::wipe_stack();
            // Released when the job ends, not when its caller stops waiting.
            drop(permits);
            result
        });
        match tokio::time::timeout(RUN_TIMEOUT, task).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => {
                tracing::error!("a request made the backend panic; this is a bug");
                Err(Problem::new(Status::Internal, "internal error"))
            }
            Err(_) => {
                let message = "the call took too long; it may still take effect: check before you repeat it";
                Err(Problem::new(Status::Unavailable, message))
            }
        }
    }
}

fn busy() -> Problem {
    Problem::new(Status::Unavailable, "the service is busy; nothing was done; try again in a second")
}
