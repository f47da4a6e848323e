//! The log of events that others can cause at any rate: at most one line a minute, with the number of events since the
//! line before.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The interval between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// Decides which events are logged.
#[derive(Debug, Default)]
pub(crate) struct ThrottledLog(Mutex<(Option<Instant>, u64)>);

impl ThrottledLog {
    /// Counts an event. Returns the number of events since the last line if this one is to be logged, else `None`.
    pub(crate) fn count(&self) -> Option<u64> {
        self.count_at(super::now())
    }

    fn count_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        if state.0.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_one_line_and_no_event_is_lost() {
        let (log, start) = (ThrottledLog::default(), super::super::now());
        assert_eq!(log.count_at(start), Some(1));
        for second in 1..60 {
            assert_eq!(log.count_at(start + Duration::from_secs(second)), None);
        }
        assert_eq!(log.count_at(start + INTERVAL), Some(60));
    }
}
