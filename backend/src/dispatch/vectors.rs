//! How many initialisation vectors a key may still be given: 2^32 random ones under one key are safe, more are not
//! (NIST SP 800-38D, "Constraints on the Number of Invocations").
//!
//! Vectors are taken from the database in blocks, so that the count holds over restarts and nothing is written for a
//! message. What is left of a block when the daemon ends is lost: 4,096 starts use a key up, one a day for eleven years.
//! A session key is its application's own and ends with it; it is not counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kms_protocol::Rv;

use crate::error::Error;
use crate::object::KeyVersion;
use crate::store::Store;

/// The most vectors that the backend makes for one key.
const VECTORS_MAX: u64 = 1 << 32;

/// Vectors in one block.
const BLOCK: u64 = 1 << 20;

/// Keys whose blocks are remembered; beyond, all are forgotten, which costs what is left of their blocks.
const KEYS_MAX: usize = 10_000;

/// What is left of each key's block.
#[derive(Debug, Default)]
pub(crate) struct Vectors(Mutex<HashMap<KeyVersion, u64>>);

impl Vectors {
    /// Takes one.
    ///
    /// # Errors
    /// `CKR_KEY_EXHAUSTED` when none is left.
    pub(super) fn take(&self, store: &Store, key: KeyVersion) -> Result<(), Error> {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = blocks.get_mut(&key).filter(|left| **left > 0) {
            *left -= 1;
            return Ok(());
        }
        // Others may take a block for the same key meanwhile: then there are two, and one is lost.
        drop(blocks);
        if !store.take_vectors(key, BLOCK, VECTORS_MAX)? {
            return Err(Rv::KEY_EXHAUSTED.into());
        }
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if blocks.len() >= KEYS_MAX {
            blocks.clear();
        }
        blocks.insert(key, BLOCK - 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::integrity::RowKey;

    #[test]
    fn a_key_is_used_up_and_stays_so_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kms.db");
        let unlock =
            |store: crate::store::LockedStore| store.unlock(RowKey::from(Zeroizing::new([1; 32]))).unwrap();
        let store = unlock(Store::create(&path).unwrap());
        let (key, other) = (KeyVersion { key: [1; 16], number: 1 }, KeyVersion { key: [1; 16], number: 2 });
        for _ in 0..VECTORS_MAX / BLOCK - 1 {
            assert!(store.take_vectors(key, BLOCK, VECTORS_MAX).unwrap());
        }
        let vectors = Vectors::default();
        for _ in 0..3 {
            vectors.take(&store, key).unwrap();
        }
        drop(store);
        let (store, vectors) = (unlock(Store::open_existing(&path).unwrap()), Vectors::default());
        let exhausted = vectors.take(&store, key);
        assert!(matches!(exhausted, Err(Error::Refused(Rv::KEY_EXHAUSTED))));
        vectors.take(&store, other).unwrap();
    }
}
