//! The IV budget: blocks of initialisation vectors, counted for each key value.

use kms_core::integrity::Cell;
use kms_core::object::KeyVersion;
use kms_core::seal::Fingerprint;
use rusqlite::{OptionalExtension, params};

use super::rows::signed;
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
                    let sql = "SELECT taken FROM vectors WHERE key = ?1 AND number = ?2";
                    let mut statement = tx.connection.prepare_cached(sql)?;
                    let values = params![version.key, version.number];
                    let taken = statement.query_row(values, |row| row.get(0)).optional()?;
                    let key = [
                        ("key", Cell::Bytes(&version.key)),
                        ("number", Cell::Integer(version.number.into())),
                    ];
                    if taken.is_some() {
                        tx.delete_one("vectors", &key)?;
                    }
                    taken.unwrap_or(0)
                }
                None => 0,
            };
            let sql = "SELECT blocks FROM vector_blocks WHERE print = ?1";
            let mut statement = tx.connection.prepare_cached(sql)?;
            let counted: Option<u64> = statement.query_row([fingerprint.0], |row| row.get(0)).optional()?;
            let blocks = counted.unwrap_or(0) + before.div_ceil(IV_BLOCK) + 1;
            let print = [("print", Cell::Bytes(&fingerprint.0))];
            tx.put("vector_blocks", &print, &[("blocks", Cell::Integer(signed(blocks)))])?;
            Ok(blocks)
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
