//! Keys and their versions: insert, rotate, count, list.

use std::sync::Arc;

use kms_core::object::{Draft, Object};
use kms_protocol::{RequestId, RingId};
use uuid::Uuid;

use super::{KeySummary, NewKey, NewObject, NextVersion, Store, StoreError, change, find, rotation};

impl Store {
    /// Stores a key with its objects, in the order of the drafts. A repeated request returns what it created first,
    /// whatever its arguments are now.
    ///
    /// # Errors
    /// When the database fails.
    pub fn insert(
        &self,
        request: RequestId,
        key: NewKey,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Arc<Object>>, StoreError> {
        self.writer.write(move |tx| change::insert(tx, request, key, drafts))
    }

    /// Returns the number of a key's newest version, and the objects, visible or not, of the newest version whose
    /// material still exists. The next version is created from both.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key in the ring.
    pub fn newest(&self, ring: RingId, key: [u8; 16]) -> Result<(u32, Vec<Object>), StoreError> {
        let record = self.known(ring, Uuid::from_bytes(key))?;
        let with_material = record.versions.iter().rev().find(|version| version.hidden.is_some());
        let ids =
            with_material.map(|version| [version.hidden, version.public]).into_iter().flatten().flatten();
        let read = |id| self.readers.read(|connection| find::object(connection, &self.key, id));
        let objects = ids.map(|id| Ok(read(id)?.object)).collect::<Result<_, StoreError>>()?;
        Ok((record.next_number() - 1, objects))
    }

    /// Stores a key's next version, which becomes current, with its objects in the order of the drafts. The objects of
    /// the version before are relabelled `label#<number>`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when another version took this number first.
    pub fn rotate(&self, next: NextVersion, drafts: Vec<Draft>) -> Result<Vec<Arc<Object>>, StoreError> {
        self.writer.write(move |tx| rotation::rotate(tx, next, drafts))
    }

    /// Stores an object that belongs to no key. A repeated request returns what it created first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn insert_object(
        &self,
        request: RequestId,
        object: NewObject,
        draft: Draft,
    ) -> Result<Arc<Object>, StoreError> {
        self.writer.write(move |tx| change::insert_object(tx, request, object, draft))
    }

    /// Counts the keys of a ring that are neither destroyed nor scheduled for destruction.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_keys(&self, ring: RingId) -> Result<u64, StoreError> {
        self.readers.read(|connection| find::count_keys(connection, ring))
    }

    /// Returns the keys of a ring, the oldest first. A key whose row was changed is omitted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keys(&self, ring: RingId) -> Result<Vec<KeySummary>, StoreError> {
        let (keys, unreadable) = self.readers.read(|connection| find::keys(connection, &self.key, ring))?;
        self.log_unreadable(&unreadable);
        Ok(keys)
    }
}
