//! The thread that does what is due, once a minute: purges, rotations, the summaries of the audit log.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::dispatch::Dispatch;

/// How often it is looked. Dates are told in seconds, and a purge may be late, never early.
const EVERY: Duration = Duration::from_secs(60);

/// The thread's handle; dropping it ends the thread after what it is doing.
pub(crate) struct Scheduler {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scheduler {
    /// Starts the thread. It looks at once: what fell due while the daemon was down has waited long enough.
    pub(crate) fn start(dispatch: Arc<Dispatch>) -> io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let every = EVERY.min(Duration::from_secs(dispatch.lifecycle.deletion_seconds.max(1)));
        let thread = std::thread::Builder::new().name("duties".to_owned()).spawn(move || {
            loop {
                dispatch.run_due_jobs();
                dispatch.tend_log();
                match stopped.recv_timeout(every) {
                    Err(RecvTimeoutError::Timeout) => {}
                    // What was counted since is not lost.
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
            tracing::error!("the thread that does what is due had panicked");
        }
    }
}
