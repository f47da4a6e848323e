//! PINs: stored as hashes that need the HSM (`hash`), checked one at a time, and delayed after failures.
//!
//! Argon2 runs as often at a time as there are processors, in turn by user and ring, so its memory is bounded and one
//! ring's guesses do not delay another ring's logins.
//!
//! Four guarantees. Failures never lock a PIN, they only delay: the delay grows with each failure and applies to the
//! uid that failed, so that guessing under one uid does not stop an application under another. A restart does not
//! forgive: failures are counted in the database, one write for each, by the name that was given, whether a principal
//! has it or not; so neither a delay nor the work tells which names exist. Attempts at one PIN by one uid are
//! serialised, so that guessing in parallel gains nothing. And a caller that proved the PIN in the last minutes does not
//! pay for argon2 again: a keyed digest of the PIN is cached.

mod hash;

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kms_core::{error_chain, policy};
use kms_protocol::{RingId, Rv};
use kms_store::{LoginTrack, Principal, Store};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::fairness::{Gate, GatePlace, Tenant};
use hash::mac_of_parts;

pub use hash::PinKey;

/// The minimum length of a PIN that is set, in bytes: the same as SoftHSM's.
pub const PIN_BYTES_MIN: usize = 4;

/// The maximum length of a PIN that is set, in bytes. Longer ones are no safer and cost argon2 time.
pub const PIN_BYTES_MAX: usize = 255;

/// How long a proven PIN is cached: long enough for a client that logs in for each operation, and short compared with
/// how long a memory image of the process may exist.
const PROOF_CACHED_FOR: Duration = Duration::from_secs(10 * 60);

/// The maximum number of tracks that are kept in memory: 10,000 entries of 200 bytes each are two megabytes. Those that
/// are in the database, too, are dropped for others.
const ENTRIES_MAX: usize = 10_000;

/// How long an attempt waits for earlier ones. Together with the longest delay it ends before the provider's deadline.
const TURN_WAIT_MAX: Duration = Duration::from_secs(4);

/// After this time without a failure, earlier failures no longer count.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// Who is claimed to log in, and the user of the operating system that presents the PIN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// The ring.
    pub ring: RingId,
    /// The name that was given; a principal may have it or not.
    pub name: String,
    /// The uid at the other end of the socket.
    pub uid: Option<u32>,
}

/// The state of one name's PIN for one uid.
#[derive(Default)]
struct AttemptState {
    busy: bool,
    failures: u32,
    last: Option<Instant>,
    proven: Option<([u8; 32], Instant)>,
    /// Whether a failure could not be written: then this is the only place that knows of it.
    unsaved: bool,
}

/// The database of failures, and the clock of its times.
pub struct FailureStore<'a> {
    /// The database.
    pub store: &'a Store,
    /// The time in milliseconds since 1970.
    pub now: Box<dyn Fn() -> u64 + 'a>,
}

impl FailureStore<'_> {
    /// Counts whose last failure is before this time are forgotten.
    fn forgotten_before(&self) -> u64 {
        let age = u64::try_from(FAILURES_FORGOTTEN_AFTER.as_millis()).unwrap_or(u64::MAX);
        (self.now)().saturating_sub(age)
    }
}

/// Checks PINs.
pub struct Pins {
    /// The service key that hashes need.
    pub(crate) bound: PinKey,
    key: Zeroizing<[u8; 32]>,
    attempts: Mutex<HashMap<LoginTrack, AttemptState>>,
    turn: Condvar,
    /// Checked when there is no such principal, so that the response time does not reveal which principals exist.
    dummy_hash: String,
    /// Before each computation of argon2, which takes 19 MiB of memory and a processor for some 20 ms.
    argon2: Gate,
}

impl Pins {
    /// Creates an empty cache. `key` is random and lives as long as the process.
    ///
    /// # Errors
    /// When the operating system returns no random numbers, or there is no memory for argon2.
    pub fn new(bound: PinKey, key: Zeroizing<[u8; 32]>) -> Result<Self, Error> {
        let dummy_hash = hash::hash(key.as_slice())?;
        let (attempts, turn, argon2) = (Mutex::default(), Condvar::new(), Gate::of_processors());
        Ok(Self { bound, key, attempts, turn, dummy_hash, argon2 })
    }

    /// Checks a PIN against the principal's stored hash (none if there is no such principal).
    ///
    /// # Errors
    /// `CKR_PIN_INCORRECT`; `CKR_FUNCTION_REJECTED` when too many attempts are waiting.
    pub fn check(
        &self,
        counts: &FailureStore<'_>,
        attempt: &Attempt,
        pin: &[u8],
        principal: Option<&Principal>,
    ) -> Result<(), Error> {
        let (track, delay) = self.take_turn(counts, attempt)?;
        std::thread::sleep(delay);
        let digest = self.digest(attempt, pin, principal);
        let outcome = match (principal, self.remembered(&track, &digest)) {
            (Some(_), true) => Ok(true),
            (Some(principal), false) => self
                .argon2_turn(attempt.uid, attempt.ring)
                .and_then(|_turn| self.bound.verify(attempt.ring, principal, pin)),
            (None, _) => self
                .argon2_turn(attempt.uid, attempt.ring)
                .and_then(|_turn| hash::verify(pin, &self.dummy_hash).map(|_| false)),
        };
        match &outcome {
            // Nothing was found out about the PIN: this is no failure of it.
            Err(Error::Rejected(_)) => self.cancel_turn(&track),
            outcome => self.end_turn(counts, &track, matches!(outcome, Ok(true)), digest),
        }
        if outcome? { Ok(()) } else { Err(Rv::PIN_INCORRECT.into()) }
    }

    /// Waits for a turn to compute argon2, for a user and a ring.
    ///
    /// # Errors
    /// `CKR_FUNCTION_REJECTED` when too many wait, or there is no turn in time.
    pub(crate) fn argon2_turn(&self, uid: Option<u32>, ring: RingId) -> Result<GatePlace<'_>, Error> {
        let turn = self.argon2.enter(Tenant { uid, ring: ring.0 }, TURN_WAIT_MAX);
        turn.map_err(|_| Rv::FUNCTION_REJECTED.into())
    }

    /// Waits until no other attempt of the same track runs. Returns the track, and the remaining delay for earlier
    /// failures.
    fn take_turn(
        &self,
        counts: &FailureStore<'_>,
        attempt: &Attempt,
    ) -> Result<(LoginTrack, Duration), Error> {
        let started = now();
        let (track, stored) = counts.store.login_failures(
            attempt.ring,
            attempt.uid,
            self.bound.name_tag(attempt.ring, &attempt.name),
            counts.forgotten_before(),
        )?;
        let age = Duration::from_millis((counts.now)().saturating_sub(stored.last));
        let mut attempts = self.attempts();
        loop {
            if !attempts.contains_key(&track) && attempts.len() >= ENTRIES_MAX {
                attempts.retain(|_, state| state.busy || state.unsaved);
                if attempts.len() >= ENTRIES_MAX {
                    return Err(Rv::FUNCTION_REJECTED.into());
                }
            }
            let state = attempts.entry(track.clone()).or_insert_with(|| AttemptState {
                failures: stored.count,
                // Where the clock does not reach back as far, the failure counts as one of this moment.
                last: (stored.count > 0).then(|| started.checked_sub(age).unwrap_or(started)),
                ..AttemptState::default()
            });
            if !state.busy {
                state.busy = true;
                let quiet = state.last.map_or(Duration::MAX, |last| started.saturating_duration_since(last));
                if quiet > FAILURES_FORGOTTEN_AFTER {
                    state.failures = 0;
                }
                return Ok((track, policy::delay_after(state.failures).saturating_sub(quiet)));
            }
            let left = TURN_WAIT_MAX.checked_sub(started.elapsed()).ok_or(Rv::FUNCTION_REJECTED)?;
            attempts = self.turn.wait_timeout(attempts, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counts a failure, or clears the count, before the caller learns whether the PIN was right.
    fn end_turn(&self, counts: &FailureStore<'_>, track: &LoginTrack, correct: bool, digest: [u8; 32]) {
        let had_failures = self.attempts().get(track).is_some_and(|state| state.failures > 0);
        let saved = match (correct, had_failures) {
            (true, false) => Ok(None),
            (true, true) => counts.store.clear_login_failures(track).map(|()| None),
            (false, _) => {
                let forgotten = counts.forgotten_before();
                counts.store.count_login_failure(track, (counts.now)(), forgotten).map(Some)
            }
        };
        if let Err(error) = &saved {
            let cause = error_chain(error);
            tracing::error!(cause, correct, "wrong PINs cannot be counted in the database");
        }
        let mut attempts = self.attempts();
        if let Some(state) = attempts.get_mut(track) {
            state.busy = false;
            if correct && !track.is_shared() {
                state.failures = 0;
                state.last = None;
            }
            if correct {
                state.proven = Some((digest, now() + PROOF_CACHED_FOR));
            } else {
                let stored = saved.as_ref().ok().copied().flatten().unwrap_or(0);
                state.failures = state.failures.saturating_add(1).max(stored);
                state.last = Some(now());
            }
            state.unsaved = saved.is_err();
        }
        self.turn.notify_all();
    }

    fn cancel_turn(&self, track: &LoginTrack) {
        if let Some(state) = self.attempts().get_mut(track) {
            state.busy = false;
        }
        self.turn.notify_all();
    }

    fn remembered(&self, track: &LoginTrack, digest: &[u8; 32]) -> bool {
        let attempts = self.attempts();
        let proven = attempts.get(track).and_then(|state| state.proven);
        proven.is_some_and(|(known, until)| now() < until && bool::from(known.ct_eq(digest)))
    }

    /// Binds the PIN to the hash it was proven against: when the PIN changes, so does the hash, and no cached proof
    /// matches.
    fn digest(&self, attempt: &Attempt, pin: &[u8], principal: Option<&Principal>) -> [u8; 32] {
        let stored = principal.map_or("", |principal| principal.pin_hash.as_str());
        let parts = [attempt.ring.0.as_slice(), attempt.name.as_bytes(), stored.as_bytes(), pin];
        mac_of_parts(self.key.as_slice(), &parts)
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<LoginTrack, AttemptState>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a principal can have this name: it must fit in a token's label, in a URI and before the colon of
/// `name:secret`.
pub fn is_principal_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=32).contains(&name.len()) && name.chars().all(legal)
}

/// Whether a PIN may be set.
///
/// # Errors
/// `CKR_PIN_LEN_RANGE`, or `CKR_PIN_INVALID` for a PIN that is not UTF-8 (spec, "C_SetPIN").
pub fn check_length(pin: &[u8]) -> Result<(), Rv> {
    if !(PIN_BYTES_MIN..=PIN_BYTES_MAX).contains(&pin.len()) {
        return Err(Rv::PIN_LEN_RANGE);
    }
    if std::str::from_utf8(pin).is_err() { Err(Rv::PIN_INVALID) } else { Ok(()) }
}

#[expect(clippy::disallowed_methods, reason = "delays are measured where they are waited for")]
fn now() -> Instant {
    Instant::now()
}
