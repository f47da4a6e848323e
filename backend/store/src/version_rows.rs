//! Rows of key versions: the material, and whether it may be used.

use kms_core::api::Life;
use kms_core::integrity::{Cell, RowKey};
use kms_core::object::{KeyVersion, MasterVersion, Wrapped};
use rusqlite::Row;

use super::StoreError;
use super::rows::{bytes, check_mac, column, signed, unsigned};
use super::spans;
use super::writer::WriteTx;

/// `software` protection: the material is unwrapped in the backend (architecture D5).
const SOFTWARE: i64 = 1;

/// The columns of a version that [`VersionRow::read`] reads.
pub(super) const VERSION_COLUMNS: &str =
    "v.state, v.destroy_at, v.protection, v.master, v.wrapped, v.created, v.mac, v.disabled, v.withheld";

/// The state of a version, as it is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It may be used.
    Active = 1,
    /// It may not be used until it is enabled.
    Disabled = 2,
    /// It will be destroyed, and can be restored until then.
    DestructionScheduled = 3,
    /// Its material was erased.
    Destroyed = 4,
}

impl State {
    /// From most to least usable, in the order of their numbers.
    const ALL: [Self; 4] = [Self::Active, Self::Disabled, Self::DestructionScheduled, Self::Destroyed];

    /// The value of the column.
    pub(super) fn number(self) -> i64 {
        self as i64
    }

    /// The state with this number.
    pub(super) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }
}

/// Reads wrapped bytes from two columns: the version of the master key, then the bytes.
pub(super) fn wrapped(row: &Row<'_>, table: &'static str, at: usize) -> Result<Option<Wrapped>, StoreError> {
    let master: Option<u32> = column(row, table, at)?;
    let bytes = bytes(row, table, at + 1)?.map(<[u8]>::to_vec);
    Ok(master.zip(bytes).map(|(master, bytes)| Wrapped { master: MasterVersion(master), bytes }))
}

/// A row of `versions`.
#[derive(Clone, Debug)]
pub(super) struct VersionRow {
    pub(super) version: KeyVersion,
    pub(super) state: i64,
    pub(super) destroy_at: Option<i64>,
    pub(super) protection: i64,
    pub(super) wrapped: Option<Wrapped>,
    pub(super) created: i64,
    /// Whether it was disabled when its destruction was scheduled.
    pub(super) disabled: bool,
    /// Whether the deletion of its key is scheduled.
    pub(super) withheld: bool,
}

impl VersionRow {
    pub(super) const TABLE: &'static str = "versions";

    /// Returns a version that was just created.
    pub(super) fn new(version: KeyVersion, wrapped: Option<Wrapped>, created: i64) -> Self {
        let (state, protection) = (State::Active.number(), SOFTWARE);
        Self {
            version,
            state,
            destroy_at: None,
            protection,
            wrapped,
            created,
            disabled: false,
            withheld: false,
        }
    }

    /// Reads the nine columns of a version, starting at index `at`.
    pub(super) fn read(
        row: &Row<'_>,
        at: usize,
        version: KeyVersion,
        key: &RowKey,
    ) -> Result<Self, StoreError> {
        const TABLE: &str = VersionRow::TABLE;
        let found = Self {
            version,
            state: column(row, TABLE, at)?,
            destroy_at: column(row, TABLE, at + 1)?,
            protection: column(row, TABLE, at + 2)?,
            wrapped: wrapped(row, TABLE, at + 3)?,
            created: column(row, TABLE, at + 5)?,
            disabled: column::<Option<i64>>(row, TABLE, at + 7)?.is_some(),
            withheld: column::<Option<i64>>(row, TABLE, at + 8)?.is_some(),
        };
        let mac = bytes(row, TABLE, at + 6)?.unwrap_or_default();
        check_mac(key, TABLE, &found.columns(), mac, row)?;
        Ok(found)
    }

    fn columns(&self) -> [(&'static str, Cell<'_>); 10] {
        [
            ("key", Cell::Bytes(&self.version.key)),
            ("number", Cell::Integer(self.version.number.into())),
            ("state", Cell::Integer(self.state)),
            ("destroy_at", Cell::from(self.destroy_at)),
            ("protection", Cell::Integer(self.protection)),
            ("master", Cell::from(self.wrapped.as_ref().map(|wrapped| i64::from(wrapped.master.0)))),
            ("wrapped", Cell::from(self.wrapped.as_ref().map(|wrapped| wrapped.bytes.as_slice()))),
            ("created", Cell::Integer(self.created)),
            ("disabled", Cell::from(self.disabled.then_some(1))),
            ("withheld", Cell::from(self.withheld.then_some(1))),
        ]
    }

    /// Inserts the row.
    pub(super) fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.columns();
        let mac = tx.key.mac(Self::TABLE, &columns);
        tx.insert(Self::TABLE, &[columns.as_slice(), &[("mac", Cell::Bytes(&mac))]].concat())?;
        spans::follow(tx, self)
    }

    /// Updates the row with its key and number.
    pub(super) fn update(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.columns();
        let mac = tx.key.mac(Self::TABLE, &columns);
        let [key, number, state, destroy_at, _, master, wrapped, _, disabled, withheld] = columns;
        let mac = ("mac", Cell::Bytes(&mac));
        let set = [state, destroy_at, master, wrapped, mac, disabled, withheld];
        tx.update(Self::TABLE, &[key, number], &set)?;
        spans::follow(tx, self)
    }

    /// Whether it is available, and so counts for the usage: it may be used, and its material is held.
    pub(super) fn is_available(&self) -> bool {
        self.is_visible() && self.wrapped.is_some()
    }

    /// Whether the state of the version lets applications see its objects.
    pub(super) fn is_visible(&self) -> bool {
        self.state == State::Active.number() && !self.withheld
    }

    /// Whether its destruction is scheduled, so that it can be restored.
    pub(super) fn is_destruction_scheduled(&self) -> bool {
        self.state == State::DestructionScheduled.number()
    }

    /// Its lifecycle state; `None` for a number that this program never writes.
    pub(super) fn life(&self) -> Option<Life> {
        let (disabled, at) = (self.disabled, self.destroy_at.map_or(0, unsigned));
        Some(match State::of(self.state)? {
            State::Active => Life::Active,
            State::Disabled => Life::Disabled,
            State::DestructionScheduled => Life::Leaving { disabled, at },
            State::Destroyed => Life::Erased { disabled, at },
        })
    }

    /// Returns the version in another lifecycle state.
    pub(super) fn with_life(self, life: Life) -> Self {
        let state = match life {
            Life::Active => State::Active,
            Life::Disabled => State::Disabled,
            Life::Leaving { .. } => State::DestructionScheduled,
            Life::Erased { .. } => State::Destroyed,
        };
        let disabled = match life {
            Life::Active | Life::Disabled => false,
            Life::Leaving { disabled, .. } | Life::Erased { disabled, .. } => disabled,
        };
        Self { state: state.number(), destroy_at: life.destroy_date().map(signed), disabled, ..self }
    }
}
