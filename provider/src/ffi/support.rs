//! `provider/SUPPORT.md`, written from the function table and the mechanism table, and kept up to date by this test.

use std::fmt::Write;

use expect_test::expect_file;
use kms_protocol::RingPolicy;
use kms_protocol::mechanism_table::{TABLE, Uses};

use super::table::SUPPORT;
use crate::session::usage;

/// The page says what the tables say. `UPDATE_EXPECT=1 cargo test -p kms-provider` writes it anew.
#[test]
fn the_support_page_is_up_to_date() {
    let mut page = String::from(
        "# What the module supports\n\nWritten by a test from the function table and the mechanism table; do not \
         edit.\n\n## Functions\n\n| function | since | built | note |\n|---|---|---|---|\n",
    );
    for (name, since, built, note) in SUPPORT.iter().flat_map(|part| part.iter()) {
        writeln!(page, "| `{name}` | {since} | {built} | {note} |").unwrap();
    }
    page.push_str("\n## Mechanisms\n\n| mechanism | strict ring | compat ring |\n|---|---|---|\n");
    for row in TABLE {
        let [strict, compat] =
            [RingPolicy::Strict, RingPolicy::Compat].map(|policy| words(usage::uses(row, policy)));
        writeln!(page, "| `{}` | {strict} | {compat} |", row.kind).unwrap();
    }
    expect_file!["../../SUPPORT.md"].assert_eq(&page);
}

fn words(uses: Uses) -> String {
    let words = [
        (Uses::GENERATE, "generate"),
        (Uses::GENERATE_PAIR, "generate pair"),
        (Uses::ENCRYPT, "encrypt"),
        (Uses::DECRYPT, "decrypt"),
        (Uses::SIGN, "sign"),
        (Uses::VERIFY, "verify"),
        (Uses::DIGEST, "digest"),
    ];
    let words: Vec<&str> = words.iter().filter(|(flag, _)| uses.has(*flag)).map(|(_, word)| *word).collect();
    if words.is_empty() { "no".to_owned() } else { words.join(", ") }
}
