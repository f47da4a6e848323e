//! Quotas: a sliding window of one hour, in steps of a minute. Pure: the caller passes the time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Minutes in a window.
const MINUTES: usize = 60;

/// The maximum number of windows. Each takes some 350 bytes: 3.5 MB at most. When there are more, those with the fewest
/// calls are evicted.
const WINDOWS_MAX: usize = 10_000;

/// The calls of one hour, by minute.
#[derive(Clone, Debug)]
struct Window {
    /// Calls in minute `m` are at `m % 60`.
    calls: [u32; MINUTES],
    /// The latest minute that was counted.
    latest: u64,
    /// The sum of `calls`.
    total: u32,
}

/// The state of a quota after a call, as the `RateLimit` headers report it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Allowance {
    /// Calls per hour.
    pub(super) limit: u32,
    /// Calls left now.
    pub(super) remaining: u32,
    /// Seconds until some calls become available again.
    pub(super) reset: u64,
}

/// The quota is used up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Exhausted(pub(super) Allowance);

impl Window {
    fn new(minute: u64) -> Self {
        Self { calls: [0; MINUTES], latest: minute, total: 0 }
    }

    /// Drops the minutes that have left the window. If the clock was set back, calls count in the latest minute.
    fn advance(&mut self, minute: u64) {
        let passed = minute.saturating_sub(self.latest).min(MINUTES as u64);
        for step in 1..=passed {
            let left = std::mem::take(&mut self.calls[slot(minute - passed + step)]);
            self.total = self.total.saturating_sub(left);
        }
        self.latest = self.latest.max(minute);
    }

    /// Counts a call, unless the window is full.
    fn take(&mut self, now: u64, limit: u32) -> Result<Allowance, Exhausted> {
        self.advance(now / 60);
        let full = self.total >= limit;
        if !full {
            self.calls[slot(self.latest)] += 1;
            self.total += 1;
        }
        let remaining = limit.saturating_sub(self.total);
        let allowance = Allowance { limit, remaining, reset: self.reset(now) };
        if full { Err(Exhausted(allowance)) } else { Ok(allowance) }
    }

    /// Returns the seconds until the oldest minute with calls leaves the window.
    fn reset(&self, now: u64) -> u64 {
        let minutes = (0..MINUTES as u64).rev().filter(|age| *age <= self.latest);
        let oldest = minutes.map(|age| self.latest - age).find(|minute| self.calls[slot(*minute)] > 0);
        let leaves = (oldest.unwrap_or(self.latest) + MINUTES as u64) * 60;
        leaves.saturating_sub(now).max(1)
    }
}

/// The index of a minute in the window.
fn slot(minute: u64) -> usize {
    usize::try_from(minute % MINUTES as u64).unwrap_or(0)
}

/// The windows of all callers, by key.
#[derive(Debug)]
pub(super) struct Quota<K> {
    windows: Mutex<HashMap<K, Window>>,
}

impl<K> Default for Quota<K> {
    fn default() -> Self {
        Self { windows: Mutex::default() }
    }
}

impl<K: Copy + Eq + Hash> Quota<K> {
    /// Counts a call at `now` (seconds since 1970), unless there were `limit` calls within the hour.
    pub(super) fn take(&self, key: K, now: u64, limit: u32) -> Result<Allowance, Exhausted> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= WINDOWS_MAX && !windows.contains_key(&key) {
            evict(&mut windows, now / 60);
        }
        windows.entry(key).or_insert_with(|| Window::new(now / 60)).take(now, limit)
    }
}

/// Evicts the windows without calls in the last hour; if there are none, the tenth with the fewest calls.
fn evict<K: Copy + Eq + Hash>(windows: &mut HashMap<K, Window>, minute: u64) {
    windows.retain(|_, window| {
        window.advance(minute);
        window.total > 0
    });
    if windows.len() < WINDOWS_MAX {
        return;
    }
    let mut totals: Vec<u32> = windows.values().map(|window| window.total).collect();
    let tenth = WINDOWS_MAX / 10;
    let (_, limit, _) = totals.select_nth_unstable(tenth);
    let (limit, mut left) = (*limit, tenth);
    windows.retain(|_, window| {
        let evicted = window.total <= limit && left > 0;
        left -= usize::from(evicted);
        !evicted
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_are_available_again_after_their_minute_left() {
        let quota = Quota::default();
        let at = 1_000_000 * 60;
        assert_eq!(quota.take("a", at, 2).unwrap(), Allowance { limit: 2, remaining: 1, reset: 3600 });
        assert_eq!(quota.take("a", at + 90, 2).unwrap().remaining, 0);
        assert_eq!(quota.take("b", at + 90, 2).unwrap().remaining, 1);
        let Exhausted(full) = quota.take("a", at + 120, 2).unwrap_err();
        assert_eq!((full.remaining, full.reset), (0, 3600 - 120));
        assert!(quota.take("a", at + 3599, 2).is_err());
        // The first call's minute has left; the second's has not.
        assert_eq!(quota.take("a", at + 3600, 2).unwrap().remaining, 0);
        assert!(quota.take("a", at + 3601, 2).is_err());
        assert_eq!(quota.take("a", at + 10_000_000, 2).unwrap().remaining, 1);
    }

    #[test]
    fn many_new_callers_do_not_evict_the_busiest() {
        let quota = Quota::default();
        for _ in 0..5 {
            quota.take(0, 60, 5).unwrap();
        }
        for key in 1..=3 * WINDOWS_MAX {
            quota.take(key, 60, 5).unwrap();
        }
        assert!(quota.windows.lock().unwrap().len() <= WINDOWS_MAX);
        assert!(quota.take(0, 60, 5).is_err());
    }

    proptest! {
        /// Whatever the clock does, no hour of whole minutes has more calls than the limit.
        #[test]
        fn no_hour_has_more_than_the_limit(steps in prop::collection::vec((0u64..2000, 1u32..4), 1..200)) {
            let quota = Quota::default();
            let (mut now, mut granted) = (0u64, Vec::new());
            for (step, calls) in steps {
                now += step;
                for _ in 0..calls {
                    if quota.take((), now, 7).is_ok() {
                        granted.push(now / 60);
                    }
                }
            }
            for end in &granted {
                let hour = granted.iter().filter(|minute| **minute <= *end && **minute + 60 > *end).count();
                prop_assert!(hour <= 7, "{hour} in the hour before minute {end}");
            }
        }
    }
}
