//! A budget of memory for data that has been announced and has not arrived completely. Who has used its share waits
//! until some of it is given back; its data waits in the kernel meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

struct Held<P> {
    sum: usize,
    peers: HashMap<P, usize>,
}

/// The budget; `P` identifies a peer.
pub(crate) struct ByteBudget<P> {
    max: usize,
    per_peer: usize,
    held: Mutex<Held<P>>,
    released: Condvar,
}

impl<P: Copy + Eq + Hash> ByteBudget<P> {
    /// A budget of `max` bytes, of which one peer may have `per_peer`. A single piece must not be longer than that.
    pub(crate) fn new(max: usize, per_peer: usize) -> Self {
        let held = Mutex::new(Held { sum: 0, peers: HashMap::new() });
        Self { max, per_peer, held, released: Condvar::new() }
    }

    /// Takes bytes, or waits for them. Returns `None` after the timeout.
    pub(crate) fn take(self: &Arc<Self>, peer: P, bytes: usize, timeout: Duration) -> Option<HeldBytes<P>> {
        let lacks = |held: &mut Held<P>| {
            held.sum + bytes > self.max || held.peers.get(&peer).copied().unwrap_or(0) + bytes > self.per_peer
        };
        let waited = self.released.wait_timeout_while(self.held(), timeout, lacks);
        let (mut held, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        if timed_out.timed_out() {
            return None;
        }
        held.sum += bytes;
        *held.peers.entry(peer).or_default() += bytes;
        drop(held);
        Some(HeldBytes { budget: Arc::clone(self), peer, bytes })
    }

    fn held(&self) -> MutexGuard<'_, Held<P>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a budget, given back when the value is dropped.
pub(crate) struct HeldBytes<P: Copy + Eq + Hash> {
    budget: Arc<ByteBudget<P>>,
    peer: P,
    bytes: usize,
}

impl<P: Copy + Eq + Hash> Drop for HeldBytes<P> {
    fn drop(&mut self) {
        let mut held = self.budget.held();
        held.sum -= self.bytes;
        if let Some(bytes) = held.peers.get_mut(&self.peer) {
            *bytes -= self.bytes;
            if *bytes == 0 {
                held.peers.remove(&self.peer);
            }
        }
        drop(held);
        self.budget.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[test]
    fn a_peer_has_its_share_and_no_more_and_all_is_given_back() {
        let budget = Arc::new(ByteBudget::new(10, 4));
        let first = budget.take(1, 4, SOON).unwrap();
        assert!(budget.take(1, 1, SOON).is_none());
        let others: Vec<_> = [2, 3].map(|peer| budget.take(peer, 3, SOON).unwrap()).into();
        assert!(budget.take(4, 1, SOON).is_none(), "the sum is used up");
        drop(first);
        assert!(budget.take(1, 4, SOON).is_some());
        drop(others);
        let held = budget.held();
        assert!(held.sum == 0 && held.peers.is_empty());
    }

    #[test]
    fn who_waits_gets_what_is_given_back() {
        let budget = Arc::new(ByteBudget::new(4, 4));
        let first = budget.take(1, 4, SOON).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| budget.take(2, 4, Duration::from_secs(60)).is_some());
            drop(first);
            assert!(second.join().unwrap());
        });
    }
}
