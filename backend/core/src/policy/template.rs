//! Template and table → an object's attributes: what a template may say, and how attributes change.

use kms_protocol::{Attribute, AttributeType, KeyType, Nested, ObjectClass, RingPolicy, Rv, Template, Value};

use super::attributes::{Change, Origins, Rule, Start, empty_of, rule_of};
use super::classes::{is_key, rules_of};
use super::ring;
use crate::object::{Caller, Object, RingRole};

/// What a new object is, before its template is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creation {
    /// How it comes to be.
    pub(super) origin: Origins,
    /// Its class.
    pub(super) class: ObjectClass,
    /// Its type, if it is a key.
    pub(super) kind: Option<KeyType>,
}

/// Checks a template against the table and completes it: every attribute that the object will have, but for those that
/// come with the key itself. Values that became no attribute (`CKA_MODULUS_BITS` of a private key, say) are refused.
///
/// # Errors
/// `CKR_ATTRIBUTE_TYPE_INVALID`, `CKR_ATTRIBUTE_READ_ONLY`, `CKR_ATTRIBUTE_VALUE_INVALID`,
/// `CKR_TEMPLATE_INCONSISTENT`, `CKR_TEMPLATE_INCOMPLETE`.
pub(super) fn complete(creation: Creation, caller: &Caller, template: &Template) -> Result<Template, Rv> {
    let rules = rules_of(creation.class, creation.kind).ok_or(Rv::TEMPLATE_INCONSISTENT)?;
    check_given(&rules, creation, caller, template)?;
    let mut attributes = Template::default();
    for rule in rules.iter().flat_map(|rows| rows.iter()) {
        if rule.required != Origins::NONE
            && rule.required.has(creation.origin)
            && template.value(rule.kind).is_none()
        {
            return Err(Rv::TEMPLATE_INCOMPLETE);
        }
        let given = template.value(rule.kind).filter(|_| !rule.secret).cloned();
        if let Some(value) = given.or_else(|| start_of(rule, creation, caller.policy, template)) {
            attributes.0.push(Attribute { kind: rule.kind, value });
        }
    }
    ring::hold(caller.policy, creation, &mut attributes);
    Ok(attributes)
}

/// What a template says must be allowed, well-formed, and said once.
fn check_given(
    rules: &[&'static [Rule]],
    creation: Creation,
    caller: &Caller,
    template: &Template,
) -> Result<(), Rv> {
    for (at, attribute) in template.0.iter().enumerate() {
        let rule = rule_of(rules, attribute.kind).ok_or(Rv::ATTRIBUTE_TYPE_INVALID)?;
        check_value(rule, &attribute.value)?;
        said_once(template, at)?;
        if !rule.given.has(creation.origin) {
            return Err(Rv::ATTRIBUTE_READ_ONLY);
        }
        // Spec, "Storage objects": the officer alone makes an object trusted.
        let officer = caller.ring_role() == Some(RingRole::Officer);
        if rule.change == Change::Officer && attribute.value == Value::Bool(true) && !officer {
            return Err(Rv::ATTRIBUTE_READ_ONLY);
        }
    }
    let class_differs =
        template.ulong(AttributeType::CLASS).is_some() && template.class() != Some(creation.class);
    let type_differs =
        template.ulong(AttributeType::KEY_TYPE).is_some() && template.key_type() != creation.kind;
    if class_differs || type_differs { Err(Rv::TEMPLATE_INCONSISTENT) } else { Ok(()) }
}

/// Whether what stands at a place of the template contradicts nothing before it.
pub(super) fn said_once(template: &Template, at: usize) -> Result<(), Rv> {
    let (before, rest) = template.0.split_at(at);
    let contradicts = |other: &Attribute| {
        rest.first().is_some_and(|one| one.kind == other.kind && one.value != other.value)
    };
    if before.iter().any(contradicts) { Err(Rv::TEMPLATE_INCONSISTENT) } else { Ok(()) }
}

/// The shape was checked when the template was decoded; it is checked again for who builds one in the process.
pub(super) fn check_value(rule: &Rule, value: &Value) -> Result<(), Rv> {
    let right = match value {
        Value::Bytes(bytes) => rule.takes_bytes(bytes),
        Value::Template(nested) => nested.is_flat() && nested.0.iter().all(has_its_shape),
        // Whether an empty list allows everything or nothing, the specification does not say.
        Value::Mechanisms(mechanisms) => !mechanisms.0.is_empty(),
        Value::Bool(_) | Value::Ulong(_) => true,
    };
    if right && value.has_shape(rule.kind.shape()) { Ok(()) } else { Err(Rv::ATTRIBUTE_VALUE_INVALID) }
}

fn has_its_shape(attribute: &Attribute) -> bool {
    attribute.value.has_shape(attribute.kind.shape())
}

fn start_of(rule: &Rule, creation: Creation, policy: RingPolicy, asked: &Template) -> Option<Value> {
    match rule.starts {
        Start::Absent | Start::GeneratedKey => None,
        Start::Bool(value) => Some(Value::Bool(value)),
        Start::Ulong(value) => Some(Value::Ulong(value)),
        Start::Empty => Some(empty_of(rule.kind)),
        Start::Ring => {
            Some(Value::Bool(ring::start_of(policy, creation.class, creation.kind, rule.kind, asked)))
        }
        Start::Computed => match rule.kind {
            AttributeType::CLASS => Some(Value::Ulong(u64::from(creation.class.0))),
            AttributeType::KEY_TYPE => creation.kind.map(|kind| Value::Ulong(u64::from(kind.0))),
            AttributeType::LOCAL => Some(Value::Bool(creation.origin == Origins::GENERATE)),
            AttributeType::COPYABLE => {
                Some(Value::Bool(!is_key(creation.class) || asked.bool(AttributeType::TOKEN) != Some(true)))
            }
            // The rest is computed by who makes the object, from what is known when it is complete.
            _ => None,
        },
    }
}

/// A caller's template together with the one that a key prescribes for what it unwraps or derives.
///
/// # Errors
/// `CKR_TEMPLATE_INCONSISTENT` where they contradict each other.
pub(super) fn prescribed(key: &Object, by: AttributeType, template: &Template) -> Result<Template, Rv> {
    let mut whole = template.clone();
    for attribute in nested(&key.attributes, by) {
        match template.value(attribute.kind) {
            Some(value) if *value != attribute.value => return Err(Rv::TEMPLATE_INCONSISTENT),
            Some(_) => {}
            None => whole.0.push(attribute.clone()),
        }
    }
    Ok(whole)
}

/// The attributes in an attribute that holds a template; none where there is none.
pub(super) fn nested(attributes: &Template, kind: AttributeType) -> &[Attribute] {
    match attributes.value(kind) {
        Some(Value::Template(Nested(nested))) => nested,
        _ => &[],
    }
}

/// The attributes of an object after `C_SetAttributeValue`: all of the template, or an error.
///
/// # Errors
/// `CKR_ATTRIBUTE_READ_ONLY`, `CKR_ATTRIBUTE_TYPE_INVALID`, `CKR_ATTRIBUTE_VALUE_INVALID`,
/// `CKR_TEMPLATE_INCONSISTENT`.
pub fn change(caller: &Caller, object: &Object, template: &Template) -> Result<Template, Rv> {
    let class = object.class().ok_or(Rv::ATTRIBUTE_READ_ONLY)?;
    let rules = rules_of(class, object.key_type()).ok_or(Rv::ATTRIBUTE_READ_ONLY)?;
    let mut attributes = object.attributes.clone();
    for (at, attribute) in template.0.iter().enumerate() {
        let rule = rule_of(&rules, attribute.kind).ok_or(Rv::ATTRIBUTE_TYPE_INVALID)?;
        check_value(rule, &attribute.value)?;
        said_once(template, at)?;
        if !may_become(rule, caller, object, &attribute.value) {
            return Err(Rv::ATTRIBUTE_READ_ONLY);
        }
        attributes.set(attribute.clone());
    }
    Ok(attributes)
}

/// Whether a caller may give an attribute of an object this value.
pub(super) fn may_become(rule: &Rule, caller: &Caller, object: &Object, value: &Value) -> bool {
    let officer = caller.ring_role() == Some(RingRole::Officer);
    let now = object.attributes.value(rule.kind);
    match rule.change {
        Change::Never => false,
        Change::Officer => officer,
        Change::Free => !officer,
        Change::OnlyTo(to) => !officer && (*value == Value::Bool(to) || now == Some(value)),
        Change::Use => {
            let granted = match caller.policy {
                RingPolicy::Strict => *value == Value::Bool(false) || now == Some(value),
                RingPolicy::Compat => true,
            };
            !officer && granted
        }
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::RingId;
    use proptest::prelude::*;

    use super::super::callers::caller;
    use super::*;
    use crate::object::Material;

    const AES: Creation =
        Creation { origin: Origins::GENERATE, class: ObjectClass::SECRET_KEY, kind: Some(KeyType::AES) };

    fn length() -> Attribute {
        Attribute::ulong(AttributeType::VALUE_LEN, 32)
    }

    #[track_caller]
    fn check(attributes: &[Attribute], expected: Result<(), Rv>) {
        let mut template = Template(vec![length()]);
        template.0.extend_from_slice(attributes);
        for policy in [RingPolicy::Strict, RingPolicy::Compat] {
            assert_eq!(
                complete(AES, &caller(Some(RingRole::Admin), policy), &template).map(drop),
                expected,
                "{policy:?}"
            );
        }
    }

    fn object(policy: RingPolicy, asked: &[Attribute]) -> Object {
        let mut template = Template(vec![length(), Attribute::bool(AttributeType::TOKEN, true)]);
        template.0.extend_from_slice(asked);
        let attributes = complete(AES, &caller(Some(RingRole::Admin), policy), &template).unwrap();
        Object { id: None, ring: RingId([1; 16]), version: None, attributes, material: Material::None }
    }

    fn changed(
        policy: RingPolicy,
        who: RingRole,
        asked: &[Attribute],
        to: Attribute,
    ) -> Result<Template, Rv> {
        change(&caller(Some(who), policy), &object(policy, asked), &Template(vec![to]))
    }

    #[test]
    fn templates_say_what_they_may() {
        check(&[], Ok(()));
        check(&[Attribute::bytes(AttributeType::LABEL, "a")], Ok(()));
        check(
            &[Attribute::ulong(AttributeType::CLASS, 4), Attribute::ulong(AttributeType::KEY_TYPE, 0x1f)],
            Ok(()),
        );
        check(&[Attribute::bool(AttributeType::TRUSTED, false)], Ok(()));
    }

    #[test]
    fn templates_do_not_say_more() {
        check(&[Attribute::ulong(AttributeType::CLASS, 3)], Err(Rv::TEMPLATE_INCONSISTENT));
        check(&[Attribute::ulong(AttributeType::CLASS, 1 << 40)], Err(Rv::TEMPLATE_INCONSISTENT));
        check(&[Attribute::ulong(AttributeType::KEY_TYPE, 0)], Err(Rv::TEMPLATE_INCONSISTENT));
        check(&[Attribute::ulong(AttributeType::VALUE_LEN, 16)], Err(Rv::TEMPLATE_INCONSISTENT));
        check(&[length(), length()], Ok(()));
        check(&[Attribute::bool(AttributeType::TRUSTED, true)], Err(Rv::ATTRIBUTE_READ_ONLY));
        check(&[Attribute::bool(AttributeType::LOCAL, true)], Err(Rv::ATTRIBUTE_READ_ONLY));
        check(&[Attribute::bool(AttributeType::ALWAYS_SENSITIVE, true)], Err(Rv::ATTRIBUTE_READ_ONLY));
        check(&[Attribute::bytes(AttributeType::UNIQUE_ID, "x")], Err(Rv::ATTRIBUTE_READ_ONLY));
        check(&[Attribute::bytes(AttributeType::VALUE, vec![0; 32])], Err(Rv::ATTRIBUTE_READ_ONLY));
        check(&[Attribute::ulong(AttributeType::MODULUS_BITS, 2048)], Err(Rv::ATTRIBUTE_TYPE_INVALID));
        check(&[Attribute::bytes(AttributeType(0x8000_0001), "x")], Err(Rv::ATTRIBUTE_TYPE_INVALID));
        check(&[Attribute::bytes(AttributeType::LABEL, vec![b'x'; 1025])], Err(Rv::ATTRIBUTE_VALUE_INVALID));
        check(&[Attribute::bytes(AttributeType::END_DATE, "tomorrow")], Err(Rv::ATTRIBUTE_VALUE_INVALID));
        check(&[Attribute::ulong(AttributeType::TOKEN, 1)], Err(Rv::ATTRIBUTE_VALUE_INVALID));
        let incomplete =
            complete(AES, &caller(Some(RingRole::Admin), RingPolicy::Compat), &Template::default());
        assert_eq!(incomplete, Err(Rv::TEMPLATE_INCOMPLETE));
    }

    #[test]
    fn a_strict_token_key_is_sensitive_and_private_whatever_was_asked() {
        let asked = [
            Attribute::bool(AttributeType::SENSITIVE, false),
            Attribute::bool(AttributeType::PRIVATE, false),
        ];
        let strict = object(RingPolicy::Strict, &asked).attributes;
        let compat = object(RingPolicy::Compat, &asked).attributes;
        for kind in [AttributeType::SENSITIVE, AttributeType::PRIVATE] {
            assert_eq!(strict.bool(kind), Some(true));
            assert_eq!(compat.bool(kind), Some(false));
        }
        let session = complete(
            AES,
            &caller(Some(RingRole::Admin), RingPolicy::Strict),
            &Template([&asked[..], &[length()]].concat()),
        )
        .unwrap();
        assert_eq!(
            session.bool(AttributeType::SENSITIVE),
            Some(false),
            "a session key is its application's own"
        );
    }

    #[test]
    fn flags_go_one_way() {
        for policy in [RingPolicy::Strict, RingPolicy::Compat] {
            let extractable = [AttributeType::EXTRACTABLE, AttributeType::SENSITIVE]
                .map(|kind| Attribute::bool(kind, true));
            let set =
                |kind, value| changed(policy, RingRole::Admin, &extractable, Attribute::bool(kind, value));
            assert!(set(AttributeType::EXTRACTABLE, false).is_ok());
            assert!(set(AttributeType::EXTRACTABLE, true).is_ok(), "as it is");
            assert!(set(AttributeType::WRAP_WITH_TRUSTED, true).is_ok());
            assert_eq!(set(AttributeType::SENSITIVE, false), Err(Rv::ATTRIBUTE_READ_ONLY));
            let shut =
                changed(policy, RingRole::Admin, &[], Attribute::bool(AttributeType::EXTRACTABLE, true));
            assert_eq!(shut, Err(Rv::ATTRIBUTE_READ_ONLY));
            for fixed in [AttributeType::TOKEN, AttributeType::PRIVATE, AttributeType::LOCAL] {
                assert_eq!(set(fixed, true), Err(Rv::ATTRIBUTE_READ_ONLY));
            }
            assert_eq!(set(AttributeType::TRUSTED, true), Err(Rv::ATTRIBUTE_READ_ONLY));
        }
    }

    #[test]
    fn the_officer_sets_trusted_and_nothing_else() {
        let set = |to| changed(RingPolicy::Strict, RingRole::Officer, &[], to);
        let trusted = set(Attribute::bool(AttributeType::TRUSTED, true)).unwrap();
        assert_eq!(trusted.bool(AttributeType::TRUSTED), Some(true));
        assert_eq!(set(Attribute::bytes(AttributeType::LABEL, "x")), Err(Rv::ATTRIBUTE_READ_ONLY));
    }

    #[test]
    fn one_bad_attribute_changes_nothing() {
        let object = object(RingPolicy::Strict, &[]);
        let template = Template(vec![
            Attribute::bytes(AttributeType::LABEL, "new"),
            Attribute::bool(AttributeType::SENSITIVE, false),
        ]);
        let admin = caller(Some(RingRole::Admin), RingPolicy::Strict);
        assert_eq!(change(&admin, &object, &template), Err(Rv::ATTRIBUTE_READ_ONLY));
    }

    proptest! {
        /// The attack on every token of 2010: make a key a wrapping key after it was a data key, or the other way.
        #[test]
        fn no_sequence_of_changes_lets_one_value_do_both(
            asked: [bool; 4], steps in prop::collection::vec((0_usize..4, any::<bool>()), 0..12),
        ) {
            let uses = [AttributeType::ENCRYPT, AttributeType::DECRYPT, AttributeType::WRAP, AttributeType::UNWRAP];
            let asked: Vec<_> = uses.iter().zip(asked).map(|(kind, value)| Attribute::bool(*kind, value)).collect();
            let mut object = object(RingPolicy::Strict, &asked);
            let admin = caller(Some(RingRole::Admin), RingPolicy::Strict);
            let (mut data, mut keys) = (false, false);
            for (which, value) in steps {
                data |= object.is(AttributeType::ENCRYPT) || object.is(AttributeType::DECRYPT);
                let apart = object.is(AttributeType::KMS_WRAP_SUBKEY);
                keys |= object.is(AttributeType::WRAP) && !apart;
                prop_assert!(!(data && keys));
                if let Ok(attributes) = change(&admin, &object, &Template(vec![Attribute::bool(uses[which], value)])) {
                    object.attributes = attributes;
                }
            }
        }
    }
}
