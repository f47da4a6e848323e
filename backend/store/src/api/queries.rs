//! Keys as the API sees them: metadata, and the lifecycle state of each version.

use std::sync::Arc;

use kms_core::api::{KeyState, Life, VersionState, key_state};
use kms_core::integrity::RowKey;
use kms_core::object::KeyVersion;
use kms_protocol::{ObjectClass, ObjectId, RingId};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::KeyMetadata;
use crate::key_rows::{KEY_COLUMNS, KeyRow, WRAPPING};
use crate::rows::unsigned;
use crate::version_rows::{VERSION_COLUMNS, VersionRow};
use crate::{Store, StoreError};

/// A key with its versions.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// Its id.
    pub id: Uuid,
    /// Its ring.
    pub ring: RingId,
    /// Its PKCS#11 label.
    pub label: Vec<u8>,
    /// The algorithm's name, for algorithms that the API has no name for.
    pub shape: String,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// Its metadata.
    pub metadata: KeyMetadata,
    /// Its versions, ascending by number.
    pub versions: Vec<VersionRecord>,
}

/// A version of a key.
#[derive(Clone, Debug)]
pub struct VersionRecord {
    /// Its number, from 1.
    pub number: u32,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// Its lifecycle state; `None` if its row was changed outside the KMS.
    pub life: Option<Life>,
    /// The object of its secret or private key.
    pub hidden: Option<ObjectId>,
    /// The object of its public key.
    pub public: Option<ObjectId>,
}

impl VersionRecord {
    /// Returns its state in the API, as far as the database shows it.
    pub fn state(&self) -> VersionState {
        self.life.map_or(VersionState::KeyMaterialInvalid, Life::state)
    }

    /// Whether its own state allows its use.
    pub fn is_active(&self) -> bool {
        self.life == Some(Life::Active)
    }
}

impl KeyRecord {
    /// Returns its state in the API.
    pub fn state(&self) -> KeyState {
        key_state(self.is_deleted(), self.versions.iter().map(VersionRecord::state))
    }

    /// Whether its deletion is scheduled.
    pub fn is_deleted(&self) -> bool {
        self.metadata.deletion_at.is_some()
    }

    /// Returns the version with this number.
    pub fn version(&self, number: u32) -> Option<&VersionRecord> {
        // Versions are numbered from 1 without gaps, so the number gives the index.
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.versions.get(at).filter(|version| version.number == number)
    }

    /// Returns the current version: the highest active one.
    pub fn current(&self) -> Option<&VersionRecord> {
        self.versions.iter().rev().find(|version| version.is_active())
    }

    /// Returns the number of its next version.
    pub fn next_number(&self) -> u32 {
        self.versions.last().map_or(1, |version| version.number.saturating_add(1))
    }
}

/// The kinds of keys that a list contains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyFilter {
    /// Keys with an algorithm that the API has a name for.
    Keys,
    /// Wrapping keys.
    Wrapping,
    /// All keys, including those that only PKCS#11 shows.
    All,
}

/// The position after which a list continues: creation time and id of a key.
pub(crate) type KeyCursor = Option<(u64, Uuid)>;

/// Returns one key.
pub(crate) fn key(connection: &Connection, key: &RowKey, id: Uuid) -> Result<KeyRecord, StoreError> {
    let sql = format!("SELECT {KEY_COLUMNS} FROM keys WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.as_bytes()])?;
    let row = KeyRow::read(rows.next()?.ok_or(StoreError::NotFound)?, key)?;
    with_versions(connection, key, row)
}

fn with_versions(connection: &Connection, key: &RowKey, row: KeyRow) -> Result<KeyRecord, StoreError> {
    let versions = versions(connection, key, row.id)?;
    let created = unsigned(row.created);
    let KeyRow { id, ring, label, algorithm: shape, metadata, .. } = row;
    Ok(KeyRecord { id: Uuid::from_bytes(id), ring, label, shape, created, metadata, versions })
}

/// Returns the versions of a key with their objects. A version whose row was changed has no lifecycle state.
fn versions(connection: &Connection, key: &RowKey, id: [u8; 16]) -> Result<Vec<VersionRecord>, StoreError> {
    let sql = format!(
        "SELECT v.number, {VERSION_COLUMNS}, o.id, o.class FROM versions v \
         LEFT JOIN objects o INDEXED BY objects_by_version ON o.key = v.key AND o.version = v.number \
         WHERE v.key = ?1 ORDER BY v.number, o.id"
    );
    const OBJECT_AT: usize = 10;
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let mut versions: Vec<VersionRecord> = Vec::new();
    while let Some(row) = rows.next()? {
        let number: u32 = row.get(0)?;
        if versions.last().is_none_or(|last| last.number != number) {
            let read = VersionRow::read(row, 1, KeyVersion { key: id, number }, key);
            let (life, created) = match read {
                Ok(version) => (version.life(), unsigned(version.created)),
                Err(StoreError::RowInvalid { .. }) => (None, unsigned(row.get(6).unwrap_or(0))),
                Err(error) => return Err(error),
            };
            versions.push(VersionRecord { number, created, life, hidden: None, public: None });
        }
        let object: Option<(u64, Option<i64>)> = match row.get(OBJECT_AT)? {
            Some(id) => Some((id, row.get(OBJECT_AT + 1)?)),
            None => None,
        };
        if let (Some(version), Some((id, class))) = (versions.last_mut(), object) {
            let public = class == Some(i64::from(ObjectClass::PUBLIC_KEY.0));
            *(if public { &mut version.public } else { &mut version.hidden }) = Some(ObjectId(id));
        }
    }
    Ok(versions)
}

/// Returns a page of a ring's keys, the oldest first, and the errors of those that cannot be read.
pub(crate) fn page(
    connection: &Connection,
    key: &RowKey,
    ring: RingId,
    filter: KeyFilter,
    (after, limit): (KeyCursor, usize),
) -> Result<(Vec<KeyRecord>, Vec<StoreError>), StoreError> {
    let condition = match filter {
        KeyFilter::Keys => "kind IS NULL AND rest IS NOT NULL".to_owned(),
        KeyFilter::Wrapping => format!("kind = {WRAPPING}"),
        KeyFilter::All => "1".to_owned(),
    };
    let sql = format!(
        "SELECT {KEY_COLUMNS} FROM keys INDEXED BY keys_by_ring WHERE ring = ?1 AND (created, id) > (?2, ?3) \
         AND {condition} ORDER BY created, id LIMIT ?4"
    );
    let (created, id) = match after {
        Some((created, id)) => (i64::try_from(created).unwrap_or(i64::MAX), id.into_bytes().to_vec()),
        None => (-1, Vec::new()),
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![ring.0, created, id, limit])?;
    let (mut keys, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match KeyRow::read(row, key).and_then(|row| with_versions(connection, key, row)) {
            Ok(record) => keys.push(record),
            Err(error @ StoreError::RowInvalid { .. }) => unreadable.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((keys, unreadable))
}

/// Returns a page of all keys of a ring, of every kind, the oldest first, and the errors of those that cannot be read.
pub(crate) fn all_keys(
    connection: &Connection,
    key: &RowKey,
    ring: RingId,
    (after, limit): (KeyCursor, usize),
) -> Result<(Vec<KeyRecord>, Vec<StoreError>), StoreError> {
    page(connection, key, ring, KeyFilter::All, (after, limit))
}

impl Store {
    /// Returns a key of a ring, including wrapping keys.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::RowInvalid`] when the key's own row was changed.
    pub fn known(&self, ring: RingId, id: Uuid) -> Result<Arc<KeyRecord>, StoreError> {
        let read = |connection: &Connection| key(connection, &self.key, id);
        let found = self.cache.key(id, || Ok(Arc::new(self.readers.read(read)?)));
        let record = found.inspect_err(|error| self.log_unreadable(std::slice::from_ref(error)))?;
        if record.ring == ring { Ok(record) } else { Err(StoreError::NotFound) }
    }

    /// Returns a page of the keys of a ring whose algorithm the API has a name for, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn known_keys(
        &self,
        ring: RingId,
        after: KeyCursor,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        self.page_of_keys(ring, KeyFilter::Keys, after, limit)
    }

    /// Returns a page of the wrapping keys of a ring, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn wrapping_keys(
        &self,
        ring: RingId,
        after: KeyCursor,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        self.page_of_keys(ring, KeyFilter::Wrapping, after, limit)
    }

    /// Returns a page of all keys of a ring, those included that only PKCS#11 shows and wrapping keys, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn all_keys(
        &self,
        ring: RingId,
        after: KeyCursor,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        self.page_of_keys(ring, KeyFilter::All, after, limit)
    }

    fn page_of_keys(
        &self,
        ring: RingId,
        filter: KeyFilter,
        after: KeyCursor,
        limit: usize,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        let read = |connection: &Connection| page(connection, &self.key, ring, filter, (after, limit));
        let (keys, unreadable) = self.readers.read(read)?;
        self.log_unreadable(&unreadable);
        Ok(keys)
    }
}
