//! The encoding as it was released: each message has a committed file with its frame in hexadecimal digits. A change of
//! any of them is a change of the protocol, and needs a new version in the hello or a new variant at the end.
//!
//! `UPDATE_EXPECT=1 cargo test -p kms-protocol --test golden` rewrites them.

mod samples;

use std::collections::HashMap;

use expect_test::expect_file;
use kms_protocol::{Hello, RequestEnvelope, ResponseEnvelope, Welcome, frame};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let mut bytes = Zeroizing::new(Vec::new());
    frame::encode(value, &mut bytes).expect("the sample fits in a frame");
    let rows: Vec<String> =
        bytes.chunks(32).map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    expect_file![format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"))]
        .assert_eq(&(rows.join("\n") + "\n"));
    let header = bytes[..frame::HEADER_BYTES].try_into().expect("a header is four bytes");
    assert_eq!(frame::length(header), Ok(bytes.len() - frame::HEADER_BYTES));
    assert_eq!(frame::decode::<T>(&bytes[frame::HEADER_BYTES..]).as_ref(), Ok(value));
}

#[test]
fn every_message_is_encoded_as_released() {
    check("hello", &Hello::ours());
    check("welcome-version", &Welcome::Version(frame::VERSION));
    check("welcome-unsupported", &Welcome::Unsupported { oldest: 1, newest: 2 });
    check("welcome-busy", &Welcome::Busy);
    let mut seen = HashMap::new();
    for request in samples::requests() {
        let count = seen.entry(request.name()).and_modify(|count| *count += 1).or_insert(1);
        let name =
            if *count == 1 { request.name().to_owned() } else { format!("{}-{count}", request.name()) };
        check::<RequestEnvelope>(&format!("ask-{name}"), &samples::envelope(request));
    }
    for (name, response) in samples::responses() {
        check::<ResponseEnvelope>(&format!("answer-{name}"), &response);
    }
}
