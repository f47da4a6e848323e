//! The schema is pinned: the database has the tables and indices that the migrations make, and nothing else
//! (docs/decisions/0046). Whoever adds a trigger, a view or an index to the file adds a program that runs in ours.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rusqlite::Connection;

use super::StoreError;
use super::open::MIGRATIONS;

/// The objects of a schema: kind and name, with the table and the statement that made them.
type Objects = BTreeMap<(String, String), (String, Option<String>)>;

/// Compares the schema with the one that the migrations make.
///
/// # Errors
/// [`StoreError::ForeignSchema`], which names the first object that differs.
pub(super) fn check(connection: &Connection) -> Result<(), StoreError> {
    static EXPECTED: OnceLock<Objects> = OnceLock::new();
    let expected = match EXPECTED.get() {
        Some(expected) => expected,
        None => {
            let made = made_by_migrations()?;
            EXPECTED.get_or_init(|| made)
        }
    };
    let found = objects(connection, "main.sqlite_schema")?;
    for (object, definition) in &found {
        match expected.get(object) {
            None => return Err(foreign(object, "was added from outside")),
            Some(known) if known != definition => return Err(foreign(object, "was changed from outside")),
            Some(_) => {}
        }
    }
    if let Some((object, _)) = expected.iter().find(|(object, _)| !found.contains_key(object)) {
        return Err(foreign(object, "was removed from outside"));
    }
    // An object of the connection's own would be found before one of the file with the same name.
    match objects(connection, "temp.sqlite_schema")?.keys().next() {
        Some(object) => Err(foreign(object, "hides one of the database")),
        None => Ok(()),
    }
}

fn foreign((kind, name): &(String, String), what: &'static str) -> StoreError {
    StoreError::ForeignSchema { object: format!("{kind} {name}"), what }
}

fn made_by_migrations() -> Result<Objects, StoreError> {
    let empty = Connection::open_in_memory()?;
    for migration in MIGRATIONS {
        empty.execute_batch(migration)?;
    }
    objects(&empty, "main.sqlite_schema")
}

fn objects(connection: &Connection, of: &str) -> Result<Objects, StoreError> {
    let mut statement = connection.prepare(&format!("SELECT type, name, tbl_name, sql FROM {of}"))?;
    let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Fixture;

    #[test]
    fn every_foreign_object_is_found_and_named() {
        let attacks = [
            ("CREATE TRIGGER a1 BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END", "trigger a1"),
            ("CREATE TRIGGER g1 AFTER DELETE ON grants BEGIN SELECT 1; END", "trigger g1"),
            ("CREATE VIEW v1 AS SELECT * FROM tokens", "view v1"),
            ("CREATE INDEX i1 ON tokens (abs(created))", "index i1"),
            ("CREATE INDEX i2 ON tokens (created) WHERE expires IS NULL", "index i2"),
            ("CREATE TABLE more (a)", "table more"),
            ("ALTER TABLE rings ADD COLUMN more INTEGER", "table rings"),
            ("ALTER TABLE rings ADD COLUMN more INTEGER AS (slot + 1) VIRTUAL", "table rings"),
            ("CREATE VIRTUAL TABLE words USING fts5(word)", "table words"),
            ("CREATE VIRTUAL TABLE boxes USING rtree(id, a, b)", "table boxes"),
            ("DROP INDEX grants_by_account", "index grants_by_account"),
            ("DROP TABLE repeats", "repeats"),
            ("ANALYZE", "table sqlite_stat1"),
            ("ALTER TABLE tokens RENAME TO token", "to"),
        ];
        for (sql, named) in attacks {
            let (fixture, store) = Fixture::new();
            store.record(crate::tests::entry(1)).unwrap();
            drop(store);
            let edit = Connection::open(fixture.path()).unwrap();
            edit.execute_batch(sql).unwrap();
            drop(edit);
            let error = crate::Store::open_existing(&fixture.path()).err().expect(sql);
            let text = error.to_string();
            assert!(matches!(error, StoreError::ForeignSchema { .. }), "{sql}: {text}");
            assert!(text.contains(named), "{sql}: {text}");
        }
    }

    #[test]
    fn an_object_of_the_connection_that_hides_one_of_the_database_is_found() {
        let (fixture, _store) = Fixture::new();
        let connection = Connection::open(fixture.path()).unwrap();
        check(&connection).unwrap();
        connection.execute_batch("CREATE TEMP TABLE tokens (id)").unwrap();
        assert!(check(&connection).unwrap_err().to_string().contains("table tokens hides"));
    }
}
