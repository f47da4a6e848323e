//! The operator's commands as they are typed in a shell: what they print, what scripts read of them, and what they say to
//! do next where something is wrong.
#![allow(missing_docs, reason = "tests")]

mod copies;
mod import;
mod reports;

use serde_json::Value;

use kms_tests::program::Ran;

/// What a command printed for scripts.
#[track_caller]
fn json(ran: Ran) -> Value {
    let said = ran.to_string();
    serde_json::from_str(&ran.ok()).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// What a command says that does not do what was asked: what is wrong, and the next step. It prints nothing that a
/// script could take for a result.
#[track_caller]
fn refused(ran: Ran) -> (String, String) {
    let said = ran.to_string();
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(ran.output.is_empty(), "{said}");
    // Progress stands on lines of its own, where standard error is a terminal; here it is none.
    let lines: Vec<&str> = ran.errors.lines().collect();
    let [what, next] = lines[..] else { panic!("two lines: {said}") };
    let (what, next) = (what.strip_prefix("kms: "), next.strip_prefix("  next: "));
    let (Some(what), Some(next)) = (what, next) else { panic!("what and next: {said}") };
    assert!(next.len() > 10, "{said}");
    (what.to_owned(), next.to_owned())
}

/// That a command refuses, its first line having this and its second that.
#[track_caller]
fn refuses(ran: Ran, what: &str, next: &str) {
    let said = refused(ran);
    assert!(said.0.contains(what), "{what:?} is not in {said:?}");
    assert!(said.1.contains(next), "{next:?} is not in {said:?}");
}
