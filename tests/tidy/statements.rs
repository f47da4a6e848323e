//! Statements of the store: each that changes rows says how many, in one place (docs/decisions/0046).

use super::sources::{none, sources};

/// The file with the helpers through which all rows are changed.
const HELPERS: &str = "backend/store/src/write.rs";

/// What changes rows without them, and where that is right: the migrations, and the statements of transactions.
const ALLOWED: [(&str, &str); 4] = [
    ("backend/store/src/open.rs", ".execute_batch(migration)"),
    ("backend/store/src/schema.rs", ".execute_batch(migration)"),
    ("backend/store/src/snapshot.rs", ".execute_batch(\"BEGIN; SELECT"),
    ("backend/store/src/writer.rs", ".raw_execute()"),
];

#[test]
fn rows_are_changed_by_the_helpers_that_count_them() {
    let mut findings = Vec::new();
    for source in sources() {
        let is_store = source.path.starts_with("backend/store/src/") && source.path != HELPERS;
        if !is_store || source.is_test() {
            continue;
        }
        for (index, line) in
            source.code().lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            let changes =
                [".execute(", ".execute_batch(", "RETURNING", "ON CONFLICT", "INSERT OR", "REPLACE INTO"];
            let is_allowed =
                ALLOWED.iter().any(|(path, allowed)| source.path == *path && line.contains(allowed));
            if changes.iter().any(|word| line.contains(word)) && !is_allowed {
                let (path, line) = (&source.path, line.trim());
                findings.push(format!(
                    "{path}:{}: `{line}` changes rows and nobody counts them: see write.rs",
                    index + 1
                ));
            }
        }
    }
    none(findings);
}
