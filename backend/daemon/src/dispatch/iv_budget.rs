//! The limit of initialisation vectors (IVs) that are generated for one key: at most 2^32 random ones are safe (NIST
//! SP 800-38D, "Constraints on the Number of Invocations").
//!
//! IVs are counted by the fingerprint of the key's value, so that copies count together, and so do all seals of a
//! session key. Most messages write nothing: with a probability of 1 in 2^20 a message counts as 2^20
//! (docs/decisions/0018). So the count survives a restart, an application with a million session keys stores next to
//! nothing, and near the limit the count is exact to a few percent.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use kms_core::object::KeyVersion;
use kms_core::seal::Fingerprint;
use kms_protocol::Rv;
use kms_store::{Store, StoreError};

use crate::error::Error;

/// A message counts, as a whole block of IVs, when these bits of its random number are all zero.
const BLOCK_MASK: u32 = (1 << 20) - 1;

/// The number of IVs in one block.
pub(super) const IV_BLOCK: u64 = BLOCK_MASK as u64 + 1;

/// The number of blocks after which a key is exhausted. 2^32 IVs are 4,096 blocks on average, with a standard deviation
/// of 64: for one key in 2^49 they are fewer than this, so that it is used beyond 2^32.
const BLOCKS_MAX: u64 = 3_584;

/// How many random numbers are generated in one call, because the call takes longer than encrypting a short message.
const BATCH: usize = 64;

/// Returns a random number for [`IvBudget::take`].
///
/// # Errors
/// `CKR_FUNCTION_FAILED` when the random generator fails.
pub(in crate::dispatch) fn draw(random: &SystemRandom) -> Result<u32, Rv> {
    thread_local! {
        static DRAWN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    }
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.is_empty() {
            let mut bytes = [0; 4 * BATCH];
            random.fill(&mut bytes).map_err(|_| Rv::FUNCTION_FAILED)?;
            drawn.extend(bytes.as_chunks().0.iter().map(|draw| u32::from_ne_bytes(*draw)));
        }
        drawn.pop().ok_or(Rv::FUNCTION_FAILED)
    })
}

/// How many blocks a restore counts as used for each key, if the database that the copy replaces cannot be read: nobody
/// knows how many IVs were generated since the copy, but no key should have had more than 2^29.
pub(crate) const RESTORE_BLOCKS: u64 = 512;

/// The exhausted keys.
#[derive(Debug, Default)]
pub(crate) struct IvBudget {
    exhausted: RwLock<HashSet<Fingerprint>>,
    /// The blocks that each key counts as used because of restores.
    restored: u64,
}

impl IvBudget {
    /// Reads the exhausted keys from the database.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn open(store: &Store) -> Result<Self, StoreError> {
        let restored = store.restores()?.iv_blocks;
        let exhausted = store.exhausted_ivs(BLOCKS_MAX.saturating_sub(restored))?;
        Ok(Self { exhausted: RwLock::new(exhausted.into_iter().collect()), restored })
    }

    /// Counts one IV for a key. `draw` is random; `fingerprint` is called only if the message counts or any key is
    /// exhausted; `version` names a token key, because earlier releases counted by version.
    ///
    /// # Errors
    /// `CKR_KEY_EXHAUSTED` when the key has no IVs left.
    pub(in crate::dispatch) fn take(
        &self,
        store: &Store,
        fingerprint: impl FnOnce() -> Result<Fingerprint, Rv>,
        version: Option<KeyVersion>,
        draw: u32,
    ) -> Result<(), Error> {
        let counts = draw & BLOCK_MASK == 0;
        let exhausted = self.exhausted.read().unwrap_or_else(PoisonError::into_inner);
        if !counts && exhausted.is_empty() {
            return Ok(());
        }
        let fingerprint = fingerprint()?;
        if exhausted.contains(&fingerprint) {
            return Err(Rv::KEY_EXHAUSTED.into());
        }
        drop(exhausted);
        if counts && store.count_ivs(fingerprint, version)?.saturating_add(self.restored) >= BLOCKS_MAX {
            self.exhausted.write().unwrap_or_else(PoisonError::into_inner).insert(fingerprint);
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

    fn is_exhausted(budget: &IvBudget, store: &Store, fingerprint: Fingerprint) -> bool {
        match budget.take(store, || Ok(fingerprint), None, 1) {
            Ok(()) => false,
            Err(error) => {
                assert!(matches!(error, Error::Rejected(Rv::KEY_EXHAUSTED)), "{error:?}");
                true
            }
        }
    }

    fn blocks(path: &Path, fingerprint: Fingerprint) -> Option<u64> {
        let sql = "SELECT blocks FROM vector_blocks WHERE print = ?1";
        rusqlite::Connection::open(path).unwrap().query_row(sql, [fingerprint.0], |row| row.get(0)).ok()
    }

    #[test]
    fn an_exhausted_key_stays_exhausted_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.db");
        let (store, budget) = (unlock(Store::create(&path).unwrap()), IvBudget::default());
        for _ in 0..2 {
            budget.take(&store, || Ok(KEY), None, 7 << 20).unwrap();
        }
        assert_eq!(blocks(&path, KEY), Some(2));
        let edit = rusqlite::Connection::open(&path).unwrap();
        edit.execute("UPDATE vector_blocks SET blocks = ?1", [BLOCKS_MAX - 1]).unwrap();
        budget.take(&store, || Ok(KEY), None, 0).unwrap();
        assert!(is_exhausted(&budget, &store, KEY) && !is_exhausted(&budget, &store, OTHER));
        drop((store, edit));
        let store = unlock(Store::open_existing(&path).unwrap());
        let budget = IvBudget::open(&store).unwrap();
        assert!(is_exhausted(&budget, &store, KEY) && !is_exhausted(&budget, &store, OTHER));
    }

    #[test]
    fn random_numbers_do_not_repeat() {
        let random = SystemRandom::new();
        let drawn: HashSet<u32> = (0..3 * BATCH).map(|_| draw(&random).unwrap()).collect();
        // Two of 192 are equal in one of 200,000 runs; nine never are.
        assert!(drawn.len() > 3 * BATCH - 9, "{} of {}", drawn.len(), 3 * BATCH);
    }

    #[test]
    fn most_messages_write_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.db");
        let (store, budget) = (unlock(Store::create(&path).unwrap()), IvBudget::default());
        for draw in 1..1000 {
            budget.take(&store, || Ok(KEY), None, draw).unwrap();
        }
        assert_eq!(blocks(&path, KEY), None);
    }

    #[test]
    fn counts_by_version_are_carried_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.db");
        let (store, budget) = (unlock(Store::create(&path).unwrap()), IvBudget::default());
        let version = KeyVersion { key: [3; 16], number: 2 };
        let edit = rusqlite::Connection::open(&path).unwrap();
        let sql = "INSERT INTO vectors (key, number, taken) VALUES (?1, ?2, ?3)";
        edit.execute(sql, params![version.key, version.number, (5_u64 << 20) + 1]).unwrap();
        for expected in [7, 8] {
            budget.take(&store, || Ok(KEY), Some(version), 0).unwrap();
            assert_eq!(blocks(&path, KEY), Some(expected));
        }
    }
}
