//! Initialisation vectors, counted in blocks for each key value.

use kms_core::object::KeyVersion;
use kms_core::seal::Print;
use rusqlite::params;

use super::{Store, StoreError};

/// Vectors in one block, as they are counted for a key.
const VECTOR_BLOCK: u64 = 1 << 20;

impl Store {
    /// Counts a block of initialisation vectors for a key, and whatever was counted for its version before prints
    /// were; gives how many there are.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_vectors(&self, print: Print, version: Option<KeyVersion>) -> Result<u64, StoreError> {
        self.writer.write(move |desk| {
            let before: u64 = match version {
                Some(version) => {
                    let sql = "DELETE FROM vectors WHERE key = ?1 AND number = ?2 RETURNING taken";
                    let mut statement = desk.connection.prepare_cached(sql)?;
                    let mut taken =
                        statement.query_map(params![version.key, version.number], |row| row.get(0))?;
                    taken.next().transpose()?.unwrap_or(0)
                }
                None => 0,
            };
            let sql = "INSERT INTO vector_blocks (print, blocks) VALUES (?1, ?2) \
                       ON CONFLICT (print) DO UPDATE SET blocks = blocks + ?2 RETURNING blocks";
            let mut statement = desk.connection.prepare_cached(sql)?;
            let blocks = before.div_ceil(VECTOR_BLOCK) + 1;
            Ok(statement.query_row(params![print.0, blocks], |row| row.get(0))?)
        })
    }

    /// The keys that have used so many blocks of vectors, or more.
    ///
    /// # Errors
    /// When the database fails.
    pub fn spent_vectors(&self, blocks: u64) -> Result<Vec<Print>, StoreError> {
        self.readers.read(|connection| {
            let mut statement = connection.prepare("SELECT print FROM vector_blocks WHERE blocks >= ?1")?;
            let prints = statement.query_map([blocks], |row| row.get(0).map(Print))?;
            Ok(prints.collect::<Result<_, _>>()?)
        })
    }
}
