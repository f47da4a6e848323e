//! Counts of wrong PINs, which outlive the process: a restart does not forgive.
//!
//! Counts are kept for names, not for principals: a name that no principal has is counted like any other, so that
//! neither the delays nor a restart tell which names exist. Their number is bounded: beyond the bounds, names share a
//! count, and so do users of the operating system. No count is dropped for another before it is forgotten.

use kms_core::integrity::{Cell, RowKey};
use kms_protocol::RingId;
use rusqlite::{Connection, Row, params};

use super::rows::{bytes, check_mac, column, signed, unsigned};
use super::writer::WriteTx;
use super::{Store, StoreError};

/// The maximum number of names that are counted separately for one user of the operating system in one ring. Whoever
/// mistypes in more names than that is guessing names.
const NAMES_MAX: u64 = 64;

/// The maximum number of users of the operating system that are counted separately in one ring: one account can have
/// tens of thousands of user ids (user namespaces), and each would begin without a delay.
const UIDS_MAX: u64 = 64;

/// The maximum number of forgotten counts that are deleted with each failure.
const DELETED_MAX: u32 = 16;

/// The count of a row whose MAC is wrong: whoever edited it does not gain from it.
const FAILURES_OF_EDITED_ROW: u32 = 1000;

/// The uid of those whose uid is unknown.
const UID_NONE: i64 = -1;

/// The uid of those beyond [`UIDS_MAX`].
const UID_SHARED: i64 = -2;

/// The name of those beyond [`NAMES_MAX`].
const NAME_SHARED: [u8; 16] = [0; 16];

/// What is counted separately.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LoginTrack {
    ring: RingId,
    uid: i64,
    name: [u8; 16],
}

impl LoginTrack {
    /// Whether other names or other users are counted here, too: then a correct PIN does not clear the count.
    pub fn is_shared(&self) -> bool {
        self.uid == UID_SHARED || self.name == NAME_SHARED
    }
}

/// The wrong PINs of a track.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LoginFailures {
    /// How many there were.
    pub count: u32,
    /// The time of the last one, in milliseconds since 1970.
    pub last: u64,
}

impl LoginFailures {
    const TABLE: &'static str = "login_failures";

    fn columns<'a>(&self, track: &'a LoginTrack) -> [(&'static str, Cell<'a>); 5] {
        [
            ("ring", Cell::Bytes(&track.ring.0)),
            ("uid", Cell::Integer(track.uid)),
            ("name", Cell::Bytes(&track.name)),
            ("failures", Cell::Integer(i64::from(self.count))),
            ("last", Cell::Integer(signed(self.last))),
        ]
    }

    fn read(row: &Row<'_>, key: &RowKey) -> Result<(LoginTrack, Self), StoreError> {
        const TABLE: &str = LoginFailures::TABLE;
        let track = LoginTrack {
            ring: RingId(column(row, TABLE, 0)?),
            uid: column(row, TABLE, 1)?,
            name: column(row, TABLE, 2)?,
        };
        let failures = Self { count: column(row, TABLE, 3)?, last: unsigned(column(row, TABLE, 4)?) };
        check_mac(key, TABLE, &failures.columns(&track), bytes(row, TABLE, 5)?.unwrap_or_default(), row)?;
        Ok((track, failures))
    }

    fn put(self, track: &LoginTrack, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.columns(track);
        let mac = tx.key.mac(Self::TABLE, &columns);
        let (key, set) = columns.split_at(3);
        tx.put(Self::TABLE, key, &[set, &[("mac", Cell::Bytes(&mac))]].concat())
    }
}

const COLUMNS: &str = "ring, uid, name, failures, last, mac";

/// Verifies the MACs of all counts; returns their number.
pub(super) fn check(connection: &Connection, key: &RowKey) -> Result<u64, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM login_failures");
    super::check::count_readable(connection, &sql, &|row| LoginFailures::read(row, key).map(drop))
}

fn stored(
    connection: &Connection,
    key: &RowKey,
    track: &LoginTrack,
) -> Result<Option<LoginFailures>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM login_failures WHERE ring = ?1 AND uid = ?2 AND name = ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![track.ring.0, track.uid, track.name])?;
    Ok(rows.next()?.map(|row| LoginFailures::read(row, key)).transpose()?.map(|(_, failures)| failures))
}

/// Finds the track of a name: its own if it has one or there is space for one, else a shared one.
fn find(
    connection: &Connection,
    mut track: LoginTrack,
    forgotten_before: u64,
) -> Result<LoginTrack, StoreError> {
    let count = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> Result<u64, StoreError> {
        Ok(connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
    };
    let before = signed(forgotten_before);
    let names = "SELECT count(*) FROM login_failures WHERE ring = ?1 AND uid = ?2 AND last >= ?3";
    let uids = "SELECT count(DISTINCT uid) FROM login_failures WHERE ring = ?1 AND uid != -2 AND last >= ?2";
    if count(names, &[&track.ring.0, &track.uid, &before])? == 0
        && count(uids, &[&track.ring.0, &before])? >= UIDS_MAX
    {
        track.uid = UID_SHARED;
    }
    let own = "SELECT count(*) FROM login_failures WHERE ring = ?1 AND uid = ?2 AND name = ?3";
    if count(own, &[&track.ring.0, &track.uid, &track.name])? == 0
        && count(names, &[&track.ring.0, &track.uid, &before])? >= NAMES_MAX
    {
        track.name = NAME_SHARED;
    }
    Ok(track)
}

impl Store {
    /// Returns the wrong PINs that were given for a name, and where they are counted. `name` is a MAC of the name;
    /// counts whose last failure is before `forgotten_before` (milliseconds since 1970) are as if there were none.
    ///
    /// # Errors
    /// When the database fails.
    pub fn login_failures(
        &self,
        ring: RingId,
        uid: Option<u32>,
        name: [u8; 16],
        forgotten_before: u64,
    ) -> Result<(LoginTrack, LoginFailures), StoreError> {
        let asked = LoginTrack { ring, uid: uid.map_or(UID_NONE, i64::from), name };
        self.readers.read(move |connection| {
            let track = find(connection, asked.clone(), forgotten_before)?;
            let failures = match stored(connection, &self.key, &track) {
                Err(error @ StoreError::RowInvalid { .. }) => {
                    self.log_unreadable(std::slice::from_ref(&error));
                    LoginFailures { count: FAILURES_OF_EDITED_ROW, last: u64::MAX }
                }
                found => found?.filter(|found| found.last >= forgotten_before).unwrap_or_default(),
            };
            Ok((track, failures))
        })
    }

    /// Counts a wrong PIN at the time `now`, in milliseconds since 1970, and deletes some forgotten counts. Returns the
    /// count.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_login_failure(
        &self,
        track: &LoginTrack,
        now: u64,
        forgotten_before: u64,
    ) -> Result<u32, StoreError> {
        let track = track.clone();
        self.writer.write(move |tx| {
            let before = match stored(tx.connection, tx.key, &track) {
                Err(StoreError::RowInvalid { .. }) => FAILURES_OF_EDITED_ROW,
                found => found?.filter(|found| found.last >= forgotten_before).map_or(0, |found| found.count),
            };
            let count = before.saturating_add(1);
            LoginFailures { count, last: now }.put(&track, tx)?;
            let forgotten = "(ring, uid, name) IN \
                             (SELECT ring, uid, name FROM login_failures WHERE last < ?1 ORDER BY last LIMIT ?2)";
            tx.delete_where(LoginFailures::TABLE, forgotten, params![signed(forgotten_before), DELETED_MAX])?;
            Ok(count)
        })
    }

    /// Clears the count of a track after a correct PIN; a shared one stays.
    ///
    /// # Errors
    /// When the database fails.
    pub fn clear_login_failures(&self, track: &LoginTrack) -> Result<(), StoreError> {
        if track.is_shared() {
            return Ok(());
        }
        let track = track.clone();
        self.writer.write(move |tx| {
            let own = [
                ("ring", Cell::Bytes(&track.ring.0)),
                ("uid", Cell::Integer(track.uid)),
                ("name", Cell::Bytes(&track.name)),
            ];
            tx.delete(LoginFailures::TABLE, &own)?;
            Ok(())
        })
    }
}
