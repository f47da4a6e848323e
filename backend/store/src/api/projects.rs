//! Projects: the API's tenants.

use kms_core::audit::Entry;
use kms_core::integrity::{Cell, RowKey};
use rusqlite::{Connection, Row, params};
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

    fn insert(&self, tx: &WriteTx<'_>) -> Result<(), StoreError> {
        let mac = tx.key.mac(Self::TABLE, &self.columns());
        let sql = "INSERT INTO projects (id, name, created, mac) VALUES (?1, ?2, ?3, ?4)";
        let values = params![self.id.as_bytes(), self.name, signed(self.created), mac];
        tx.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

/// Returns all projects, the oldest first.
pub(crate) fn projects(connection: &Connection, key: &RowKey) -> Result<Vec<Project>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM projects ORDER BY created, id");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut projects = Vec::new();
    while let Some(row) = rows.next()? {
        projects.push(Project::read(row, key)?);
    }
    Ok(projects)
}

impl Store {
    /// Returns all projects, the oldest first: rings without a project belong to the first one.
    ///
    /// # Errors
    /// When the database fails, or a project's row was changed.
    pub fn projects(&self) -> Result<Vec<Project>, StoreError> {
        Ok(self.all_rings()?.projects().to_vec())
    }

    /// Returns the index of the project with this id, counted from 0 for the oldest.
    ///
    /// # Errors
    /// When the database fails, or a project's row was changed.
    pub fn project_place(&self, id: Uuid) -> Result<Option<usize>, StoreError> {
        Ok(self.all_rings()?.projects().iter().position(|project| project.id == id))
    }

    /// Adds a project.
    ///
    /// # Errors
    /// [`StoreError::NameInUse`] when its id exists already.
    pub fn insert_project(&self, project: &Project, entry: Entry) -> Result<(), StoreError> {
        let project = project.clone();
        self.writer.write(move |tx| {
            if projects(tx.connection, tx.key)?.iter().any(|known| known.id == project.id) {
                return Err(StoreError::NameInUse(project.id.to_string()));
            }
            project.insert(tx)?;
            tx.invalidate(Invalidation::Rings);
            tx.record(&entry)
        })
    }
}
