//! Objects: loaded, searched, changed, destroyed.

use std::sync::Arc;

use kms_core::audit::Entry;
use kms_core::object::Object;
use kms_protocol::{ObjectId, RequestId, RingId, Template};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::find::Narrowing;
use super::object_rows::Stored;
use super::{KeyRecord, Store, StoreError, change, find};

impl Store {
    /// An object of a ring that applications may see.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::RowInvalid`] when its row was changed.
    pub fn object(&self, ring: RingId, id: ObjectId) -> Result<Arc<Object>, StoreError> {
        let read = |connection: &Connection| find::object(connection, &self.key, id).and_then(find::visible);
        let found = self.memory.object(id, || self.readers.read(read));
        let object = found.inspect_err(|error| self.report(std::slice::from_ref(error)))?;
        if object.ring == ring { Ok(object) } else { Err(StoreError::NotFound) }
    }

    /// An object of a ring, whether applications see it or not: to tell of it, not to use it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::RowInvalid`] when its row was changed.
    pub fn hidden_object(&self, ring: RingId, id: ObjectId) -> Result<Object, StoreError> {
        let found = self.readers.read(|connection| find::object(connection, &self.key, id))?.object;
        if found.ring == ring { Ok(found) } else { Err(StoreError::NotFound) }
    }

    /// Whether a key and an object of it are remembered, so that no disk is needed to use it.
    pub fn remembers(&self, key: Uuid, object: impl FnOnce(&KeyRecord) -> Option<ObjectId>) -> bool {
        self.memory.knows(key, object)
    }

    /// An object of a ring that has been destroyed and could still be restored.
    ///
    /// # Errors
    /// When the database fails.
    pub fn leaving(&self, ring: RingId, id: ObjectId) -> Result<Option<Object>, StoreError> {
        match self.readers.read(|connection| find::object(connection, &self.key, id)) {
            Ok(stored) => Ok((stored.is_leaving() && stored.object.ring == ring).then_some(stored.object)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a request has deleted something; its answer was lost if it comes again.
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

    /// The objects of a ring that have all these attributes: at most `limit`, in ascending order, those after
    /// `after`. One whose row was changed is left out and the rest goes on.
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
        let narrowing = Narrowing::by(template);
        let (mut found, mut after) = (Vec::new(), after);
        loop {
            let read =
                |connection: &Connection| find::page(connection, &self.key, ring, &narrowing, (after, limit));
            let page = self.readers.read(read)?;
            self.report(&page.refused);
            let seen = page.stored.into_iter().filter(Stored::is_visible).map(|stored| stored.object);
            found.extend(seen.filter(|object| object.attributes.matches(template)).map(Arc::new));
            if found.len() >= limit || page.next.is_none() {
                found.truncate(limit);
                return Ok(found);
            }
            after = page.next;
        }
    }

    /// Gives an object the attributes that `judge` finds for it, or leaves it as it is where that refuses. It judges
    /// the object as it is at that moment; no other change comes between.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the ring has no such object.
    pub fn update<E: Send + 'static>(
        &self,
        ring: RingId,
        id: ObjectId,
        judge: impl FnOnce(&Object) -> Result<Template, E> + Send + 'static,
        entry: Option<Entry>,
    ) -> Result<Result<Arc<Object>, E>, StoreError> {
        self.writer.write(move |tx| {
            let judged = change::update(tx, ring, id, judge)?;
            if judged.is_ok() {
                change::record(tx, entry.as_ref())?;
            }
            Ok(judged)
        })
    }

    /// Takes an object out of the applications' view; a key can be restored until `at`. Returns the objects that left:
    /// a secret or private key takes its version's other half with it, a public half goes alone, what belongs to no
    /// key is deleted. Done already, it returns none.
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
            let left = change::schedule_destruction(tx, (ring, request), id, (now, at))?;
            if !left.is_empty() {
                change::record(tx, entry.as_ref())?;
            }
            Ok(left)
        })
    }
}
