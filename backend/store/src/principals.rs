//! The principals of a ring: list and remove.

use kms_core::audit::Entry;
use kms_core::integrity::{Cell, RowKey};
use kms_protocol::RingId;
use rusqlite::Connection;

use super::cache::Invalidation;
use super::rows::PRINCIPAL_COLUMNS;
use super::{Principal, Store, StoreError};

/// Returns the principals of a ring, by name, and the errors of those that cannot be read.
pub(super) fn ring_principals(
    connection: &Connection,
    key: &RowKey,
    ring: RingId,
) -> Result<(Vec<Principal>, Vec<StoreError>), StoreError> {
    let sql = format!("SELECT {PRINCIPAL_COLUMNS} FROM principals WHERE ring = ?1 ORDER BY name");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([ring.0])?;
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match Principal::read(row, key) {
            Ok(principal) => found.push(principal),
            Err(error @ StoreError::RowInvalid { .. }) => unreadable.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((found, unreadable))
}

impl Store {
    /// Returns the principals of a ring, by name. A principal whose row was changed is omitted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn principals(&self, ring: RingId) -> Result<Vec<Principal>, StoreError> {
        let (found, unreadable) =
            self.readers.read(|connection| ring_principals(connection, &self.key, ring))?;
        self.log_unreadable(&unreadable);
        Ok(found)
    }

    /// Removes a principal of a ring; its logins end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when no principal has that name.
    pub fn remove_principal(&self, ring: RingId, name: &str, entry: Entry) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer.write(move |tx| {
            let key = [("ring", Cell::Bytes(&ring.0)), ("name", Cell::Text(&name))];
            tx.delete_one(Principal::TABLE, &key)?;
            tx.invalidate(Invalidation::Principal(ring, name));
            tx.record(&entry)
        })
    }
}
