//! The scheduler: a thread that runs background jobs once a minute: erasure, rotation, summaries of the audit log.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::dispatch::Dispatch;

/// The interval between two runs. Dates have a resolution of one second; erasure may be late, never early.
const INTERVAL: Duration = Duration::from_secs(60);

/// The handle of the scheduler's thread. Dropping it ends the thread after the jobs in progress.
pub(crate) struct Scheduler {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scheduler {
    /// Starts the thread. It runs all jobs at once, because some may have fallen due while the daemon was stopped.
    pub(crate) fn start(dispatch: Arc<Dispatch>) -> io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let interval = INTERVAL.min(Duration::from_secs(dispatch.lifecycle.deletion_seconds.max(1)));
        let thread = std::thread::Builder::new().name("scheduler".to_owned()).spawn(move || {
            loop {
                dispatch.run_due_jobs();
                dispatch.keys.wipe_expired();
                kms_crypto::wipe_stack();
                dispatch.maintain_audit_log();
                dispatch.follow_counter(Some(dispatch.clock.millis()));
                dispatch.watch_disk();
                match stopped.recv_timeout(interval) {
                    Err(RecvTimeoutError::Timeout) => {}
                    // Writes the counts since the last summary.
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return dispatch.summarise(),
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the scheduler's thread had panicked");
        }
    }
}
