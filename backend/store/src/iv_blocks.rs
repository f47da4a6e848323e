//! The IV budget: blocks of initialisation vectors, counted for each key value.

use kms_core::object::KeyVersion;
use kms_core::seal::Fingerprint;
use rusqlite::params;

use super::{Store, StoreError};

/// The number of IVs in one block.
const IV_BLOCK: u64 = 1 << 20;

impl Store {
    /// Counts one more block of IVs for a key, and moves what an older schema counted for its version; returns the
    /// number of blocks.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_ivs(
        &self,
        fingerprint: Fingerprint,
        version: Option<KeyVersion>,
    ) -> Result<u64, StoreError> {
        self.writer.write(move |tx| {
            let before: u64 = match version {
                Some(version) => {
                    let sql = "DELETE FROM vectors WHERE key = ?1 AND number = ?2 RETURNING taken";
                    let mut statement = tx.connection.prepare_cached(sql)?;
                    let mut taken =
                        statement.query_map(params![version.key, version.number], |row| row.get(0))?;
                    taken.next().transpose()?.unwrap_or(0)
                }
                None => 0,
            };
            let sql = "INSERT INTO vector_blocks (print, blocks) VALUES (?1, ?2) \
                       ON CONFLICT (print) DO UPDATE SET blocks = blocks + ?2 RETURNING blocks";
            let mut statement = tx.connection.prepare_cached(sql)?;
            let blocks = before.div_ceil(IV_BLOCK) + 1;
            Ok(statement.query_row(params![fingerprint.0, blocks], |row| row.get(0))?)
        })
    }

    /// Returns the number of blocks of IVs that are counted for a key.
    ///
    /// # Errors
    /// When the database fails.
    pub fn iv_blocks(&self, fingerprint: Fingerprint) -> Result<u64, StoreError> {
        self.readers.read(|connection| {
            let sql = "SELECT coalesce(sum(blocks), 0) FROM vector_blocks WHERE print = ?1";
            Ok(connection.prepare_cached(sql)?.query_row([fingerprint.0], |row| row.get(0))?)
        })
    }

    /// Returns the keys that have used at least this many blocks of IVs.
    ///
    /// # Errors
    /// When the database fails.
    pub fn exhausted_ivs(&self, blocks: u64) -> Result<Vec<Fingerprint>, StoreError> {
        self.readers.read(|connection| {
            let mut statement = connection.prepare("SELECT print FROM vector_blocks WHERE blocks >= ?1")?;
            let fingerprints = statement.query_map([blocks], |row| row.get(0).map(Fingerprint))?;
            Ok(fingerprints.collect::<Result<_, _>>()?)
        })
    }
}
