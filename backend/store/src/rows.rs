//! Rows of rings and principals, and what all rows need. Reading a row verifies its MAC, or fails.

use kms_core::integrity::{Cell, RowKey};
use kms_core::object::{LoginId, RingRole};
use kms_protocol::{RingId, RingPolicy, SlotId};
use rusqlite::{Row, types::FromSql};
use uuid::Uuid;

use super::writer::WriteTx;
use super::{KeptLogin, PinKind, Principal, Ring, RingMetadata, StoreError};

/// Reads one column of a row, or returns why the row cannot be read.
pub(super) fn column<T: FromSql>(row: &Row<'_>, table: &'static str, index: usize) -> Result<T, StoreError> {
    row.get(index).map_err(|error| match error.sqlite_error() {
        Some(_) => StoreError::from(error),
        None => invalid(table, row),
    })
}

/// Returns the bytes in a column without copying them.
pub(super) fn bytes<'a>(
    row: &'a Row<'_>,
    table: &'static str,
    index: usize,
) -> Result<Option<&'a [u8]>, StoreError> {
    row.get_ref(index)?.as_blob_or_null().map_err(|_| invalid(table, row))
}

/// Returns the error that names an invalid row. Every query here has the row's id in its first column.
pub(super) fn invalid(table: &'static str, row: &Row<'_>) -> StoreError {
    let id = match row.get_ref(0) {
        Ok(rusqlite::types::ValueRef::Integer(number)) => number.to_string(),
        Ok(rusqlite::types::ValueRef::Blob(bytes)) => {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        Ok(rusqlite::types::ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        Ok(_) | Err(_) => "?".to_owned(),
    };
    StoreError::RowInvalid { table, id }
}

/// Verifies the MAC of a row.
pub(super) fn check_mac(
    key: &RowKey,
    table: &'static str,
    columns: &[(&str, Cell<'_>)],
    mac: &[u8],
    row: &Row<'_>,
) -> Result<(), StoreError> {
    if key.holds(table, columns, mac) { Ok(()) } else { Err(invalid(table, row)) }
}

/// Converts a number for SQLite, whose integers are signed. No number of ours comes near the maximum.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a number from SQLite.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Returns the value of a column that has none for zero: so rows that were written before it existed stay valid.
fn number(number: u64) -> Option<i64> {
    (number > 0).then(|| signed(number))
}

/// The columns that are read of a ring.
pub(super) const RING_COLUMNS: &str =
    "slot, id, label, policy, created, mac, project, display_name, description, epoch";

impl Ring {
    pub(super) const TABLE: &'static str = "rings";

    /// Reads a row of [`RING_COLUMNS`]. A ring that names no project is not one.
    pub(super) fn read(row: &Row<'_>, key: &RowKey) -> Result<Self, StoreError> {
        let project: Option<[u8; 16]> = column(row, Self::TABLE, 6)?;
        let project = project.ok_or_else(|| invalid(Self::TABLE, row))?;
        Self::read_of(row, key, Some(Uuid::from_bytes(project)))
    }

    /// Reads a ring that names no project, as they were written before schema 9, for `project`.
    pub(super) fn read_without_project(
        row: &Row<'_>,
        key: &RowKey,
        project: Uuid,
    ) -> Result<Self, StoreError> {
        let ring = Self::read_of(row, key, None)?;
        Ok(Self { metadata: RingMetadata { project, ..ring.metadata }, ..ring })
    }

    fn read_of(row: &Row<'_>, key: &RowKey, project: Option<Uuid>) -> Result<Self, StoreError> {
        const TABLE: &str = Ring::TABLE;
        let policy = match column(row, TABLE, 3)? {
            1_i64 => RingPolicy::Strict,
            2 => RingPolicy::Compat,
            _ => return Err(invalid(TABLE, row)),
        };
        let ring = Self {
            slot: SlotId(unsigned(column(row, TABLE, 0)?)),
            id: RingId(column(row, TABLE, 1)?),
            label: column(row, TABLE, 2)?,
            policy,
            created: unsigned(column(row, TABLE, 4)?),
            epoch: column::<Option<i64>>(row, TABLE, 9)?.map_or(0, unsigned),
            metadata: RingMetadata {
                project: project.unwrap_or_default(),
                display_name: column(row, TABLE, 7)?,
                description: column(row, TABLE, 8)?,
            },
        };
        let columns = ring.columns(project.as_ref());
        check_mac(key, TABLE, &columns, bytes(row, TABLE, 5)?.unwrap_or_default(), row)?;
        Ok(ring)
    }

    fn columns<'a>(&'a self, project: Option<&'a Uuid>) -> [(&'static str, Cell<'a>); 9] {
        let RingMetadata { display_name, description, .. } = &self.metadata;
        [
            ("slot", Cell::Integer(signed(self.slot.0))),
            ("id", Cell::Bytes(&self.id.0)),
            ("label", Cell::Text(&self.label)),
            ("policy", Cell::Integer(self.policy_number())),
            ("created", Cell::Integer(signed(self.created))),
            ("project", Cell::from(project.map(|project| project.as_bytes().as_slice()))),
            ("display_name", Cell::from(display_name.as_deref())),
            ("description", Cell::from(description.as_deref())),
            ("epoch", Cell::from(number(self.epoch))),
        ]
    }

    fn policy_number(&self) -> i64 {
        match self.policy {
            RingPolicy::Strict => 1,
            RingPolicy::Compat => 2,
        }
    }

    /// Inserts a ring.
    pub(super) fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.columns(Some(&self.metadata.project));
        let mac = tx.key.mac(Self::TABLE, &columns);
        tx.insert(Self::TABLE, &[columns.as_slice(), &[("mac", Cell::Bytes(&mac))]].concat())
    }

    /// Updates the ring in its slot.
    pub(super) fn update(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.columns(Some(&self.metadata.project));
        let mac = tx.key.mac(Self::TABLE, &columns);
        let [slot, _, label, _, _, project, display_name, description, epoch] = columns;
        let mac = ("mac", Cell::Bytes(&mac));
        tx.update(Self::TABLE, &[slot], &[label, mac, project, display_name, description, epoch])
    }
}

/// The columns that are read of a principal.
pub(super) const PRINCIPAL_COLUMNS: &str =
    "name, ring, standing, pin_hash, generation, mac, pin_changes, kept_login, kept_since, pin_kind";

impl Principal {
    pub(super) const TABLE: &'static str = "principals";

    /// Reads a row of [`PRINCIPAL_COLUMNS`].
    pub(super) fn read(row: &Row<'_>, key: &RowKey) -> Result<Self, StoreError> {
        const TABLE: &str = Principal::TABLE;
        let number: i64 = column(row, TABLE, 2)?;
        let roles = [RingRole::Officer, RingRole::Admin, RingRole::Editor, RingRole::User, RingRole::Reader];
        let ring_role = roles.into_iter().find(|role| ring_role_number(*role) == number);
        let principal = Self {
            name: column(row, TABLE, 0)?,
            ring_role: ring_role.ok_or_else(|| invalid(TABLE, row))?,
            pin_hash: column(row, TABLE, 3)?,
            generation: unsigned(column(row, TABLE, 4)?),
            pin_changes: column::<Option<i64>>(row, TABLE, 6)?.map_or(0, unsigned),
            kept: column::<Option<[u8; 16]>>(row, TABLE, 7)?
                .zip(column::<Option<i64>>(row, TABLE, 8)?)
                .map(|(login, since)| KeptLogin { login: LoginId(login), since: unsigned(since) }),
            pin_kind: match column(row, TABLE, 9)? {
                None => PinKind::Plain,
                Some(1_i64) => PinKind::Bound,
                Some(_) => return Err(invalid(TABLE, row)),
            },
        };
        let ring = RingId(column(row, TABLE, 1)?);
        check_mac(key, TABLE, &principal.columns(&ring), bytes(row, TABLE, 5)?.unwrap_or_default(), row)?;
        Ok(principal)
    }

    fn columns<'a>(&'a self, ring: &'a RingId) -> [(&'static str, Cell<'a>); 9] {
        [
            ("ring", Cell::Bytes(&ring.0)),
            ("name", Cell::Text(&self.name)),
            ("standing", Cell::Integer(ring_role_number(self.ring_role))),
            ("pin_hash", Cell::Text(&self.pin_hash)),
            ("generation", Cell::Integer(signed(self.generation))),
            ("pin_changes", Cell::from(number(self.pin_changes))),
            ("kept_login", Cell::from(self.kept.as_ref().map(|kept| kept.login.0.as_slice()))),
            ("kept_since", Cell::from(self.kept.map(|kept| signed(kept.since)))),
            ("pin_kind", Cell::from(pin_kind_number(self.pin_kind))),
        ]
    }

    /// Inserts a principal of a ring, or updates the one with its name.
    pub(super) fn put(&self, ring: RingId, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.columns(&ring);
        let mac = tx.key.mac(Self::TABLE, &columns);
        let [of_ring, name, standing, pin_hash, generation, rest @ ..] = columns;
        let mac = ("mac", Cell::Bytes(&mac));
        tx.put(Self::TABLE, &[of_ring, name], &[&[standing, pin_hash, generation, mac][..], &rest].concat())
    }
}

fn pin_kind_number(kind: PinKind) -> Option<i64> {
    match kind {
        PinKind::Plain => None,
        PinKind::Bound => Some(1),
    }
}

fn ring_role_number(ring_role: RingRole) -> i64 {
    match ring_role {
        RingRole::Officer => 1,
        RingRole::Admin => 2,
        RingRole::Editor => 3,
        RingRole::User => 4,
        RingRole::Reader => 5,
    }
}
