//! Public keys that the backend uses, to wrap and to encapsulate, and the attributes of those that are imported. The
//! provider verifies and encrypts with public keys itself.

use aws_lc_rs::rand::SystemRandom;
use kms_core::object::{Curve, MlDsaSet, MlKemSet};
use kms_protocol::mechanism_table::{RSA_BITS, RSA_PUBLIC_BITS_MAX};
use kms_protocol::{Attribute, AttributeType, KeyType, MechanismType, Mgf, Rv, Secret, Template};
use rsa::pkcs8::EncodePublicKey;
use rsa::{BoxedUint, Oaep, Pkcs1v15Encrypt, PublicKey};

use super::digest::with_digest;
use super::import::{curve_of, edwards_montgomery_of, required, set_of};
use super::public_attributes::{self, PairAttributes};
use super::random::Random;
use super::{der, edwards_montgomery, mlkem};

/// Reads an RSA public key from its attributes.
pub(super) fn rsa_of(template: &Template) -> Result<PublicKey, Rv> {
    let (modulus, exponent) =
        (required(template, AttributeType::MODULUS)?, required(template, AttributeType::PUBLIC_EXPONENT)?);
    let bits = public_attributes::modulus_bits(modulus);
    let within = u64::from(RSA_BITS.0)..=u64::from(RSA_PUBLIC_BITS_MAX);
    if !within.contains(&bits) || modulus.last().is_none_or(|last| last % 2 == 0) {
        return Err(Rv::ATTRIBUTE_VALUE_INVALID);
    }
    let number = |bytes: &[u8], bits: u32| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        BoxedUint::from_be_slice(&bytes[zeros..], bits).map_err(|_| Rv::ATTRIBUTE_VALUE_INVALID)
    };
    let precision = u32::try_from(bits.next_multiple_of(8)).map_err(|_| Rv::ATTRIBUTE_VALUE_INVALID)?;
    PublicKey::new(number(modulus, precision)?, number(exponent, 64)?)
        .map_err(|_| Rv::ATTRIBUTE_VALUE_INVALID)
}

/// Reads an ML-KEM public key from its attributes.
pub(super) fn kem_of(template: &Template) -> Result<mlkem::KemPublic, Rv> {
    let set = set_of(template, MlKemSet::of_number)?;
    let value = required(template, AttributeType::VALUE)?;
    mlkem::KemPublic::open(set, value).ok_or(Rv::ATTRIBUTE_VALUE_INVALID)
}

/// The attributes that follow from a public key's template.
pub(super) fn attributes(kind: KeyType, template: &Template) -> Result<Vec<Attribute>, Rv> {
    let pair = match kind {
        KeyType::RSA => return rsa_attributes(template),
        KeyType::EC => ec_attributes(curve_of(template)?, required(template, AttributeType::EC_POINT)?),
        KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY => {
            let curve = edwards_montgomery_of(kind, template)?;
            der::point(required(template, AttributeType::EC_POINT)?, curve.key_bytes())
                .filter(|point| edwards_montgomery::is_public(curve, point))
                .and_then(|point| {
                    let info = der::public_info(curve.oid_der(), point)?;
                    Some(public_attributes::of_curve(curve.oid_der(), point, &info))
                })
        }
        KeyType::ML_KEM => {
            kem_of(template)?;
            let set = set_of(template, MlKemSet::of_number)?;
            public_attributes::of_ml_kem(set, required(template, AttributeType::VALUE)?)
        }
        KeyType::ML_DSA => {
            let set = set_of(template, MlDsaSet::of_number)?;
            let value = required(template, AttributeType::VALUE)?;
            (value.len() == set.public_bytes()).then(|| public_attributes::of_ml_dsa(set, value)).flatten()
        }
        _ => return Err(Rv::TEMPLATE_INCONSISTENT),
    };
    pair.map(|pair| pair.public).ok_or(Rv::ATTRIBUTE_VALUE_INVALID)
}

fn rsa_attributes(template: &Template) -> Result<Vec<Attribute>, Rv> {
    let key = rsa_of(template)?;
    let info = key.to_public_key_der().map_err(|_| Rv::ATTRIBUTE_VALUE_INVALID)?;
    let bits = public_attributes::modulus_bits(required(template, AttributeType::MODULUS)?);
    if template.ulong(AttributeType::MODULUS_BITS).is_some_and(|given| given != bits) {
        return Err(Rv::TEMPLATE_INCONSISTENT);
    }
    Ok(vec![
        Attribute::ulong(AttributeType::MODULUS_BITS, bits),
        Attribute::bytes(AttributeType::PUBLIC_KEY_INFO, info.as_bytes()),
    ])
}

fn ec_attributes(curve: Curve, given: &[u8]) -> Option<PairAttributes> {
    let point = der::point(given, 1 + 2 * curve.field_bytes())?;
    macro_rules! info {
        ($curve:ident) => {
            $curve::PublicKey::from_sec1_bytes(point).ok()?.to_public_key_der().ok()?
        };
    }
    let info = match curve {
        Curve::P256 => info!(p256),
        Curve::P384 => info!(p384),
        Curve::P521 => info!(p521),
    };
    Some(public_attributes::of_curve(curve.oid_der(), point, info.as_bytes()))
}

/// Encrypts with OAEP.
///
/// # Errors
/// `CKR_KEY_SIZE_RANGE` when the data does not fit beside the padding.
pub(super) fn encrypt_oaep(
    key: &PublicKey,
    (hash, mgf, label): (MechanismType, Mgf, &[u8]),
    data: &[u8],
    random: &SystemRandom,
) -> Result<Secret, Rv> {
    let mask = mgf.digest().ok_or(Rv::MECHANISM_PARAM_INVALID)?;
    let encrypted = with_digest!(hash, D => with_digest!(mask, M => {
        let scheme = Oaep::<D, M>::new_with_mgf_hash_and_label(label);
        key.encrypt(&mut Random(random), scheme, data).map_err(|_| Rv::KEY_SIZE_RANGE)
    }))?;
    Ok(Secret::from(encrypted))
}

/// Encrypts with PKCS #1 v1.5.
///
/// # Errors
/// `CKR_KEY_SIZE_RANGE` when the data does not fit beside the padding.
pub(super) fn encrypt_pkcs1(key: &PublicKey, data: &[u8], random: &SystemRandom) -> Result<Secret, Rv> {
    let encrypted = key.encrypt(&mut Random(random), Pkcs1v15Encrypt, data);
    Ok(Secret::from(encrypted.map_err(|_| Rv::KEY_SIZE_RANGE)?))
}
