//! Rings and their principals: reading, creating, clearing.

use std::sync::Arc;

use kms_core::audit::Entry;
use kms_protocol::{ObjectId, RingId, SlotId};
use rusqlite::Connection;

use super::cache::{self, Invalidation};
use super::{NewRing, Principal, Ring, Store, StoreError, change, find};

impl Store {
    /// Returns the ring that is the token of a slot.
    ///
    /// # Errors
    /// When the database fails.
    pub fn ring(&self, slot: SlotId) -> Result<Option<Arc<Ring>>, StoreError> {
        Ok(self.all_rings()?.of(slot))
    }

    /// Returns all rings, by slot. A ring whose row was changed is omitted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn rings(&self) -> Result<Vec<Ring>, StoreError> {
        Ok(self.all_rings()?.list())
    }

    /// Returns the ring with this id.
    ///
    /// # Errors
    /// When the database fails.
    pub fn ring_of(&self, id: RingId) -> Result<Option<Arc<Ring>>, StoreError> {
        Ok(self.all_rings()?.with_id(id))
    }

    pub(super) fn all_rings(&self) -> Result<Arc<cache::Rings>, StoreError> {
        self.cache.rings(|| {
            let (rings, unreadable) = self.readers.read(|connection| find::rings(connection, &self.key))?;
            self.log_unreadable(&unreadable);
            Ok(rings)
        })
    }

    /// Creates a ring, in a slot that no ring ever had.
    ///
    /// # Errors
    /// When its name is taken, or there are too many rings.
    pub fn insert_ring(&self, ring: &NewRing) -> Result<Ring, StoreError> {
        let ring = ring.clone();
        self.writer.write(move |tx| change::insert_ring(tx, &ring))
    }

    /// Returns the slot that the next ring will get.
    ///
    /// # Errors
    /// When the database fails.
    pub fn free_slot(&self) -> Result<SlotId, StoreError> {
        self.readers.read(|connection| {
            let sql = "SELECT next FROM counters WHERE name = 'slot'";
            Ok(SlotId(connection.query_row(sql, [], |row| row.get(0))?))
        })
    }

    /// Empties a ring and changes its label: hides its objects as [`Store::schedule_destruction`] does, and removes its
    /// user's PIN. Returns the objects that were hidden.
    ///
    /// # Errors
    /// [`StoreError::NameInUse`] when another ring has the label.
    pub fn clear_ring(
        &self,
        ring: RingId,
        label: &str,
        at: u64,
        entry: Option<Entry>,
    ) -> Result<Vec<ObjectId>, StoreError> {
        let label = label.to_owned();
        self.writer.write(move |tx| {
            let hidden = change::clear_ring(tx, ring, &label, at)?;
            change::record(tx, entry.as_ref())?;
            Ok(hidden)
        })
    }

    /// Returns a principal of a ring, if one has that name.
    ///
    /// # Errors
    /// When the database fails, or the principal's row was changed.
    pub fn principal(&self, ring: RingId, name: &str) -> Result<Option<Arc<Principal>>, StoreError> {
        let read = |connection: &Connection| find::principal(connection, &self.key, ring, name);
        let found = self.cache.principal(ring, name, || self.readers.read(read));
        found.inspect_err(|error| self.log_unreadable(std::slice::from_ref(error)))
    }

    /// Inserts a principal, or updates the one with its name.
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
            tx.invalidate(Invalidation::Principal(ring, principal.name));
            change::record(tx, entry.as_ref())
        })
    }
}
