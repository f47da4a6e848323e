//! A gate before expensive work: a few pieces run at a time, and those that wait come in turn by user, and within a user
//! by ring. So the one who asks most waits longest, and nobody waits behind all that another has asked for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// Pieces of work that may wait for one tenant: one for each possible connection.
const WAITING_MAX: usize = 1024;

/// For whom work is done.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Tenant {
    /// The user of the operating system, if the work was asked for over a Unix socket.
    pub(crate) uid: Option<u32>,
    /// The ring.
    pub(crate) ring: [u8; 16],
}

/// Too much work waits, or it did not start in time. Nothing was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct GateFull;

/// Numbers of pieces of work that wait, by ring: the ring whose turn is next is first.
type Rings = VecDeque<([u8; 16], VecDeque<u64>)>;

#[derive(Default)]
struct State {
    next: u64,
    /// The user whose turn is next is first.
    waiting: VecDeque<(Option<u32>, Rings)>,
    running: HashMap<Tenant, usize>,
    granted: HashSet<u64>,
    /// The threads of what waits: only the one whose turn has come is woken.
    threads: HashMap<u64, Thread>,
}

impl State {
    fn running(&self) -> usize {
        self.running.values().sum()
    }

    fn waiting_of(&self, tenant: Tenant) -> usize {
        let rings = self.waiting.iter().find(|(uid, _)| *uid == tenant.uid).map(|(_, rings)| rings);
        rings
            .and_then(|rings| rings.iter().find(|(ring, _)| *ring == tenant.ring))
            .map_or(0, |(_, queue)| queue.len())
    }

    fn push(&mut self, tenant: Tenant) -> u64 {
        self.next += 1;
        let number = self.next;
        if !self.waiting.iter().any(|(uid, _)| *uid == tenant.uid) {
            self.waiting.push_back((tenant.uid, Rings::new()));
        }
        for (_, rings) in self.waiting.iter_mut().filter(|(uid, _)| *uid == tenant.uid) {
            if !rings.iter().any(|(ring, _)| *ring == tenant.ring) {
                rings.push_back((tenant.ring, VecDeque::new()));
            }
            for (_, queue) in rings.iter_mut().filter(|(ring, _)| *ring == tenant.ring) {
                queue.push_back(number);
            }
        }
        number
    }

    /// Takes the next piece of work whose tenant has fewer than `per_tenant` running. Its user and ring come last then.
    fn pop(&mut self, per_tenant: usize) -> Option<(Tenant, u64)> {
        for at in 0..self.waiting.len() {
            let (uid, rings) = &self.waiting[at];
            let may_run = |ring: [u8; 16]| {
                self.running.get(&Tenant { uid: *uid, ring }).is_none_or(|running| *running < per_tenant)
            };
            let Some(within) = rings.iter().position(|(ring, _)| may_run(*ring)) else { continue };
            let (uid, mut rings) = self.waiting.remove(at)?;
            let (ring, mut queue) = rings.remove(within)?;
            let number = queue.pop_front()?;
            if !queue.is_empty() {
                rings.push_back((ring, queue));
            }
            if !rings.is_empty() {
                self.waiting.push_back((uid, rings));
            }
            return Some((Tenant { uid, ring }, number));
        }
        None
    }

    /// Removes a piece of work that no longer waits.
    fn give_up(&mut self, number: u64) {
        for (_, rings) in &mut self.waiting {
            for (_, queue) in rings.iter_mut() {
                queue.retain(|waiting| *waiting != number);
            }
            rings.retain(|(_, queue)| !queue.is_empty());
        }
        self.waiting.retain(|(_, rings)| !rings.is_empty());
    }
}

/// The gate.
pub(crate) struct Gate {
    places: usize,
    per_tenant: usize,
    state: Mutex<State>,
}

impl Gate {
    /// A gate with as many places as there are processors. No tenant takes all of them if there is more than one.
    pub(crate) fn of_processors() -> Self {
        let places = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::new(places, places.saturating_sub(1).max(1))
    }

    /// A gate with this many places, of which one tenant may have `per_tenant`.
    pub(crate) fn new(places: usize, per_tenant: usize) -> Self {
        Self { places, per_tenant, state: Mutex::default() }
    }

    /// Waits for a turn; the place is given back when the value is dropped.
    pub(crate) fn enter(&self, tenant: Tenant, timeout: Duration) -> Result<GatePlace<'_>, GateFull> {
        let mut state = self.state();
        if state.waiting_of(tenant) >= WAITING_MAX {
            return Err(GateFull);
        }
        let number = state.push(tenant);
        self.admit(&mut state);
        let started = super::now();
        loop {
            if state.granted.remove(&number) {
                state.threads.remove(&number);
                return Ok(GatePlace { gate: self, tenant });
            }
            let Some(left) = timeout.checked_sub(started.elapsed()) else { break };
            state.threads.insert(number, std::thread::current());
            drop(state);
            // May return early; then the loop waits again.
            std::thread::park_timeout(left);
            state = self.state();
        }
        state.threads.remove(&number);
        state.give_up(number);
        Err(GateFull)
    }

    fn admit(&self, state: &mut State) {
        while state.running() < self.places
            && let Some((tenant, number)) = state.pop(self.per_tenant)
        {
            *state.running.entry(tenant).or_default() += 1;
            state.granted.insert(number);
            if let Some(thread) = state.threads.get(&number) {
                thread.unpark();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, given back when it is dropped.
pub(crate) struct GatePlace<'a> {
    gate: &'a Gate,
    tenant: Tenant,
}

impl Drop for GatePlace<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if let Some(running) = state.running.get_mut(&self.tenant) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(&self.tenant);
            }
        }
        self.gate.admit(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(uid: u32, ring: u8) -> Tenant {
        Tenant { uid: Some(uid), ring: [ring; 16] }
    }

    /// The order in which work of these tenants runs when all of it waits.
    fn order(tenants: &[(u32, u8)]) -> Vec<(u32, u8)> {
        let mut state = State::default();
        for (uid, ring) in tenants {
            state.push(tenant(*uid, *ring));
        }
        let popped = std::iter::from_fn(|| state.pop(1));
        popped.map(|(tenant, _)| (tenant.uid.unwrap(), tenant.ring[0])).collect()
    }

    #[test]
    fn users_come_in_turn_and_the_rings_of_a_user_too() {
        assert_eq!(
            order(&[(1, 1), (1, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 1), (3, 9)]),
            [(1, 1), (2, 1), (3, 9), (1, 2), (2, 1), (1, 3), (1, 1), (1, 1)]
        );
    }

    #[test]
    fn a_tenant_leaves_a_place_for_others_and_nothing_stays_behind() {
        let gate = Gate::new(2, 1);
        let soon = Duration::from_millis(1);
        let first = gate.enter(tenant(1, 1), soon).unwrap();
        assert_eq!(gate.enter(tenant(1, 1), soon).err(), Some(GateFull));
        let second = gate.enter(tenant(2, 1), soon).unwrap();
        assert_eq!(gate.enter(tenant(3, 1), soon).err(), Some(GateFull));
        drop(first);
        drop(gate.enter(tenant(3, 1), soon).unwrap());
        drop(second);
        let state = gate.state();
        assert!(state.running.is_empty() && state.waiting.is_empty() && state.granted.is_empty());
    }

    #[test]
    fn a_newcomer_overtakes_what_a_greedy_tenant_has_waiting() {
        let gate = Gate::new(1, 1);
        let place = gate.enter(tenant(1, 1), Duration::from_secs(1)).unwrap();
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let work = |who: Tenant| {
                let place = gate.enter(who, Duration::from_secs(60)).unwrap();
                done.lock().unwrap().push(who.uid.unwrap());
                drop(place);
            };
            for _ in 0..20 {
                scope.spawn(move || work(tenant(1, 1)));
            }
            while gate.state().waiting_of(tenant(1, 1)) < 20 {
                std::thread::yield_now();
            }
            scope.spawn(move || work(tenant(2, 1)));
            while gate.state().waiting_of(tenant(2, 1)) < 1 {
                std::thread::yield_now();
            }
            drop(place);
        });
        let at = done.lock().unwrap().iter().position(|uid| *uid == 2).unwrap();
        assert!(at <= 1, "the newcomer was number {at}");
    }

    #[test]
    fn what_waits_is_bounded() {
        let gate = Gate::new(1, 1);
        let place = gate.enter(tenant(1, 1), Duration::from_secs(1)).unwrap();
        std::thread::scope(|scope| {
            // As if as many threads waited.
            for _ in 0..WAITING_MAX {
                gate.state().push(tenant(1, 1));
            }
            assert_eq!(gate.enter(tenant(1, 1), Duration::from_secs(60)).err(), Some(GateFull));
            let other = scope.spawn(|| gate.enter(tenant(2, 1), Duration::from_secs(60)).is_ok());
            while gate.state().waiting_of(tenant(2, 1)) < 1 {
                std::thread::yield_now();
            }
            gate.state().waiting.retain(|(uid, _)| *uid == Some(2));
            drop(place);
            assert!(other.join().unwrap());
        });
    }
}
