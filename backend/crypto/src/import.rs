//! Keys that are imported: in parts with `C_CreateObject`, or unwrapped as a whole. They are converted to the stored
//! form, and rejected if they are not consistent.

use kms_core::object::{Curve, EdwardsMontgomery, KeyBytes, MlDsaSet, MlKemSet};
use kms_protocol::{Attribute, AttributeType, KeyType, ObjectClass, Rv, Template};
use zeroize::Zeroizing;

use super::der::Forms;
use super::edwards_montgomery;
use super::mldsa::DsaKey;
use super::mlkem::KemKey;
use super::public_attributes::{self, PairAttributes};
use super::{ec, public, rsa_parts};

/// An imported key.
#[derive(Debug)]
pub struct Imported {
    /// Its secret, in the stored form; a public key has none.
    pub material: Option<KeyBytes>,
    /// The attributes that follow from it.
    pub attributes: Vec<Attribute>,
}

/// Imports a key from a creation template.
///
/// # Errors
/// `CKR_TEMPLATE_INCOMPLETE` if a part is missing, `CKR_ATTRIBUTE_VALUE_INVALID` if the parts are not a key,
/// `CKR_CURVE_NOT_SUPPORTED` or `CKR_PARAMETER_SET_NOT_SUPPORTED`, and `CKR_TEMPLATE_INCONSISTENT` for a class and a
/// type that are not supported.
pub fn import(class: ObjectClass, kind: KeyType, template: &Template) -> Result<Imported, Rv> {
    match class {
        ObjectClass::SECRET_KEY => {
            let value = required(template, AttributeType::VALUE)?;
            let material = KeyBytes::from(value.to_vec());
            let attributes = public_attributes::of_secret(kind, &material).map_err(|rv| match rv {
                Rv::KEY_SIZE_RANGE => Rv::ATTRIBUTE_VALUE_INVALID,
                other => other,
            })?;
            check_consistent(template, &attributes, AttributeType::VALUE_LEN)?;
            Ok(Imported { material: Some(material), attributes })
        }
        ObjectClass::PRIVATE_KEY => {
            let material = private(kind, template)?;
            let PairAttributes { private, .. } =
                public_attributes::of_pair(kind, &material).ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?;
            Ok(Imported { material: Some(material), attributes: private })
        }
        ObjectClass::PUBLIC_KEY => {
            Ok(Imported { material: None, attributes: public::attributes(kind, template)? })
        }
        _ => Err(Rv::TEMPLATE_INCONSISTENT),
    }
}

/// Checks that an attribute of the template, if present, has the value that follows from the key.
fn check_consistent(template: &Template, attributes: &[Attribute], kind: AttributeType) -> Result<(), Rv> {
    let given = template.value(kind);
    let found = attributes.iter().find(|attribute| attribute.kind == kind).map(|attribute| &attribute.value);
    if given.is_none() || given == found { Ok(()) } else { Err(Rv::TEMPLATE_INCONSISTENT) }
}

/// The bytes of a required attribute, which must not be empty.
pub(super) fn required(template: &Template, kind: AttributeType) -> Result<&[u8], Rv> {
    template.bytes(kind).filter(|bytes| !bytes.is_empty()).ok_or(Rv::TEMPLATE_INCOMPLETE)
}

/// The parameter set that a template names.
pub(super) fn set_of<S>(template: &Template, of_number: fn(u64) -> Option<S>) -> Result<S, Rv> {
    let number = template.ulong(AttributeType::PARAMETER_SET).ok_or(Rv::TEMPLATE_INCOMPLETE)?;
    of_number(number).ok_or(Rv::PARAMETER_SET_NOT_SUPPORTED)
}

/// The NIST curve that a template names.
pub(super) fn curve_of(template: &Template) -> Result<Curve, Rv> {
    let params = required(template, AttributeType::EC_PARAMS)?;
    Curve::ALL.into_iter().find(|curve| curve.oid_der() == params).ok_or(Rv::CURVE_NOT_SUPPORTED)
}

/// The Edwards or Montgomery curve that a template names; it must be one for this key type.
pub(super) fn edwards_montgomery_of(kind: KeyType, template: &Template) -> Result<EdwardsMontgomery, Rv> {
    let params = required(template, AttributeType::EC_PARAMS)?;
    EdwardsMontgomery::of_params(params)
        .filter(|curve| curve.key_type() == kind && edwards_montgomery::check_built_in(*curve).is_ok())
        .ok_or(Rv::CURVE_NOT_SUPPORTED)
}

/// A private key in the stored form, from its parts.
fn private(kind: KeyType, template: &Template) -> Result<KeyBytes, Rv> {
    let built = match kind {
        KeyType::RSA => rsa_parts::build(&parts_of_rsa(template)?),
        KeyType::EC => ec::build(curve_of(template)?, required(template, AttributeType::VALUE)?),
        KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY => {
            let curve = edwards_montgomery_of(kind, template)?;
            edwards_montgomery::private_key(curve, required(template, AttributeType::VALUE)?)
        }
        KeyType::ML_KEM => {
            let set = set_of(template, MlKemSet::of_number)?;
            let Forms { seed, expanded } = forms_of(template)?;
            KemKey::private_key(set, seed, expanded)
        }
        KeyType::ML_DSA => {
            let set = set_of(template, MlDsaSet::of_number)?;
            let Forms { seed, expanded } = forms_of(template)?;
            DsaKey::private_key(set, seed, expanded)
        }
        _ => return Err(Rv::TEMPLATE_INCONSISTENT),
    };
    built.ok_or(Rv::ATTRIBUTE_VALUE_INVALID)
}

/// The seed, the expanded key or both, of a private key of ML-KEM or ML-DSA.
fn forms_of(template: &Template) -> Result<Forms<'_>, Rv> {
    let part = |kind| template.bytes(kind).filter(|bytes| !bytes.is_empty());
    let forms = Forms { seed: part(AttributeType::SEED), expanded: part(AttributeType::VALUE) };
    if forms.seed.is_none() && forms.expanded.is_none() { Err(Rv::TEMPLATE_INCOMPLETE) } else { Ok(forms) }
}

fn parts_of_rsa(template: &Template) -> Result<rsa_parts::Parts<'_>, Rv> {
    let optional = |kind| template.bytes(kind).filter(|bytes| !bytes.is_empty());
    let primes = match (optional(AttributeType::PRIME_1), optional(AttributeType::PRIME_2)) {
        (Some(first), Some(second)) => Some([first, second]),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(Rv::TEMPLATE_INCOMPLETE),
    };
    Ok(rsa_parts::Parts {
        modulus: required(template, AttributeType::MODULUS)?,
        public_exponent: required(template, AttributeType::PUBLIC_EXPONENT)?,
        private_exponent: required(template, AttributeType::PRIVATE_EXPONENT)?,
        primes,
        derived: [
            optional(AttributeType::EXPONENT_1),
            optional(AttributeType::EXPONENT_2),
            optional(AttributeType::COEFFICIENT),
        ],
    })
}

/// Whether secret or private keys of this class and type are supported.
pub(super) fn is_known(class: ObjectClass, kind: KeyType) -> bool {
    match class {
        ObjectClass::SECRET_KEY => {
            matches!(kind, KeyType::AES | KeyType::CHACHA20) || public_attributes::is_any_secret(kind)
        }
        ObjectClass::PRIVATE_KEY => matches!(
            kind,
            KeyType::RSA
                | KeyType::EC
                | KeyType::EC_EDWARDS
                | KeyType::EC_MONTGOMERY
                | KeyType::ML_KEM
                | KeyType::ML_DSA
        ),
        _ => false,
    }
}

/// Converts an unwrapped key to the stored form. None if it is no key of this class and type; the reason is not
/// reported.
pub(super) fn stored(class: ObjectClass, kind: KeyType, bytes: Zeroizing<Vec<u8>>) -> Option<KeyBytes> {
    let bytes = KeyBytes(bytes);
    match (class, kind) {
        (ObjectClass::SECRET_KEY, _) => public_attributes::of_secret(kind, &bytes).ok().map(|_| bytes),
        (ObjectClass::PRIVATE_KEY, KeyType::RSA) => rsa_parts::stored(&bytes),
        (ObjectClass::PRIVATE_KEY, KeyType::EC) => ec::stored(&bytes),
        (ObjectClass::PRIVATE_KEY, KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY) => {
            let (curve, secret) = edwards_montgomery::read(kind, bytes.as_ref())?;
            edwards_montgomery::check_built_in(curve).ok()?;
            edwards_montgomery::private_key(curve, secret)
        }
        (ObjectClass::PRIVATE_KEY, KeyType::ML_KEM) => KemKey::stored(bytes.as_ref()),
        (ObjectClass::PRIVATE_KEY, KeyType::ML_DSA) => DsaKey::stored(bytes.as_ref()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::{KeySpec, RingRole};
    use kms_core::policy;

    use super::super::{GeneratedKey, export_value, generate};
    use super::*;
    use crate::test_support::{caller, is_built_in, object};

    const PRIVATE: ObjectClass = ObjectClass::PRIVATE_KEY;

    fn generated(spec: &KeySpec) -> GeneratedKey {
        generate(spec, &SystemRandom::new()).unwrap()
    }

    fn pairs() -> Vec<(KeyType, GeneratedKey)> {
        [
            (KeyType::RSA, KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] }),
            (KeyType::EC, KeySpec::Ec { curve: Curve::P256 }),
            (KeyType::EC, KeySpec::Ec { curve: Curve::P521 }),
            (KeyType::EC_EDWARDS, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::Ed25519 }),
            (KeyType::EC_MONTGOMERY, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::X25519 }),
            (KeyType::EC_EDWARDS, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::Ed448 }),
            (KeyType::EC_MONTGOMERY, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::X448 }),
            (KeyType::ML_KEM, KeySpec::MlKem { set: MlKemSet::Kem768 }),
            (KeyType::ML_DSA, KeySpec::MlDsa { set: MlDsaSet::Dsa65 }),
        ]
        .into_iter()
        .filter(|(_, spec)| is_built_in(spec))
        .map(|(kind, spec)| (kind, generated(&spec)))
        .collect()
    }

    /// The template for `C_CreateObject` of an exported private key: all its parts.
    fn parts(kind: KeyType, generated: &GeneratedKey) -> Template {
        let object = object(PRIVATE, kind, &generated.attributes);
        let user = caller(Some(RingRole::User), kms_protocol::RingPolicy::Compat);
        let permit = policy::permit_reveal(&user, &object).unwrap();
        let mut parts = export_value(&permit, kind, PRIVATE, &generated.material).unwrap();
        parts.0.extend(
            generated.attributes.iter().filter(|given| given.kind != AttributeType::PUBLIC_KEY_INFO).cloned(),
        );
        parts
    }

    #[test]
    fn an_exported_private_key_is_imported_unchanged() {
        for (kind, generated) in pairs() {
            let imported = import(PRIVATE, kind, &parts(kind, &generated)).unwrap();
            assert_eq!(imported.material.unwrap().as_ref(), generated.material.as_ref(), "{kind}");
            assert_eq!(imported.attributes, generated.attributes, "{kind}");
        }
    }

    #[test]
    fn a_public_key_gets_the_attributes_that_follow_from_it() {
        for (kind, generated) in pairs() {
            let given: Vec<_> = generated
                .public
                .iter()
                .filter(|given| given.kind != AttributeType::PUBLIC_KEY_INFO)
                .map(|given| match (given.kind, kind) {
                    // Some callers give the point without the OCTET STRING.
                    (AttributeType::EC_POINT, KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY) => {
                        let Template(all) = Template(vec![given.clone()]);
                        let wrapped = Template(all);
                        let point = &wrapped.bytes(AttributeType::EC_POINT).unwrap()[2..];
                        Attribute::bytes(AttributeType::EC_POINT, point)
                    }
                    _ => given.clone(),
                })
                .collect();
            let imported = import(ObjectClass::PUBLIC_KEY, kind, &Template(given)).unwrap();
            assert!(imported.material.is_none());
            let generated = Template(generated.public);
            for attribute in imported.attributes {
                assert_eq!(
                    generated.value(attribute.kind),
                    Some(&attribute.value),
                    "{kind}, {}",
                    attribute.kind
                );
            }
        }
    }

    #[test]
    fn parts_that_are_not_a_key_are_rejected() {
        for (kind, generated) in pairs() {
            let all = parts(kind, &generated);
            let secret =
                if kind == KeyType::RSA { AttributeType::PRIVATE_EXPONENT } else { AttributeType::VALUE };
            let without = Template(
                all.0
                    .iter()
                    .filter(|given| given.kind != secret && given.kind != AttributeType::SEED)
                    .cloned()
                    .collect(),
            );
            assert_eq!(import(PRIVATE, kind, &without).unwrap_err(), Rv::TEMPLATE_INCOMPLETE, "{kind}");
            let mut short = all.clone();
            short.set(Attribute::bytes(secret, [1]));
            // 1 is a valid private scalar on any NIST curve, and no valid key of another type.
            let rejected = import(PRIVATE, kind, &short).err();
            assert_eq!(rejected, (kind != KeyType::EC).then_some(Rv::ATTRIBUTE_VALUE_INVALID), "{kind}");
        }
        let random = generate(&KeySpec::Aes { bytes: 16 }, &SystemRandom::new()).unwrap();
        let value = Attribute::bytes(AttributeType::VALUE, random.material.as_ref());
        let both = Template(vec![value.clone(), Attribute::ulong(AttributeType::VALUE_LEN, 32)]);
        let secret = ObjectClass::SECRET_KEY;
        assert_eq!(import(secret, KeyType::AES, &both).unwrap_err(), Rv::TEMPLATE_INCONSISTENT);
        let short = Template(vec![Attribute::bytes(AttributeType::VALUE, [1; 17])]);
        assert_eq!(import(secret, KeyType::AES, &short).unwrap_err(), Rv::ATTRIBUTE_VALUE_INVALID);
        let imported = import(secret, KeyType::AES, &Template(vec![value])).unwrap();
        assert_eq!(imported.attributes, random.attributes);
    }

    #[test]
    fn points_off_the_curve_and_small_moduli_are_no_public_keys() {
        let point = |kind, params: &[u8], point: Vec<u8>| {
            let template = Template(vec![
                Attribute::bytes(AttributeType::EC_PARAMS, params),
                Attribute::bytes(AttributeType::EC_POINT, point),
            ]);
            import(ObjectClass::PUBLIC_KEY, kind, &template).err()
        };
        let invalid = Some(Rv::ATTRIBUTE_VALUE_INVALID);
        assert_eq!(point(KeyType::EC, Curve::P256.oid_der(), [vec![4], vec![1; 64]].concat()), invalid);
        let edwards = EdwardsMontgomery::Ed25519.oid_der();
        assert_eq!(point(KeyType::EC_EDWARDS, edwards, vec![0; 32]), invalid, "a point of small order");
        assert_eq!(point(KeyType::EC_MONTGOMERY, edwards, vec![9; 32]), Some(Rv::CURVE_NOT_SUPPORTED));
        let rsa = |modulus: Vec<u8>| {
            let template = Template(vec![
                Attribute::bytes(AttributeType::MODULUS, modulus),
                Attribute::bytes(AttributeType::PUBLIC_EXPONENT, [1, 0, 1]),
            ]);
            import(ObjectClass::PUBLIC_KEY, KeyType::RSA, &template).err()
        };
        assert_eq!(rsa(vec![0xff; 128]), invalid);
        assert_eq!(rsa(vec![0xff; 1024]), None, "as large as the keys of certificate authorities");
        assert_eq!(rsa([vec![1], vec![0xff; 1024]].concat()), invalid);
        assert_eq!(rsa(vec![0xfe; 256]), invalid, "an even number");
        assert_eq!(rsa([vec![0], vec![0xff; 256]].concat()), None, "a leading zero does not count");
    }
}
