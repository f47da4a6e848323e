//! The operator's commands as executed in a shell: their text and JSON output, and the next step in each error.
#![allow(missing_docs, reason = "tests")]

mod audit;
mod copies;
mod doctor;
mod import;
mod reports;
mod restore;

use serde_json::Value;

use kms_tests::program::Ran;

/// The JSON output of a command.
#[track_caller]
fn json(ran: Ran) -> Value {
    let output = ran.to_string();
    serde_json::from_str(&ran.ok()).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// The error of a command that fails: what is wrong, and the next step. It prints nothing to standard output.
#[track_caller]
fn refused(ran: Ran) -> (String, String) {
    let output = ran.to_string();
    assert_eq!(ran.status.code(), Some(1), "{output}");
    assert!(ran.output.is_empty(), "{output}");
    // Progress is shown only if standard error is a terminal, which it is not here.
    let lines: Vec<&str> = ran.errors.lines().collect();
    let [what, next] = lines[..] else { panic!("two lines: {output}") };
    let (what, next) = (what.strip_prefix("kms: "), next.strip_prefix("  next: "));
    let (Some(what), Some(next)) = (what, next) else { panic!("what and next: {output}") };
    assert!(next.len() > 10, "{output}");
    (what.to_owned(), next.to_owned())
}

/// Asserts that a command fails with this text in its first line and that in its second.
#[track_caller]
fn refuses(ran: Ran, what: &str, next: &str) {
    let output = refused(ran);
    assert!(output.0.contains(what), "{what:?} is not in {output:?}");
    assert!(output.1.contains(next), "{next:?} is not in {output:?}");
}
