//! Objects: load, search, update, destroy.

use std::sync::Arc;

use kms_core::audit::Entry;
use kms_core::object::Object;
use kms_protocol::{ObjectId, RequestId, RingId, Template};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::find::IndexFilter;
use super::object_rows::StoredObject;
use super::{KeyRecord, Store, StoreError, change, find};

/// The maximum number of rows that one part of a search reads, which takes some tens of milliseconds.
const SEARCHED_MAX: usize = 4096;

/// A search in a ring.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The ring.
    pub ring: RingId,
    /// The attributes that an object must have.
    pub template: &'a Template,
    /// Whether private objects are left out, before their rows are read.
    pub public_only: bool,
}

/// A part of the result of a search.
#[derive(Debug, Default)]
pub struct Found {
    /// The objects, in ascending order.
    pub objects: Vec<Arc<Object>>,
    /// Where the search continues; none at its end.
    pub next: Option<ObjectId>,
}

impl Store {
    /// Returns an object of a ring that is visible to applications.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::RowInvalid`] when its row was changed.
    pub fn object(&self, ring: RingId, id: ObjectId) -> Result<Arc<Object>, StoreError> {
        let read = |connection: &Connection| find::object(connection, &self.key, id).and_then(find::visible);
        let found = self.cache.object(id, || self.readers.read(read));
        let object = found.inspect_err(|error| self.log_unreadable(std::slice::from_ref(error)))?;
        if object.ring == ring { Ok(object) } else { Err(StoreError::NotFound) }
    }

    /// Returns an object of a ring, visible to applications or not: to describe it, not to use it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::RowInvalid`] when its row was changed.
    pub fn object_in_any_state(&self, ring: RingId, id: ObjectId) -> Result<Object, StoreError> {
        let found = self.readers.read(|connection| find::object(connection, &self.key, id))?.object;
        if found.ring == ring { Ok(found) } else { Err(StoreError::NotFound) }
    }

    /// Whether a key and one of its objects are cached, so that using it needs no read of the disk.
    pub fn remembers(&self, key: Uuid, object: impl FnOnce(&KeyRecord) -> Option<ObjectId>) -> bool {
        self.cache.has_key_and_object(key, object)
    }

    /// Returns an object of a ring that was destroyed and can still be restored.
    ///
    /// # Errors
    /// When the database fails.
    pub fn leaving(&self, ring: RingId, id: ObjectId) -> Result<Option<Object>, StoreError> {
        match self.readers.read(|connection| find::object(connection, &self.key, id)) {
            Ok(stored) => {
                Ok((stored.is_destruction_scheduled() && stored.object.ring == ring).then_some(stored.object))
            }
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a request has deleted something: if it is repeated, its response was lost.
    ///
    /// # Errors
    /// When the database fails.
    pub fn deleted_by(&self, ring: RingId, request: RequestId) -> Result<bool, StoreError> {
        self.readers.read(|connection| {
            let sql = "SELECT count(*) FROM requests WHERE ring = ?1 AND id = ?2 AND count = 0";
            let found: u64 = connection.query_row(sql, params![ring.0, request.0], |row| row.get(0))?;
            Ok(found > 0)
        })
    }

    /// Returns the objects of a ring that have all these attributes: at most `limit`, in ascending order, those after
    /// `after`. An object whose row was changed is omitted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn find(
        &self,
        ring: RingId,
        template: &Template,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<Arc<Object>>, StoreError> {
        let search = Search { ring, template, public_only: false };
        let (mut objects, mut after) = (Vec::new(), after);
        loop {
            let found = self.find_some(search, after, limit - objects.len())?;
            objects.extend(found.objects);
            match found.next {
                Some(next) if objects.len() < limit => after = Some(next),
                Some(_) | None => return Ok(objects),
            }
        }
    }

    /// The same, but ends after a bounded number of rows even if fewer objects were found.
    ///
    /// # Errors
    /// When the database fails.
    pub fn find_some(
        &self,
        search: Search<'_>,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let filter = IndexFilter::by(search.template, search.public_only);
        let (mut objects, mut after, mut rows) = (Vec::new(), after, 0);
        loop {
            let read = |connection: &Connection| {
                find::page(connection, &self.key, search.ring, &filter, (after, limit))
            };
            let page = self.readers.read(read)?;
            self.log_unreadable(&page.unreadable);
            rows += page.stored.len() + page.unreadable.len();
            let visible =
                page.stored.into_iter().filter(StoredObject::is_visible).map(|stored| stored.object);
            objects.extend(visible.filter(|object| object.attributes.matches(search.template)).map(Arc::new));
            if objects.len() > limit {
                objects.truncate(limit);
                let next = objects.last().and_then(|object| object.id);
                return Ok(Found { objects, next });
            }
            if page.next.is_none() || objects.len() == limit || rows >= SEARCHED_MAX {
                return Ok(Found { objects, next: page.next });
            }
            after = page.next;
        }
    }

    /// Fills in whether an object is private where a row is older than that column. A row that was changed outside the
    /// KMS stays as it is.
    pub(super) fn mark_private_objects(&self) -> Result<(), StoreError> {
        let mut after = Some(ObjectId(0));
        while let Some(last) = after {
            after = self.writer.write(move |tx| change::mark_private_objects(tx, last))?;
        }
        Ok(())
    }

    /// Sets an object's attributes to those that `decide` returns, or leaves it unchanged when `decide` fails. `decide`
    /// runs inside the write transaction, so no other change comes between.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the ring has no such object.
    pub fn update<E: Send + 'static>(
        &self,
        ring: RingId,
        id: ObjectId,
        decide: impl FnOnce(&Object) -> Result<Template, E> + Send + 'static,
        entry: Option<Entry>,
    ) -> Result<Result<Arc<Object>, E>, StoreError> {
        self.writer.write(move |tx| {
            let updated = change::update(tx, ring, id, decide)?;
            if updated.is_ok() {
                change::record(tx, entry.as_ref())?;
            }
            Ok(updated)
        })
    }

    /// Hides an object from applications; a key can be restored until `at`. Returns the objects that were hidden: a
    /// secret or private key hides all objects of its version, a public key is hidden alone, an object that belongs to
    /// no key is deleted. Returns none if it was done before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the ring has no such object.
    pub fn schedule_destruction(
        &self,
        (ring, request): (RingId, RequestId),
        id: ObjectId,
        (now, at): (u64, u64),
        entry: Option<Entry>,
    ) -> Result<Vec<ObjectId>, StoreError> {
        self.writer.write(move |tx| {
            let hidden = change::schedule_destruction(tx, (ring, request), id, (now, at))?;
            if !hidden.is_empty() {
                change::record(tx, entry.as_ref())?;
            }
            Ok(hidden)
        })
    }
}
