//! Work that may block, kept off the threads that read and write: so much at once, so much waiting, no more.

use std::sync::Arc;
use std::time::Duration;

use kms_core::api::{Operation, Outcome, Problem, RequestContext, Status};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::backend_trait::RestBackend;

/// How much blocks at once. Most of it waits for the HSM or the disk, so it is far more than there are cores; tokio's
/// own bound for such threads is 512.
const RUNNING_MAX: usize = 64;

/// How much more may wait: at the slowest (RSA-4096 key pairs, half a second each) none would be done in time if more did.
const WAITING_MAX: usize = 1024;

/// How long it may wait for its turn. Nothing has happened then.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// How long it may take. What began is finished nevertheless; only nobody waits for it any more.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// The places for work.
#[derive(Debug)]
pub(super) struct Work {
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Work {
    pub(super) fn new() -> Self {
        let running = Arc::new(Semaphore::new(RUNNING_MAX));
        Self { running, places: Arc::new(Semaphore::new(RUNNING_MAX + WAITING_MAX)) }
    }

    /// Answers an operation on a thread that may block.
    pub(super) async fn serve(
        &self,
        backend: &Arc<dyn RestBackend>,
        context: RequestContext,
        operation: Operation,
    ) -> Result<Outcome, Problem> {
        let backend = Arc::clone(backend);
        self.run(move || backend.serve(&context, operation)).await?
    }

    /// Does something on a thread that may block.
    ///
    /// # Errors
    /// 503 when there is no place, no turn in time, or no end in time; 500 when it panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        let turn = tokio::time::timeout(TURN_WITHIN, Arc::clone(&self.running).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let held: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (place, turn);
        let task = tokio::task::spawn_blocking(move || {
            let done = job();
            // Given back when the work ends, not when its caller goes.
            drop(held);
            done
        });
        match tokio::time::timeout(DONE_WITHIN, task).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => {
                tracing::error!("a call made the backend panic; this is a bug");
                Err(Problem::new(Status::Internal, "internal error"))
            }
            Err(_) => {
                let sentence = "the call took too long; it may still take effect: look before you repeat it";
                Err(Problem::new(Status::Unavailable, sentence))
            }
        }
    }
}

fn busy() -> Problem {
    Problem::new(Status::Unavailable, "the service is busy; nothing was done; try again in a second")
}
