//! The database: SQLite, durable before it answers, its rows bound to their identity by MACs.
//!
//! One thread writes (`writer`), a few connections read (`readers`), and what is in use is remembered (`cache`): a
//! signature asks for ring, principal and object, and none of them costs a read of the disk. Nothing is loaded whole
//! but the list of rings.
//!
//! The room knows of keys what a row says; it cannot open them.

mod accounts;
mod audit;
mod backup;
mod cache;
mod change;
mod check;
mod error;
mod find;
mod key_rows;
mod kms;
mod object_rows;
mod open;
mod principals;
mod readers;
mod rotation;
mod rows;
#[cfg(test)]
mod tests;
mod usage;
mod version_rows;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kms_protocol::{ObjectId, RequestId, RingId, RingPolicy, SlotId, Template};
use rusqlite::{Connection, Error as Sql, ffi, params};
use uuid::Uuid;

use cache::{Memory, Stale};
use find::Narrowing;
use object_rows::Stored;
use readers::Readers;
use writer::Writer;

use crate::audit::Entry;
use crate::integrity::RowKey;
use crate::object::{Draft, KeyVersion, Object, Standing, Wrapped};
use crate::seal::Print;

pub use accounts::{AccountKey, Assertion, GivenGrant, KeyAlgorithm, Member, ServiceAccount, Spent, Token};
pub use audit::{AuditFilter, AuditPlace};
pub(crate) use backup::{beside, settle, sync_folder};
pub use check::Checked;
pub use error::StoreError;
pub use kms::{Due, Judged, KeyFacts, KnownKey, KnownVersion, Project, Purged, Repeat, RingFacts};
pub use open::LockedStore;
pub use usage::{HourUsage, USAGE_HOURS_MAX, UsageOf};

/// Rows that cannot be read are logged once each; so many are remembered for that.
const REPORTED_MAX: usize = 1000;

/// Vectors in one block, as they are counted for a key.
const VECTOR_BLOCK: u64 = 1 << 20;

/// A ring, as stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ring {
    /// Its slot: its number for applications, never given to another ring.
    pub slot: SlotId,
    /// Its id.
    pub id: RingId,
    /// Its name: the token's label.
    pub label: String,
    /// What it allows.
    pub policy: RingPolicy,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// What the service's API knows of it.
    pub facts: RingFacts,
}

/// A ring to be stored.
#[derive(Clone, Debug)]
pub struct NewRing {
    /// Its id.
    pub id: RingId,
    /// Its name.
    pub label: String,
    /// What it allows.
    pub policy: RingPolicy,
    /// The time, in seconds since 1970.
    pub created: u64,
    /// The slot it must come into; any free one where none is named.
    pub slot: Option<SlotId>,
    /// What the service's API knows of it.
    pub facts: RingFacts,
    /// What is recorded of it.
    pub entry: Option<Entry>,
}

/// Who may log in to a ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// The name; `user` and `so` are the ring's own.
    pub name: String,
    /// What they may do.
    pub standing: Standing,
    /// The PIN, as argon2 writes it; empty where there is none yet.
    pub pin_hash: String,
    /// Counts the times that all logins before were ended.
    pub generation: u64,
}

impl Principal {
    /// The ring's own user (`CKU_USER`).
    pub const USER: &str = "user";

    /// Whether there is a PIN to log in with.
    pub fn has_pin(&self) -> bool {
        !self.pin_hash.is_empty()
    }
}

/// The next version of a key.
#[derive(Clone, Debug)]
pub struct NextVersion {
    /// Which: the number after the newest one's.
    pub version: KeyVersion,
    /// Its material.
    pub wrapped: Wrapped,
    /// The time, in seconds since 1970.
    pub created: u64,
    /// The day, as `CK_DATE` writes it.
    pub today: [u8; 8],
    /// What is recorded of it.
    pub entry: Option<Entry>,
}

/// An object to be stored that belongs to no key.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// Its ring.
    pub ring: RingId,
    /// Its value, where that is encrypted.
    pub value: Option<Wrapped>,
    /// The time, in seconds since 1970.
    pub created: u64,
    /// What is recorded of it.
    pub entry: Option<Entry>,
}

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its ring.
    pub ring: RingId,
    /// Its UUID.
    pub key: [u8; 16],
    /// Its label.
    pub label: Vec<u8>,
    /// What it is, in a word.
    pub algorithm: String,
    /// Its material; a lone public key has none.
    pub wrapped: Option<Wrapped>,
    /// The time, in seconds since 1970.
    pub created: u64,
    /// What the service's API knows of it.
    pub facts: KeyFacts,
    /// What is recorded of it.
    pub entry: Option<Entry>,
}

/// A key, as listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeySummary {
    /// Its UUID.
    pub id: [u8; 16],
    /// Its label.
    pub label: Vec<u8>,
    /// What it is, in a word.
    pub algorithm: String,
    /// How many versions it has.
    pub versions: u64,
    /// `active`, `disabled` or `destroyed`.
    pub state: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// The database, with the key of its rows.
pub struct Store {
    key: Arc<RowKey>,
    memory: Arc<Memory>,
    readers: Readers,
    writer: Writer,
    reported: Mutex<HashSet<(&'static str, String)>>,
}

impl Store {
    /// Makes a new database. Nothing may have its name.
    ///
    /// # Errors
    /// When something has, or the file cannot be made.
    pub fn create(path: &Path) -> Result<LockedStore, StoreError> {
        LockedStore::create(path)
    }

    /// Opens the database of a home, and brings one of an older version up to date.
    ///
    /// # Errors
    /// When it is missing, damaged, somebody else's, or of a newer version.
    pub fn open_existing(path: &Path) -> Result<LockedStore, StoreError> {
        LockedStore::existing(path)
    }

    fn start(connection: Connection, path: PathBuf, key: RowKey) -> Result<Self, StoreError> {
        let (key, memory) = (Arc::new(key), Arc::new(Memory::default()));
        let writer = Writer::start(connection, Arc::clone(&key), Arc::clone(&memory));
        let writer = writer.map_err(|source| StoreError::Io { path: path.clone(), source })?;
        Ok(Self { key, memory, readers: Readers::new(path), writer, reported: Mutex::default() })
    }

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

    fn all_rings(&self) -> Result<Arc<cache::Rings>, StoreError> {
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
        self.writer.write(move |desk| change::insert_ring(desk, &ring))
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
        self.writer.write(move |desk| {
            principal.put(ring, desk)?;
            desk.forget(Stale::Principal(ring, principal.name));
            change::record(desk, entry.as_ref())
        })
    }

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
        self.writer.write(move |desk| change::insert(desk, request, key, drafts))
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
        self.writer.write(move |desk| rotation::rotate(desk, next, drafts))
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
        self.writer.write(move |desk| change::insert_object(desk, request, object, draft))
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
        self.writer.write(move |desk| {
            let left = change::clear_ring(desk, ring, &label, at)?;
            change::record(desk, entry.as_ref())?;
            Ok(left)
        })
    }

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
    pub fn remembers(&self, key: Uuid, object: impl FnOnce(&KnownKey) -> Option<ObjectId>) -> bool {
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
        self.writer.write(move |desk| {
            let judged = change::update(desk, ring, id, judge)?;
            if judged.is_ok() {
                change::record(desk, entry.as_ref())?;
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
        self.writer.write(move |desk| {
            let left = change::schedule_destruction(desk, (ring, request), id, (now, at))?;
            if !left.is_empty() {
                change::record(desk, entry.as_ref())?;
            }
            Ok(left)
        })
    }

    /// Counts a block of initialisation vectors for a key, and whatever was counted for its version before prints
    /// were; gives how many there are.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_vectors(&self, print: Print, version: Option<KeyVersion>) -> Result<u64, StoreError> {
        self.writer.write(move |desk| {
            let before: u64 = match version {
                Some(version) => {
                    let sql = "DELETE FROM vectors WHERE key = ?1 AND number = ?2 RETURNING taken";
                    let mut statement = desk.connection.prepare_cached(sql)?;
                    let mut taken =
                        statement.query_map(params![version.key, version.number], |row| row.get(0))?;
                    taken.next().transpose()?.unwrap_or(0)
                }
                None => 0,
            };
            let sql = "INSERT INTO vector_blocks (print, blocks) VALUES (?1, ?2) \
                       ON CONFLICT (print) DO UPDATE SET blocks = blocks + ?2 RETURNING blocks";
            let mut statement = desk.connection.prepare_cached(sql)?;
            let blocks = before.div_ceil(VECTOR_BLOCK) + 1;
            Ok(statement.query_row(params![print.0, blocks], |row| row.get(0))?)
        })
    }

    /// The keys that have used so many blocks of vectors, or more.
    ///
    /// # Errors
    /// When the database fails.
    pub fn spent_vectors(&self, blocks: u64) -> Result<Vec<Print>, StoreError> {
        self.readers.read(|connection| {
            let mut statement = connection.prepare("SELECT print FROM vector_blocks WHERE blocks >= ?1")?;
            let prints = statement.query_map([blocks], |row| row.get(0).map(Print))?;
            Ok(prints.collect::<Result<_, _>>()?)
        })
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

    /// Whether the database answers, a reader and the writer.
    ///
    /// # Errors
    /// When one of them does not.
    pub fn alive(&self) -> Result<(), StoreError> {
        let read = |connection: &Connection| {
            Ok(connection.query_row("SELECT count(*) FROM home", [], |row| row.get::<_, u64>(0))?)
        };
        self.readers.read(read)?;
        self.writer.write(|_| Ok(()))
    }

    /// Whether the database's file is whole. Reads all of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with what SQLite found first.
    pub fn check(&self) -> Result<(), StoreError> {
        self.readers.read(|connection| {
            let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            let damaged = || Sql::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(found.clone()));
            if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(damaged())) }
        })
    }

    /// Logs rows that cannot be read, once each.
    fn report(&self, refused: &[StoreError]) {
        for error in refused {
            let StoreError::RowInvalid { table, id } = error else { continue };
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            if reported.len() < REPORTED_MAX && reported.insert((table, id.clone())) {
                tracing::error!(
                    table,
                    row = id,
                    "key_material_invalid: this row was changed outside the KMS"
                );
            }
        }
    }
}
