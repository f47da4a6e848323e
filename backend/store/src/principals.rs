//! The principals of a ring as its owner handles them: listed and removed.

use kms_core::audit::Entry;
use kms_core::integrity::RowKey;
use kms_protocol::RingId;
use rusqlite::{Connection, params};

use super::cache::Stale;
use super::rows::PRINCIPAL_COLUMNS;
use super::{Principal, Store, StoreError};

/// The principals of a ring, by name, and why others cannot be read.
pub(super) fn of(
    connection: &Connection,
    key: &RowKey,
    ring: RingId,
) -> Result<(Vec<Principal>, Vec<StoreError>), StoreError> {
    let sql = format!("SELECT {PRINCIPAL_COLUMNS} FROM principals WHERE ring = ?1 ORDER BY name");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([ring.0])?;
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match Principal::read(row, key) {
            Ok(principal) => found.push(principal),
            Err(error @ StoreError::RowInvalid { .. }) => refused.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((found, refused))
}

impl Store {
    /// The principals of a ring, by name. One whose row was changed is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub fn principals(&self, ring: RingId) -> Result<Vec<Principal>, StoreError> {
        let (found, refused) = self.readers.read(|connection| of(connection, &self.key, ring))?;
        self.report(&refused);
        Ok(found)
    }

    /// Removes a principal of a ring; the logins it made end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none of that name.
    pub fn remove_principal(&self, ring: RingId, name: &str, entry: Entry) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer.write(move |tx| {
            let sql = "DELETE FROM principals WHERE ring = ?1 AND name = ?2";
            if tx.connection.execute(sql, params![ring.0, name])? == 0 {
                return Err(StoreError::NotFound);
            }
            tx.forget(Stale::Principal(ring, name));
            tx.record(&entry)
        })
    }
}
