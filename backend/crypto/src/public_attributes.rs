//! What follows from a key's material: the attributes that come with it, for its own object and for its public half's.

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

/// The attributes of both halves of a key pair.
pub(super) struct Halves {
    /// Of the private key's object.
    pub(super) private: Vec<Attribute>,
    /// Of the public key's object.
    pub(super) public: Vec<Attribute>,
}

/// The attributes that follow from material got by unwrapping or deriving.
///
/// # Errors
/// `CKR_KEY_SIZE_RANGE` when no key of the type is so long, `CKR_TEMPLATE_INCONSISTENT` when there are no such keys here,
/// or the material is another's.
pub fn public_attributes(
    class: ObjectClass,
    kind: KeyType,
    material: &KeyBytes,
) -> Result<Vec<Attribute>, Rv> {
    match class {
        ObjectClass::SECRET_KEY => secret(kind, material),
        ObjectClass::PRIVATE_KEY => {
            halves(kind, material).map(|halves| halves.private).ok_or(Rv::TEMPLATE_INCONSISTENT)
        }
        _ => Err(Rv::TEMPLATE_INCONSISTENT),
    }
}

/// The attributes of the public half of a private key. None if the material is not that of one of this type.
pub fn public_key_attributes(kind: KeyType, material: &KeyBytes) -> Option<Vec<Attribute>> {
    halves(kind, material).map(|halves| halves.public)
}

/// Whether secret keys of this type are bytes of any length.
pub(super) fn is_any_secret(kind: KeyType) -> bool {
    kind == KeyType::GENERIC_SECRET || kind == KeyType::HKDF || is_hmac_key(kind)
}

/// The attributes that come with a secret key's value.
pub(super) fn secret(kind: KeyType, material: &KeyBytes) -> Result<Vec<Attribute>, Rv> {
    let length = material.as_ref().len();
    let check = match kind {
        KeyType::AES => aes::check_value(material).ok_or(Rv::KEY_SIZE_RANGE)?.to_vec(),
        KeyType::CHACHA20 if length == CHACHA_BYTES => hashed(material),
        KeyType::CHACHA20 => return Err(Rv::KEY_SIZE_RANGE),
        _ if is_any_secret(kind) => {
            let fits = u32::try_from(length)
                .is_ok_and(|length| (GENERIC_BYTES.0..=GENERIC_BYTES.1).contains(&length));
            if !fits {
                return Err(Rv::KEY_SIZE_RANGE);
            }
            hashed(material)
        }
        _ => return Err(Rv::TEMPLATE_INCONSISTENT),
    };
    let length = u64::try_from(length).map_err(|_| Rv::KEY_SIZE_RANGE)?;
    Ok(vec![
        Attribute::ulong(AttributeType::VALUE_LEN, length),
        Attribute::bytes(AttributeType::CHECK_VALUE, check),
    ])
}

/// The check value of keys that are no block cipher's: the front of the value's SHA-1 (spec, "Generic secret key
/// objects").
fn hashed(material: &KeyBytes) -> Vec<u8> {
    Sha1::digest(material.as_ref())[..3].to_vec()
}

/// The attributes that come with a private key in PKCS #8. None if it is not one of this type.
pub(super) fn halves(kind: KeyType, material: &KeyBytes) -> Option<Halves> {
    match kind {
        KeyType::RSA => rsa(&RsaKeyPair::from_pkcs8(material.as_ref()).ok()?),
        KeyType::EC => {
            let curve = ec::curve_of(material)?;
            let pair = EcdsaKeyPair::from_pkcs8(ec::algorithm_of(curve), material.as_ref()).ok()?;
            of_ec(curve, &pair)
        }
        KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY => {
            let (curve, secret) = edwards_montgomery::read(kind, material.as_ref())?;
            let public = edwards_montgomery::public_of(curve, secret)?;
            Some(curve_halves(curve.oid_der(), &public, &der::public_info(curve.oid_der(), &public)?))
        }
        KeyType::ML_KEM => {
            let (set, expanded) = KemKey::expanded(material.as_ref())?;
            kem_halves(set, KemKey::public_in(set, expanded)?)
        }
        KeyType::ML_DSA => {
            let key = DsaKey::open(material.as_ref())?;
            dsa_halves(key.set(), key.public())
        }
        _ => None,
    }
}

/// Of an RSA pair.
pub(super) fn rsa(pair: &RsaKeyPair) -> Option<Halves> {
    let info = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).ok()?;
    let numbers = ::rsa::pkcs1::RsaPublicKeyRef::try_from(pair.public_key().as_ref()).ok()?;
    let private = vec![
        Attribute::bytes(AttributeType::MODULUS, numbers.modulus.as_bytes()),
        Attribute::bytes(AttributeType::PUBLIC_EXPONENT, numbers.public_exponent.as_bytes()),
        Attribute::bytes(AttributeType::PUBLIC_KEY_INFO, info.as_ref()),
    ];
    let mut public = private.clone();
    public.push(Attribute::ulong(AttributeType::MODULUS_BITS, modulus_bits(numbers.modulus.as_bytes())));
    Some(Halves { private, public })
}

/// The value of `CKA_MODULUS_BITS`.
pub(super) fn modulus_bits(modulus: &[u8]) -> u64 {
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let number = &modulus[zeros..];
    let unused = number.first().map_or(0, |first| first.leading_zeros());
    u64::try_from(number.len()).unwrap_or(u64::MAX).saturating_mul(8).saturating_sub(u64::from(unused))
}

/// Of a pair on a NIST curve.
pub(super) fn of_ec(curve: Curve, pair: &EcdsaKeyPair) -> Option<Halves> {
    let info = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).ok()?;
    Some(curve_halves(curve.oid_der(), pair.public_key().as_ref(), info.as_ref()))
}

/// Of a pair on any curve.
pub(super) fn curve_halves(params: &[u8], point: &[u8], info: &[u8]) -> Halves {
    let private = vec![
        Attribute::bytes(AttributeType::EC_PARAMS, params),
        Attribute::bytes(AttributeType::PUBLIC_KEY_INFO, info),
    ];
    let mut public = private.clone();
    public.push(Attribute::bytes(AttributeType::EC_POINT, der::octet_string(point).as_slice()));
    Halves { private, public }
}

/// Of an ML-KEM pair.
pub(super) fn kem_halves(set: MlKemSet, public: &[u8]) -> Option<Halves> {
    Some(lattice_halves(set.number(), public, &mlkem::info(set, public)?))
}

/// Of an ML-DSA pair.
pub(super) fn dsa_halves(set: MlDsaSet, public: &[u8]) -> Option<Halves> {
    Some(lattice_halves(set.number(), public, &mldsa::info(set, public)?))
}

fn lattice_halves(set: u64, public_key: &[u8], info: &[u8]) -> Halves {
    let private = vec![
        Attribute::ulong(AttributeType::PARAMETER_SET, set),
        Attribute::bytes(AttributeType::PUBLIC_KEY_INFO, info),
    ];
    let mut public = private.clone();
    public.push(Attribute::bytes(AttributeType::VALUE, public_key));
    Halves { private, public }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::{EdwardsMontgomery, KeySpec};

    use super::*;
    use crate::generate;

    #[test]
    fn what_is_made_is_described_as_it_was_made() {
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
        for (kind, spec) in specs {
            let made = generate(&spec, &SystemRandom::new()).unwrap();
            let class =
                if made.public.is_empty() { ObjectClass::SECRET_KEY } else { ObjectClass::PRIVATE_KEY };
            assert_eq!(public_attributes(class, kind, &made.material).unwrap(), made.attributes, "{kind}");
            if class == ObjectClass::PRIVATE_KEY {
                assert_eq!(halves(kind, &made.material).unwrap().public, made.public, "{kind}");
            }
        }
    }

    #[test]
    fn lengths_no_key_has_are_refused() {
        let refusal = |kind, bytes| {
            public_attributes(ObjectClass::SECRET_KEY, kind, &KeyBytes::from(vec![1; bytes])).err()
        };
        assert_eq!(refusal(KeyType::AES, 17), Some(Rv::KEY_SIZE_RANGE));
        assert_eq!(refusal(KeyType::CHACHA20, 31), Some(Rv::KEY_SIZE_RANGE));
        assert_eq!(refusal(KeyType::GENERIC_SECRET, 0), Some(Rv::KEY_SIZE_RANGE));
        assert_eq!(refusal(KeyType::SHA256_HMAC, 513), Some(Rv::KEY_SIZE_RANGE));
        assert_eq!(refusal(KeyType::SHA256_HMAC, 32), None);
        assert_eq!(refusal(KeyType::RSA, 32), Some(Rv::TEMPLATE_INCONSISTENT));
    }

    #[test]
    fn the_bits_of_a_modulus_are_those_of_the_number() {
        assert_eq!(modulus_bits(&[0, 0x80, 0]), 16);
        assert_eq!(modulus_bits(&[1, 0]), 9);
        assert_eq!(modulus_bits(&[]), 0);
    }
}
