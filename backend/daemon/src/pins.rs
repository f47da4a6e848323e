//! PINs: stored as argon2id hashes, checked one at a time, and delayed after failures.
//!
//! Argon2 runs as often at a time as there are processors, in turn by user and ring, so its memory is bounded and one
//! ring's guesses do not delay another ring's logins.
//!
//! Three guarantees. Failures never lock a PIN, they only delay: the delay grows with each failure and applies to the
//! uid that failed, so that guessing under one uid does not stop an application under another. Attempts at one PIN by
//! one uid are serialised, so that guessing in parallel gains nothing. And a caller that proved the PIN in the last
//! minutes does not pay for argon2 again: a keyed digest of the PIN is cached.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use hmac::{Hmac, KeyInit, Mac};
use kms_core::policy;
use kms_protocol::{RingId, Rv};
use password_hash::{PasswordHasher, PasswordVerifier};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::fairness::{Gate, GatePlace, Tenant};

/// The minimum length of a PIN that is set, in bytes: the same as SoftHSM's.
pub const PIN_BYTES_MIN: usize = 4;

/// The maximum length of a PIN that is set, in bytes. Longer ones are no safer and cost argon2 time.
pub const PIN_BYTES_MAX: usize = 255;

/// How long a proven PIN is cached: long enough for a client that logs in for each operation, and short compared with
/// how long a memory image of the process may exist.
const PROOF_CACHED_FOR: Duration = Duration::from_secs(10 * 60);

/// The maximum number of PINs and uids that are tracked: 10,000 entries of 100 bytes each are a megabyte.
const ENTRIES_MAX: usize = 10_000;

/// How long an attempt waits for earlier ones. Together with the longest delay it ends before the provider's deadline.
const TURN_WAIT_MAX: Duration = Duration::from_secs(4);

/// After this time without a failure, earlier failures no longer count.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// A principal whose PIN is checked, and the user of the operating system that presents it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Attempt {
    /// The ring.
    pub ring: RingId,
    /// The principal.
    pub name: String,
    /// The uid at the other end of the socket.
    pub uid: Option<u32>,
}

/// The state of one principal's PIN for one uid.
#[derive(Default)]
struct AttemptState {
    busy: bool,
    failures: u32,
    last: Option<Instant>,
    proven: Option<([u8; 32], Instant)>,
}

impl AttemptState {
    fn is_idle(&self, now: Instant) -> bool {
        let forgotten = self.last.is_none_or(|last| now.duration_since(last) > FAILURES_FORGOTTEN_AFTER);
        let expired = self.proven.is_none_or(|(_, until)| until < now);
        !self.busy && forgotten && expired
    }
}

/// Checks PINs.
pub struct Pins {
    key: Zeroizing<[u8; 32]>,
    attempts: Mutex<HashMap<Attempt, AttemptState>>,
    turn: Condvar,
    dummy_hash: String,
    /// Before each computation of argon2, which takes 19 MiB of memory and a processor for some 20 ms.
    argon2: Gate,
}

impl Pins {
    /// Creates an empty cache. `key` is random and lives as long as the process.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Result<Self, Error> {
        // Checked when there is no such principal, so that the response time does not reveal which principals exist.
        let dummy_hash = hash(key.as_slice())?;
        Ok(Self {
            key,
            attempts: Mutex::default(),
            turn: Condvar::new(),
            dummy_hash,
            argon2: Gate::of_processors(),
        })
    }

    /// Checks a PIN against its stored hash (none if there is no such principal).
    ///
    /// # Errors
    /// `CKR_PIN_INCORRECT`; `CKR_FUNCTION_REJECTED` when too many attempts are waiting.
    pub fn check(&self, attempt: &Attempt, pin: &[u8], stored: Option<&str>) -> Result<(), Error> {
        let delay = self.take_turn(attempt)?;
        std::thread::sleep(delay);
        let digest = self.digest(attempt, pin, stored);
        let outcome = match self.remembered(attempt, &digest) {
            true if stored.is_some() => Ok(true),
            _ => self.argon2_turn(attempt.uid, attempt.ring).and_then(|_turn| {
                verify(pin, stored.unwrap_or(&self.dummy_hash)).map(|correct| correct && stored.is_some())
            }),
        };
        match &outcome {
            // Nothing was found out about the PIN: this is no failure of it.
            Err(Error::Rejected(_)) => self.cancel_turn(attempt),
            outcome => self.end_turn(attempt, matches!(outcome, Ok(true)), digest),
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

    /// Waits until no other attempt of the same kind runs, then returns the remaining delay for earlier failures.
    fn take_turn(&self, attempt: &Attempt) -> Result<Duration, Error> {
        let mut attempts = self.attempts();
        let started = now();
        loop {
            let state = match attempts.get_mut(attempt) {
                Some(state) => state,
                None => {
                    if attempts.len() >= ENTRIES_MAX {
                        attempts.retain(|_, state| !state.is_idle(started));
                    }
                    if attempts.len() >= ENTRIES_MAX {
                        return Err(Rv::FUNCTION_REJECTED.into());
                    }
                    attempts.entry(attempt.clone()).or_default()
                }
            };
            if !state.busy {
                state.busy = true;
                let quiet = state.last.map_or(Duration::MAX, |last| started.saturating_duration_since(last));
                if quiet > FAILURES_FORGOTTEN_AFTER {
                    state.failures = 0;
                }
                return Ok(policy::delay_after(state.failures).saturating_sub(quiet));
            }
            let left = TURN_WAIT_MAX.checked_sub(started.elapsed()).ok_or(Rv::FUNCTION_REJECTED)?;
            attempts = self.turn.wait_timeout(attempts, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn end_turn(&self, attempt: &Attempt, correct: bool, digest: [u8; 32]) {
        let mut attempts = self.attempts();
        if let Some(state) = attempts.get_mut(attempt) {
            state.busy = false;
            if correct {
                state.failures = 0;
                state.last = None;
                state.proven = Some((digest, now() + PROOF_CACHED_FOR));
            } else {
                state.failures = state.failures.saturating_add(1);
                state.last = Some(now());
            }
        }
        self.turn.notify_all();
    }

    fn cancel_turn(&self, attempt: &Attempt) {
        if let Some(state) = self.attempts().get_mut(attempt) {
            state.busy = false;
        }
        self.turn.notify_all();
    }

    fn remembered(&self, attempt: &Attempt, digest: &[u8; 32]) -> bool {
        let attempts = self.attempts();
        let proven = attempts.get(attempt).and_then(|state| state.proven);
        proven.is_some_and(|(known, until)| now() < until && bool::from(known.ct_eq(digest)))
    }

    /// Binds the PIN to the hash it was proven against: when the PIN changes, so does the hash, and no cached proof
    /// matches.
    fn digest(&self, attempt: &Attempt, pin: &[u8], stored: Option<&str>) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.key.as_slice()).expect("HMAC takes a key of any length");
        for part in [attempt.ring.0.as_slice(), attempt.name.as_bytes(), stored.unwrap_or("").as_bytes(), pin]
        {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<Attempt, AttemptState>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// The stored form of a PIN: argon2id with a random salt, in the PHC string format.
pub fn hash(pin: &[u8]) -> Result<String, Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(Error::Random)?;
    let hash = Argon2::default().hash_password_with_salt(pin, &salt).map_err(Error::Pin)?;
    Ok(hash.to_string())
}

fn verify(pin: &[u8], stored: &str) -> Result<bool, Error> {
    match Argon2::default().verify_password(pin, stored) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(Error::Pin(error)),
    }
}

#[expect(clippy::disallowed_methods, reason = "delays are measured where they are waited for")]
fn now() -> Instant {
    Instant::now()
}
