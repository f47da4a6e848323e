//! The attributes of an object as an application sees them: a value, a secret, empty or invalid. Pure.

use kms_protocol::{AttributeType, KeyType, ObjectClass, Template, Value};

use super::objects::ObjectInfo;

/// One attribute of one object.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum AttributeView<'a> {
    /// Its value.
    Value(&'a Value),
    /// The object could have it and does not: a value of length zero.
    Empty,
    /// The backend has the value and reveals it on request.
    Secret,
    /// The value is never revealed (`CKR_ATTRIBUTE_SENSITIVE`).
    Sensitive,
    /// Objects of this kind have no such attribute (`CKR_ATTRIBUTE_TYPE_INVALID`).
    Invalid,
}

/// Returns one attribute. `revealed` contains the secret attributes that the backend has revealed, if it was requested.
pub(crate) fn view<'a>(
    info: &'a ObjectInfo,
    revealed: Option<&'a Template>,
    kind: AttributeType,
) -> AttributeView<'a> {
    if let Some(value) = info.attributes.value(kind) {
        return AttributeView::Value(value);
    }
    if is_secret(info, kind) {
        return match revealed.map(|revealed| revealed.value(kind)) {
            Some(Some(value)) => AttributeView::Value(value),
            Some(None) if info.class() == Some(ObjectClass::DATA) => AttributeView::Empty,
            Some(None) => AttributeView::Invalid,
            None if is_unreadable(info) => AttributeView::Sensitive,
            None => AttributeView::Secret,
        };
    }
    if may_be_empty(info, kind) { AttributeView::Empty } else { AttributeView::Invalid }
}

/// Whether the secret is never revealed. The value of a data object is revealed to every caller that sees the object.
fn is_unreadable(info: &ObjectInfo) -> bool {
    let hidden = info.is(AttributeType::SENSITIVE) || !info.is(AttributeType::EXTRACTABLE);
    hidden && info.class() != Some(ObjectClass::DATA)
}

/// The size of attributes in memory: `CK_ATTRIBUTE` structures and values.
pub(crate) fn size(attributes: &Template) -> u64 {
    /// The size of `CK_ATTRIBUTE` with 64-bit pointers.
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

/// Whether an attribute is part of a key's secret or a data object's value.
fn is_secret(info: &ObjectInfo, kind: AttributeType) -> bool {
    let secrets: &[AttributeType] = match (info.class(), info.attributes.key_type()) {
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

/// Whether an object can have an attribute that it mostly does not have. Such attributes are reported as empty, not as
/// invalid: after an invalid attribute in a batch, hosts request each one again.
fn may_be_empty(info: &ObjectInfo, kind: AttributeType) -> bool {
    let Some(class) = info.class() else { return false };
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
    fn a_secret_is_revealed_only_for_an_extractable_key_that_is_not_sensitive() {
        for (sensitive, extractable, expected) in [
            (false, true, AttributeView::Secret),
            (true, true, AttributeView::Sensitive),
            (false, false, AttributeView::Sensitive),
            (true, false, AttributeView::Sensitive),
        ] {
            let mut key = key(ObjectClass::SECRET_KEY, KeyType::AES, &[]);
            key.attributes.set(Attribute::bool(AttributeType::SENSITIVE, sensitive));
            key.attributes.set(Attribute::bool(AttributeType::EXTRACTABLE, extractable));
            assert_eq!(view(&key, None, AttributeType::VALUE), expected);
        }
    }

    #[test]
    fn a_revealed_secret_is_the_value() {
        let mut key = key(ObjectClass::SECRET_KEY, KeyType::AES, &[AttributeType::EXTRACTABLE]);
        key.attributes.set(Attribute::bool(AttributeType::SENSITIVE, false));
        let revealed = Template(vec![Attribute::bytes(AttributeType::VALUE, [5; 16])]);
        let value = Value::Bytes(vec![5; 16].into());
        assert_eq!(view(&key, Some(&revealed), AttributeType::VALUE), AttributeView::Value(&value));
    }

    #[test]
    fn the_value_of_a_data_object_is_revealed() {
        let mut data = key(ObjectClass::DATA, KeyType::AES, &[]);
        assert_eq!(view(&data, None, AttributeType::VALUE), AttributeView::Secret);
        assert_eq!(view(&data, Some(&Template::default()), AttributeType::VALUE), AttributeView::Empty);
        assert_eq!(view(&data, None, AttributeType::OBJECT_ID), AttributeView::Empty);
        data.attributes = Template(vec![Attribute::bytes(AttributeType::LABEL, "four")]);
        assert_eq!(size(&data.attributes), 28);
    }

    #[test]
    fn invalid_attributes_are_not_empty() {
        let rsa = key(ObjectClass::PRIVATE_KEY, KeyType::RSA, &[]);
        assert_eq!(view(&rsa, None, AttributeType::SUBJECT), AttributeView::Empty);
        assert_eq!(view(&rsa, None, AttributeType::PRIME_1), AttributeView::Sensitive);
        assert_eq!(view(&rsa, None, AttributeType::VALUE), AttributeView::Invalid);
        assert_eq!(view(&rsa, None, AttributeType(0x8000_0001)), AttributeView::Invalid);
    }
}
