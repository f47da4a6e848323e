//! PINs: stored as argon2id, checked one at a time, and slow for who guesses.
//!
//! Three promises. A wrong PIN is never locked out, only delayed: the delay grows with each failure and belongs to
//! the guessing user of the operating system, so that guessing under one uid does not stop an application under
//! another. Attempts at one PIN by one uid are made one after the other, so parallel guessing gains nothing. And who
//! proved the PIN some minutes ago need not pay for argon2 again: a keyed digest of it is remembered.

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

/// The shortest PIN that may be set, in bytes: what SoftHSM demands as well.
pub const PIN_BYTES_MIN: usize = 4;

/// The longest PIN that may be set, in bytes. Longer ones are no safer and cost argon2 time.
pub const PIN_BYTES_MAX: usize = 255;

/// How long a proven PIN is remembered: long enough for a client that logs in for each operation, short against the
/// life of a process image.
const REMEMBERED_FOR: Duration = Duration::from_secs(10 * 60);

/// PINs remembered and guesses counted: 10,000 principals of 100 bytes each are a megabyte.
const ENTRIES_MAX: usize = 10_000;

/// How long an attempt waits for those before it. With the longest delay it ends before the provider's deadline.
const TURN_WAIT_MAX: Duration = Duration::from_secs(4);

/// After so long without a guess, earlier wrong ones are forgotten.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// Whose PIN is tried, and by which user of the operating system.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Attempt {
    /// The ring.
    pub ring: RingId,
    /// The principal.
    pub name: String,
    /// The user at the other end of the socket.
    pub uid: Option<u32>,
}

/// What is known of one principal's PIN as tried by one uid.
#[derive(Default)]
struct Track {
    busy: bool,
    failures: u32,
    last: Option<Instant>,
    proven: Option<([u8; 32], Instant)>,
}

impl Track {
    fn is_idle(&self, now: Instant) -> bool {
        let forgotten = self.last.is_none_or(|last| now.duration_since(last) > FAILURES_FORGOTTEN_AFTER);
        let expired = self.proven.is_none_or(|(_, until)| until < now);
        !self.busy && forgotten && expired
    }
}

/// Checks PINs.
pub struct Pins {
    key: Zeroizing<[u8; 32]>,
    tracks: Mutex<HashMap<Attempt, Track>>,
    turn: Condvar,
    nobody: String,
}

impl Pins {
    /// Remembers nothing yet. `key` is random and lives as long as the process.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Result<Self, Error> {
        // Compared with when there is no such principal, so that the time does not tell who exists.
        let nobody = hash(key.as_slice())?;
        Ok(Self { key, tracks: Mutex::default(), turn: Condvar::new(), nobody })
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
            _ => verify(pin, stored.unwrap_or(&self.nobody)).map(|right| right && stored.is_some()),
        };
        self.end_turn(attempt, matches!(outcome, Ok(true)), digest);
        if outcome? { Ok(()) } else { Err(Rv::PIN_INCORRECT.into()) }
    }

    /// Waits until no other attempt of the same kind runs, then says how long to wait for the failures before.
    fn take_turn(&self, attempt: &Attempt) -> Result<Duration, Error> {
        let mut tracks = self.tracks();
        let started = now();
        loop {
            let track = match tracks.get_mut(attempt) {
                Some(track) => track,
                None => {
                    if tracks.len() >= ENTRIES_MAX {
                        tracks.retain(|_, track| !track.is_idle(started));
                    }
                    if tracks.len() >= ENTRIES_MAX {
                        return Err(Rv::FUNCTION_REJECTED.into());
                    }
                    tracks.entry(attempt.clone()).or_default()
                }
            };
            if !track.busy {
                track.busy = true;
                let quiet = track.last.map_or(Duration::MAX, |last| started.saturating_duration_since(last));
                if quiet > FAILURES_FORGOTTEN_AFTER {
                    track.failures = 0;
                }
                return Ok(policy::delay_after(track.failures).saturating_sub(quiet));
            }
            let left = TURN_WAIT_MAX.checked_sub(started.elapsed()).ok_or(Rv::FUNCTION_REJECTED)?;
            tracks = self.turn.wait_timeout(tracks, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn end_turn(&self, attempt: &Attempt, right: bool, digest: [u8; 32]) {
        let mut tracks = self.tracks();
        if let Some(track) = tracks.get_mut(attempt) {
            track.busy = false;
            if right {
                track.failures = 0;
                track.last = None;
                track.proven = Some((digest, now() + REMEMBERED_FOR));
            } else {
                track.failures = track.failures.saturating_add(1);
                track.last = Some(now());
            }
        }
        self.turn.notify_all();
    }

    fn remembered(&self, attempt: &Attempt, digest: &[u8; 32]) -> bool {
        let tracks = self.tracks();
        let proven = tracks.get(attempt).and_then(|track| track.proven);
        proven.is_some_and(|(known, until)| now() < until && bool::from(known.ct_eq(digest)))
    }

    /// Binds the PIN to the hash it was proven against: a changed PIN is a changed hash, and nothing is remembered.
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

    fn tracks(&self) -> MutexGuard<'_, HashMap<Attempt, Track>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a PIN may be set.
///
/// # Errors
/// `CKR_PIN_LEN_RANGE`, or `CKR_PIN_INVALID` for a PIN that is not UTF-8 (spec, "C_SetPIN").
pub fn acceptable(pin: &[u8]) -> Result<(), Rv> {
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
