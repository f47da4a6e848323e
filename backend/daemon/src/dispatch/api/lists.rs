//! Lists: complete as in the public API, or one page if the request asks for one (an extension).

use kms_core::api::{
    KeyList, KeyPath, KeyRingList, Outcome, Page, Permission, Problem, RequestContext, RingPath, VersionList,
    WrappingKeyList,
};
use kms_core::policy;
use kms_protocol::SlotId;
use kms_store::{KeyRecord, Ring};
use uuid::Uuid;

use super::failure::Failure;
use super::{Dispatch, views};

/// The maximum length of a page.
const PAGE_MAX: u32 = 1000;

/// How many keys are read from the database at once for a complete list.
const CHUNK: usize = 1000;

/// Returns the length of a page; `None` for the complete list.
fn limit_of(page: &Page) -> Result<Option<usize>, Problem> {
    match page.limit {
        None => Ok(None),
        Some(limit @ 1..=PAGE_MAX) => Ok(usize::try_from(limit).ok()),
        Some(other) => Err(Problem::malformed(format!("limit must be 1 to {PAGE_MAX}, not {other}"))),
    }
}

fn invalid_cursor() -> Problem {
    Problem::malformed("cursor is not one that this list returned; start without a cursor")
}

/// Parses the cursor of a list of keys: `seconds_id`, the creation time and id of the last key.
fn after_of(page: &Page) -> Result<Option<(u64, Uuid)>, Problem> {
    let Some(cursor) = &page.cursor else { return Ok(None) };
    let parts = cursor
        .split_once('_')
        .and_then(|(created, id)| Some((created.parse::<u64>().ok()?, Uuid::try_parse(id).ok()?)));
    parts.map(Some).ok_or_else(invalid_cursor)
}

fn number_in_cursor(page: &Page) -> Result<Option<u64>, Problem> {
    page.cursor.as_ref().map(|cursor| cursor.parse().map_err(|_| invalid_cursor())).transpose()
}

/// Reads a list of keys, one page or all of it, and returns it with the next cursor.
fn collect_keys(
    page: &Page,
    read: impl Fn(Option<(u64, Uuid)>, usize) -> Result<Vec<KeyRecord>, Failure>,
) -> Result<(Vec<KeyRecord>, Option<String>), Failure> {
    let (limit, mut after) = (limit_of(page)?, after_of(page)?);
    let mut keys = Vec::new();
    loop {
        let wanted = limit.map_or(CHUNK, |limit| limit - keys.len());
        let chunk = read(after, wanted)?;
        let is_full = chunk.len() == wanted;
        after = chunk.last().map(|key| (key.created, key.id)).or(after);
        keys.extend(chunk);
        let is_done = limit.is_some_and(|limit| keys.len() >= limit);
        if !is_full || is_done {
            let next = after.filter(|_| is_full && is_done);
            return Ok((keys, next.map(|(created, id)| format!("{created}_{id}"))));
        }
    }
}

impl Dispatch {
    /// Returns the rings of a project in the order of their slots.
    pub(super) fn rings_of(&self, project: Uuid) -> Result<Vec<Ring>, Failure> {
        let mut rings = self.store.rings()?;
        rings.retain(|ring| ring.metadata.project == project);
        Ok(rings)
    }

    pub(super) fn list_rings(
        &self,
        context: &RequestContext,
        project: Uuid,
        page: &Page,
    ) -> Result<Outcome, Failure> {
        self.check_project(project)?;
        let (limit, after) = (limit_of(page)?, number_in_cursor(page)?);
        let mut rings = self.rings_of(project)?;
        rings.retain(|ring| {
            let id = Some(Uuid::from_bytes(ring.id.0));
            policy::allowed(&context.account.grants, Permission::KeyringGet, project, id)
        });
        if let Some(after) = after {
            rings.retain(|ring| ring.slot > SlotId(after));
        }
        let has_more = limit.is_some_and(|limit| rings.len() > limit);
        rings.truncate(limit.unwrap_or(usize::MAX));
        let next_cursor = rings.last().filter(|_| has_more).map(|ring| ring.slot.0.to_string());
        Ok(Outcome::KeyRings(KeyRingList { key_rings: rings.iter().map(views::ring).collect(), next_cursor }))
    }

    pub(super) fn list_keys(&self, path: RingPath, page: &Page) -> Result<Outcome, Failure> {
        let ring = self.resolve_ring(path)?.ring.id;
        let read = |after, limit| Ok(self.store.known_keys(ring, after, limit)?);
        let (keys, next_cursor) = collect_keys(page, read)?;
        let keys = keys.iter().map(views::key).collect::<Result<_, _>>()?;
        Ok(Outcome::Keys(KeyList { keys, next_cursor }))
    }

    pub(super) fn list_wrapping_keys(&self, path: RingPath, page: &Page) -> Result<Outcome, Failure> {
        let ring = self.resolve_ring(path)?.ring.id;
        let read = |after, limit| Ok(self.store.wrapping_keys(ring, after, limit)?);
        let (keys, next_cursor) = collect_keys(page, read)?;
        let wrapping_keys = keys.iter().map(|key| self.wrapping_key_view(key)).collect::<Result<_, _>>()?;
        Ok(Outcome::WrappingKeys(WrappingKeyList { wrapping_keys, next_cursor }))
    }

    pub(super) fn list_versions(&self, path: KeyPath, page: &Page) -> Result<Outcome, Failure> {
        let resolved = self.resolve_ring(path.ring)?;
        let record = self.key(&resolved, path.key)?;
        let (limit, after) = (limit_of(page)?, number_in_cursor(page)?.unwrap_or(0));
        let mut remaining = record.versions.iter().filter(|version| u64::from(version.number) > after);
        let listed: Vec<_> = remaining.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
        let has_more = remaining.next().is_some();
        let next_cursor = listed.last().filter(|_| has_more).map(|version| version.number.to_string());
        let versions = listed.into_iter().map(|version| self.version_view(&record, version));
        Ok(Outcome::Versions(VersionList { versions: versions.collect::<Result<_, _>>()?, next_cursor }))
    }
}
