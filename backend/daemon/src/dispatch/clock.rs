//! The dispatcher's clock. Tests put it forward: thirty days pass in no time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The system's clock, put forward by so many seconds: none, outside of tests.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ahead: AtomicU64,
}

impl Clock {
    /// Milliseconds since 1970.
    pub(crate) fn millis(&self) -> u64 {
        let ahead = Duration::from_secs(self.ahead.load(Ordering::Relaxed));
        u64::try_from((elapsed() + ahead).as_millis()).unwrap_or(u64::MAX)
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&self) -> u64 {
        self.millis() / 1000
    }

    /// Puts it forward.
    #[cfg(test)]
    pub(crate) fn advance(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "dispatch is the shell that owns the clock for the rooms it calls"
)]
fn elapsed() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
