//! The tables of the README's code map.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kms_tests::artefacts::workspace;

/// The README.
pub(crate) fn text() -> String {
    fs::read_to_string(workspace().join("README.md")).expect("there is a README")
}

/// The table below a heading: what the first column names, and the names in the last column (`uses`).
pub(crate) fn table(heading: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = text();
    let (_, after) =
        text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("README has no {heading:?}"));
    let section = after.split("\n#").next().unwrap_or(after);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let table: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
            let name = quoted(cells.first().copied().unwrap_or_default()).into_iter().next();
            (name.expect("a row begins with a name"), quoted(cells.last().copied().unwrap_or_default()))
        })
        .collect();
    assert!(table.len() > 3, "the README's table {heading:?} is empty or has another form");
    table
}

/// The words between backquotes.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
