//! Refresh tokens, each used once: the state of the login that they descend from (`docs/decisions/0049`).

use kms_core::integrity::Cell;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::rows::{AccountRow, bytes_of, id, optional_id, time};
use crate::StoreError;
use crate::rows::{column, signed, unsigned};
use crate::writer::WriteTx;

/// How long a used refresh token may be presented again, in seconds: the response was lost, and the client repeats the
/// request. The token that the lost response contained ends then.
const REPEATED_FOR: u64 = 10;

/// The maximum number of expired logins that are deleted with each exchange.
const DELETED_MAX: u32 = 16;

/// The refresh tokens that descend from one assertion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RefreshFamily {
    id: Uuid,
    account: Uuid,
    current: Uuid,
    previous: Option<Uuid>,
    rotated: Option<u64>,
    expires: u64,
    revoked: Option<u64>,
}

/// A refresh token that is presented, and the one that takes its place. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct RefreshUse {
    /// The login that it descends from.
    pub family: Uuid,
    /// The account that it was issued to.
    pub account: Uuid,
    /// Its `jti`.
    pub presented: Uuid,
    /// The `jti` of the next one.
    pub next: Uuid,
    /// When the next one expires.
    pub expires: u64,
    /// The time.
    pub now: u64,
}

/// The result of presenting a refresh token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefreshExchange {
    /// The next one may be issued.
    Rotated,
    /// It was used before. All tokens of its login are revoked now.
    Reused,
    /// Its login is unknown, or was revoked before.
    Refused,
}

impl RefreshFamily {
    /// A new login with its first refresh token.
    pub fn new(id: Uuid, account: Uuid, current: Uuid, expires: u64) -> Self {
        Self { id, account, current, previous: None, rotated: None, expires, revoked: None }
    }

    /// Inserts the row, or updates the one with its id.
    fn put(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.cells();
        let mac = tx.key.mac(Self::TABLE, &columns);
        let (id, set) = columns.split_at(1);
        tx.put(Self::TABLE, id, &[set, &[("mac", Cell::Bytes(&mac))]].concat())
    }
}

impl AccountRow for RefreshFamily {
    const TABLE: &'static str = "refresh_families";
    const COLUMNS: &'static str = "id, account, current, previous, rotated, expires, revoked, mac";

    fn parse(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: id(row, Self::TABLE, 0)?,
            account: id(row, Self::TABLE, 1)?,
            current: id(row, Self::TABLE, 2)?,
            previous: optional_id(row, Self::TABLE, 3)?,
            rotated: time(row, Self::TABLE, 4)?,
            expires: unsigned(column(row, Self::TABLE, 5)?),
            revoked: time(row, Self::TABLE, 6)?,
        })
    }

    fn cells(&self) -> Vec<(&'static str, Cell<'_>)> {
        vec![
            ("id", Cell::Bytes(self.id.as_bytes())),
            ("account", Cell::Bytes(self.account.as_bytes())),
            ("current", Cell::Bytes(self.current.as_bytes())),
            ("previous", Cell::from(bytes_of(self.previous.as_ref()))),
            ("rotated", Cell::from(self.rotated.map(signed))),
            ("expires", Cell::Integer(signed(self.expires))),
            ("revoked", Cell::from(self.revoked.map(signed))),
        ]
    }
}

/// Begins a login, and deletes some that have expired.
pub(super) fn begin(tx: &WriteTx<'_>, family: &RefreshFamily, now: u64) -> Result<(), StoreError> {
    let expired = "id IN (SELECT id FROM refresh_families WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    tx.delete_where(RefreshFamily::TABLE, expired, params![signed(now), DELETED_MAX])?;
    family.put(tx)
}

/// Uses a refresh token: the next one takes its place. One that was used before revokes its login.
pub(super) fn rotate(tx: &WriteTx<'_>, token: &RefreshUse) -> Result<RefreshExchange, StoreError> {
    let found = RefreshFamily::one(tx.connection, tx.key, "WHERE id = ?1", [token.family.as_bytes()])?;
    let valid = found.filter(|family| family.account == token.account && family.revoked.is_none());
    let Some(family) = valid else { return Ok(RefreshExchange::Refused) };
    let (expires, current) = (family.expires.max(token.expires), token.next);
    if family.current == token.presented {
        let (previous, rotated) = (Some(token.presented), Some(token.now));
        RefreshFamily { current, previous, rotated, expires, ..family }.put(tx)?;
        return Ok(RefreshExchange::Rotated);
    }
    let recently = |rotated| (rotated..=rotated + REPEATED_FOR).contains(&token.now);
    if family.previous == Some(token.presented) && family.rotated.is_some_and(recently) {
        RefreshFamily { current, expires, ..family }.put(tx)?;
        return Ok(RefreshExchange::Rotated);
    }
    RefreshFamily { revoked: Some(token.now), ..family }.put(tx)?;
    Ok(RefreshExchange::Reused)
}
