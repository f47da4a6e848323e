//! Where `unsafe` may stand, and that it says why.

use crate::sources::{none, sources};

#[test]
fn unsafe_has_one_address() {
    // Tests may: those that speak raw C to the module, and an allocator that counts.
    let tests =
        ["tests/src/raw/", "tests/abi/", "tests/src/client.rs", "tests/tidy/", "protocol/tests/decoding.rs"];
    let places = [["provider/src/ffi/"].as_slice(), &tests].concat();
    let mut findings = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            let used = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|form| line.contains(form));
            if used && !places.iter().any(|place| source.path.starts_with(place)) {
                findings.push(format!("{}:{number}: unsafe", source.path));
            }
        }
    }
    none(findings);
}

#[test]
fn every_unsafe_block_says_why() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.path.starts_with("tests/tidy/")) {
        let lines: Vec<_> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let comment = line.trim_start().starts_with("//");
            if comment || !line.contains("unsafe {") {
                continue;
            }
            // The reason stands on the line itself or among the comments and the statement's first lines above it.
            let above = lines[index.saturating_sub(8)..index].iter().rev();
            let reasoned = line.contains("SAFETY") || above.take(8).any(|line| line.contains("// SAFETY:"));
            if !reasoned {
                findings.push(format!("{}:{}: an unsafe block without `// SAFETY:`", source.path, index + 1));
            }
        }
    }
    none(findings);
}
