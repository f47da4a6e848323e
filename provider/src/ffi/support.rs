//! `provider/SUPPORT.md`, written from the function table and the mechanism table, and kept up to date by this test.

use std::ffi::c_void;
use std::fmt::Write;

use cryptoki_sys::{CK_FUNCTION_LIST_3_2, CKR_CRYPTOKI_NOT_INITIALIZED};
use expect_test::expect_file;
use kms_protocol::RingPolicy;
use kms_protocol::mechanism_table::{TABLE, Uses};

use super::table::{C_Sign, SUPPORT};

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
            [RingPolicy::Strict, RingPolicy::Compat].map(|policy| words(row.uses_in(policy)));
        writeln!(page, "| `{}` | {strict} | {compat} |", row.kind).unwrap();
    }
    expect_file!["../../SUPPORT.md"].assert_eq(&page);
}

#[test]
fn every_function_of_every_list_is_there() {
    let counts: Vec<usize> = SUPPORT.iter().map(|part| part.len()).collect();
    assert_eq!(counts, [68, 24, 12]);
    assert_eq!(size_of::<CK_FUNCTION_LIST_3_2>(), (104 + 1) * size_of::<*const c_void>());
}

#[test]
fn what_is_refused_says_why() {
    let refused = SUPPORT.iter().flat_map(|part| part.iter()).filter(|row| row.2 == "no");
    let unexplained: Vec<&str> = refused.filter(|row| row.3.is_empty()).map(|row| row.0).collect();
    assert_eq!(unexplained, [""; 0]);
}

#[test]
fn without_initialize_calls_say_so_and_touch_nothing() {
    let mut length = 5;
    // SAFETY: null pointers, which are legal to pass, and one length.
    let returned = unsafe { C_Sign(1, std::ptr::null_mut(), 9, std::ptr::null_mut(), &raw mut length) };
    assert_eq!((returned, length), (CKR_CRYPTOKI_NOT_INITIALIZED, 5));
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
        (Uses::WRAP, "wrap"),
        (Uses::UNWRAP, "unwrap"),
        (Uses::DERIVE, "derive"),
        (Uses::ENCAPSULATE, "encapsulate"),
        (Uses::DECAPSULATE, "decapsulate"),
        (Uses::MESSAGE, "messages"),
    ];
    let words: Vec<&str> = words.iter().filter(|(flag, _)| uses.has(*flag)).map(|(_, word)| *word).collect();
    if words.is_empty() { "no".to_owned() } else { words.join(", ") }
}
