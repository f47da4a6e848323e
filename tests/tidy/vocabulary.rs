//! The field's words (docs/vocabulary.md): metaphors that were renamed do not come back.

use std::fs;

use crate::sources::{none, relative, tree};

/// The words, each with a hyphen in it, so that this file does not contain them.
const WORDS: [&str; 9] =
    ["do-or", "do-ors", "ro-om", "ro-oms", "to-ld", "fa-te", "bir-th", "bir-ths", "twis-ted"];

#[test]
fn renamed_metaphors_do_not_come_back() {
    let words = WORDS.map(|word| word.replace('-', ""));
    let mut findings = Vec::new();
    for path in tree() {
        let name = relative(&path);
        // The licence and the lock file are not our prose; binary files are no text.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if ["LICENSE", "Cargo.lock"].contains(&name.as_str()) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let of_line = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let found = of_line.filter(|word| words.iter().any(|banned| word.eq_ignore_ascii_case(banned)));
            findings.extend(found.map(|word| format!("{name}:{}: `{word}`", number + 1)));
        }
    }
    none(findings);
}
