//! The principals of a ring: list and remove.

use kms_core::audit::Entry;
use kms_core::integrity::{Cell, RowKey};
use kms_protocol::RingId;
use rusqlite::Connection;

use super::cache::Invalidation;
use super::rows::PRINCIPAL_COLUMNS;
use super::{PinKind, Principal, Store, StoreError, find};

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

    /// Replaces the hash of a principal's PIN by one of the same PIN that is bound to the HSM. Does nothing, and returns
    /// false, when the PIN was changed meanwhile.
    ///
    /// # Errors
    /// When the database fails, or the principal's row was changed.
    pub fn bind_pin(&self, ring: RingId, old: &Principal, pin_hash: String) -> Result<bool, StoreError> {
        let old = old.clone();
        self.writer.write(move |tx| {
            let found = find::principal(tx.connection, tx.key, ring, &old.name)?;
            let Some(current) = found.filter(|current| *current == old) else { return Ok(false) };
            let name = current.name.clone();
            Principal { pin_hash, pin_kind: PinKind::Bound, ..current }.put(ring, tx)?;
            tx.invalidate(Invalidation::Principal(ring, name));
            Ok(true)
        })
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
