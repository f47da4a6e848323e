//! Quotas: a sliding window of one hour, in steps of a minute. Pure: the caller passes the time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Minutes in a window.
const MINUTES: usize = 60;

/// The maximum number of windows. Each takes some 350 bytes: 3.5 MB at most. When there are more, those with the fewest
/// calls are evicted.
const WINDOWS_MAX: usize = 10_000;

/// The share of a limit that is kept for others: a tenth.
const KEPT_SHARE: u32 = 10;

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
pub(crate) struct Allowance {
    /// Calls per hour.
    pub(crate) limit: u32,
    /// Calls left now.
    pub(crate) remaining: u32,
    /// Seconds until some calls become available again.
    pub(crate) reset: u64,
}

/// The quota is used up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Exhausted(pub(crate) Allowance);

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

    fn add(&mut self) {
        self.calls[slot(self.latest)] += 1;
        self.total += 1;
    }

    /// Takes back a call of this minute, if the minute is still in the window.
    fn take_back(&mut self, minute: u64) {
        let counted = &mut self.calls[slot(minute)];
        if minute <= self.latest && self.latest - minute < MINUTES as u64 && *counted > 0 {
            *counted -= 1;
            self.total -= 1;
        }
    }

    /// Returns the calls that are left of `total` when this many minutes have passed.
    fn total_after(&self, minutes: u64) -> u32 {
        let left = (0..minutes).map(|step| self.latest + 1 + step).map(|minute| self.calls[slot(minute)]);
        self.total.saturating_sub(left.fold(0, u32::saturating_add))
    }

    /// Returns the seconds until `admits` holds for the totals of this window and another, if nobody calls until then.
    fn wait(&self, other: Option<&Self>, now: u64, admits: impl Fn(u32, u32) -> bool) -> u64 {
        let after =
            |minutes| (self.total_after(minutes), other.map_or(0, |other| other.total_after(minutes)));
        let minutes = (1..=MINUTES as u64).find(|minutes| {
            let (total, own) = after(*minutes);
            admits(total, own)
        });
        let at = (self.latest + minutes.unwrap_or(MINUTES as u64)) * 60;
        at.saturating_sub(now).max(1)
    }

    fn allowance(&self, now: u64, limit: u32) -> Allowance {
        let remaining = limit.saturating_sub(self.total);
        Allowance { limit, remaining, reset: self.reset(now) }
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

/// Whether a caller with `own` of `total` calls may have another: as many must be left as it has had itself, up to a
/// tenth of the limit. So the last tenth is for those who have had less, and nobody takes more than half of what is left.
fn is_fair(limit: u32, total: u32, own: u32) -> bool {
    limit.saturating_sub(total) > own.min(limit / KEPT_SHARE)
}

/// The windows of all callers, by key.
#[derive(Debug)]
pub(crate) struct Quota<K> {
    windows: Mutex<HashMap<K, Window>>,
}

impl<K> Default for Quota<K> {
    fn default() -> Self {
        Self { windows: Mutex::default() }
    }
}

impl<K: Copy + Eq + Hash> Quota<K> {
    /// Counts a call at `now` (seconds since 1970), unless there were `limit` calls within the hour.
    pub(crate) fn take(&self, key: K, now: u64, limit: u32) -> Result<Allowance, Exhausted> {
        let mut windows = self.windows();
        let window = window(&mut windows, key, now);
        if window.total >= limit {
            let reset = window.wait(None, now, |total, _| total < limit);
            return Err(Exhausted(Allowance { limit, remaining: 0, reset }));
        }
        window.add();
        Ok(window.allowance(now, limit))
    }

    /// The same for one of several callers (`own`) that share `key`: the last tenth of the calls is for those who have
    /// had less, if `shared`.
    pub(crate) fn take_share(
        &self,
        (key, own): (K, K),
        now: u64,
        limit: u32,
        shared: bool,
    ) -> Result<Allowance, Exhausted> {
        let mut windows = self.windows();
        let mut callers = window(&mut windows, own, now).clone();
        let sum = window(&mut windows, key, now);
        let admits = |total: u32, own: u32| total < limit && (!shared || is_fair(limit, total, own));
        if !admits(sum.total, callers.total) {
            let reset = sum.wait(Some(&callers), now, admits);
            return Err(Exhausted(Allowance { limit, remaining: 0, reset }));
        }
        sum.add();
        let allowance = sum.allowance(now, limit);
        callers.add();
        windows.insert(own, callers);
        Ok(allowance)
    }

    /// Whether a further call of `own` would take from the tenth that is kept for others. Returns `None` if not, else
    /// whether others have called within the hour.
    pub(crate) fn shortage(&self, (key, own): (K, K), now: u64, limit: u32) -> Option<bool> {
        let mut windows = self.windows();
        let own = window(&mut windows, own, now).total;
        let total = window(&mut windows, key, now).total;
        (total < limit && !is_fair(limit, total, own)).then_some(total > own)
    }

    /// Fails if there were `limit` calls within the hour; counts nothing.
    pub(crate) fn check(&self, key: K, now: u64, limit: u32) -> Result<(), Exhausted> {
        let mut windows = self.windows();
        let Some(window) = windows.get_mut(&key) else { return Ok(()) };
        window.advance(now / 60);
        if window.total < limit {
            return Ok(());
        }
        let reset = window.wait(None, now, |total, _| total < limit);
        Err(Exhausted(Allowance { limit, remaining: 0, reset }))
    }

    /// Counts a call, whatever the number of calls before it.
    pub(crate) fn add(&self, key: K, now: u64) {
        window(&mut self.windows(), key, now).add();
    }

    /// Returns the calls of the last hour.
    pub(crate) fn total(&self, key: K, now: u64) -> u32 {
        window(&mut self.windows(), key, now).total
    }

    /// Takes back a call that was counted at `then`. Returns the allowance afterwards.
    pub(crate) fn take_back(&self, key: K, then: u64, now: u64, limit: u32) -> Allowance {
        let mut windows = self.windows();
        let window = window(&mut windows, key, now);
        window.take_back(then / 60);
        window.allowance(now, limit)
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<K, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a caller's window at this time.
fn window<K: Copy + Eq + Hash>(windows: &mut HashMap<K, Window>, key: K, now: u64) -> &mut Window {
    if windows.len() >= WINDOWS_MAX && !windows.contains_key(&key) {
        evict(windows, now / 60);
    }
    let window = windows.entry(key).or_insert_with(|| Window::new(now / 60));
    window.advance(now / 60);
    window
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
    fn a_call_that_is_taken_back_can_be_made_again_for_an_hour() {
        let (quota, at) = (Quota::default(), 60_000);
        quota.take("a", at, 1).unwrap();
        assert_eq!(quota.take_back("a", at, at + 120, 1).remaining, 1);
        // Once only, and not a call of another minute.
        quota.take("a", at + 120, 1).unwrap();
        assert_eq!(quota.take_back("a", at, at + 120, 1).remaining, 0);
        assert_eq!(quota.take_back("a", at - 3600, at + 120, 1).remaining, 0);
    }

    #[test]
    fn the_greedy_leave_calls_for_those_who_had_fewer() {
        let (quota, limit, now) = (Quota::default(), 1000, 6000);
        let take = |own, shared| quota.take_share(("sum", own), now, limit, shared).is_ok();
        let made = |own, shared| (0..2000).take_while(|_| take(own, shared)).count();
        assert_eq!(made("first", true), 900);
        // Each further one has half of what the one before has left: nobody is shut out.
        assert_eq!(made("second", true), 50);
        assert_eq!(made("third", true), 25);
        assert!(take("fourth", true));
        // Without others, all of it; and never more than the limit in sum.
        assert_eq!(quota.shortage(("sum", "first"), now, limit), Some(true));
        assert_eq!(made("first", false), 1000 - 900 - 50 - 25 - 1);
        assert!(!take("fifth", true) && !take("fifth", false));
        assert_eq!(quota.total("sum", now), 1000);
    }

    #[test]
    fn after_the_time_that_a_refusal_states_the_call_is_admitted_and_not_before() {
        let (quota, limit) = (Quota::default(), 100);
        let take = |now| quota.take_share(("sum", "own"), now, limit, true);
        // Sixty in the first minute, thirty in the tenth: a further call needs the first minute's to leave.
        for _ in 0..60 {
            take(600).unwrap();
        }
        for _ in 0..30 {
            take(1200).unwrap();
        }
        let Exhausted(refused) = take(1230).unwrap_err();
        assert_eq!(refused.reset, 600 + 3600 - 1230);
        assert!(take(1230 + refused.reset - 1).is_err());
        assert!(take(1230 + refused.reset).is_ok());
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
