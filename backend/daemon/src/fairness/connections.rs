//! The open connections of a listener. No peer may have more than its share; when there are too many, the connection
//! that has been idle for the longest time of the peer with the most is closed, never one with a request in flight.
//!
//! A client whose idle connection is closed connects again with its next request: providers do, and HTTP clients.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The limits of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Connections of all peers together.
    pub(crate) max: usize,
    /// Connections of one peer.
    pub(crate) per_peer: usize,
    /// Of `max`, those that only exempt peers may take.
    pub(crate) kept: usize,
}

/// What happened at a listener since its start.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounts {
    refused: AtomicU64,
    closed: AtomicU64,
}

impl ListenerCounts {
    /// Connections that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Idle connections that were closed for others.
    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub(crate) struct Activity {
    created: Instant,
    /// Milliseconds from `created` to the end of the last request.
    last: AtomicU64,
    in_flight: AtomicUsize,
    closing: AtomicBool,
}

impl Activity {
    /// The activity of a new connection.
    pub(crate) fn new() -> Arc<Self> {
        let (last, in_flight, closing) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { created: super::now(), last, in_flight, closing })
    }

    /// Marks a request as in flight until the value is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }

    /// Whether the connection was chosen to be closed, and has no request in flight.
    pub(crate) fn may_close(&self) -> bool {
        self.closing.load(Ordering::SeqCst) && self.is_idle()
    }

    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0
    }

    fn idle_since(&self) -> Instant {
        self.created + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let since = super::now().saturating_duration_since(self.0.created);
        self.0.last.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Open<P> {
    peer: P,
    activity: Arc<Activity>,
    close: Box<dyn Fn() + Send>,
}

struct Table<P> {
    next: u64,
    open: HashMap<u64, Open<P>>,
    peers: HashMap<P, usize>,
    /// Connections that were closed for others and have not ended yet; they no longer count.
    leaving: usize,
}

impl<P: Copy + Eq + Hash> Table<P> {
    fn count(&self, peer: P) -> usize {
        self.peers.get(&peer).copied().unwrap_or(0)
    }

    fn remove(&mut self, number: u64) -> Option<Open<P>> {
        let open = self.open.remove(&number)?;
        if let Some(count) = self.peers.get_mut(&open.peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&open.peer);
            }
        }
        Some(open)
    }

    /// The connection of a peer that has been idle for the longest time.
    fn longest_idle(&self, peer: P) -> Option<u64> {
        let idle = self.open.iter().filter(|(_, open)| open.peer == peer && open.activity.is_idle());
        idle.min_by_key(|(number, open)| (open.activity.idle_since(), **number)).map(|(number, _)| *number)
    }

    /// The connection to close for a newcomer: of the peer with the most connections, and of the newcomer's own peer
    /// only if none has more.
    fn victim(&self, newcomer: P) -> Option<u64> {
        let own = self.count(newcomer);
        let mut peers: Vec<_> =
            self.peers.iter().filter(|(peer, count)| **peer == newcomer || **count > own).collect();
        peers.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        peers.into_iter().find_map(|(peer, _)| self.longest_idle(*peer))
    }
}

/// The open connections of a listener; `P` identifies a peer.
pub(crate) struct Connections<P> {
    limits: ConnectionLimits,
    counts: Arc<ListenerCounts>,
    table: Mutex<Table<P>>,
    ended: Condvar,
}

impl<P: Copy + Eq + Hash> Connections<P> {
    /// No connections.
    pub(crate) fn new(limits: ConnectionLimits, counts: Arc<ListenerCounts>) -> Self {
        let table = Table { next: 0, open: HashMap::new(), peers: HashMap::new(), leaving: 0 };
        Self { limits, counts, table: Mutex::new(table), ended: Condvar::new() }
    }

    /// Takes a place for a connection. `close` asks the connection to end as soon as it has no request in flight.
    /// Exempt peers are bound by the sum alone. Returns `None`, and counts it, if there is no place and no idle
    /// connection that may be closed.
    pub(crate) fn enter(
        self: &Arc<Self>,
        peer: P,
        exempt: bool,
        activity: &Arc<Activity>,
        close: impl Fn() + Send + 'static,
    ) -> Option<Place<P>> {
        let mut table = self.table();
        let most = if exempt { self.limits.max } else { self.limits.max.saturating_sub(self.limits.kept) };
        let at_share = !exempt && table.count(peer) >= self.limits.per_peer;
        if at_share || table.open.len() >= most {
            let victim = if at_share { table.longest_idle(peer) } else { table.victim(peer) };
            let Some(open) = victim.and_then(|number| table.remove(number)) else {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            table.leaving += 1;
            self.counts.closed.fetch_add(1, Ordering::Relaxed);
            open.activity.closing.store(true, Ordering::SeqCst);
            (open.close)();
        }
        table.next += 1;
        let number = table.next;
        let (activity, close) = (Arc::clone(activity), Box::new(close));
        table.open.insert(number, Open { peer, activity, close });
        *table.peers.entry(peer).or_default() += 1;
        drop(table);
        Some(Place { connections: Arc::clone(self), number })
    }

    /// Asks all connections to end, and waits until they have. Returns the number of those that have not.
    pub(crate) fn drain(&self, timeout: Duration) -> usize {
        let table = self.table();
        for open in table.open.values() {
            open.activity.closing.store(true, Ordering::SeqCst);
            (open.close)();
        }
        let some = |table: &mut Table<P>| table.open.len() + table.leaving > 0;
        let (table, _) =
            self.ended.wait_timeout_while(table, timeout, some).unwrap_or_else(PoisonError::into_inner);
        table.open.len() + table.leaving
    }

    fn table(&self) -> MutexGuard<'_, Table<P>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection, given back when it is dropped.
pub(crate) struct Place<P: Copy + Eq + Hash> {
    connections: Arc<Connections<P>>,
    number: u64,
}

impl<P: Copy + Eq + Hash> Place<P> {
    /// The connection's number, unique at its listener.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl<P: Copy + Eq + Hash> Drop for Place<P> {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        if table.remove(self.number).is_none() {
            table.leaving -= 1;
        }
        drop(table);
        self.connections.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        connections: Arc<Connections<u32>>,
        counts: Arc<ListenerCounts>,
        closed: Arc<Mutex<Vec<u32>>>,
        open: Vec<(u32, Arc<Activity>, Place<u32>)>,
    }

    impl Fixture {
        fn new(max: usize, per_peer: usize, kept: usize) -> Self {
            let counts = Arc::new(ListenerCounts::default());
            let limits = ConnectionLimits { max, per_peer, kept };
            let connections = Arc::new(Connections::new(limits, Arc::clone(&counts)));
            Self { connections, counts, closed: Arc::default(), open: Vec::new() }
        }

        fn enter(&mut self, peer: u32, exempt: bool) -> bool {
            let (activity, closed) = (Activity::new(), Arc::clone(&self.closed));
            let close = move || closed.lock().unwrap().push(peer);
            let place = self.connections.enter(peer, exempt, &activity, close);
            let entered = place.is_some();
            self.open.extend(place.map(|place| (peer, activity, place)));
            entered
        }

        fn closed(&self) -> Vec<u32> {
            std::mem::take(&mut self.closed.lock().unwrap())
        }
    }

    #[test]
    fn a_peer_at_its_share_loses_its_own_longest_idle_connection() {
        let mut fixture = Fixture::new(8, 2, 0);
        for _ in 0..3 {
            assert!(fixture.enter(1, false));
        }
        assert_eq!(fixture.closed(), [1]);
        assert!(fixture.open[0].1.may_close() && !fixture.open[1].1.may_close());
        // All of its connections have a request in flight: it is refused, and others are not.
        let busy: Vec<_> = fixture.open.iter().map(|(_, activity, _)| activity.busy()).collect();
        assert!(!fixture.enter(1, false) && fixture.enter(2, false));
        assert_eq!((fixture.counts.refused(), fixture.counts.closed()), (1, 1));
        drop(busy);
        assert!(fixture.enter(1, false));
    }

    #[test]
    fn a_full_house_closes_an_idle_connection_of_the_greediest_peer() {
        let mut fixture = Fixture::new(6, 3, 0);
        for peer in [1, 1, 1, 2, 2, 3] {
            assert!(fixture.enter(peer, false));
        }
        assert!(fixture.enter(4, false));
        assert_eq!(fixture.closed(), [1]);
        // The two with the most have everything in flight: the next one gives way.
        let busy: Vec<_> =
            fixture.open.iter().filter(|(peer, ..)| *peer < 3).map(|(_, open, _)| open.busy()).collect();
        assert!(fixture.enter(5, false));
        assert!([[3], [4]].contains(&fixture.closed()[..].try_into().unwrap()));
        drop(busy);
    }

    #[test]
    fn places_are_kept_for_exempt_peers() {
        let mut fixture = Fixture::new(4, 3, 1);
        let mut busy = Vec::new();
        for peer in [1, 2, 3] {
            assert!(fixture.enter(peer, false));
            busy.push(fixture.open.last().unwrap().1.busy());
        }
        assert!(!fixture.enter(4, false));
        assert!(fixture.enter(0, true));
        // Then it is full for everybody.
        busy.push(fixture.open.last().unwrap().1.busy());
        assert!(!fixture.enter(0, true));
    }

    #[test]
    fn connections_that_leave_are_waited_for_but_do_not_count() {
        let mut fixture = Fixture::new(2, 2, 0);
        for peer in [1, 1, 2] {
            assert!(fixture.enter(peer, false));
        }
        assert_eq!(fixture.connections.drain(Duration::from_millis(1)), 3);
        fixture.open.clear();
        assert_eq!(fixture.connections.drain(Duration::from_secs(1)), 0);
        assert!(fixture.connections.table().peers.is_empty());
    }
}
