//! All changes of rows. Each knows how many rows it must change, and fails when the database changed another number;
//! each keeps the state digest in step (`state`). No other module of the store runs a statement that changes a row:
//! a test of `tests/tidy` finds it.

use kms_core::integrity::Cell;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Statement, ToSql, params_from_iter};

use super::StoreError;
use super::state;
use super::writer::WriteTx;

/// Columns with their values.
pub(super) type Columns<'a> = [(&'static str, Cell<'a>)];

/// A value as a parameter of a statement.
struct Parameter<'a>(Cell<'a>);

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Cell::Null => ValueRef::Null,
            Cell::Integer(number) => ValueRef::Integer(number),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// The value of a column, as it is stored.
pub(super) fn cell(value: ValueRef<'_>) -> Cell<'_> {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes),
        // Text that is not UTF-8 was not written by this program, and must not equal what was.
        ValueRef::Text(text) => std::str::from_utf8(text).map_or(Cell::Bytes(text), Cell::Text),
        // No table has a column for such numbers.
        ValueRef::Real(_) => Cell::Bytes(b"real"),
    }
}

/// All columns of a row of `SELECT *`.
pub(super) fn cells<'a>(row: &'a Row<'_>) -> Result<Vec<(&'a str, Cell<'a>)>, StoreError> {
    let statement: &Statement<'_> = row.as_ref();
    let named = |index| Ok((statement.column_name(index)?, cell(row.get_ref(index)?)));
    (0..statement.column_count()).map(named).collect()
}

/// `a = ?1 AND b IS NULL`, with the next free parameter's number.
fn condition(key: &Columns<'_>, first: usize) -> String {
    let mut number = first;
    let parts: Vec<String> = (key.iter())
        .map(|(name, value)| match value {
            Cell::Null => format!("{name} IS NULL"),
            Cell::Integer(_) | Cell::Text(_) | Cell::Bytes(_) => {
                number += 1;
                format!("{name} = ?{}", number - 1)
            }
        })
        .collect();
    parts.join(" AND ")
}

fn parameters<'a>(columns: &'a Columns<'a>) -> impl Iterator<Item = Parameter<'a>> {
    columns.iter().filter(|(_, value)| *value != Cell::Null).map(|(_, value)| Parameter(*value))
}

fn check(table: &'static str, changed: usize, expected: usize) -> Result<(), StoreError> {
    if changed == expected { Ok(()) } else { Err(StoreError::RowCount { table, changed, expected }) }
}

/// Runs a statement that must change exactly `expected` rows, outside of the writer's transactions: while a database is
/// created or migrated.
pub(super) fn change_exactly(
    connection: &Connection,
    table: &'static str,
    expected: usize,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<(), StoreError> {
    check(table, connection.prepare_cached(sql)?.execute(values)?, expected)
}

impl WriteTx<'_> {
    /// Inserts a row. One that exists already is an error, never replaced.
    pub(super) fn insert(&self, table: &'static str, columns: &Columns<'_>) -> Result<(), StoreError> {
        let names: Vec<&str> =
            columns.iter().filter(|(_, value)| *value != Cell::Null).map(|(name, _)| *name).collect();
        let places: Vec<String> = (1..=names.len()).map(|number| format!("?{number}")).collect();
        let sql = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), places.join(", "));
        change_exactly(self.connection, table, 1, &sql, params_from_iter(parameters(columns)))?;
        self.digest_added(table, &mut columns.to_vec());
        Ok(())
    }

    /// Sets columns of the one row that has this key.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such row.
    pub(super) fn update(
        &self,
        table: &'static str,
        key: &Columns<'_>,
        set: &Columns<'_>,
    ) -> Result<(), StoreError> {
        if self.update_if_there(table, key, set)? { Ok(()) } else { Err(StoreError::NotFound) }
    }

    /// Sets columns of the row that has this key, or inserts a row of both.
    pub(super) fn put(
        &self,
        table: &'static str,
        key: &Columns<'_>,
        set: &Columns<'_>,
    ) -> Result<(), StoreError> {
        if self.update_if_there(table, key, set)? {
            return Ok(());
        }
        self.insert(table, &[key, set].concat())
    }

    /// Sets columns of the row that has this key; returns false if there is none.
    pub(super) fn update_if_there(
        &self,
        table: &'static str,
        key: &Columns<'_>,
        set: &Columns<'_>,
    ) -> Result<bool, StoreError> {
        let sql = format!("SELECT * FROM {table} WHERE {}", condition(key, 1));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(parameters(key)))?;
        let Some(row) = rows.next()? else { return Ok(false) };
        let mut columns = cells(row)?;
        self.digest_removed(table, &mut columns);
        for (name, value) in set {
            let column = columns.iter_mut().find(|(known, _)| known == name);
            column.ok_or(StoreError::NotFound)?.1 = *value;
        }
        self.digest_added(table, &mut columns);
        drop(rows);
        let values: Vec<String> = set
            .iter()
            .zip(1..)
            .map(|((name, _), number): (_, usize)| format!("{name} = ?{number}"))
            .collect();
        let sql = format!("UPDATE {table} SET {} WHERE {}", values.join(", "), condition(key, set.len() + 1));
        let all = set.iter().map(|(_, value)| Parameter(*value)).chain(parameters(key));
        change_exactly(self.connection, table, 1, &sql, params_from_iter(all))?;
        Ok(true)
    }

    /// Deletes the rows with this key, however many there are; returns their number.
    pub(super) fn delete(&self, table: &'static str, key: &Columns<'_>) -> Result<usize, StoreError> {
        self.delete_where(table, &condition(key, 1), params_from_iter(parameters(key)))
    }

    /// Deletes the one row with this key.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    pub(super) fn delete_one(&self, table: &'static str, key: &Columns<'_>) -> Result<(), StoreError> {
        match self.delete(table, key)? {
            0 => Err(StoreError::NotFound),
            deleted => check(table, deleted, 1),
        }
    }

    /// Deletes the rows that meet a condition; returns their number.
    pub(super) fn delete_where(
        &self,
        table: &'static str,
        condition: &str,
        values: impl rusqlite::Params,
    ) -> Result<usize, StoreError> {
        let sql = format!("DELETE FROM {table} WHERE {condition} RETURNING *");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let (mut rows, mut deleted) = (statement.query(values)?, 0);
        while let Some(row) = rows.next()? {
            self.digest_removed(table, &mut cells(row)?);
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Runs a statement on one of the tables of the audit log, which have their own chain, so that the state digest does
    /// not count their rows. It must change exactly `expected` rows.
    pub(super) fn change_log(
        &self,
        table: &'static str,
        expected: usize,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<(), StoreError> {
        debug_assert!(state::number(table).is_none(), "{table} is counted");
        change_exactly(self.connection, table, expected, sql, values)
    }

    fn digest_added(&self, table: &str, columns: &mut [(&str, Cell<'_>)]) {
        if let Some(number) = state::number(table) {
            self.change.borrow_mut().add(number, &self.state_key.row(table, columns));
        }
    }

    fn digest_removed(&self, table: &str, columns: &mut [(&str, Cell<'_>)]) {
        if let Some(number) = state::number(table) {
            self.change.borrow_mut().remove(number, &self.state_key.row(table, columns));
        }
    }
}
