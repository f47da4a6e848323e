//! Keys and their versions: stored, counted, listed.

use std::sync::Arc;

use kms_core::object::{Draft, Object};
use kms_protocol::{RequestId, RingId};
use uuid::Uuid;

use super::{KeySummary, NewKey, NewObject, NextVersion, Store, StoreError, change, find, rotation};

impl Store {
    /// Stores a key with its objects, in the order of the drafts. A request that has made something before gets that
    /// again, whatever it brings.
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

    /// The objects of the newest version of a key whose material is held, seen or not; and the number of its newest
    /// version of all. Both for the next version, which is made after them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key in the ring.
    pub fn newest(&self, ring: RingId, key: [u8; 16]) -> Result<(u32, Vec<Object>), StoreError> {
        let known = self.known(ring, Uuid::from_bytes(key))?;
        let held = known.versions.iter().rev().find(|version| version.hidden.is_some());
        let ids = held.map(|version| [version.hidden, version.public]).into_iter().flatten().flatten();
        let read = |id| self.readers.read(|connection| find::object(connection, &self.key, id));
        let objects = ids.map(|id| Ok(read(id)?.object)).collect::<Result<_, StoreError>>()?;
        Ok((known.next_number() - 1, objects))
    }

    /// Makes a key's next version current, with its objects in the order of the drafts. The objects of the version
    /// before go on under `label#<number>`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when another version came first.
    pub fn rotate(&self, next: NextVersion, drafts: Vec<Draft>) -> Result<Vec<Arc<Object>>, StoreError> {
        self.writer.write(move |tx| rotation::rotate(tx, next, drafts))
    }

    /// Stores an object that belongs to no key. A request that has made something before gets that again.
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

    /// How many keys of a ring are neither destroyed nor to be.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_keys(&self, ring: RingId) -> Result<u64, StoreError> {
        self.readers.read(|connection| find::count_keys(connection, ring))
    }

    /// The keys of a ring, the oldest first. One whose row was changed is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keys(&self, ring: RingId) -> Result<Vec<KeySummary>, StoreError> {
        let (keys, refused) = self.readers.read(|connection| find::keys(connection, &self.key, ring))?;
        self.report(&refused);
        Ok(keys)
    }
}
