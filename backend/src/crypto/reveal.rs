//! The secret attributes of a key whose owner made it neither sensitive nor unextractable.

use kms_protocol::{Attribute, AttributeType, KeyType, ObjectClass, Template};

use super::{CryptoError, ec, rsa};
use crate::object::KeyBytes;
use crate::policy::Permit;

/// The attributes that hold a key's secret, as the specification names them for its class and type.
///
/// # Errors
/// When the permit is not one to reveal, or the material is not such a key's.
pub fn reveal(
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
            let key = rsa::components(material).ok_or(CryptoError::Material(kind))?;
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
        _ => Err(CryptoError::Unsupported(class, kind)),
    }
}
