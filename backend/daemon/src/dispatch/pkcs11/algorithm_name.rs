//! The algorithm name of a key in listings: `aes-256`, `rsa-2048`, `ec-p256`.

use kms_core::object::{Curve, EdwardsMontgomery, MlDsaSet, MlKemSet};
use kms_protocol::{AttributeType, KeyType, ObjectClass, Template};

/// Returns the algorithm name of a key, for listings.
pub(super) fn algorithm_of(attributes: &Template) -> String {
    let number = |kind| attributes.ulong(kind).unwrap_or(0);
    match attributes.key_type() {
        Some(KeyType::AES) => format!("aes-{}", number(AttributeType::VALUE_LEN) * 8),
        Some(KeyType::RSA) => {
            let bytes = attributes.bytes(AttributeType::MODULUS).unwrap_or_default().len();
            format!("rsa-{}", bytes * 8)
        }
        Some(KeyType::EC) => match attributes.bytes(AttributeType::EC_PARAMS) {
            Some(params) => Curve::ALL
                .iter()
                .find(|curve| curve.oid_der() == params)
                .map_or_else(|| "ec".to_owned(), |curve| format!("ec-p{}", bits_of(*curve))),
            None => "ec".to_owned(),
        },
        Some(KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY) => {
            let curve = attributes.bytes(AttributeType::EC_PARAMS).and_then(EdwardsMontgomery::of_params);
            match curve {
                Some(EdwardsMontgomery::Ed25519) => "ed25519".to_owned(),
                Some(EdwardsMontgomery::X25519) => "x25519".to_owned(),
                Some(EdwardsMontgomery::Ed448) => "ed448".to_owned(),
                Some(EdwardsMontgomery::X448) => "x448".to_owned(),
                None => "edwards-montgomery".to_owned(),
            }
        }
        Some(KeyType::CHACHA20) => "chacha20".to_owned(),
        Some(KeyType::ML_KEM) => match MlKemSet::of_number(number(AttributeType::PARAMETER_SET)) {
            Some(MlKemSet::Kem512) => "ml-kem-512".to_owned(),
            Some(MlKemSet::Kem768) => "ml-kem-768".to_owned(),
            Some(MlKemSet::Kem1024) => "ml-kem-1024".to_owned(),
            None => "ml-kem".to_owned(),
        },
        Some(KeyType::ML_DSA) => match MlDsaSet::of_number(number(AttributeType::PARAMETER_SET)) {
            Some(MlDsaSet::Dsa44) => "ml-dsa-44".to_owned(),
            Some(MlDsaSet::Dsa65) => "ml-dsa-65".to_owned(),
            Some(MlDsaSet::Dsa87) => "ml-dsa-87".to_owned(),
            None => "ml-dsa".to_owned(),
        },
        Some(_) if attributes.class() == Some(ObjectClass::SECRET_KEY) => {
            format!("secret-{}", number(AttributeType::VALUE_LEN) * 8)
        }
        Some(other) => other.to_string().to_ascii_lowercase(),
        None => "unknown".to_owned(),
    }
}

fn bits_of(curve: Curve) -> u32 {
    match curve {
        Curve::P256 => 256,
        Curve::P384 => 384,
        Curve::P521 => 521,
    }
}
