//! What an application may learn of an object it knows: every attribute is a value, secret, or not there. Pure.

use kms_protocol::{AttributeType, KeyType, ObjectClass, Template, Value};

use super::objects::Known;

/// What there is to say about one attribute of one object.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum AttributeView<'a> {
    /// Its value.
    Value(&'a Value),
    /// The object could have it and does not: a value of no length.
    Empty,
    /// The backend has it, and will say.
    Secret,
    /// Nobody will say (`CKR_ATTRIBUTE_SENSITIVE`).
    Sensitive,
    /// Such an object has no such attribute (`CKR_ATTRIBUTE_TYPE_INVALID`).
    Invalid,
}

/// Looks at one attribute. `revealed` is what the backend said of the secret ones, if it was asked.
pub(crate) fn look<'a>(
    known: &'a Known,
    revealed: Option<&'a Template>,
    kind: AttributeType,
) -> AttributeView<'a> {
    if let Some(value) = known.attributes.value(kind) {
        return AttributeView::Value(value);
    }
    if is_secret(known, kind) {
        return match revealed.map(|revealed| revealed.value(kind)) {
            Some(Some(value)) => AttributeView::Value(value),
            Some(None) if known.class() == Some(ObjectClass::DATA) => AttributeView::Empty,
            Some(None) => AttributeView::Invalid,
            None if is_kept(known) => AttributeView::Sensitive,
            None => AttributeView::Secret,
        };
    }
    if may_be_empty(known, kind) { AttributeView::Empty } else { AttributeView::Invalid }
}

/// Whether nobody is told the secret. Data objects keep theirs from those alone who may not see the object.
fn is_kept(known: &Known) -> bool {
    let keeps = known.is(AttributeType::SENSITIVE) || !known.is(AttributeType::EXTRACTABLE);
    keeps && known.class() != Some(ObjectClass::DATA)
}

/// What attributes take in memory: types and lengths as C has them, and their values.
pub(crate) fn size(attributes: &Template) -> u64 {
    /// `CK_ATTRIBUTE`, where pointers have eight bytes.
    const HEADER_BYTES: u64 = 24;
    let value_bytes = |value: &Value| match value {
        Value::Bool(_) => 1,
        Value::Ulong(_) => 8,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::Mechanisms(mechanisms) => 8 * mechanisms.0.len() as u64,
        Value::Template(nested) => HEADER_BYTES * nested.0.len() as u64,
    };
    attributes.0.iter().map(|attribute| HEADER_BYTES + value_bytes(&attribute.value)).sum()
}

/// Whether an attribute is part of what an object hides: of a key's secret, of a data object's value.
fn is_secret(known: &Known, kind: AttributeType) -> bool {
    let secrets: &[AttributeType] = match (known.class(), known.attributes.key_type()) {
        (Some(ObjectClass::SECRET_KEY), _) => &[AttributeType::VALUE],
        (Some(ObjectClass::PRIVATE_KEY), Some(KeyType::RSA)) => &[
            AttributeType::PRIVATE_EXPONENT,
            AttributeType::PRIME_1,
            AttributeType::PRIME_2,
            AttributeType::EXPONENT_1,
            AttributeType::EXPONENT_2,
            AttributeType::COEFFICIENT,
        ],
        (Some(ObjectClass::PRIVATE_KEY), Some(KeyType::ML_DSA | KeyType::ML_KEM)) => {
            &[AttributeType::VALUE, AttributeType::SEED]
        }
        (Some(ObjectClass::PRIVATE_KEY), _) => &[AttributeType::VALUE],
        (Some(ObjectClass::DATA), _) => &[AttributeType::VALUE],
        _ => &[],
    };
    secrets.contains(&kind)
}

/// Attributes a key or another object can have and mostly does not. Said to be empty rather than unknown, because hosts
/// that meet an unknown attribute in a batch ask for each one again.
fn may_be_empty(known: &Known, kind: AttributeType) -> bool {
    let Some(class) = known.class() else { return false };
    let of_class: &[AttributeType] = match class {
        ObjectClass::SECRET_KEY => &[
            AttributeType::CHECK_VALUE,
            AttributeType::WRAP_TEMPLATE,
            AttributeType::UNWRAP_TEMPLATE,
            AttributeType::DERIVE_TEMPLATE,
        ],
        ObjectClass::PUBLIC_KEY => &[
            AttributeType::SUBJECT,
            AttributeType::PUBLIC_KEY_INFO,
            AttributeType::WRAP_TEMPLATE,
            AttributeType::ENCAPSULATE_TEMPLATE,
        ],
        ObjectClass::PRIVATE_KEY => &[
            AttributeType::SUBJECT,
            AttributeType::PUBLIC_KEY_INFO,
            AttributeType::UNWRAP_TEMPLATE,
            AttributeType::DERIVE_TEMPLATE,
            AttributeType::DECAPSULATE_TEMPLATE,
        ],
        ObjectClass::CERTIFICATE => &[
            AttributeType::ID,
            AttributeType::ISSUER,
            AttributeType::SERIAL_NUMBER,
            AttributeType::URL,
            AttributeType::CHECK_VALUE,
            AttributeType::START_DATE,
            AttributeType::END_DATE,
            AttributeType::PUBLIC_KEY_INFO,
            AttributeType::HASH_OF_SUBJECT_PUBLIC_KEY,
            AttributeType::HASH_OF_ISSUER_PUBLIC_KEY,
        ],
        ObjectClass::DATA => &[AttributeType::APPLICATION, AttributeType::OBJECT_ID],
        _ => &[],
    };
    let of_keys = [
        AttributeType::ID,
        AttributeType::START_DATE,
        AttributeType::END_DATE,
        AttributeType::ALLOWED_MECHANISMS,
    ];
    let is_key =
        matches!(class, ObjectClass::SECRET_KEY | ObjectClass::PUBLIC_KEY | ObjectClass::PRIVATE_KEY);
    kind == AttributeType::LABEL || of_class.contains(&kind) || (is_key && of_keys.contains(&kind))
}

#[cfg(test)]
mod tests {
    use kms_protocol::Attribute;

    use super::super::usage::tests::key;
    use super::*;

    #[test]
    fn a_secret_is_told_only_of_a_key_that_is_neither_sensitive_nor_unextractable() {
        for (sensitive, extractable, expected) in [
            (false, true, AttributeView::Secret),
            (true, true, AttributeView::Sensitive),
            (false, false, AttributeView::Sensitive),
            (true, false, AttributeView::Sensitive),
        ] {
            let mut key = key(ObjectClass::SECRET_KEY, KeyType::AES, &[]);
            key.attributes.set(Attribute::bool(AttributeType::SENSITIVE, sensitive));
            key.attributes.set(Attribute::bool(AttributeType::EXTRACTABLE, extractable));
            assert_eq!(look(&key, None, AttributeType::VALUE), expected);
        }
    }

    #[test]
    fn what_the_backend_reveals_is_the_value() {
        let mut key = key(ObjectClass::SECRET_KEY, KeyType::AES, &[AttributeType::EXTRACTABLE]);
        key.attributes.set(Attribute::bool(AttributeType::SENSITIVE, false));
        let revealed = Template(vec![Attribute::bytes(AttributeType::VALUE, [5; 16])]);
        let value = Value::Bytes(vec![5; 16].into());
        assert_eq!(look(&key, Some(&revealed), AttributeType::VALUE), AttributeView::Value(&value));
    }

    #[test]
    fn the_value_of_a_data_object_is_told_to_who_sees_the_object() {
        let mut data = key(ObjectClass::DATA, KeyType::AES, &[]);
        assert_eq!(look(&data, None, AttributeType::VALUE), AttributeView::Secret);
        assert_eq!(look(&data, Some(&Template::default()), AttributeType::VALUE), AttributeView::Empty);
        assert_eq!(look(&data, None, AttributeType::OBJECT_ID), AttributeView::Empty);
        data.attributes = Template(vec![Attribute::bytes(AttributeType::LABEL, "four")]);
        assert_eq!(size(&data.attributes), 28);
    }

    #[test]
    fn unknown_is_not_empty() {
        let rsa = key(ObjectClass::PRIVATE_KEY, KeyType::RSA, &[]);
        assert_eq!(look(&rsa, None, AttributeType::SUBJECT), AttributeView::Empty);
        assert_eq!(look(&rsa, None, AttributeType::PRIME_1), AttributeView::Sensitive);
        assert_eq!(look(&rsa, None, AttributeType::VALUE), AttributeView::Invalid);
        assert_eq!(look(&rsa, None, AttributeType(0x8000_0001)), AttributeView::Invalid);
    }
}
