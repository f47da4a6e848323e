//! Capacity for more: the limits of a ring, and the free space on the disk that is kept for everything but new keys.
//!
//! What a ring has is counted in the transaction that adds to it. The result is remembered as the capacity that is left, from
//! which each addition is taken; what is removed is not added back. When the capacity is used up the ring is counted again:
//! so a count is exact whenever it matters, and costs nothing otherwise.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kms_protocol::RingId;
use rusqlite::{Connection, params};

use super::StoreError;

/// What a row takes besides its attributes and its material, in bytes: columns, MAC and indexes.
const ROW_BYTES: u64 = 512;

/// How long a ring that has reached a limit is refused without counting it again, unless something was removed from it.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// What a ring may have. A ring that has more is used as before and grows no further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RingLimits {
    /// Keys, including those whose deletion is scheduled.
    pub keys: u64,
    /// Objects: the halves of pairs are two, and every version of a key has its own.
    pub objects: u64,
    /// Bytes of attributes and wrapped material, and 512 for each key, version and object.
    pub bytes: u64,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { keys: u64::MAX, objects: u64::MAX, bytes: u64::MAX }
    }
}

impl RingLimits {
    /// What is left for a ring that has this much.
    fn left(&self, has: &Size) -> Size {
        Size {
            keys: self.keys.saturating_sub(has.keys),
            versions: 0,
            objects: self.objects.saturating_sub(has.objects),
            bytes: self.bytes.saturating_sub(has.all_bytes()),
        }
    }

    /// Why an addition does not fit into what is left.
    fn refusal(&self, left: &Size, added: &Size) -> StoreError {
        let (what, most) = if left.keys < added.keys {
            ("keys in this key ring", self.keys)
        } else if left.objects < added.objects {
            ("objects in this key ring", self.objects)
        } else {
            ("bytes in this key ring", self.bytes)
        };
        StoreError::TooMany { what, most }
    }
}

/// The limits of a store. By default there are none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StoreLimits {
    /// What each ring may have.
    pub ring: RingLimits,
    /// Free bytes on the disk below which nothing more is created.
    pub disk_floor: u64,
}

/// The free space on the disk of the database, and the limit that it has to keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiskSpace {
    /// Free bytes.
    pub free: u64,
    /// Free bytes below which nothing more is created.
    pub floor: u64,
}

/// What is to be added to a ring, or what it has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Size {
    pub(super) keys: u64,
    pub(super) versions: u64,
    pub(super) objects: u64,
    /// Bytes of attributes and wrapped material.
    pub(super) bytes: u64,
}

impl Size {
    fn all_bytes(&self) -> u64 {
        self.bytes.saturating_add((self.keys + self.versions + self.objects).saturating_mul(ROW_BYTES))
    }

    /// Takes an addition from the capacity that is left; false if it does not fit.
    fn take(&mut self, added: &Self) -> bool {
        let left = |left: u64, added: u64| left.checked_sub(added);
        let (keys, objects) = (left(self.keys, added.keys), left(self.objects, added.objects));
        let (Some(keys), Some(objects), Some(bytes)) = (keys, objects, left(self.bytes, added.all_bytes()))
        else {
            return false;
        };
        *self = Self { keys, objects, bytes, versions: 0 };
        true
    }
}

/// The capacity of all rings.
pub(super) struct Capacity {
    path: PathBuf,
    limits: Mutex<StoreLimits>,
    left: Mutex<HashMap<RingId, Size>>,
    refused: Mutex<HashMap<RingId, Instant>>,
}

impl Capacity {
    /// Unlimited capacity in the database at this path.
    pub(super) fn new(path: &Path) -> Self {
        let (limits, left, refused) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { path: path.to_owned(), limits, left, refused }
    }

    pub(super) fn set_limits(&self, limits: StoreLimits) {
        *locked(&self.limits) = limits;
        self.forget_all();
    }

    /// The free space on the disk.
    pub(super) fn disk(&self) -> Result<DiskSpace, StoreError> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let found = rustix::fs::statvfs(folder.unwrap_or(Path::new(".")))
            .map_err(|error| StoreError::Io { path: self.path.clone(), source: error.into() })?;
        let floor = locked(&self.limits).disk_floor;
        Ok(DiskSpace { free: found.f_bavail.saturating_mul(found.f_frsize), floor })
    }

    /// Fails if the disk has too little space for anything new.
    pub(super) fn check_disk(&self) -> Result<(), StoreError> {
        if locked(&self.limits).disk_floor == 0 {
            return Ok(());
        }
        let DiskSpace { free, floor } = self.disk()?;
        if free < floor { Err(StoreError::DiskFloor { free, floor }) } else { Ok(()) }
    }

    /// Takes capacity for an addition to a ring, in the transaction of this connection.
    pub(super) fn take(&self, connection: &Connection, ring: RingId, added: &Size) -> Result<(), StoreError> {
        self.check_disk()?;
        let limits = locked(&self.limits).ring;
        if limits == RingLimits::default() {
            return Ok(());
        }
        if locked(&self.left).get_mut(&ring).is_some_and(|left| left.take(added)) {
            return Ok(());
        }
        let refused = locked(&self.refused).get(&ring).copied();
        if refused.is_none_or(|at| at.elapsed() >= REFUSED_FOR) {
            let mut left = limits.left(&size_of(connection, ring)?);
            let fits = left.take(added);
            locked(&self.left).insert(ring, left);
            if fits {
                locked(&self.refused).remove(&ring);
                return Ok(());
            }
            locked(&self.refused).insert(ring, now());
        }
        let left = locked(&self.left).get(&ring).copied().unwrap_or_default();
        Err(limits.refusal(&left, added))
    }

    /// Something was removed from a ring: what was found out about its capacity no longer holds.
    pub(super) fn forget(&self, ring: RingId) {
        locked(&self.refused).remove(&ring);
    }

    /// Another process wrote, a transaction was lost after something was counted in it, or the limits are others.
    pub(super) fn forget_all(&self) {
        locked(&self.left).clear();
        locked(&self.refused).clear();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts what a ring has.
fn size_of(connection: &Connection, ring: RingId) -> Result<Size, StoreError> {
    let number = |sql: &str| -> Result<(u64, u64), StoreError> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(connection.prepare_cached(sql)?.query_row(params![ring.0], read)?)
    };
    let (keys, _) = number("SELECT count(*), 0 FROM keys WHERE ring = ?1")?;
    let (objects, bytes) = number(
        "SELECT count(*), coalesce(sum(length(attributes) + coalesce(length(wrapped), 0)), 0) FROM objects WHERE ring = ?1",
    )?;
    let (versions, wrapped) = number(
        "SELECT count(*), coalesce(sum(length(v.wrapped)), 0) FROM keys k JOIN versions v ON v.key = k.id WHERE k.ring = ?1",
    )?;
    Ok(Size { keys, versions, objects, bytes: bytes.saturating_add(wrapped) })
}

#[expect(clippy::disallowed_methods, reason = "a time between two counts, not a date")]
fn now() -> Instant {
    Instant::now()
}
