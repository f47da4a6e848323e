//! Projects: the API's tenants.

use kms_core::audit::Entry;
use kms_core::integrity::{Cell, RowKey};
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::cache::Invalidation;
use crate::rows::{bytes, check_mac, column, signed, unsigned};
use crate::writer::WriteTx;
use crate::{Store, StoreError};

/// A project.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Project {
    /// Its id.
    pub id: Uuid,
    /// Its display name.
    pub name: String,
    /// When it was created, in seconds since 1970.
    pub created: u64,
}

const COLUMNS: &str = "id, name, created, mac";

impl Project {
    const TABLE: &'static str = "projects";

    fn read(row: &Row<'_>, key: &RowKey) -> Result<Self, StoreError> {
        let project = Self {
            id: Uuid::from_bytes(column(row, Self::TABLE, 0)?),
            name: column(row, Self::TABLE, 1)?,
            created: unsigned(column(row, Self::TABLE, 2)?),
        };
        check_mac(
            key,
            Self::TABLE,
            &project.columns(),
            bytes(row, Self::TABLE, 3)?.unwrap_or_default(),
            row,
        )?;
        Ok(project)
    }

    fn columns(&self) -> [(&'static str, Cell<'_>); 3] {
        [
            ("id", Cell::Bytes(self.id.as_bytes())),
            ("name", Cell::Text(&self.name)),
            ("created", Cell::Integer(signed(self.created))),
        ]
    }

    /// The project of a home that is older than projects, with the id that the API uses for it.
    pub fn implied() -> Self {
        Self { id: Uuid::nil(), name: "default".to_owned(), created: 0 }
    }

    /// Inserts the row.
    pub(crate) fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let columns = self.columns();
        let mac = tx.key.mac(Self::TABLE, &columns);
        tx.insert(Self::TABLE, &[columns.as_slice(), &[("mac", Cell::Bytes(&mac))]].concat())
    }
}

/// Returns all projects that can be read, the oldest first, and the errors of those that cannot.
pub(crate) fn all(
    connection: &Connection,
    key: &RowKey,
) -> Result<(Vec<Project>, Vec<StoreError>), StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM projects ORDER BY created, id");
    let mut statement = connection.prepare_cached(&sql)?;
    let (mut rows, mut projects, mut unreadable) = (statement.query([])?, Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match Project::read(row, key) {
            Ok(project) => projects.push(project),
            Err(error @ StoreError::RowInvalid { .. }) => unreadable.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((projects, unreadable))
}

/// Fails unless there is a project with this id. The first ring of a home without projects makes the implied one.
pub(crate) fn require(tx: &WriteTx<'_>, id: Uuid) -> Result<(), StoreError> {
    let (known, unreadable) = all(tx.connection, tx.key)?;
    if known.iter().any(|project| project.id == id) {
        return Ok(());
    }
    if known.is_empty() && unreadable.is_empty() && id.is_nil() {
        return Project::implied().insert(tx);
    }
    Err(unreadable.into_iter().next().unwrap_or(StoreError::NotFound))
}

/// How far the system's clock may be behind the last entry of the audit log: what clocks are corrected by in operation,
/// and the time that an entry may have waited.
const CLOCK_TOLERANCE_SECONDS: u64 = 60;

/// Fails when `now` is before the creation of the newest project, or well before the last entry of the audit log: then the
/// clock is wrong, and what is granted or created under it would be dated before what is there.
pub(crate) fn check_clock(tx: &WriteTx<'_>, now: u64) -> Result<(), StoreError> {
    let newest = all(tx.connection, tx.key)?.0.last().map_or(0, |project| project.created);
    if now < newest {
        return Err(StoreError::ClockBehind { behind: newest - now, what: "the newest project" });
    }
    let last = crate::audit::last_at(tx.connection)?.unwrap_or(0) / 1000;
    if now.saturating_add(CLOCK_TOLERANCE_SECONDS) < last {
        let what = "the last entry of the audit log";
        return Err(StoreError::ClockBehind { behind: last - now, what });
    }
    Ok(())
}

impl Store {
    /// Returns all projects, the oldest first. A project whose row was changed is omitted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn projects(&self) -> Result<Vec<Project>, StoreError> {
        Ok(self.all_rings()?.projects().to_vec())
    }

    /// Adds a project.
    ///
    /// # Errors
    /// [`StoreError::NameInUse`] when its id or its name exists already; [`StoreError::ClockBehind`].
    pub fn insert_project(&self, project: &Project, entry: Entry) -> Result<(), StoreError> {
        let project = project.clone();
        self.writer.write(move |tx| {
            let (known, unreadable) = all(tx.connection, tx.key)?;
            // Whether the name is free cannot be said while a row cannot be read.
            unreadable.into_iter().next().map_or(Ok(()), Err)?;
            if known.iter().any(|known| known.id == project.id) {
                return Err(StoreError::NameInUse(project.id.to_string()));
            }
            if known.iter().any(|known| known.name == project.name) {
                return Err(StoreError::NameInUse(project.name));
            }
            check_clock(tx, project.created)?;
            project.insert(tx)?;
            tx.invalidate(Invalidation::Rings);
            tx.record(&entry)
        })
    }
}
