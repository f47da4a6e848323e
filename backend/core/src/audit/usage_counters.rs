//! Counters in memory of how often each caller used each key version between two summaries. Each signature is counted
//! here, so a count costs one hash, one lock that is hardly ever contended, and an allocation only the first time.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::object::KeyVersion;

/// The number of parts of the table with a lock each: more than there are threads that sign at the same time.
const SHARDS: usize = 16;

/// The maximum number of counters in one part: 10,000 in all, as many as there are opened keys (`[keys]
/// cache_entries`). Further uses in the same minute are counted in one sum, without caller and key.
const COUNTERS_MAX: usize = 10_000 / SHARDS;

/// One use of a key version, or one call that was denied.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Used<'a> {
    /// The API: `pkcs11` or `rest`.
    pub api: &'static str,
    /// The event's name in the audit log.
    pub event: &'static str,
    /// The account's id, if there is an account.
    pub initiator: Option<Uuid>,
    /// The caller's name.
    pub name: &'a str,
    /// The user id of the peer, if the call came over a Unix socket.
    pub uid: Option<u32>,
    /// The project, if it is known already.
    pub project: Option<Uuid>,
    /// The ring, if it concerns one.
    pub ring: Option<[u8; 16]>,
    /// The key version, if it concerns one.
    pub version: Option<KeyVersion>,
    /// The result as an HTTP status.
    pub status: u16,
}

/// The number of times that a use or denial was counted.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "each is the field of that name of `Used`")]
pub struct Count {
    pub api: &'static str,
    pub event: &'static str,
    pub initiator: Option<Uuid>,
    pub name: String,
    pub uid: Option<u32>,
    pub project: Option<Uuid>,
    pub ring: Option<[u8; 16]>,
    pub version: Option<KeyVersion>,
    pub status: u16,
    /// The number of times.
    pub times: u64,
}

impl Count {
    /// The count of a use that was counted once.
    pub fn first(used: &Used<'_>) -> Self {
        let Used { api, event, initiator, name, uid, project, ring, version, status } = *used;
        Self { api, event, initiator, name: name.to_owned(), uid, project, ring, version, status, times: 1 }
    }

    fn used(&self) -> Used<'_> {
        let Self { api, event, initiator, name, uid, project, ring, version, status, .. } = self;
        Used {
            api,
            event,
            initiator: *initiator,
            name,
            uid: *uid,
            project: *project,
            ring: *ring,
            version: *version,
            status: *status,
        }
    }
}

/// The counts since the last summary.
#[derive(Debug, Default)]
pub struct Counted {
    /// The counts by caller, key version and event.
    pub counts: Vec<Count>,
    /// The sum of the uses for which there was no free counter.
    pub others: u64,
}

/// The counters.
#[derive(Debug, Default)]
pub struct Tally {
    // Keyed at random for each process, so that no caller can choose names whose hashes collide.
    hash: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    counts: HashMap<u64, Count, BuildHasherDefault<IdentityHasher>>,
    others: u64,
}

/// The hasher of a shard's map, whose keys are hashes already.
#[derive(Debug, Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a u64 is hashed by write_u64");
    }

    fn write_u64(&mut self, hash: u64) {
        // The map chooses a bucket by the low bits, which are the same for all keys of a shard.
        self.0 = hash.rotate_right(8);
    }
}

impl Tally {
    /// Counts a use, and returns how many equal ones were counted since the last [`Tally::take`].
    pub fn count(&self, used: &Used<'_>) -> u64 {
        self.add(used, 1)
    }

    fn add(&self, used: &Used<'_>, times: u64) -> u64 {
        let mut hash = self.hash.hash_one(used);
        let mut shard = self.shard(hash);
        let has_free_counter = shard.counts.len() < COUNTERS_MAX;
        loop {
            match shard.counts.get_mut(&hash) {
                Some(count) if count.used() == *used => {
                    count.times += times;
                    return count.times;
                }
                // Two different uses with the same hash: try the next one.
                Some(_) => hash = hash.wrapping_add(1),
                None if has_free_counter => {
                    shard.counts.insert(hash, Count { times, ..Count::first(used) });
                    return times;
                }
                None => {
                    shard.others += times;
                    return shard.others;
                }
            }
        }
    }

    /// Takes the counts since the last time, in the order in which they are logged.
    pub fn take(&self) -> Counted {
        let mut all = Counted::default();
        for shard in &self.shards {
            let shard = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            all.counts.extend(shard.counts.into_values());
            all.others += shard.others;
        }
        all.counts.sort_by(|left, right| {
            let order =
                |count: &Count| (count.ring, count.version.map(|version| (version.key, version.number)));
            order(left).cmp(&order(right)).then_with(|| {
                (left.event, &left.name, left.uid, left.status).cmp(&(
                    right.event,
                    &right.name,
                    right.uid,
                    right.status,
                ))
            })
        });
        all
    }

    /// Adds counts again that were taken but could not be written.
    pub fn put_back(&self, counted: &Counted) {
        for count in &counted.counts {
            self.add(&count.used(), count.times);
        }
        self.shard(0).others += counted.others;
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let index = usize::from(hash.to_le_bytes()[0]) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(name: &str, key: u8) -> Used<'_> {
        Used {
            api: "pkcs11",
            event: "kms.key.version.sign",
            initiator: None,
            name,
            uid: Some(1),
            project: None,
            ring: Some([1; 16]),
            version: Some(KeyVersion { key: [key; 16], number: 1 }),
            status: 200,
        }
    }

    #[test]
    fn each_caller_key_and_event_has_a_counter() {
        let tally = Tally::default();
        for _ in 0..3 {
            tally.count(&used("a", 1));
        }
        assert_eq!(tally.count(&used("b", 1)), 1);
        assert_eq!(tally.count(&used("a", 2)), 1);
        assert_eq!(tally.count(&Used { event: "kms.key.version.decrypt", ..used("a", 1) }), 1);
        assert_eq!(tally.count(&Used { status: 403, ..used("a", 1) }), 1);
        assert_eq!(tally.count(&used("a", 1)), 4);
        let Counted { counts, others } = tally.take();
        assert_eq!((counts.len(), others), (5, 0));
        assert_eq!(counts.iter().map(|count| count.times).sum::<u64>(), 8);
        assert!(tally.take().counts.is_empty(), "counts that were taken are removed");
    }

    #[test]
    fn counts_that_are_put_back_are_added() {
        let tally = Tally::default();
        tally.count(&used("a", 1));
        let counted = tally.take();
        tally.count(&used("a", 1));
        tally.put_back(&counted);
        assert_eq!(tally.take().counts, [Count { times: 2, ..Count::first(&used("a", 1)) }]);
    }

    #[test]
    fn the_number_of_counters_is_bounded_and_no_use_is_lost() {
        let tally = Tally::default();
        let all = 3 * SHARDS * COUNTERS_MAX;
        for number in 0..all {
            tally.count(&used(&number.to_string(), 1));
        }
        let Counted { counts, others } = tally.take();
        assert!(counts.len() <= SHARDS * COUNTERS_MAX);
        let counted: u64 = counts.iter().map(|count| count.times).sum();
        assert_eq!(counted + others, u64::try_from(all).unwrap());
    }

    #[test]
    fn concurrent_counts_add_up() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 0..1000_u16 {
                        tally.count(&used("a", (key % 7).to_le_bytes()[0]));
                    }
                });
            }
        });
        let counts = tally.take().counts;
        assert_eq!((counts.len(), counts.iter().map(|count| count.times).sum::<u64>()), (7, 4000));
    }
}
