//! The number in the HSM's token by which an old copy of the database is found (docs/decisions/0047). The audit head has
//! the same number, which is raised there first: a crash in between leaves the token one behind, which the next step makes
//! good.

use std::sync::{Mutex, PoisonError};

use kms_core::error_chain;
use kms_core::state_digest::StateMark;
use kms_hsm::Hsm;
use kms_store::Store;

use crate::error::Error;

/// The shortest time between two steps of a daemon: flash memory bears some hundred thousand writes.
const INTERVAL_MILLIS: u64 = 60_000;

/// A number that the database has, and the token gets next.
pub(crate) struct Raised {
    hsm: Hsm,
    home: [u8; 16],
    number: u64,
}

impl Raised {
    /// Raises the number in the token.
    pub(crate) fn count(&self) -> Result<(), Error> {
        Ok(self.hsm.count_to(self.home, self.number)?)
    }
}

/// The counter of one home.
pub(crate) struct HsmCounter {
    hsm: Hsm,
    home: [u8; 16],
    /// The state of the database at the last step, and when that was.
    last: Mutex<(Option<StateMark>, u64)>,
}

impl HsmCounter {
    /// Returns the counter of a home.
    pub(crate) fn new(hsm: Hsm, home: [u8; 16]) -> Self {
        Self { hsm, home, last: Mutex::default() }
    }

    /// Returns the number in the token, if it has one.
    pub(crate) fn counted(&self) -> Result<Option<u64>, Error> {
        Ok(self.hsm.counter(self.home)?)
    }

    /// Brings token and database into step after the database was opened: begins to count, or makes good a step that was
    /// interrupted.
    pub(crate) fn begin(&self, store: &Store, counted: Option<u64>) -> Result<(), Error> {
        // Of a log whose head cannot be read no number is known; `kms audit restart` sets it.
        let Ok(head) = store.audit_head() else { return Ok(()) };
        match (head.counter, counted) {
            (None, _) => self.step(store)?,
            (Some(found), Some(counted)) if found == counted => {}
            (Some(found), counted) => {
                if counted.is_none_or(|counted| found > counted + 1) {
                    tracing::error!(
                        found,
                        ?counted,
                        "the HSM's token has counted less than the database: was it replaced, or restored from a backup? It \
                         goes on from the database's number"
                    );
                }
                self.hsm.count_to(self.home, found)?;
            }
        }
        *self.last() = (store.audit_head()?.state, 0);
        Ok(())
    }

    /// Raises the number: from now on, copies of the database as it is are old.
    fn step(&self, store: &Store) -> Result<(), Error> {
        self.raise(store)?.count()
    }

    /// Raises the number in the database, but not yet in the token.
    pub(crate) fn raise(&self, store: &Store) -> Result<Raised, Error> {
        let counted = self.counted()?.unwrap_or(0);
        let number = store.advance_counter(counted)?;
        Ok(Raised { hsm: self.hsm.clone(), home: self.home, number })
    }

    /// Raises the number if the rows have changed since the last time; a daemon at most once a minute. `now` is in
    /// milliseconds; none for a command, which does it once, at its end.
    pub(crate) fn follow(&self, store: &Store, now: Option<u64>) {
        let mut last = self.last();
        if now.is_some_and(|now| now.abs_diff(last.1) < INTERVAL_MILLIS) {
            return;
        }
        let stepped = || -> Result<(Option<StateMark>, u64), Error> {
            let state = store.audit_head()?.state;
            if state != last.0 {
                self.step(store)?;
            }
            Ok((state, now.unwrap_or(last.1)))
        };
        match stepped() {
            Ok(done) => *last = done,
            Err(error) => tracing::error!(
                cause = error_chain(&error),
                "the number in the HSM's token could not be raised, so a copy of the database as it is now would not be found \
                 to be old"
            ),
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, (Option<StateMark>, u64)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
