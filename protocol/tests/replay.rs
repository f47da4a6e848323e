//! Decodes the fuzzer's corpus in every test run, so that a fixed error does not return.

mod fuzz_support;

use std::path::Path;

#[test]
fn the_corpus_of_frames_gives_values_or_errors() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frames");
    let mut files = 0;
    for entry in std::fs::read_dir(&corpus).expect("the corpus is committed") {
        let bytes = std::fs::read(entry.expect("a file of the corpus").path()).expect("a readable file");
        fuzz_support::decode_messages(&bytes);
        files += 1;
    }
    assert!(files > 50, "the corpus has {files} files");
}
