//! The steps of the automaton, from the schema and the rows of the database that it attacks.

use std::fmt;
use std::path::Path;

use rusqlite::Connection;

/// One step: statements on the database, with an older state of it attached as `old`.
pub(super) struct Mutation {
    kind: Kind,
    what: String,
    sql: String,
    is_live: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Edit,
    Delete,
    Insert,
    Swap,
    PutBack,
    Schema,
    Header,
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.what)
    }
}

impl Mutation {
    /// Applies it; returns false, and leaves the file as it was, if SQLite refuses it or no row is changed.
    pub(super) fn apply(&self, path: &Path, old: &Path) -> bool {
        let database = Connection::open(path).expect("the database opens");
        database.pragma_update(None, "foreign_keys", false).expect("a setting");
        database.execute("ATTACH ?1 AS old", [old.to_str()]).expect("the older state opens");
        let before = database.total_changes();
        let done = database.execute_batch(&format!("BEGIN; {}; COMMIT", self.sql));
        let changes_rows = !matches!(self.kind, Kind::Schema | Kind::Header);
        done.is_ok() && (!changes_rows || database.total_changes() > before)
    }

    /// Whether the automaton on the file of a running daemon tries it: there, each step takes a daemon of its own.
    pub(super) fn is_for_a_running_daemon(&self) -> bool {
        self.is_live
    }
}

struct Column {
    name: String,
    kind: String,
    is_key: bool,
}

/// All steps for this database; `old` is an older state of it.
pub(super) fn mutations(whole: &Path, old: &Path) -> Vec<Mutation> {
    let database = Connection::open(whole).expect("the database opens");
    database.execute("ATTACH ?1 AS old", [old.to_str()]).expect("the older state opens");
    let mut all = Vec::new();
    let sql = "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name";
    let tables = strings(&database, sql);
    for table in &tables {
        let columns = columns(&database, table);
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let keys: Vec<&str> =
            columns.iter().filter(|column| column.is_key).map(|column| column.name.as_str()).collect();
        let keys = if keys.is_empty() { vec!["rowid"] } else { keys };
        let key = keys.join(", ");
        let mut add = |kind, what: String, sql: String| {
            let is_live = match kind {
                Kind::PutBack => true,
                Kind::Delete => what.ends_with(", all"),
                Kind::Edit => what.ends_with(".mac") || what.ends_with(".next"),
                Kind::Insert | Kind::Swap | Kind::Schema | Kind::Header => false,
            };
            all.push(Mutation { kind, what, sql, is_live });
        };
        for place in ["ASC", "DESC"] {
            let order = keys.iter().map(|key| format!("{key} {place}")).collect::<Vec<_>>().join(", ");
            let row = format!("({key}) IN (SELECT {key} FROM main.{table} ORDER BY {order} LIMIT 1)");
            for column in &columns {
                for (how, value) in values(column) {
                    let name = &column.name;
                    let sql = format!(
                        "UPDATE main.{table} SET {name} = {value} WHERE {row} AND {name} IS NOT {value}"
                    );
                    let how = match (how, place) {
                        ("", "ASC") => String::new(),
                        _ => format!("{how} {place} "),
                    };
                    let end = if how.is_empty() { "" } else { " " };
                    add(Kind::Edit, format!("{how}{table}.{name}{end}"), sql);
                }
            }
            add(Kind::Delete, format!("{table} {place}"), format!("DELETE FROM main.{table} WHERE {row}"));
            // A copy of the row under another key.
            let copied: Vec<String> = (columns.iter())
                .map(|column| match (column.is_key, column.kind.as_str()) {
                    (true, "INTEGER") => format!("{} + 1000", column.name),
                    (true, "TEXT") => format!("{} || 'x'", column.name),
                    (true, _) => format!("randomblob(length({}))", column.name),
                    (false, _)
                        if ["label", "email", "digest", "id", "name"].contains(&column.name.as_str()) =>
                    {
                        match column.kind.as_str() {
                            "TEXT" => format!("{} || 'x'", column.name),
                            _ => format!("randomblob(length({}))", column.name),
                        }
                    }
                    (false, _) => column.name.clone(),
                })
                .collect();
            let sql = format!(
                "INSERT INTO main.{table} ({}) SELECT {} FROM main.{table} WHERE {row}",
                names.join(", "),
                copied.join(", ")
            );
            add(Kind::Insert, format!("{table} {place}"), sql);
        }
        add(Kind::Delete, format!("{table}, all"), format!("DELETE FROM main.{table}"));
        add(Kind::Insert, format!("{table}, made up"), made_up(table, &columns));
        // Everything but the key of two rows changes places.
        let others: Vec<&str> = columns.iter().filter(|c| !c.is_key).map(|c| c.name.as_str()).collect();
        // Rows without a key of their own, the spans of usage, have no order: exchanged, they are the same rows.
        let has_key = columns.iter().any(|column| column.is_key);
        if !others.is_empty() && has_key {
            let others = others.join(", ");
            let end = |place: &str| {
                let order = keys.iter().map(|key| format!("{key} {place}")).collect::<Vec<_>>().join(", ");
                format!("SELECT {key} FROM main.{table} ORDER BY {order} LIMIT 1")
            };
            let (first, last) = (end("ASC"), end("DESC"));
            let sql = format!(
                "CREATE TEMP TABLE a AS SELECT {others} FROM main.{table} WHERE ({key}) IN ({first}); \
                 CREATE TEMP TABLE b AS SELECT {others} FROM main.{table} WHERE ({key}) IN ({last}); \
                 UPDATE main.{table} SET ({others}) = (SELECT * FROM b) WHERE ({key}) IN ({first}) AND ({first}) != ({last}); \
                 UPDATE main.{table} SET ({others}) = (SELECT * FROM a) WHERE ({key}) IN ({last}) AND ({first}) != ({last})"
            );
            add(Kind::Swap, table.clone(), sql);
        }
        let differs =
            format!("SELECT count(*) FROM (SELECT * FROM old.{table} EXCEPT SELECT * FROM main.{table})");
        if database.query_row(&differs, [], |row| row.get::<_, u64>(0)).is_ok_and(|count| count > 0) {
            let row = format!(
                "SELECT * FROM (SELECT * FROM old.{table} EXCEPT SELECT * FROM main.{table}) LIMIT 1"
            );
            add(Kind::PutBack, format!("{table}, a row"), format!("REPLACE INTO main.{table} {row}"));
            let sql = format!("DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM old.{table}");
            add(Kind::PutBack, format!("{table}, all"), sql);
        }
    }
    let audit = ["audit", "audit_head", "audit_restarts", "audit_set_aside"];
    let back = |tables: &[String]| -> String {
        let one = |t: &String| format!("DELETE FROM main.{t}; INSERT INTO main.{t} SELECT * FROM old.{t}");
        tables.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    let (log, rows): (Vec<String>, Vec<String>) =
        tables.into_iter().partition(|table| audit.contains(&table.as_str()));
    all.push(Mutation {
        kind: Kind::PutBack,
        what: "the whole log".to_owned(),
        sql: back(&log),
        is_live: true,
    });
    all.push(Mutation {
        kind: Kind::PutBack,
        what: "all but the log".to_owned(),
        sql: back(&rows),
        is_live: true,
    });
    all.push(Mutation {
        kind: Kind::Delete,
        what: "the whole log".to_owned(),
        sql: log.iter().rev().map(|table| format!("DELETE FROM main.{table}")).collect::<Vec<_>>().join("; "),
        is_live: true,
    });
    all.push(Mutation {
        kind: Kind::Delete,
        what: "the whole log and the home's mark".to_owned(),
        sql: log.iter().rev().map(|table| format!("DELETE FROM main.{table}; ")).collect::<String>()
            + "UPDATE main.home SET begun = NULL, mac = NULL",
        is_live: true,
    });
    all.extend(schema_objects().into_iter().map(|(what, sql)| Mutation {
        kind: Kind::Schema,
        what: what.to_owned(),
        sql: sql.to_owned(),
        is_live: true,
    }));
    for (what, sql) in [
        ("user_version 0", "PRAGMA main.user_version = 0"),
        ("user_version before", "PRAGMA main.user_version = 8"),
        ("user_version after", "PRAGMA main.user_version = 99"),
        ("application_id", "PRAGMA main.application_id = 7"),
    ] {
        all.push(Mutation { kind: Kind::Header, what: what.to_owned(), sql: sql.to_owned(), is_live: false });
    }
    all
}

/// Everything as it was, on the file of a running daemon: as a whole an older database, of which every row is right.
pub(super) fn everything_put_back(whole: &Path) -> Mutation {
    let database = Connection::open(whole).expect("the database opens");
    let tables = strings(&database, "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name");
    let one = |t: &String| format!("DELETE FROM main.{t}; INSERT INTO main.{t} SELECT * FROM old.{t}");
    let sql = tables.iter().map(one).collect::<Vec<_>>().join("; ");
    Mutation { kind: Kind::PutBack, what: "everything".to_owned(), sql, is_live: true }
}

/// Every kind of object that a schema can have, and each way to change one.
fn schema_objects() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "trigger that keeps",
            "CREATE TRIGGER main.a1 BEFORE DELETE ON grants BEGIN SELECT RAISE(IGNORE); END",
        ),
        (
            "trigger that mutes",
            "CREATE TRIGGER main.a2 BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END",
        ),
        ("trigger after", "CREATE TRIGGER main.a3 AFTER UPDATE ON principals BEGIN DELETE FROM tokens; END"),
        ("view", "CREATE VIEW main.v1 AS SELECT * FROM tokens"),
        (
            "view in place of a table",
            "ALTER TABLE main.grants RENAME TO grants_; CREATE VIEW main.grants AS SELECT * FROM grants_",
        ),
        (
            "trigger on a view",
            "CREATE VIEW main.v2 AS SELECT * FROM tokens; CREATE TRIGGER main.a4 INSTEAD OF DELETE ON v2 BEGIN SELECT 1; END",
        ),
        ("index", "CREATE INDEX main.i1 ON tokens (created)"),
        ("unique index", "CREATE UNIQUE INDEX main.i2 ON audit (at, sequence)"),
        ("index on an expression", "CREATE INDEX main.i3 ON objects (abs(created))"),
        ("partial index", "CREATE INDEX main.i4 ON grants (role) WHERE ring IS NULL"),
        ("missing index", "DROP INDEX main.grants_by_account"),
        (
            "index of the same name",
            "DROP INDEX main.grants_by_account; CREATE INDEX main.grants_by_account ON grants (role)",
        ),
        ("table", "CREATE TABLE main.more (a)"),
        ("missing table", "DROP TABLE main.repeats"),
        ("column", "ALTER TABLE main.rings ADD COLUMN more INTEGER"),
        ("column with a default", "ALTER TABLE main.tokens ADD COLUMN more INTEGER DEFAULT 1"),
        ("generated column", "ALTER TABLE main.rings ADD COLUMN more INTEGER AS (slot + 1) VIRTUAL"),
        ("renamed column", "ALTER TABLE main.accounts RENAME COLUMN disabled TO enabled"),
        ("missing column", "ALTER TABLE main.versions DROP COLUMN withheld"),
        ("virtual table", "CREATE VIRTUAL TABLE main.words USING fts5(word)"),
        ("virtual table of another module", "CREATE VIRTUAL TABLE main.boxes USING rtree(id, a, b)"),
        ("statistics", "ANALYZE main"),
        (
            "edited statement",
            "PRAGMA writable_schema = ON; UPDATE main.sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'tokens'",
        ),
        (
            "moved root",
            "PRAGMA writable_schema = ON; UPDATE main.sqlite_schema SET rootpage = (SELECT rootpage FROM main.sqlite_schema WHERE name = 'accounts') WHERE name = 'grants'",
        ),
        (
            "table that hides one",
            "PRAGMA writable_schema = ON; UPDATE main.sqlite_schema SET name = 'Tokens', tbl_name = 'Tokens' WHERE name = 'tokens'",
        ),
    ]
}

/// Values that differ from the column's, in expressions over it.
fn values(column: &Column) -> Vec<(&'static str, String)> {
    let name = &column.name;
    match column.kind.as_str() {
        "INTEGER" => vec![("", format!("coalesce({name} + 1, 1)")), ("null", "NULL".to_owned())],
        "TEXT" => vec![("", format!("coalesce({name} || 'x', 'x')")), ("null", "NULL".to_owned())],
        _ => vec![
            ("", format!("coalesce(CAST(substr({name}, 2) || substr({name}, 1, 1) AS BLOB), x'0102')")),
            ("zero", format!("zeroblob(max(16, length(coalesce({name}, x''))))")),
            ("null", "NULL".to_owned()),
        ],
    }
}

/// A row of values that fit the columns' types, and no more.
fn made_up(table: &str, columns: &[Column]) -> String {
    let values: Vec<&str> = (columns.iter())
        .map(|column| match (column.name.as_str(), column.kind.as_str()) {
            ("restart" | "number", _) => "77",
            (_, "INTEGER") => "4242",
            (_, "TEXT") => "'made up'",
            ("digest" | "print", _) => "randomblob(32)",
            (_, _) => "randomblob(16)",
        })
        .collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    format!("INSERT INTO main.{table} ({}) VALUES ({})", names.join(", "), values.join(", "))
}

fn strings(database: &Connection, sql: &str) -> Vec<String> {
    let mut statement = database.prepare(sql).expect("a query");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("names")
}

fn columns(database: &Connection, table: &str) -> Vec<Column> {
    let sql = format!("SELECT name, type, pk > 0 FROM pragma_table_info('{table}', 'main')");
    let mut statement = database.prepare(&sql).expect("a query");
    let read =
        |row: &rusqlite::Row<'_>| Ok(Column { name: row.get(0)?, kind: row.get(1)?, is_key: row.get(2)? });
    let rows = statement.query_map([], read).expect("columns");
    rows.collect::<Result<_, _>>().expect("columns")
}
