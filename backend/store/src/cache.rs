//! What is remembered of the database, so that no signature waits for SQLite. Each memory is bounded.
//!
//! A row that changes is forgotten at once where this process writes it, and within a moment where another does
//! (`writer` watches). The one danger is a reader who read the row before the change and remembers it after: each
//! change moves the epoch, and who remembers looks whether it moved meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kms_core::object::Object;
use kms_protocol::{ObjectId, RingId, SlotId};
use moka::sync::Cache;
use uuid::Uuid;

use super::{KeyRecord, Member, Principal, Project, Ring, StoreError, Token};

/// Objects remembered: about 2 KiB each, so 20 MiB. More objects in use than this are read again, at the cost of
/// some microseconds each.
const OBJECTS_MAX: u64 = 10_000;

/// Principals remembered, those among them that do not exist: some 200 bytes each.
const PRINCIPALS_MAX: usize = 10_000;

/// Versions of keys remembered, each some 64 bytes: a few MiB.
const KEY_VERSIONS_MAX: u64 = 40_000;

/// What a key weighs against that.
fn weight(_: &Uuid, key: &Arc<KeyRecord>) -> u32 {
    u32::try_from(key.versions.len()).unwrap_or(u32::MAX).saturating_add(3)
}

/// Service accounts remembered: with some grants each, 500 bytes.
const MEMBERS_MAX: u64 = 10_000;

/// Tokens remembered: 200 bytes each.
const TOKENS_MAX: u64 = 10_000;

/// What has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Stale {
    /// The list of rings.
    Rings,
    /// A principal of a ring.
    Principal(RingId, String),
    /// An object.
    Object(ObjectId),
    /// A key or one of its versions.
    Key(Uuid),
    /// A service account, or what it was given.
    Account(Uuid),
    /// The token with this digest.
    Token([u8; 32]),
    /// Everything: another process wrote.
    All,
}

/// All rings, and the projects they belong to. They are at most `SLOTS_MAX` and small.
#[derive(Debug, Default)]
pub(super) struct Rings {
    slots: HashMap<SlotId, Arc<Ring>>,
    ids: HashMap<RingId, Arc<Ring>>,
    projects: Vec<Project>,
}

impl Rings {
    /// These rings in these projects, the oldest project first.
    pub(super) fn new(rings: Vec<Ring>, projects: Vec<Project>) -> Self {
        let rings: Vec<_> = rings.into_iter().map(Arc::new).collect();
        let slots = rings.iter().map(|ring| (ring.slot, Arc::clone(ring))).collect();
        let ids = rings.iter().map(|ring| (ring.id, Arc::clone(ring))).collect();
        Self { slots, ids, projects }
    }

    /// The ring that is this slot's token.
    pub(super) fn of(&self, slot: SlotId) -> Option<Arc<Ring>> {
        self.slots.get(&slot).cloned()
    }

    /// The ring with this id.
    pub(super) fn with_id(&self, id: RingId) -> Option<Arc<Ring>> {
        self.ids.get(&id).cloned()
    }

    /// All of them, by slot.
    pub(super) fn list(&self) -> Vec<Ring> {
        let mut rings: Vec<Ring> = self.slots.values().map(|ring| Ring::clone(ring)).collect();
        rings.sort_by_key(|ring| ring.slot);
        rings
    }

    /// All projects, the oldest first.
    pub(super) fn projects(&self) -> &[Project] {
        &self.projects
    }
}

/// Principals by ring and name; one that does not exist is remembered as such.
#[derive(Default)]
struct Principals {
    rings: HashMap<RingId, HashMap<String, Option<Arc<Principal>>>>,
    count: usize,
}

/// What is remembered.
pub(super) struct Memory {
    epoch: AtomicU64,
    rings: RwLock<Option<Arc<Rings>>>,
    principals: RwLock<Principals>,
    objects: Cache<ObjectId, Arc<Object>>,
    keys: Cache<Uuid, Arc<KeyRecord>>,
    members: Cache<Uuid, Arc<Member>>,
    tokens: Cache<[u8; 32], Arc<Token>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            rings: RwLock::default(),
            principals: RwLock::default(),
            objects: Cache::new(OBJECTS_MAX),
            keys: Cache::builder().max_capacity(KEY_VERSIONS_MAX).weigher(weight).build(),
            members: Cache::new(MEMBERS_MAX),
            tokens: Cache::new(TOKENS_MAX),
        }
    }
}

impl Memory {
    /// All rings, loaded if they are not remembered.
    pub(super) fn rings(
        &self,
        load: impl FnOnce() -> Result<Rings, StoreError>,
    ) -> Result<Arc<Rings>, StoreError> {
        if let Some(rings) = self.rings.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(Arc::clone(rings));
        }
        let epoch = self.epoch();
        let rings = Arc::new(load()?);
        let mut remembered = self.rings.write().unwrap_or_else(PoisonError::into_inner);
        // Who forgets moves the epoch first and then takes this lock: seen here, or cleared there.
        if self.epoch() == epoch {
            *remembered = Some(Arc::clone(&rings));
        }
        Ok(rings)
    }

    /// A principal, if there is one of that name; loaded if nothing is remembered.
    pub(super) fn principal(
        &self,
        ring: RingId,
        name: &str,
        load: impl FnOnce() -> Result<Option<Principal>, StoreError>,
    ) -> Result<Option<Arc<Principal>>, StoreError> {
        let remembered = self.principals.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(principal) = remembered.rings.get(&ring).and_then(|names| names.get(name)) {
            return Ok(principal.clone());
        }
        drop(remembered);
        let epoch = self.epoch();
        let principal = load()?.map(Arc::new);
        let mut remembered = self.principals.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.count >= PRINCIPALS_MAX {
            *remembered = Principals::default();
        }
        if self.epoch() == epoch {
            let names = remembered.rings.entry(ring).or_default();
            if names.insert(name.to_owned(), principal.clone()).is_none() {
                remembered.count += 1;
            }
        }
        Ok(principal)
    }

    /// An object, loaded if it is not remembered.
    pub(super) fn object(
        &self,
        id: ObjectId,
        load: impl FnOnce() -> Result<Arc<Object>, StoreError>,
    ) -> Result<Arc<Object>, StoreError> {
        if let Some(object) = self.objects.get(&id) {
            return Ok(object);
        }
        let epoch = self.epoch();
        let object = load()?;
        self.objects.insert(id, Arc::clone(&object));
        // Looked at after the insertion: who forgets moves the epoch first, so that either the epoch moved here or
        // the object is forgotten there.
        if self.epoch() != epoch {
            self.objects.invalidate(&id);
        }
        Ok(object)
    }

    /// A key with its versions, loaded if it is not remembered.
    pub(super) fn key(
        &self,
        id: Uuid,
        load: impl FnOnce() -> Result<Arc<KeyRecord>, StoreError>,
    ) -> Result<Arc<KeyRecord>, StoreError> {
        if let Some(key) = self.keys.get(&id) {
            return Ok(key);
        }
        let epoch = self.epoch();
        let key = load()?;
        self.keys.insert(id, Arc::clone(&key));
        // As for objects.
        if self.epoch() != epoch {
            self.keys.invalidate(&id);
        }
        Ok(key)
    }

    /// Whether a key and an object of it are both remembered: then no disk is needed to use it.
    pub(super) fn knows(&self, id: Uuid, object: impl FnOnce(&KeyRecord) -> Option<ObjectId>) -> bool {
        let object = self.keys.get(&id).and_then(|key| object(&key));
        object.is_some_and(|object| self.objects.contains_key(&object))
    }

    /// A service account, if there is one; loaded if it is not remembered. One that does not exist is not remembered.
    pub(super) fn member(
        &self,
        id: Uuid,
        load: impl FnOnce() -> Result<Option<Member>, StoreError>,
    ) -> Result<Option<Arc<Member>>, StoreError> {
        self.existing(&self.members, id, load)
    }

    /// A service account, if it is remembered.
    pub(super) fn remembered_member(&self, id: Uuid) -> Option<Arc<Member>> {
        self.members.get(&id)
    }

    /// A token, if there is one with this digest; loaded if it is not remembered.
    pub(super) fn token(
        &self,
        digest: [u8; 32],
        load: impl FnOnce() -> Result<Option<Token>, StoreError>,
    ) -> Result<Option<Arc<Token>>, StoreError> {
        self.existing(&self.tokens, digest, load)
    }

    /// A token, if it is remembered.
    pub(super) fn remembered_token(&self, digest: [u8; 32]) -> Option<Arc<Token>> {
        self.tokens.get(&digest)
    }

    fn existing<K, V>(
        &self,
        remembered: &Cache<K, Arc<V>>,
        key: K,
        load: impl FnOnce() -> Result<Option<V>, StoreError>,
    ) -> Result<Option<Arc<V>>, StoreError>
    where
        K: Copy + Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        if let Some(known) = remembered.get(&key) {
            return Ok(Some(known));
        }
        let epoch = self.epoch();
        let Some(found) = load()?.map(Arc::new) else { return Ok(None) };
        remembered.insert(key, Arc::clone(&found));
        // As for objects: either the epoch moved here, or it is forgotten there.
        if self.epoch() != epoch {
            remembered.invalidate(&key);
        }
        Ok(Some(found))
    }

    /// Forgets what has changed.
    pub(super) fn forget(&self, stale: &Stale) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        let rings = || *self.rings.write().unwrap_or_else(PoisonError::into_inner) = None;
        let principals = || self.principals.write().unwrap_or_else(PoisonError::into_inner);
        match stale {
            Stale::Rings => rings(),
            Stale::Principal(ring, name) => {
                let mut principals = principals();
                if principals.rings.get_mut(ring).and_then(|names| names.remove(name)).is_some() {
                    principals.count -= 1;
                }
            }
            Stale::Object(id) => self.objects.invalidate(id),
            Stale::Key(id) => self.keys.invalidate(id),
            Stale::Account(id) => self.members.invalidate(id),
            Stale::Token(digest) => self.tokens.invalidate(digest),
            Stale::All => {
                self.members.invalidate_all();
                self.tokens.invalidate_all();
                rings();
                *principals() = Principals::default();
                self.objects.invalidate_all();
                self.keys.invalidate_all();
            }
        }
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use kms_core::object::{Material, RingRole};
    use kms_protocol::Template;

    use super::*;

    const RING: RingId = RingId([1; 16]);

    fn object() -> Arc<Object> {
        let (id, ring, version) = (Some(ObjectId(1)), RING, None);
        Arc::new(Object { id, ring, version, attributes: Template::default(), material: Material::None })
    }

    fn principal(generation: u64) -> Principal {
        Principal { name: "user".to_owned(), ring_role: RingRole::Admin, pin_hash: String::new(), generation }
    }

    #[test]
    fn what_is_remembered_is_not_loaded_and_what_is_forgotten_is() {
        let memory = Memory::default();
        let first = memory.object(ObjectId(1), || Ok(object())).unwrap();
        let again = memory.object(ObjectId(1), || panic!("it is remembered")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        for stale in [Stale::Object(ObjectId(1)), Stale::All] {
            memory.forget(&stale);
            let fresh = memory.object(ObjectId(1), || Ok(object())).unwrap();
            assert!(!Arc::ptr_eq(&first, &fresh));
        }
    }

    #[test]
    fn a_reader_overtaken_by_a_change_remembers_nothing() {
        let memory = Memory::default();
        let overtaken = || {
            memory.forget(&Stale::Object(ObjectId(1)));
            Ok(object())
        };
        let old = memory.object(ObjectId(1), overtaken).unwrap();
        let new = memory.object(ObjectId(1), || Ok(object())).unwrap();
        assert!(!Arc::ptr_eq(&old, &new));

        let overtaken = || {
            memory.forget(&Stale::Principal(RING, "user".to_owned()));
            Ok(Some(principal(1)))
        };
        memory.principal(RING, "user", overtaken).unwrap();
        let new = memory.principal(RING, "user", || Ok(Some(principal(2)))).unwrap().unwrap();
        assert_eq!(new.generation, 2);
    }

    #[test]
    fn somebody_who_does_not_exist_is_remembered_until_they_do() {
        let memory = Memory::default();
        assert!(memory.principal(RING, "user", || Ok(None)).unwrap().is_none());
        assert!(memory.principal(RING, "user", || panic!("it is remembered")).unwrap().is_none());
        memory.forget(&Stale::Principal(RING, "user".to_owned()));
        assert!(memory.principal(RING, "user", || Ok(Some(principal(1)))).unwrap().is_some());
    }

    #[test]
    fn principals_are_bounded() {
        let memory = Memory::default();
        for number in 0..=PRINCIPALS_MAX * 2 {
            memory.principal(RING, &number.to_string(), || Ok(None)).unwrap();
        }
        let remembered = memory.principals.read().unwrap();
        let held: usize = remembered.rings.values().map(HashMap::len).sum();
        assert_eq!(held, remembered.count);
        assert!(held <= PRINCIPALS_MAX);
    }
}
