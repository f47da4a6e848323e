//! Applies the attribute table to templates: which attributes a template may set, and how attributes change.

use kms_protocol::{Attribute, AttributeType, KeyType, Nested, ObjectClass, RingPolicy, Rv, Template, Value};

use super::attributes::{AttributeRule, Change, Functions, Initial, empty_value, find_rule};
use super::classes::{is_key, rules_of};
use super::ring;
use crate::object::{Caller, Object, RingRole};

/// How a new object is created, its class and its key type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creation {
    /// The function that creates it.
    pub(super) function: Functions,
    /// Its class.
    pub(super) class: ObjectClass,
    /// Its type, if it is a key.
    pub(super) kind: Option<KeyType>,
}

/// Checks a template against the table and completes it: every attribute that the object will have, except those that
/// are added with the key. Attributes that the object cannot have (`CKA_MODULUS_BITS` of a private key, say) are
/// rejected.
///
/// # Errors
/// `CKR_ATTRIBUTE_TYPE_INVALID`, `CKR_ATTRIBUTE_READ_ONLY`, `CKR_ATTRIBUTE_VALUE_INVALID`,
/// `CKR_TEMPLATE_INCONSISTENT`, `CKR_TEMPLATE_INCOMPLETE`.
pub(super) fn complete(creation: Creation, caller: &Caller, template: &Template) -> Result<Template, Rv> {
    let rules = rules_of(creation.class, creation.kind).ok_or(Rv::TEMPLATE_INCONSISTENT)?;
    check_template(&rules, creation, caller, template)?;
    let mut attributes = Template::default();
    for rule in rules.iter().flat_map(|rows| rows.iter()) {
        if rule.required_in != Functions::NONE
            && rule.required_in.has(creation.function)
            && template.value(rule.kind).is_none()
        {
            return Err(Rv::TEMPLATE_INCOMPLETE);
        }
        let given = template.value(rule.kind).filter(|_| !rule.secret).cloned();
        if let Some(value) = given.or_else(|| default_of(rule, creation, caller.policy, template)) {
            attributes.0.push(Attribute { kind: rule.kind, value });
        }
    }
    ring::enforce(caller.policy, creation, &mut attributes);
    Ok(attributes)
}

/// Checks that a template's attributes are allowed, well-formed and free of contradictions.
fn check_template(
    rules: &[&'static [AttributeRule]],
    creation: Creation,
    caller: &Caller,
    template: &Template,
) -> Result<(), Rv> {
    for (index, attribute) in template.0.iter().enumerate() {
        let rule = find_rule(rules, attribute.kind).ok_or(Rv::ATTRIBUTE_TYPE_INVALID)?;
        check_value(rule, &attribute.value)?;
        check_not_contradicted(template, index)?;
        if !rule.allowed_in.has(creation.function) {
            return Err(Rv::ATTRIBUTE_READ_ONLY);
        }
        // Spec, "Storage objects": only the security officer makes an object trusted.
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

/// Checks that the attribute at an index of the template does not contradict one before it.
pub(super) fn check_not_contradicted(template: &Template, index: usize) -> Result<(), Rv> {
    let (before, rest) = template.0.split_at(index);
    let contradicts = |other: &Attribute| {
        rest.first().is_some_and(|one| one.kind == other.kind && one.value != other.value)
    };
    if before.iter().any(contradicts) { Err(Rv::TEMPLATE_INCONSISTENT) } else { Ok(()) }
}

/// Checks an attribute's value. Its shape was checked when the template was decoded, and is checked again here for
/// templates that are built in the process.
pub(super) fn check_value(rule: &AttributeRule, value: &Value) -> Result<(), Rv> {
    let right = match value {
        Value::Bytes(bytes) => rule.accepts_bytes(bytes),
        Value::Template(nested) => nested.is_flat() && nested.0.iter().all(has_right_shape),
        // The specification does not say whether an empty list allows everything or nothing.
        Value::Mechanisms(mechanisms) => !mechanisms.0.is_empty(),
        Value::Bool(_) | Value::Ulong(_) => true,
    };
    if right && value.has_shape(rule.kind.shape()) { Ok(()) } else { Err(Rv::ATTRIBUTE_VALUE_INVALID) }
}

fn has_right_shape(attribute: &Attribute) -> bool {
    attribute.value.has_shape(attribute.kind.shape())
}

fn default_of(
    rule: &AttributeRule,
    creation: Creation,
    policy: RingPolicy,
    requested: &Template,
) -> Option<Value> {
    match rule.initial {
        Initial::Absent | Initial::SetWithKey => None,
        Initial::Bool(value) => Some(Value::Bool(value)),
        Initial::Ulong(value) => Some(Value::Ulong(value)),
        Initial::Empty => Some(empty_value(rule.kind)),
        Initial::Ring => {
            Some(Value::Bool(ring::default_of(policy, creation.class, creation.kind, rule.kind, requested)))
        }
        Initial::Computed => match rule.kind {
            AttributeType::CLASS => Some(Value::Ulong(u64::from(creation.class.0))),
            AttributeType::KEY_TYPE => creation.kind.map(|kind| Value::Ulong(u64::from(kind.0))),
            AttributeType::LOCAL => Some(Value::Bool(creation.function == Functions::GENERATE)),
            AttributeType::COPYABLE => Some(Value::Bool(
                !is_key(creation.class) || requested.bool(AttributeType::TOKEN) != Some(true),
            )),
            // The others are computed in `with_computed_attributes` when the object is complete.
            _ => None,
        },
    }
}

/// Merges a caller's template with the one that a key prescribes for keys that it unwraps or derives.
///
/// # Errors
/// `CKR_TEMPLATE_INCONSISTENT` if they contradict each other.
pub(super) fn merge_prescribed(key: &Object, by: AttributeType, template: &Template) -> Result<Template, Rv> {
    let mut merged = template.clone();
    for attribute in nested(&key.attributes, by) {
        match template.value(attribute.kind) {
            Some(value) if *value != attribute.value => return Err(Rv::TEMPLATE_INCONSISTENT),
            Some(_) => {}
            None => merged.0.push(attribute.clone()),
        }
    }
    Ok(merged)
}

/// The attributes in an attribute whose value is a template; empty if the object does not have it.
pub(super) fn nested(attributes: &Template, kind: AttributeType) -> &[Attribute] {
    match attributes.value(kind) {
        Some(Value::Template(Nested(nested))) => nested,
        _ => &[],
    }
}

/// The attributes of an object after `C_SetAttributeValue`, which applies all of the template or none of it.
///
/// # Errors
/// `CKR_ATTRIBUTE_READ_ONLY`, `CKR_ATTRIBUTE_TYPE_INVALID`, `CKR_ATTRIBUTE_VALUE_INVALID`,
/// `CKR_TEMPLATE_INCONSISTENT`.
pub fn change(caller: &Caller, object: &Object, template: &Template) -> Result<Template, Rv> {
    let class = object.class().ok_or(Rv::ATTRIBUTE_READ_ONLY)?;
    let rules = rules_of(class, object.key_type()).ok_or(Rv::ATTRIBUTE_READ_ONLY)?;
    let mut attributes = object.attributes.clone();
    for (index, attribute) in template.0.iter().enumerate() {
        let rule = find_rule(&rules, attribute.kind).ok_or(Rv::ATTRIBUTE_TYPE_INVALID)?;
        check_value(rule, &attribute.value)?;
        check_not_contradicted(template, index)?;
        if !may_change_to(rule, caller, object, &attribute.value) {
            return Err(Rv::ATTRIBUTE_READ_ONLY);
        }
        attributes.set(attribute.clone());
    }
    Ok(attributes)
}

/// Whether a caller may change an attribute of an object to this value.
pub(super) fn may_change_to(rule: &AttributeRule, caller: &Caller, object: &Object, value: &Value) -> bool {
    let officer = caller.ring_role() == Some(RingRole::Officer);
    let now = object.attributes.value(rule.kind);
    match rule.change {
        Change::Never => false,
        Change::Officer => officer,
        Change::Any => !officer,
        Change::OnlyTo(to) => !officer && (*value == Value::Bool(to) || now == Some(value)),
        Change::UsageFlag => {
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
        Creation { function: Functions::GENERATE, class: ObjectClass::SECRET_KEY, kind: Some(KeyType::AES) };

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

    fn object(policy: RingPolicy, requested: &[Attribute]) -> Object {
        let mut template = Template(vec![length(), Attribute::bool(AttributeType::TOKEN, true)]);
        template.0.extend_from_slice(requested);
        let attributes = complete(AES, &caller(Some(RingRole::Admin), policy), &template).unwrap();
        Object { id: None, ring: RingId([1; 16]), version: None, attributes, material: Material::None }
    }

    fn changed(
        policy: RingPolicy,
        role: RingRole,
        requested: &[Attribute],
        to: Attribute,
    ) -> Result<Template, Rv> {
        change(&caller(Some(role), policy), &object(policy, requested), &Template(vec![to]))
    }

    #[test]
    fn allowed_attributes_are_accepted() {
        check(&[], Ok(()));
        check(&[Attribute::bytes(AttributeType::LABEL, "a")], Ok(()));
        check(
            &[Attribute::ulong(AttributeType::CLASS, 4), Attribute::ulong(AttributeType::KEY_TYPE, 0x1f)],
            Ok(()),
        );
        check(&[Attribute::bool(AttributeType::TRUSTED, false)], Ok(()));
    }

    #[test]
    fn other_attributes_are_rejected() {
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
    fn a_strict_token_key_is_sensitive_and_private_whatever_was_requested() {
        let requested = [
            Attribute::bool(AttributeType::SENSITIVE, false),
            Attribute::bool(AttributeType::PRIVATE, false),
        ];
        let strict = object(RingPolicy::Strict, &requested).attributes;
        let compat = object(RingPolicy::Compat, &requested).attributes;
        for kind in [AttributeType::SENSITIVE, AttributeType::PRIVATE] {
            assert_eq!(strict.bool(kind), Some(true));
            assert_eq!(compat.bool(kind), Some(false));
        }
        let session = complete(
            AES,
            &caller(Some(RingRole::Admin), RingPolicy::Strict),
            &Template([&requested[..], &[length()]].concat()),
        )
        .unwrap();
        assert_eq!(
            session.bool(AttributeType::SENSITIVE),
            Some(false),
            "a session key has the attributes that its application requests"
        );
    }

    #[test]
    fn some_flags_change_in_one_direction_only() {
        for policy in [RingPolicy::Strict, RingPolicy::Compat] {
            let extractable = [AttributeType::EXTRACTABLE, AttributeType::SENSITIVE]
                .map(|kind| Attribute::bool(kind, true));
            let set =
                |kind, value| changed(policy, RingRole::Admin, &extractable, Attribute::bool(kind, value));
            assert!(set(AttributeType::EXTRACTABLE, false).is_ok());
            assert!(set(AttributeType::EXTRACTABLE, true).is_ok(), "unchanged");
            assert!(set(AttributeType::WRAP_WITH_TRUSTED, true).is_ok());
            assert_eq!(set(AttributeType::SENSITIVE, false), Err(Rv::ATTRIBUTE_READ_ONLY));
            let not_extractable =
                changed(policy, RingRole::Admin, &[], Attribute::bool(AttributeType::EXTRACTABLE, true));
            assert_eq!(not_extractable, Err(Rv::ATTRIBUTE_READ_ONLY));
            for fixed in [AttributeType::TOKEN, AttributeType::PRIVATE, AttributeType::LOCAL] {
                assert_eq!(set(fixed, true), Err(Rv::ATTRIBUTE_READ_ONLY));
            }
            assert_eq!(set(AttributeType::TRUSTED, true), Err(Rv::ATTRIBUTE_READ_ONLY));
        }
    }

    #[test]
    fn the_security_officer_sets_trusted_and_nothing_else() {
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
        /// The attack that worked on all tokens in 2010: turn a data key into a wrapping key, or the other way round.
        #[test]
        fn no_sequence_of_changes_lets_a_key_work_on_data_and_wrap(
            requested: [bool; 4], steps in prop::collection::vec((0_usize..4, any::<bool>()), 0..12),
        ) {
            let uses = [AttributeType::ENCRYPT, AttributeType::DECRYPT, AttributeType::WRAP, AttributeType::UNWRAP];
            let requested: Vec<_> = uses.iter().zip(requested).map(|(kind, value)| Attribute::bool(*kind, value)).collect();
            let mut object = object(RingPolicy::Strict, &requested);
            let admin = caller(Some(RingRole::Admin), RingPolicy::Strict);
            let (mut worked_on_data, mut wrapped) = (false, false);
            for (which, value) in steps {
                worked_on_data |= object.is(AttributeType::ENCRYPT) || object.is(AttributeType::DECRYPT);
                let has_subkey = object.is(AttributeType::KMS_WRAP_SUBKEY);
                wrapped |= object.is(AttributeType::WRAP) && !has_subkey;
                prop_assert!(!(worked_on_data && wrapped));
                if let Ok(attributes) = change(&admin, &object, &Template(vec![Attribute::bool(uses[which], value)])) {
                    object.attributes = attributes;
                }
            }
        }
    }
}
