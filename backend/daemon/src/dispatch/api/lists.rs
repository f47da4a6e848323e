//! Lists: all of it as the public API has them, or a page where one is asked for (an extension).

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

/// The longest page that a caller can ask for.
const PAGE_MAX: u32 = 1000;

/// Read from the database at once while a whole list is put together.
const CHUNK: usize = 1000;

/// A page's length; none for the whole list.
fn limit_of(page: &Page) -> Result<Option<usize>, Problem> {
    match page.limit {
        None => Ok(None),
        Some(limit @ 1..=PAGE_MAX) => Ok(usize::try_from(limit).ok()),
        Some(other) => Err(Problem::malformed(format!("limit must be 1 to {PAGE_MAX}, not {other}"))),
    }
}

fn no_cursor() -> Problem {
    Problem::malformed("cursor is none that this list gave; begin without one")
}

/// Where a list of keys goes on, written as `seconds_id`.
fn after_of(page: &Page) -> Result<Option<(u64, Uuid)>, Problem> {
    let Some(cursor) = &page.cursor else { return Ok(None) };
    let parts = cursor
        .split_once('_')
        .and_then(|(created, id)| Some((created.parse::<u64>().ok()?, Uuid::try_parse(id).ok()?)));
    parts.map(Some).ok_or_else(no_cursor)
}

fn number_of(page: &Page) -> Result<Option<u64>, Problem> {
    page.cursor.as_ref().map(|cursor| cursor.parse().map_err(|_| no_cursor())).transpose()
}

/// Puts a list of keys together: a page, or all of it. Gives where it goes on.
fn gather(
    page: &Page,
    read: impl Fn(Option<(u64, Uuid)>, usize) -> Result<Vec<KeyRecord>, Failure>,
) -> Result<(Vec<KeyRecord>, Option<String>), Failure> {
    let (limit, mut after) = (limit_of(page)?, after_of(page)?);
    let mut keys = Vec::new();
    loop {
        let wanted = limit.map_or(CHUNK, |limit| limit - keys.len());
        let chunk = read(after, wanted)?;
        let full = chunk.len() == wanted;
        after = chunk.last().map(|key| (key.created, key.id)).or(after);
        keys.extend(chunk);
        let done = limit.is_some_and(|limit| keys.len() >= limit);
        if !full || done {
            let next = after.filter(|_| full && done);
            return Ok((keys, next.map(|(created, id)| format!("{created}_{id}"))));
        }
    }
}

impl Dispatch {
    /// The rings of a project, by slot.
    pub(super) fn rings_of(&self, project: Uuid, is_first: bool) -> Result<Vec<Ring>, Failure> {
        let mut rings = self.store.rings()?;
        rings.retain(|ring| ring.metadata.project.map_or(is_first, |of| of == project));
        Ok(rings)
    }

    pub(super) fn list_rings(
        &self,
        context: &RequestContext,
        project: Uuid,
        page: &Page,
    ) -> Result<Outcome, Failure> {
        let is_first = self.known_project(project)?;
        let (limit, after) = (limit_of(page)?, number_of(page)?);
        let mut rings = self.rings_of(project, is_first)?;
        rings.retain(|ring| {
            let id = Some(Uuid::from_bytes(ring.id.0));
            policy::allowed(&context.account.grants, Permission::KeyringGet, project, id)
        });
        if let Some(after) = after {
            rings.retain(|ring| ring.slot > SlotId(after));
        }
        let goes_on = limit.is_some_and(|limit| rings.len() > limit);
        rings.truncate(limit.unwrap_or(usize::MAX));
        let next_cursor = rings.last().filter(|_| goes_on).map(|ring| ring.slot.0.to_string());
        Ok(Outcome::KeyRings(KeyRingList { key_rings: rings.iter().map(views::ring).collect(), next_cursor }))
    }

    pub(super) fn list_keys(&self, path: RingPath, page: &Page) -> Result<Outcome, Failure> {
        let ring = self.place(path)?.ring.id;
        let read = |after, limit| Ok(self.store.known_keys(ring, after, limit)?);
        let (keys, next_cursor) = gather(page, read)?;
        let keys = keys.iter().map(views::key).collect::<Result<_, _>>()?;
        Ok(Outcome::Keys(KeyList { keys, next_cursor }))
    }

    pub(super) fn list_wrapping_keys(&self, path: RingPath, page: &Page) -> Result<Outcome, Failure> {
        let ring = self.place(path)?.ring.id;
        let read = |after, limit| Ok(self.store.wrapping_keys(ring, after, limit)?);
        let (keys, next_cursor) = gather(page, read)?;
        let wrapping_keys = keys.iter().map(|key| self.wrapping_view(key)).collect::<Result<_, _>>()?;
        Ok(Outcome::WrappingKeys(WrappingKeyList { wrapping_keys, next_cursor }))
    }

    pub(super) fn list_versions(&self, path: KeyPath, page: &Page) -> Result<Outcome, Failure> {
        let place = self.place(path.ring)?;
        let known = self.key(&place, path.key)?;
        let (limit, after) = (limit_of(page)?, number_of(page)?.unwrap_or(0));
        let mut rest = known.versions.iter().filter(|version| u64::from(version.number) > after);
        let taken: Vec<_> = rest.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
        let goes_on = rest.next().is_some();
        let next_cursor = taken.last().filter(|_| goes_on).map(|version| version.number.to_string());
        let versions = taken.into_iter().map(|version| self.view_of(&known, version));
        Ok(Outcome::Versions(VersionList { versions: versions.collect::<Result<_, _>>()?, next_cursor }))
    }
}
