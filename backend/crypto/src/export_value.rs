//! The secret attributes of a key whose owner made it neither sensitive nor unextractable.

use kms_core::object::KeyBytes;
use kms_core::policy::Permit;
use kms_protocol::{Attribute, AttributeType, KeyType, ObjectClass, Template};

use super::mldsa::{self, DsaKey};
use super::mlkem::{self, KemKey};
use super::{CryptoError, ec, edwards_montgomery, rsa_parts};

/// The attributes that hold a key's secret, as the specification names them for its class and type.
///
/// # Errors
/// When the permit is not one to reveal, or the material is not such a key's.
pub fn export_value(
    permit: &Permit,
    kind: KeyType,
    class: ObjectClass,
    material: &KeyBytes,
) -> Result<Template, CryptoError> {
    if !permit.reveals() {
        return Err(CryptoError::Permit);
    }
    let value = |bytes: &[u8]| Template(vec![Attribute::bytes(AttributeType::VALUE, bytes)]);
    match (class, kind) {
        (ObjectClass::SECRET_KEY, _) => Ok(value(material.as_ref())),
        (ObjectClass::PRIVATE_KEY, KeyType::EC) => {
            Ok(value(&ec::scalar(material).ok_or(CryptoError::Material(kind))?))
        }
        (ObjectClass::PRIVATE_KEY, KeyType::RSA) => {
            let key = rsa_parts::components(material).ok_or(CryptoError::Material(kind))?;
            let parts = [
                (AttributeType::PRIVATE_EXPONENT, &key.private_exponent),
                (AttributeType::PRIME_1, &key.primes[0]),
                (AttributeType::PRIME_2, &key.primes[1]),
                (AttributeType::EXPONENT_1, &key.exponents[0]),
                (AttributeType::EXPONENT_2, &key.exponents[1]),
                (AttributeType::COEFFICIENT, &key.coefficient),
            ];
            Ok(Template(parts.map(|(kind, number)| Attribute::bytes(kind, number.as_slice())).to_vec()))
        }
        (ObjectClass::PRIVATE_KEY, KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY) => {
            let (_, secret) =
                edwards_montgomery::read(kind, material.as_ref()).ok_or(CryptoError::Material(kind))?;
            Ok(value(secret))
        }
        (ObjectClass::PRIVATE_KEY, KeyType::ML_KEM) => {
            let (_, expanded) = KemKey::expanded(material.as_ref()).ok_or(CryptoError::Material(kind))?;
            Ok(with_seed(value(expanded), mlkem::seed_of(material.as_ref())))
        }
        (ObjectClass::PRIVATE_KEY, KeyType::ML_DSA) => {
            let expanded = DsaKey::open(material.as_ref()).and_then(|key| key.expanded());
            let shown = value(&expanded.ok_or(CryptoError::Material(kind))?);
            Ok(with_seed(shown, mldsa::seed_of(material.as_ref())))
        }
        _ => Err(CryptoError::Unsupported(class, kind)),
    }
}

fn with_seed(mut shown: Template, seed: Option<&[u8]>) -> Template {
    if let Some(seed) = seed {
        shown.set(Attribute::bytes(AttributeType::SEED, seed));
    }
    shown
}
