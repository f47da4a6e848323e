//! The dispatcher's clock, which tests can advance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The system's clock plus an offset in seconds, which is zero outside of tests.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset: AtomicU64,
}

impl Clock {
    /// Milliseconds since 1970.
    pub(crate) fn millis(&self) -> u64 {
        let offset = Duration::from_secs(self.offset.load(Ordering::Relaxed));
        u64::try_from((elapsed() + offset).as_millis()).unwrap_or(u64::MAX)
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&self) -> u64 {
        self.millis() / 1000
    }

    /// Advances the clock.
    #[cfg(test)]
    pub(crate) fn advance(&self, seconds: u64) {
        self.offset.fetch_add(seconds, Ordering::Relaxed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "dispatch is the I/O layer: it reads the clock for the modules that it calls"
)]
fn elapsed() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
