//! The attributes that follow from a key's material, for its own object and for its public key's object.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair, RsaKeyPair};
use kms_core::object::{Curve, KeyBytes, MlDsaSet, MlKemSet};
use kms_protocol::mechanism_table::{GENERIC_BYTES, is_hmac_key};
use kms_protocol::{Attribute, AttributeType, KeyType, ObjectClass, Rv};
use sha1::{Digest, Sha1};

use super::chacha::KEY_BYTES as CHACHA_BYTES;
use super::mldsa::{self, DsaKey};
use super::mlkem::{self, KemKey};
use super::{aes, der, ec, edwards_montgomery};

/// The attributes of both keys of a pair.
pub(super) struct PairAttributes {
    /// The attributes of the private key's object.
    pub(super) private: Vec<Attribute>,
    /// The attributes of the public key's object.
    pub(super) public: Vec<Attribute>,
}

/// The attributes that follow from unwrapped or derived material.
///
/// # Errors
/// `CKR_KEY_SIZE_RANGE` when no key of the type has this length, `CKR_TEMPLATE_INCONSISTENT` when such keys are not
/// supported, or the material is that of another type.
pub fn public_attributes(
    class: ObjectClass,
    kind: KeyType,
    material: &KeyBytes,
) -> Result<Vec<Attribute>, Rv> {
    match class {
        ObjectClass::SECRET_KEY => of_secret(kind, material),
        ObjectClass::PRIVATE_KEY => {
            of_pair(kind, material).map(|pair| pair.private).ok_or(Rv::TEMPLATE_INCONSISTENT)
        }
        _ => Err(Rv::TEMPLATE_INCONSISTENT),
    }
}

/// The attributes of a private key's public key. None if the material is not that of a key of this type.
pub fn public_key_attributes(kind: KeyType, material: &KeyBytes) -> Option<Vec<Attribute>> {
    of_pair(kind, material).map(|pair| pair.public)
}

/// Whether secret keys of this type are bytes of any length.
pub(super) fn is_any_secret(kind: KeyType) -> bool {
    kind == KeyType::GENERIC_SECRET || kind == KeyType::HKDF || is_hmac_key(kind)
}

/// The attributes that follow from a secret key's value.
pub(super) fn of_secret(kind: KeyType, material: &KeyBytes) -> Result<Vec<Attribute>, Rv> {
    let length = material.as_ref().len();
    let check = match kind {
        KeyType::AES => aes::check_value(material).ok_or(Rv::KEY_SIZE_RANGE)?.to_vec(),
        KeyType::CHACHA20 if length == CHACHA_BYTES => sha1_check_value(material),
        KeyType::CHACHA20 => return Err(Rv::KEY_SIZE_RANGE),
        _ if is_any_secret(kind) => {
            let fits = u32::try_from(length)
                .is_ok_and(|length| (GENERIC_BYTES.0..=GENERIC_BYTES.1).contains(&length));
            if !fits {
                return Err(Rv::KEY_SIZE_RANGE);
            }
            sha1_check_value(material)
        }
        _ => return Err(Rv::TEMPLATE_INCONSISTENT),
    };
    let length = u64::try_from(length).map_err(|_| Rv::KEY_SIZE_RANGE)?;
    Ok(vec![
        Attribute::ulong(AttributeType::VALUE_LEN, length),
        Attribute::bytes(AttributeType::CHECK_VALUE, check),
    ])
}

/// The check value of keys without a block cipher: the first bytes of the value's SHA-1 (spec, "Generic secret key
/// objects").
fn sha1_check_value(material: &KeyBytes) -> Vec<u8> {
    Sha1::digest(material.as_ref())[..3].to_vec()
}

/// The attributes that follow from a private key in PKCS #8. None if it is not one of this type.
pub(super) fn of_pair(kind: KeyType, material: &KeyBytes) -> Option<PairAttributes> {
    match kind {
        KeyType::RSA => of_rsa(&RsaKeyPair::from_pkcs8(material.as_ref()).ok()?),
        KeyType::EC => {
            let curve = ec::curve_of(material)?;
            let pair = EcdsaKeyPair::from_pkcs8(ec::algorithm_of(curve), material.as_ref()).ok()?;
            of_ec(curve, &pair)
        }
        KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY => {
            let (curve, secret) = edwards_montgomery::read(kind, material.as_ref())?;
            let public = edwards_montgomery::public_of(curve, secret)?;
            Some(of_curve(curve.oid_der(), &public, &der::public_info(curve.oid_der(), &public)?))
        }
        KeyType::ML_KEM => {
            let (set, expanded) = KemKey::expanded(material.as_ref())?;
            of_ml_kem(set, KemKey::public_in(set, expanded)?)
        }
        KeyType::ML_DSA => {
            let key = DsaKey::open(material.as_ref())?;
            of_ml_dsa(key.set(), key.public())
        }
        _ => None,
    }
}

/// The attributes of an RSA key pair.
pub(super) fn of_rsa(pair: &RsaKeyPair) -> Option<PairAttributes> {
    let info = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).ok()?;
    let numbers = ::rsa::pkcs1::RsaPublicKeyRef::try_from(pair.public_key().as_ref()).ok()?;
    let private = vec![
        Attribute::bytes(AttributeType::MODULUS, numbers.modulus.as_bytes()),
        Attribute::bytes(AttributeType::PUBLIC_EXPONENT, numbers.public_exponent.as_bytes()),
        Attribute::bytes(AttributeType::PUBLIC_KEY_INFO, info.as_ref()),
    ];
    let mut public = private.clone();
    public.push(Attribute::ulong(AttributeType::MODULUS_BITS, modulus_bits(numbers.modulus.as_bytes())));
    Some(PairAttributes { private, public })
}

/// The value of `CKA_MODULUS_BITS`.
pub(super) fn modulus_bits(modulus: &[u8]) -> u64 {
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let number = &modulus[zeros..];
    let unused = number.first().map_or(0, |first| first.leading_zeros());
    u64::try_from(number.len()).unwrap_or(u64::MAX).saturating_mul(8).saturating_sub(u64::from(unused))
}

/// The attributes of a key pair on a NIST curve.
pub(super) fn of_ec(curve: Curve, pair: &EcdsaKeyPair) -> Option<PairAttributes> {
    let info = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).ok()?;
    Some(of_curve(curve.oid_der(), pair.public_key().as_ref(), info.as_ref()))
}

/// The attributes of a key pair on any curve.
pub(super) fn of_curve(params: &[u8], point: &[u8], info: &[u8]) -> PairAttributes {
    let private = vec![
        Attribute::bytes(AttributeType::EC_PARAMS, params),
        Attribute::bytes(AttributeType::PUBLIC_KEY_INFO, info),
    ];
    let mut public = private.clone();
    public.push(Attribute::bytes(AttributeType::EC_POINT, der::octet_string(point).as_slice()));
    PairAttributes { private, public }
}

/// The attributes of an ML-KEM key pair.
pub(super) fn of_ml_kem(set: MlKemSet, public: &[u8]) -> Option<PairAttributes> {
    Some(of_parameter_set(set.number(), public, &mlkem::info(set, public)?))
}

/// The attributes of an ML-DSA key pair.
pub(super) fn of_ml_dsa(set: MlDsaSet, public: &[u8]) -> Option<PairAttributes> {
    Some(of_parameter_set(set.number(), public, &mldsa::info(set, public)?))
}

fn of_parameter_set(set: u64, public_key: &[u8], info: &[u8]) -> PairAttributes {
    let private = vec![
        Attribute::ulong(AttributeType::PARAMETER_SET, set),
        Attribute::bytes(AttributeType::PUBLIC_KEY_INFO, info),
    ];
    let mut public = private.clone();
    public.push(Attribute::bytes(AttributeType::VALUE, public_key));
    PairAttributes { private, public }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::{EdwardsMontgomery, KeySpec};

    use super::*;
    use crate::generate;
    use crate::test_support::is_built_in;

    #[test]
    fn generated_keys_have_the_attributes_that_follow_from_their_material() {
        let specs = [
            (KeyType::AES, KeySpec::Aes { bytes: 24 }),
            (KeyType::CHACHA20, KeySpec::ChaCha20),
            (KeyType::GENERIC_SECRET, KeySpec::Generic { bytes: 20 }),
            (KeyType::RSA, KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] }),
            (KeyType::EC, KeySpec::Ec { curve: Curve::P384 }),
            (KeyType::EC_EDWARDS, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::Ed25519 }),
            (KeyType::EC_MONTGOMERY, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::X25519 }),
            (KeyType::EC_EDWARDS, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::Ed448 }),
            (KeyType::EC_MONTGOMERY, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::X448 }),
            (KeyType::ML_KEM, KeySpec::MlKem { set: MlKemSet::Kem768 }),
            (KeyType::ML_DSA, KeySpec::MlDsa { set: MlDsaSet::Dsa44 }),
        ];
        for (kind, spec) in specs.into_iter().filter(|(_, spec)| is_built_in(spec)) {
            let generated = generate(&spec, &SystemRandom::new()).unwrap();
            let class =
                if generated.public.is_empty() { ObjectClass::SECRET_KEY } else { ObjectClass::PRIVATE_KEY };
            assert_eq!(
                public_attributes(class, kind, &generated.material).unwrap(),
                generated.attributes,
                "{kind}"
            );
            if class == ObjectClass::PRIVATE_KEY {
                assert_eq!(of_pair(kind, &generated.material).unwrap().public, generated.public, "{kind}");
            }
        }
    }

    #[test]
    fn lengths_that_no_key_has_are_rejected() {
        let error = |kind, bytes| {
            public_attributes(ObjectClass::SECRET_KEY, kind, &KeyBytes::from(vec![1; bytes])).err()
        };
        assert_eq!(error(KeyType::AES, 17), Some(Rv::KEY_SIZE_RANGE));
        assert_eq!(error(KeyType::CHACHA20, 31), Some(Rv::KEY_SIZE_RANGE));
        assert_eq!(error(KeyType::GENERIC_SECRET, 0), Some(Rv::KEY_SIZE_RANGE));
        assert_eq!(error(KeyType::SHA256_HMAC, 513), Some(Rv::KEY_SIZE_RANGE));
        assert_eq!(error(KeyType::SHA256_HMAC, 32), None);
        assert_eq!(error(KeyType::RSA, 32), Some(Rv::TEMPLATE_INCONSISTENT));
    }

    #[test]
    fn the_bits_of_a_modulus_are_those_of_the_number() {
        assert_eq!(modulus_bits(&[0, 0x80, 0]), 16);
        assert_eq!(modulus_bits(&[1, 0]), 9);
        assert_eq!(modulus_bits(&[]), 0);
    }
}
