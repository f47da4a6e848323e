//! Rings and their principals: stored, loaded, emptied.

use std::sync::Arc;

use kms_core::audit::Entry;
use kms_protocol::{ObjectId, RingId, SlotId};
use rusqlite::Connection;

use super::cache::{self, Stale};
use super::{NewRing, Principal, Ring, Store, StoreError, change, find};

impl Store {
    /// The ring that is a slot's token.
    ///
    /// # Errors
    /// When the database fails.
    pub fn ring(&self, slot: SlotId) -> Result<Option<Arc<Ring>>, StoreError> {
        Ok(self.all_rings()?.of(slot))
    }

    /// All rings, by slot. One whose row was changed is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rings(&self) -> Result<Vec<Ring>, StoreError> {
        Ok(self.all_rings()?.list())
    }

    /// The ring with this id.
    ///
    /// # Errors
    /// When the database fails.
    pub fn ring_of(&self, id: RingId) -> Result<Option<Arc<Ring>>, StoreError> {
        Ok(self.all_rings()?.with_id(id))
    }

    pub(super) fn all_rings(&self) -> Result<Arc<cache::Rings>, StoreError> {
        self.memory.rings(|| {
            let (rings, refused) = self.readers.read(|connection| find::rings(connection, &self.key))?;
            self.report(&refused);
            Ok(rings)
        })
    }

    /// Makes a ring, in a slot that no ring ever had.
    ///
    /// # Errors
    /// When its name is taken, or there are too many.
    pub fn insert_ring(&self, ring: &NewRing) -> Result<Ring, StoreError> {
        let ring = ring.clone();
        self.writer.write(move |tx| change::insert_ring(tx, &ring))
    }

    /// The slot that the next ring will have.
    ///
    /// # Errors
    /// When the database fails.
    pub fn free_slot(&self) -> Result<SlotId, StoreError> {
        self.readers.read(|connection| {
            let sql = "SELECT next FROM counters WHERE name = 'slot'";
            Ok(SlotId(connection.query_row(sql, [], |row| row.get(0))?))
        })
    }

    /// Empties a ring and gives it another label: what it holds leaves as by [`Store::schedule_destruction`], and its
    /// user has no PIN any more. Returns the objects that left.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another ring has the label.
    pub fn clear_ring(
        &self,
        ring: RingId,
        label: &str,
        at: u64,
        entry: Option<Entry>,
    ) -> Result<Vec<ObjectId>, StoreError> {
        let label = label.to_owned();
        self.writer.write(move |tx| {
            let left = change::clear_ring(tx, ring, &label, at)?;
            change::record(tx, entry.as_ref())?;
            Ok(left)
        })
    }

    /// A principal of a ring, if there is one of that name.
    ///
    /// # Errors
    /// When the database fails, or the principal's row was changed.
    pub fn principal(&self, ring: RingId, name: &str) -> Result<Option<Arc<Principal>>, StoreError> {
        let read = |connection: &Connection| find::principal(connection, &self.key, ring, name);
        let found = self.memory.principal(ring, name, || self.readers.read(read));
        found.inspect_err(|error| self.report(std::slice::from_ref(error)))
    }

    /// Writes a principal, new or in place of the one of that name.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_principal(
        &self,
        ring: RingId,
        principal: &Principal,
        entry: Option<Entry>,
    ) -> Result<(), StoreError> {
        let principal = principal.clone();
        self.writer.write(move |tx| {
            principal.put(ring, tx)?;
            tx.forget(Stale::Principal(ring, principal.name));
            change::record(tx, entry.as_ref())
        })
    }
}
