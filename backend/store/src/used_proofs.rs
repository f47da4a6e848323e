//! Proofs of context-specific logins that were used: each permits one use of a key.

use kms_core::integrity::Cell;
use rusqlite::params;

use super::rows::signed;
use super::{Store, StoreError};

/// The maximum number of expired proofs that are deleted with each new one.
const DELETED_MAX: u32 = 16;

const TABLE: &str = "used_proofs";

impl Store {
    /// Burns a proof: returns whether this is its first use. It is on the disk when this returns, so that a restart
    /// does not make the proof good again. `expires` and `now` are in seconds since 1970.
    ///
    /// # Errors
    /// When the database fails; then the proof must not be accepted.
    pub fn burn_proof(&self, nonce: [u8; 16], expires: u64, now: u64) -> Result<bool, StoreError> {
        self.writer.write(move |tx| {
            let expired =
                "nonce IN (SELECT nonce FROM used_proofs WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
            tx.delete_where(TABLE, expired, params![signed(now), DELETED_MAX])?;
            let sql = "SELECT 1 FROM used_proofs WHERE nonce = ?1";
            if tx.connection.prepare_cached(sql)?.exists([nonce])? {
                return Ok(false);
            }
            let expires = Cell::Integer(signed(expires));
            tx.insert(TABLE, &[("nonce", Cell::Bytes(&nonce)), ("expires", expires)])?;
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::Fixture;

    #[test]
    fn a_proof_is_burned_once_also_after_a_restart_and_forgotten_when_it_has_expired() {
        let (fixture, store) = Fixture::new();
        assert!(store.burn_proof([1; 16], 130, 100).unwrap());
        assert!(!store.burn_proof([1; 16], 130, 101).unwrap());
        drop(store);
        let store = fixture.open();
        assert!(!store.burn_proof([1; 16], 130, 102).unwrap());
        assert!(store.burn_proof([2; 16], 160, 130).unwrap());
        let rows: u64 = rusqlite::Connection::open(fixture.path())
            .unwrap()
            .query_row("SELECT count(*) FROM used_proofs", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 1);
    }
}
