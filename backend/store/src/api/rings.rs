//! Rings of the REST API: create, edit, delete; and the number of keys and versions in them.

use kms_core::api::{Amounts, Problem};
use kms_core::audit::Entry;
use kms_core::integrity::Cell;
use kms_protocol::RingId;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{ApiResult, IdempotencyKey, RingMetadata};
use crate::cache::Invalidation;
use crate::key_rows::WRAPPING;
use crate::rows::signed;
use crate::version_rows::State;
use crate::writer::WriteTx;
use crate::{NewRing, Principal, Ring, Store, StoreError, change, find};

/// The longest label of a token, in bytes (PKCS#11, `CK_TOKEN_INFO`).
const LABEL_BYTES_MAX: usize = 32;

/// Chooses the label of a ring's token: the display name if it fits and no other ring has it, else its beginning with a
/// part of the ring's id.
fn choose_label(tx: &WriteTx<'_>, name: &str, id: RingId) -> Result<String, StoreError> {
    let taken = |label: &str| -> Result<bool, StoreError> {
        let sql = "SELECT count(*) FROM rings WHERE label = ?1";
        let count: u64 = tx.connection.prepare_cached(sql)?.query_row([label], |row| row.get(0))?;
        Ok(count > 0)
    };
    if name.len() <= LABEL_BYTES_MAX && !taken(name)? {
        return Ok(name.to_owned());
    }
    let suffix: String = id.0[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let prefix_chars = LABEL_BYTES_MAX - suffix.len() - 1;
    let prefix: String = name.chars().take(prefix_chars).collect();
    let label = format!("{prefix}-{suffix}");
    if taken(&label)? { Err(StoreError::NameInUse(label)) } else { Ok(label) }
}

/// Returns a ring as the transaction sees it.
fn ring_of(tx: &WriteTx<'_>, id: RingId) -> Result<Ring, StoreError> {
    let (rings, _) = find::rings(tx.connection, tx.key)?;
    rings.list().into_iter().find(|ring| ring.id == id).ok_or(StoreError::NotFound)
}

fn count(tx: &WriteTx<'_>, sql: &str, ring: RingId) -> Result<u64, StoreError> {
    Ok(tx.connection.prepare_cached(sql)?.query_row([ring.0], |row| row.get(0))?)
}

impl Store {
    /// Creates a ring of the REST API. Its token's label is chosen here; `new.label` is the display name.
    ///
    /// # Errors
    /// When there are too many rings. Rejects an idempotency key that was used with a different request.
    pub fn create_ring(&self, new: NewRing, idempotency: Option<IdempotencyKey>) -> ApiResult<Uuid> {
        self.writer.write(move |tx| {
            let id = Uuid::from_bytes(new.id.0);
            match idempotency.as_ref().map(|key| key.earlier_result(tx)).transpose() {
                Err(rejection) => return rejection.map(Err),
                Ok(Some(Some(created))) => return Ok(Ok(created)),
                Ok(Some(None) | None) => {}
            }
            let label = choose_label(tx, &new.label, new.id)?;
            let at = new.created;
            change::insert_ring(tx, &NewRing { label, ..new })?;
            idempotency.map_or(Ok(()), |key| key.record(tx, id, at))?;
            Ok(Ok(id))
        })
    }

    /// Changes a ring's metadata; the label of its token stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such ring.
    pub fn edit_ring(
        &self,
        id: RingId,
        edit: impl FnOnce(RingMetadata) -> RingMetadata + Send + 'static,
        entry: Entry,
    ) -> Result<(), StoreError> {
        self.writer.write(move |tx| {
            let ring = ring_of(tx, id)?;
            let metadata = edit(ring.metadata.clone());
            Ring { metadata, ..ring }.update(tx)?;
            tx.invalidate(Invalidation::Rings);
            tx.record(&entry)
        })
    }

    /// Deletes an empty ring: it has no key, not even one whose deletion is scheduled, no other object, and no wrapping
    /// key that is still valid.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such ring. Rejects one that is not empty.
    pub fn delete_ring(&self, id: RingId, now: u64, entry: Entry) -> ApiResult<()> {
        self.writer.write(move |tx| {
            let ring = ring_of(tx, id)?;
            let keys = count(tx, "SELECT count(*) FROM keys WHERE ring = ?1 AND kind IS NULL", id)?;
            let others = count(tx, "SELECT count(*) FROM objects WHERE ring = ?1 AND key IS NULL", id)?;
            let sql = "SELECT id FROM keys WHERE ring = ?1 AND kind IS NOT NULL";
            let mut statement = tx.connection.prepare_cached(sql)?;
            let wrapping = statement.query_map([id.0], |row| row.get::<_, [u8; 16]>(0))?;
            // Whether a wrapping key has expired is read from its authenticated row: an edited one is an error.
            let wrapping = wrapping.map(|key| change::key(tx, key?)).collect::<Result<Vec<_>, _>>()?;
            let is_valid = |expires: Option<u64>| expires.is_none_or(|expires| expires > now);
            let valid = wrapping.iter().filter(|key| is_valid(key.metadata.expires_at)).count();
            if keys > 0 || others > 0 || valid > 0 {
                let message = format!(
                    "the key ring is not empty: it has {keys} keys (those whose deletion is scheduled among them), \
                     {valid} wrapping keys and {others} other objects"
                );
                return Ok(Err(Problem::malformed(message)));
            }
            for key in wrapping {
                super::purge::erase_key(tx, key.id)?;
            }
            let of_ring = [("ring", Cell::Bytes(&ring.id.0))];
            tx.delete(Principal::TABLE, &of_ring)?;
            tx.delete("login_failures", &of_ring)?;
            tx.delete("requests", &of_ring)?;
            tx.delete_one(Ring::TABLE, &[("id", Cell::Bytes(&ring.id.0))])?;
            tx.invalidate(Invalidation::All);
            tx.record(&entry)?;
            Ok(Ok(()))
        })
    }

    /// Counts the keys and versions in these rings.
    ///
    /// # Errors
    /// When the database fails.
    pub fn amounts(&self, rings: &[RingId], now: u64) -> Result<Amounts, StoreError> {
        self.readers.read(|connection| {
            let mut sum =
                Amounts { key_rings: u64::try_from(rings.len()).unwrap_or(u64::MAX), ..Amounts::default() };
            for ring in rings {
                let of_ring = amounts(connection, *ring, now)?;
                sum.keys += of_ring.keys;
                sum.versions += of_ring.versions;
                sum.available_versions += of_ring.available_versions;
                sum.wrapping_keys += of_ring.wrapping_keys;
            }
            Ok(sum)
        })
    }
}

fn amounts(connection: &Connection, ring: RingId, now: u64) -> Result<Amounts, StoreError> {
    let sql = "SELECT count(*) FILTER (WHERE kind IS NULL), \
               count(*) FILTER (WHERE kind = ?2 AND expires_at > ?3) FROM keys WHERE ring = ?1";
    let values = params![ring.0, WRAPPING, signed(now)];
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (keys, wrapping_keys) = connection.prepare_cached(sql)?.query_row(values, read)?;
    let sql = "SELECT count(*) FILTER (WHERE v.state != ?2), \
               count(*) FILTER (WHERE v.state = ?3 AND v.withheld IS NULL) \
               FROM keys k JOIN versions v ON v.key = k.id WHERE k.ring = ?1 AND k.kind IS NULL";
    let values = params![ring.0, State::Destroyed.number(), State::Active.number()];
    let (versions, available_versions) = connection.prepare_cached(sql)?.query_row(values, read)?;
    Ok(Amounts { key_rings: 1, keys, versions, available_versions, wrapping_keys })
}
