//! Whether several users have requests at present. Only then must one of them leave processors to the others.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// For how long after its last request a user counts as present, in milliseconds.
const PRESENT_MILLIS: u32 = 100;

/// Two words that each request reads, and that a user without others writes once in a millisecond. Threads that race here
/// judge one request wrongly, which costs the fairness of that request.
pub(crate) struct Contention {
    started: Instant,
    /// The user of the last request, and when that was.
    latest: AtomicU64,
    /// When the last request of another user than that one was.
    others: AtomicU32,
}

impl Contention {
    /// Nobody has made a request.
    pub(crate) fn new() -> Self {
        let never = 0_u32.wrapping_sub(PRESENT_MILLIS);
        Self {
            started: super::now(),
            latest: AtomicU64::new(packed(u32::MAX, never)),
            others: AtomicU32::new(never),
        }
    }

    /// Notes a request of this user. Returns true if another one has made one lately.
    pub(crate) fn note(&self, uid: u32) -> bool {
        let since = super::now().saturating_duration_since(self.started).as_millis();
        // Wraps around after 49 days, when a user without others may once be taken for one of several.
        self.note_at(uid, u32::try_from(since & u128::from(u32::MAX)).unwrap_or_default())
    }

    fn note_at(&self, uid: u32, now: u32) -> bool {
        let latest = self.latest.load(Ordering::Relaxed);
        let (before, at) = unpacked(latest);
        if before != uid {
            self.others.store(at, Ordering::Relaxed);
        }
        if latest != packed(uid, now) {
            self.latest.store(packed(uid, now), Ordering::Relaxed);
        }
        now.wrapping_sub(self.others.load(Ordering::Relaxed)) < PRESENT_MILLIS
    }
}

fn packed(uid: u32, at: u32) -> u64 {
    (u64::from(uid) << 32) | u64::from(at)
}

fn unpacked(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_alone_until_another_comes_and_again_when_it_is_gone() {
        let contention = Contention::new();
        assert!((0..500).all(|now| !contention.note_at(1, now)));
        assert!(contention.note_at(2, 500), "1 was there just now");
        assert!(contention.note_at(1, 501));
        assert!((502..600).all(|now| contention.note_at(1, now)));
        assert!((600..700).all(|now| !contention.note_at(1, now)));
    }

    #[test]
    fn the_first_user_is_alone_at_any_time() {
        for now in [0, 50, 1000] {
            assert!(!Contention::new().note_at(7, now));
        }
    }
}
