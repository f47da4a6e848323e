//! The state digest in the database: which tables it counts, how it is kept, and how it is checked against the rows
//! (docs/decisions/0047).

use kms_core::audit::{ChainFault, FaultKind, Head};
use kms_core::integrity::RowKey;
use kms_core::state_digest::{STATE_NONCE_BYTES, StateDigest, StateKey, StateMark};
use rusqlite::Connection;

use super::write::cells;
use super::{StoreError, check};

/// The tables whose rows are counted, each at the place of its number, which is stored: the list only grows. Not here are
/// `audit`, `audit_head`, `audit_restarts` and `audit_set_aside`: the audit chain holds them together.
pub(super) const TABLES: [&str; 24] = [
    "home",
    "service_keys",
    "counters",
    "projects",
    "rings",
    "principals",
    "keys",
    "versions",
    "objects",
    "accounts",
    "grants",
    "tokens",
    "account_keys",
    "assertions",
    "requests",
    "repeats",
    "vectors",
    "vector_blocks",
    "spans",
    "token_uses",
    "login_failures",
    "restores",
    "used_proofs",
    "refresh_families",
];

/// The number of a table, if its rows are counted.
pub(super) fn number(table: &str) -> Option<u8> {
    TABLES.iter().zip(0..).find(|(name, _)| **name == table).map(|(_, number)| number)
}

/// Returns the digest of the rows that are there.
pub(super) fn scan(connection: &Connection, key: &StateKey) -> Result<StateDigest, StoreError> {
    let mut digest = StateDigest::default();
    for (table, number) in TABLES.iter().zip(0..) {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            digest.add(number, &key.row(table, &mut cells(row)?));
        }
    }
    Ok(digest)
}

/// Seals a digest under fresh random bytes.
pub(super) fn seal(key: &StateKey, digest: &StateDigest) -> Result<(StateMark, Vec<u8>), StoreError> {
    let mut nonce = [0; STATE_NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| StoreError::Random(error.to_string()))?;
    Ok(key.seal(digest, nonce))
}

/// A table whose rows are not those that were written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TableFault {
    /// The table.
    pub(super) name: &'static str,
    /// The number of rows that were written.
    pub(super) written: u64,
    /// The number of rows that are there.
    pub(super) found: u64,
    /// The number of these whose MAC is not one of this home.
    pub(super) unreadable: u64,
}

impl From<&TableFault> for ChainFault {
    fn from(fault: &TableFault) -> Self {
        let TableFault { name, written, found, .. } = *fault;
        Self { sequence: 0, fault: FaultKind::Table { name, written, found } }
    }
}

/// Compares the rows with the digest in the audit head; returns the tables whose rows are not those that were written.
pub(super) fn compare(
    connection: &Connection,
    key: &RowKey,
    head: &Head,
    sealed: &[u8],
) -> Result<Result<Vec<TableFault>, ChainFault>, StoreError> {
    let state_key = StateKey::of(key);
    let Some(written) = head.state.and_then(|mark| state_key.open(&mark, sealed)) else {
        return Ok(Err(ChainFault { sequence: 0, fault: FaultKind::State }));
    };
    let (found, mut faults) = (scan(connection, &state_key)?, Vec::new());
    for (name, number) in TABLES.iter().zip(0..) {
        let (written, found) = (written.table(number), found.table(number));
        if written != found {
            let unreadable = check::unreadable(connection, key, name)?;
            faults.push(TableFault { name, written: written.count(), found: found.count(), unreadable });
        }
    }
    Ok(Ok(faults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Fixture;

    /// The tables that the audit chain holds together.
    const OF_THE_LOG: [&str; 4] = ["audit", "audit_head", "audit_restarts", "audit_set_aside"];

    #[test]
    fn every_table_is_counted_or_belongs_to_the_log() {
        let (fixture, _store) = Fixture::new();
        let connection = Connection::open(fixture.path()).unwrap();
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'";
        let mut statement = connection.prepare(sql).unwrap();
        let mut found: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let mut known: Vec<&str> = TABLES.into_iter().chain(OF_THE_LOG).collect();
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known);
    }
}
