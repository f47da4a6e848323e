//! "Message digesting functions" and "Random number generation functions", which the provider performs itself.

use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use kms_tests::client::{Client, refused};
use kms_tests::{Stack, openssl};

#[test]
fn digests_match_openssl() {
    let stack = Stack::strict();
    let client = Client::public(&stack);
    let mechanisms = [
        ("sha1", Mechanism::Sha1),
        ("sha224", Mechanism::Sha224),
        ("sha256", Mechanism::Sha256),
        ("sha384", Mechanism::Sha384),
        ("sha512", Mechanism::Sha512),
    ];
    for (name, mechanism) in &mechanisms {
        for length in [0, 1, 63, 64, 65, 3_000_000] {
            let data = vec![0x61; length];
            let expected = openssl::digest(name, &data);
            if length > 0 {
                assert_eq!(
                    client.session.digest(mechanism, &data).expect("a digest"),
                    expected,
                    "{name}, {length}"
                );
            }
            client.session.digest_init(mechanism).expect("C_DigestInit succeeds");
            for part in data.chunks(999_999) {
                client.session.digest_update(part).expect("the part is accepted");
            }
            assert_eq!(
                client.session.digest_final().expect("a digest"),
                expected,
                "{name}, {length} in parts"
            );
        }
    }
    refused(client.session.digest_init(&Mechanism::AesEcb), RvError::MechanismInvalid);
    refused(client.session.digest_update(b"x"), RvError::OperationNotInitialized);
}

#[test]
fn random_bytes_are_evenly_distributed() {
    let stack = Stack::strict();
    let client = Client::public(&stack);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        assert!(seen.insert(client.session.generate_random_vec(16).expect("random bytes")));
    }
    let megabyte = client.session.generate_random_vec(1 << 20).expect("random bytes");
    let mut counts = [0_u32; 256];
    megabyte.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    // The expected count is 4096, with a standard deviation of 64.
    assert!(counts.iter().all(|count| (3500..4700).contains(count)), "{counts:?}");
}

#[test]
fn digest_and_random_need_no_backend() {
    let mut stack = Stack::strict();
    let client = Client::public(&stack);
    stack.kill9();
    client.session.digest(&Mechanism::Sha256, b"abc").expect("a digest");
    client.session.generate_random_vec(32).expect("random bytes");
}
