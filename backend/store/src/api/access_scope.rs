//! How many keys are restricted to some networks (`access_scope: SNA`).

use super::super::{Store, StoreError};

impl Store {
    /// Counts the keys and wrapping keys with the scope, in all rings.
    ///
    /// # Errors
    /// When the database fails.
    pub fn sna_keys(&self) -> Result<u64, StoreError> {
        self.readers.read(|connection| {
            let sql = "SELECT count(*) FROM keys WHERE access IS NOT NULL";
            Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        })
    }
}
