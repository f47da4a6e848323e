//! Every named code has the value of the C header's constant of that name.

use std::collections::HashMap;

use cargo_metadata::MetadataCommand;
use kms_protocol::{AttributeType, Kdf, KeyType, MechanismType, Mgf, ObjectClass, Rv};

/// `CKA_VENDOR_DEFINED` and the other codes from which vendor-defined ones start.
const VENDOR_DEFINED: u32 = 0x8000_0000;

/// The constants of `cryptoki-sys`, read from its generated bindings, so that none is missing.
fn header() -> HashMap<String, u64> {
    let metadata = MetadataCommand::new().exec().expect("cargo metadata");
    let package = metadata.packages.iter().find(|package| package.name.as_str() == "cryptoki-sys");
    let root =
        package.expect("cryptoki-sys is a dependency").manifest_path.parent().expect("a folder").to_owned();
    let text =
        std::fs::read_to_string(root.join("src/bindings/x86_64-unknown-linux-gnu.rs")).expect("the bindings");
    let constant = |line: &str| {
        let (name, rest) = line.strip_prefix("pub const ")?.split_once(": ")?;
        let value = rest.split_once("= ")?.1.trim_end_matches(';').parse().ok()?;
        Some((name.to_owned(), value))
    };
    text.lines().filter_map(constant).collect()
}

#[test]
fn every_named_code_has_the_headers_value() {
    let header = header();
    assert!(header.len() > 800, "the bindings have {} constants", header.len());
    let families = [
        AttributeType::NAMED.iter().map(|(code, name)| (code.0, *name)).collect::<Vec<_>>(),
        Kdf::NAMED.iter().map(|(code, name)| (code.0, *name)).collect(),
        KeyType::NAMED.iter().map(|(code, name)| (code.0, *name)).collect(),
        MechanismType::NAMED.iter().map(|(code, name)| (code.0, *name)).collect(),
        Mgf::NAMED.iter().map(|(code, name)| (code.0, *name)).collect(),
        ObjectClass::NAMED.iter().map(|(code, name)| (code.0, *name)).collect(),
        Rv::NAMED.iter().map(|(code, name)| (code.0, *name)).collect(),
    ];
    for (code, name) in families.concat() {
        // Our own codes are in the range for vendors, and the header has none of them.
        let expected = (code & VENDOR_DEFINED == 0).then(|| u64::from(code));
        assert_eq!(header.get(name).copied(), expected, "{name}");
    }
}

#[test]
fn every_return_code_of_the_header_has_a_name() {
    for (name, value) in header() {
        let ours = u32::try_from(value).map(|value| Rv(value).name());
        let defined_range = name.starts_with("CKR_") && value < 0x8000_0000 && value != 0;
        assert!(
            !defined_range || ours == Ok(Some(name.as_str())),
            "{name} = {value:#x} has no name in rv.rs"
        );
    }
}
