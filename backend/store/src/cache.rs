//! Cached rows, so that no signature waits for SQLite. Each cache is bounded.
//!
//! A changed row is invalidated at once when this process writes it, and within a moment when another does (`writer`
//! polls for that). One race remains: a reader may load a row before a change and cache it after. So each change
//! increments the epoch, and a reader that caches checks whether the epoch changed since it loaded.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kms_core::object::Object;
use kms_protocol::{ObjectId, RingId, SlotId};
use moka::sync::Cache;
use uuid::Uuid;

use super::trust::Trust;
use super::{AccountWithGrants, KeyRecord, Principal, Project, Ring, StoreError, Token};

/// The maximum number of cached objects: about 2 KiB each, so 20 MiB. When more are in use, some are read again, at
/// the cost of some microseconds each.
const OBJECTS_MAX: u64 = 10_000;

/// The maximum number of cached principals, including names that do not exist: some 200 bytes each.
const PRINCIPALS_MAX: usize = 10_000;

/// The maximum number of cached key versions, some 64 bytes each: a few MiB.
const KEY_VERSIONS_MAX: u64 = 40_000;

/// The weight of a key against [`KEY_VERSIONS_MAX`].
fn weight(_: &Uuid, key: &Arc<KeyRecord>) -> u32 {
    u32::try_from(key.versions.len()).unwrap_or(u32::MAX).saturating_add(3)
}

/// The maximum number of cached service accounts: with some grants each, 500 bytes.
const MEMBERS_MAX: u64 = 10_000;

/// The maximum number of cached tokens: 200 bytes each.
const TOKENS_MAX: u64 = 10_000;

/// The cached rows that a change makes stale.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Invalidation {
    /// The list of rings.
    Rings,
    /// A principal of a ring.
    Principal(RingId, String),
    /// An object.
    Object(ObjectId),
    /// A key or one of its versions.
    Key(Uuid),
    /// A service account, or its grants.
    Account(Uuid),
    /// The token with this digest.
    Token([u8; 32]),
    /// Everything: another process wrote.
    All,
}

/// All rings and the projects they belong to: at most `SLOTS_MAX` rings, each small.
#[derive(Debug, Default)]
pub(super) struct Rings {
    slots: HashMap<SlotId, Arc<Ring>>,
    ids: HashMap<RingId, Arc<Ring>>,
    projects: Vec<Project>,
}

impl Rings {
    /// Indexes these rings; `projects` are ordered, the oldest first.
    pub(super) fn new(rings: Vec<Ring>, projects: Vec<Project>) -> Self {
        let rings: Vec<_> = rings.into_iter().map(Arc::new).collect();
        let slots = rings.iter().map(|ring| (ring.slot, Arc::clone(ring))).collect();
        let ids = rings.iter().map(|ring| (ring.id, Arc::clone(ring))).collect();
        Self { slots, ids, projects }
    }

    /// Returns the ring that is the token of this slot.
    pub(super) fn of(&self, slot: SlotId) -> Option<Arc<Ring>> {
        self.slots.get(&slot).cloned()
    }

    /// Returns the ring with this id.
    pub(super) fn with_id(&self, id: RingId) -> Option<Arc<Ring>> {
        self.ids.get(&id).cloned()
    }

    /// Returns all rings, by slot.
    pub(super) fn list(&self) -> Vec<Ring> {
        let mut rings: Vec<Ring> = self.slots.values().map(|ring| Ring::clone(ring)).collect();
        rings.sort_by_key(|ring| ring.slot);
        rings
    }

    /// Returns all projects, the oldest first.
    pub(super) fn projects(&self) -> &[Project] {
        &self.projects
    }
}

/// Principals by ring and name; a name that does not exist is cached as `None`.
#[derive(Default)]
struct Principals {
    rings: HashMap<RingId, HashMap<String, Option<Arc<Principal>>>>,
    count: usize,
}

/// All caches of the store.
pub(super) struct StoreCache {
    pub(super) trust: Arc<Trust>,
    epoch: AtomicU64,
    rings: RwLock<Option<Arc<Rings>>>,
    principals: RwLock<Principals>,
    objects: Cache<ObjectId, Arc<Object>>,
    keys: Cache<Uuid, Arc<KeyRecord>>,
    members: Cache<Uuid, Arc<AccountWithGrants>>,
    tokens: Cache<[u8; 32], Arc<Token>>,
}

impl Default for StoreCache {
    fn default() -> Self {
        Self {
            trust: Arc::default(),
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

impl StoreCache {
    /// Returns all rings; loads them if they are not cached.
    pub(super) fn rings(
        &self,
        load: impl FnOnce() -> Result<Rings, StoreError>,
    ) -> Result<Arc<Rings>, StoreError> {
        self.trust.check()?;
        if let Some(rings) = self.rings.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(Arc::clone(rings));
        }
        let epoch = self.epoch();
        let rings = Arc::new(load()?);
        let mut cached = self.rings.write().unwrap_or_else(PoisonError::into_inner);
        // `invalidate` increments the epoch first and then takes this lock: either the new epoch is seen here, or the
        // list is cleared there.
        if self.epoch() == epoch {
            *cached = Some(Arc::clone(&rings));
        }
        Ok(rings)
    }

    /// Returns a principal, if one has that name; loads it if the name is not cached.
    pub(super) fn principal(
        &self,
        ring: RingId,
        name: &str,
        load: impl FnOnce() -> Result<Option<Principal>, StoreError>,
    ) -> Result<Option<Arc<Principal>>, StoreError> {
        self.trust.check()?;
        let cached = self.principals.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(principal) = cached.rings.get(&ring).and_then(|names| names.get(name)) {
            return Ok(principal.clone());
        }
        drop(cached);
        let epoch = self.epoch();
        let principal = load()?.map(Arc::new);
        let mut cached = self.principals.write().unwrap_or_else(PoisonError::into_inner);
        if cached.count >= PRINCIPALS_MAX {
            *cached = Principals::default();
        }
        if self.epoch() == epoch {
            let names = cached.rings.entry(ring).or_default();
            if names.insert(name.to_owned(), principal.clone()).is_none() {
                cached.count += 1;
            }
        }
        Ok(principal)
    }

    /// Returns an object; loads it if it is not cached.
    pub(super) fn object(
        &self,
        id: ObjectId,
        load: impl FnOnce() -> Result<Arc<Object>, StoreError>,
    ) -> Result<Arc<Object>, StoreError> {
        self.trust.check()?;
        if let Some(object) = self.objects.get(&id) {
            return Ok(object);
        }
        let epoch = self.epoch();
        let object = load()?;
        self.objects.insert(id, Arc::clone(&object));
        // CheckReport after the insertion: `invalidate` increments the epoch first, so either the new epoch is seen here or
        // the object is removed there.
        if self.epoch() != epoch {
            self.objects.invalidate(&id);
        }
        Ok(object)
    }

    /// Returns a key with its versions; loads it if it is not cached.
    pub(super) fn key(
        &self,
        id: Uuid,
        load: impl FnOnce() -> Result<Arc<KeyRecord>, StoreError>,
    ) -> Result<Arc<KeyRecord>, StoreError> {
        self.trust.check()?;
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

    /// Whether a key and one of its objects are both cached: then using it needs no read of the disk.
    pub(super) fn has_key_and_object(
        &self,
        id: Uuid,
        object: impl FnOnce(&KeyRecord) -> Option<ObjectId>,
    ) -> bool {
        let object = self.keys.get(&id).and_then(|key| object(&key));
        object.is_some_and(|object| self.objects.contains_key(&object))
    }

    /// Returns a service account, if it exists; loads it if it is not cached. A missing one is not cached.
    pub(super) fn member(
        &self,
        id: Uuid,
        load: impl FnOnce() -> Result<Option<AccountWithGrants>, StoreError>,
    ) -> Result<Option<Arc<AccountWithGrants>>, StoreError> {
        self.load_existing(&self.members, id, load)
    }

    /// Returns a service account, if it is cached.
    pub(super) fn cached_member(&self, id: Uuid) -> Option<Arc<AccountWithGrants>> {
        self.members.get(&id).filter(|_| !self.trust.has_ended())
    }

    /// Returns the token with this digest, if it exists; loads it if it is not cached. A missing one is not cached.
    pub(super) fn token(
        &self,
        digest: [u8; 32],
        load: impl FnOnce() -> Result<Option<Token>, StoreError>,
    ) -> Result<Option<Arc<Token>>, StoreError> {
        self.load_existing(&self.tokens, digest, load)
    }

    /// Returns the token with this digest, if it is cached.
    pub(super) fn cached_token(&self, digest: [u8; 32]) -> Option<Arc<Token>> {
        self.tokens.get(&digest).filter(|_| !self.trust.has_ended())
    }

    fn load_existing<K, V>(
        &self,
        cache: &Cache<K, Arc<V>>,
        key: K,
        load: impl FnOnce() -> Result<Option<V>, StoreError>,
    ) -> Result<Option<Arc<V>>, StoreError>
    where
        K: Copy + Eq + Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        self.trust.check()?;
        if let Some(cached) = cache.get(&key) {
            return Ok(Some(cached));
        }
        let epoch = self.epoch();
        let Some(found) = load()?.map(Arc::new) else { return Ok(None) };
        cache.insert(key, Arc::clone(&found));
        // As for objects: either the new epoch is seen here, or the entry is removed there.
        if self.epoch() != epoch {
            cache.invalidate(&key);
        }
        Ok(Some(found))
    }

    /// Removes the cached rows that a change makes stale.
    pub(super) fn invalidate(&self, changed: &Invalidation) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        let rings = || *self.rings.write().unwrap_or_else(PoisonError::into_inner) = None;
        let principals = || self.principals.write().unwrap_or_else(PoisonError::into_inner);
        match changed {
            Invalidation::Rings => rings(),
            Invalidation::Principal(ring, name) => {
                let mut principals = principals();
                if principals.rings.get_mut(ring).and_then(|names| names.remove(name)).is_some() {
                    principals.count -= 1;
                }
            }
            Invalidation::Object(id) => self.objects.invalidate(id),
            Invalidation::Key(id) => self.keys.invalidate(id),
            Invalidation::Account(id) => self.members.invalidate(id),
            Invalidation::Token(digest) => self.tokens.invalidate(digest),
            Invalidation::All => {
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

    use super::super::PinKind;
    use super::*;

    const RING: RingId = RingId([1; 16]);

    fn object() -> Arc<Object> {
        let (id, ring, version) = (Some(ObjectId(1)), RING, None);
        Arc::new(Object { id, ring, version, attributes: Template::default(), material: Material::None })
    }

    fn principal(generation: u64) -> Principal {
        Principal::new("user".to_owned(), RingRole::Admin, String::new(), PinKind::Plain, generation)
    }

    #[test]
    fn a_cached_row_is_not_loaded_and_an_invalidated_one_is() {
        let cache = StoreCache::default();
        let first = cache.object(ObjectId(1), || Ok(object())).unwrap();
        let again = cache.object(ObjectId(1), || panic!("it is cached")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        for invalidation in [Invalidation::Object(ObjectId(1)), Invalidation::All] {
            cache.invalidate(&invalidation);
            let fresh = cache.object(ObjectId(1), || Ok(object())).unwrap();
            assert!(!Arc::ptr_eq(&first, &fresh));
        }
    }

    #[test]
    fn a_row_that_changes_while_it_is_loaded_is_not_cached() {
        let cache = StoreCache::default();
        let load_during_change = || {
            cache.invalidate(&Invalidation::Object(ObjectId(1)));
            Ok(object())
        };
        let old = cache.object(ObjectId(1), load_during_change).unwrap();
        let new = cache.object(ObjectId(1), || Ok(object())).unwrap();
        assert!(!Arc::ptr_eq(&old, &new));

        let load_during_change = || {
            cache.invalidate(&Invalidation::Principal(RING, "user".to_owned()));
            Ok(Some(principal(1)))
        };
        cache.principal(RING, "user", load_during_change).unwrap();
        let new = cache.principal(RING, "user", || Ok(Some(principal(2)))).unwrap().unwrap();
        assert_eq!(new.generation, 2);
    }

    #[test]
    fn a_principal_that_does_not_exist_is_cached_until_it_is_created() {
        let cache = StoreCache::default();
        assert!(cache.principal(RING, "user", || Ok(None)).unwrap().is_none());
        assert!(cache.principal(RING, "user", || panic!("it is cached")).unwrap().is_none());
        cache.invalidate(&Invalidation::Principal(RING, "user".to_owned()));
        assert!(cache.principal(RING, "user", || Ok(Some(principal(1)))).unwrap().is_some());
    }

    #[test]
    fn principals_are_bounded() {
        let cache = StoreCache::default();
        for number in 0..=PRINCIPALS_MAX * 2 {
            cache.principal(RING, &number.to_string(), || Ok(None)).unwrap();
        }
        let cached = cache.principals.read().unwrap();
        let entries: usize = cached.rings.values().map(HashMap::len).sum();
        assert_eq!(entries, cached.count);
        assert!(entries <= PRINCIPALS_MAX);
    }
}
