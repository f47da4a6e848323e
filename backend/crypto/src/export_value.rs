//! The secret attributes of a key that is neither sensitive nor unextractable.

use kms_core::object::KeyBytes;
use kms_core::policy::Permit;
use kms_protocol::{Attribute, AttributeType, KeyType, ObjectClass, Template};

use super::mldsa::{self, DsaKey};
use super::mlkem::{self, KemKey};
use super::{CryptoError, ec, edwards_montgomery, rsa_parts};

/// The attributes that hold a key's secret, as the specification names them for its class and type.
///
/// # Errors
/// When the permit is not for revealing, or the material is not that of such a key.
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
            let exported = value(&expanded.ok_or(CryptoError::Material(kind))?);
            Ok(with_seed(exported, mldsa::seed_of(material.as_ref())))
        }
        _ => Err(CryptoError::Unsupported(class, kind)),
    }
}

fn with_seed(mut exported: Template, seed: Option<&[u8]>) -> Template {
    if let Some(seed) = seed {
        exported.set(Attribute::bytes(AttributeType::SEED, seed));
    }
    exported
}

#[cfg(test)]
mod tests {
    use ::rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::{Curve, KeySpec, RingRole};
    use kms_core::policy;
    use kms_protocol::RingPolicy;

    use super::*;
    use crate::test_support::{caller, object};
    use crate::{GeneratedKey, generate};

    fn exported(class: ObjectClass, kind: KeyType, spec: &KeySpec) -> (GeneratedKey, Template) {
        let generated = generate(spec, &SystemRandom::new()).unwrap();
        let user = caller(Some(RingRole::User), RingPolicy::Strict);
        let permit = policy::permit_reveal(&user, &object(class, kind, &generated.attributes)).unwrap();
        let secret = export_value(&permit, kind, class, &generated.material).unwrap();
        (generated, secret)
    }

    #[test]
    fn the_exported_value_is_the_key() {
        let (generated, secret) =
            exported(ObjectClass::SECRET_KEY, KeyType::AES, &KeySpec::Aes { bytes: 32 });
        assert_eq!(secret.bytes(AttributeType::VALUE), Some(generated.material.as_ref()));

        let (generated, secret) =
            exported(ObjectClass::PRIVATE_KEY, KeyType::EC, &KeySpec::Ec { curve: Curve::P521 });
        let key = p521::SecretKey::from_slice(secret.bytes(AttributeType::VALUE).unwrap()).unwrap();
        let info = Template(generated.public).bytes(AttributeType::PUBLIC_KEY_INFO).unwrap().to_vec();
        assert_eq!(p521::PublicKey::from_public_key_der(&info).unwrap(), key.public_key());

        let spec = KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] };
        let (generated, secret) = exported(ObjectClass::PRIVATE_KEY, KeyType::RSA, &spec);
        let other = ::rsa::PrivateKey::from_pkcs8_der(generated.material.as_ref()).unwrap();
        let number = |kind| ::rsa::BoxedUint::from_be_slice(secret.bytes(kind).unwrap(), 2048).unwrap();
        assert_eq!(&number(AttributeType::PRIVATE_EXPONENT), ::rsa::traits::PrivateKeyParts::d(&other));
        let product = number(AttributeType::PRIME_1).wrapping_mul(number(AttributeType::PRIME_2));
        assert_eq!(&product, ::rsa::traits::PublicKeyParts::n(&other).as_ref());
        assert_eq!(secret.0.len(), 6);
    }
}
