//! How many initialisation vectors a key may still be given: 2^32 random ones under one key are safe, more are not
//! (NIST SP 800-38D, "Constraints on the Number of Invocations").
//!
//! A key is counted by a fingerprint of its value, so that copies count together, and so do all seals of a session key. Nothing
//! is written for most messages: each is, by chance, one in 2^20 that counts for as many (docs/decisions/0018). So a
//! restart forgets nothing, an application with a million session keys leaves next to nothing behind, and how many
//! vectors a key has had is known within a few hundredths when it matters.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use kms_core::object::KeyVersion;
use kms_core::seal::Fingerprint;
use kms_protocol::Rv;
use kms_store::{Store, StoreError};

use crate::error::Error;

/// A message counts, as a whole block, when these bits of its draw are all zero.
const BLOCK_MASK: u32 = (1 << 20) - 1;

/// Blocks after which a key is spent. 2^32 vectors are 4,096 blocks on average, give or take 64: that they are fewer than
/// this, and a key goes on beyond 2^32, happens once in 2^49 keys.
const BLOCKS_MAX: u64 = 3_584;

/// Draws that are made at once: asking for random numbers takes longer than a short message.
const DRAWS: usize = 64;

/// A random number, for [`IvBudget::take`].
///
/// # Errors
/// `CKR_FUNCTION_FAILED` when there are none.
pub(in crate::dispatch) fn draw(random: &SystemRandom) -> Result<u32, Rv> {
    thread_local! {
        static DRAWN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    }
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.is_empty() {
            let mut bytes = [0; 4 * DRAWS];
            random.fill(&mut bytes).map_err(|_| Rv::FUNCTION_FAILED)?;
            drawn.extend(bytes.as_chunks().0.iter().map(|draw| u32::from_ne_bytes(*draw)));
        }
        drawn.pop().ok_or(Rv::FUNCTION_FAILED)
    })
}

/// The keys that are spent.
#[derive(Debug, Default)]
pub(crate) struct IvBudget(RwLock<HashSet<Fingerprint>>);

impl IvBudget {
    /// Reads which keys are spent.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self(RwLock::new(store.exhausted_ivs(BLOCKS_MAX)?.into_iter().collect())))
    }

    /// Takes one for a key. `draw` is random; `fingerprint` is asked for where it matters, which for most messages it does
    /// not; `version` names a token key, whose vectors were once counted by it.
    ///
    /// # Errors
    /// `CKR_KEY_EXHAUSTED` when none is left.
    pub(in crate::dispatch) fn take(
        &self,
        store: &Store,
        fingerprint: impl FnOnce() -> Result<Fingerprint, Rv>,
        version: Option<KeyVersion>,
        draw: u32,
    ) -> Result<(), Error> {
        let counts = draw & BLOCK_MASK == 0;
        let spent = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if !counts && spent.is_empty() {
            return Ok(());
        }
        let fingerprint = fingerprint()?;
        if spent.contains(&fingerprint) {
            return Err(Rv::KEY_EXHAUSTED.into());
        }
        drop(spent);
        if counts && store.count_ivs(fingerprint, version)? >= BLOCKS_MAX {
            self.0.write().unwrap_or_else(PoisonError::into_inner).insert(fingerprint);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kms_core::integrity::RowKey;
    use kms_store::LockedStore;
    use rusqlite::params;
    use zeroize::Zeroizing;

    use super::*;

    const KEY: Fingerprint = Fingerprint([1; 32]);
    const OTHER: Fingerprint = Fingerprint([2; 32]);

    fn unlock(store: LockedStore) -> Store {
        store.unlock(RowKey::from(Zeroizing::new([1; 32]))).unwrap()
    }

    fn spent(vectors: &IvBudget, store: &Store, fingerprint: Fingerprint) -> bool {
        match vectors.take(store, || Ok(fingerprint), None, 1) {
            Ok(()) => false,
            Err(error) => {
                assert!(matches!(error, Error::Refused(Rv::KEY_EXHAUSTED)), "{error:?}");
                true
            }
        }
    }

    fn blocks(path: &Path, fingerprint: Fingerprint) -> Option<u64> {
        let sql = "SELECT blocks FROM vector_blocks WHERE print = ?1";
        rusqlite::Connection::open(path).unwrap().query_row(sql, [fingerprint.0], |row| row.get(0)).ok()
    }

    #[test]
    fn a_key_is_used_up_and_stays_so_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.db");
        let (store, vectors) = (unlock(Store::create(&path).unwrap()), IvBudget::default());
        for _ in 0..2 {
            vectors.take(&store, || Ok(KEY), None, 7 << 20).unwrap();
        }
        assert_eq!(blocks(&path, KEY), Some(2));
        let edit = rusqlite::Connection::open(&path).unwrap();
        edit.execute("UPDATE vector_blocks SET blocks = ?1", [BLOCKS_MAX - 1]).unwrap();
        vectors.take(&store, || Ok(KEY), None, 0).unwrap();
        assert!(spent(&vectors, &store, KEY) && !spent(&vectors, &store, OTHER));
        drop((store, edit));
        let store = unlock(Store::open_existing(&path).unwrap());
        let vectors = IvBudget::open(&store).unwrap();
        assert!(spent(&vectors, &store, KEY) && !spent(&vectors, &store, OTHER));
    }

    #[test]
    fn draws_are_random_each_time() {
        let random = SystemRandom::new();
        let drawn: HashSet<u32> = (0..3 * DRAWS).map(|_| draw(&random).unwrap()).collect();
        // Two of 192 are the same once in 200,000 runs; nine are not.
        assert!(drawn.len() > 3 * DRAWS - 9, "{} of {}", drawn.len(), 3 * DRAWS);
    }

    #[test]
    fn most_messages_write_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.db");
        let (store, vectors) = (unlock(Store::create(&path).unwrap()), IvBudget::default());
        for draw in 1..1000 {
            vectors.take(&store, || Ok(KEY), None, draw).unwrap();
        }
        assert_eq!(blocks(&path, KEY), None);
    }

    #[test]
    fn what_was_counted_by_version_is_counted_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.db");
        let (store, vectors) = (unlock(Store::create(&path).unwrap()), IvBudget::default());
        let version = KeyVersion { key: [3; 16], number: 2 };
        let edit = rusqlite::Connection::open(&path).unwrap();
        let sql = "INSERT INTO vectors (key, number, taken) VALUES (?1, ?2, ?3)";
        edit.execute(sql, params![version.key, version.number, (5_u64 << 20) + 1]).unwrap();
        for expected in [7, 8] {
            vectors.take(&store, || Ok(KEY), Some(version), 0).unwrap();
            assert_eq!(blocks(&path, KEY), Some(expected));
        }
    }
}
