//! How keys and other objects arrive that are not made here: created from their values, unwrapped, derived, agreed on,
//! copied. Template and origin → what the object will be like, or why there will be none.

use kms_protocol::{
    Attribute, AttributeType, KeyType, Mechanism, MechanismType, ObjectClass, RingPolicy, Rv, Template,
    Value, mechanism_table::GENERIC_BYTES,
};

use super::attributes::{Origins, Rule, rule_of};
use super::classes::{is_hidden, is_key, rules_of};
use super::defaults::{Descent, class_of, may_make, with_defaults};
use super::template::{Creation, check_value, complete, may_become, prescribed, said_once};
use super::{is_private, ring, separation};
use crate::object::{Caller, Draft, Object};

/// What an object will be.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Its class.
    pub class: ObjectClass,
    /// Its type, if it is a key.
    pub kind: Option<KeyType>,
    /// Its attributes, but for those that come with its value.
    pub draft: Draft,
    /// The length of its value, if the template names one.
    pub bytes: Option<usize>,
}

/// `CKC_X_509`, the one kind of certificate we have.
const X_509: u64 = 0;

/// Decides on an object made from its values (`C_CreateObject`).
///
/// # Errors
/// What the table refuses, and `CKR_TEMPLATE_INCONSISTENT` for a secret that a strict ring does not take in plaintext.
pub fn create(caller: &Caller, template: &Template) -> Result<Decision, Rv> {
    let class = class_of(template)?;
    let kind = if is_key(class) {
        template.value(AttributeType::KEY_TYPE).ok_or(Rv::TEMPLATE_INCOMPLETE)?;
        Some(template.key_type().ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?)
    } else {
        None
    };
    rules_of(class, kind).ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?;
    if class == ObjectClass::CERTIFICATE {
        certificate(template)?;
    }
    let creation = Creation { origin: Origins::CREATE, class, kind };
    let attributes = complete(creation, caller, template)?;
    no_plaintext(caller, class, &attributes, false)?;
    may_make(caller, creation, &attributes)?;
    Ok(decided(creation, attributes, Descent::Foreign))
}

/// Spec, "X.509 public key certificate objects": the value, or where to find it.
fn certificate(template: &Template) -> Result<(), Rv> {
    match template.ulong(AttributeType::CERTIFICATE_TYPE) {
        None => return Err(Rv::TEMPLATE_INCOMPLETE),
        Some(X_509) => {}
        Some(_) => return Err(Rv::ATTRIBUTE_VALUE_INVALID),
    }
    let filled = |kind| template.bytes(kind).is_some_and(|bytes| !bytes.is_empty());
    let known = filled(AttributeType::VALUE) || filled(AttributeType::URL);
    if known { Ok(()) } else { Err(Rv::TEMPLATE_INCOMPLETE) }
}

/// Decides on a key that comes in wrapped over the service's API, whose template is the service's own.
///
/// # Errors
/// What the table refuses.
pub fn imported(caller: &Caller, template: &Template) -> Result<Decision, Rv> {
    let class = class_of(template)?;
    let kind = Some(template.key_type().ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?);
    let creation = Creation { origin: Origins::UNWRAP, class, kind };
    let mut attributes = complete(creation, caller, template)?;
    close(caller.policy, &mut attributes);
    may_make(caller, creation, &attributes)?;
    Ok(decided(creation, attributes, Descent::Foreign))
}

/// Decides on a key that is unwrapped.
///
/// # Errors
/// What the table refuses, and `CKR_TEMPLATE_INCONSISTENT` where the template contradicts the unwrapping key's, or asks
/// a strict ring for a token key that could as well be decrypted.
pub fn unwrap(caller: &Caller, unwrapping: &Object, template: &Template) -> Result<Decision, Rv> {
    let template = prescribed(unwrapping, AttributeType::UNWRAP_TEMPLATE, template)?;
    let class = class_of(&template)?;
    if !is_hidden(class) {
        return Err(Rv::TEMPLATE_INCONSISTENT);
    }
    template.value(AttributeType::KEY_TYPE).ok_or(Rv::TEMPLATE_INCOMPLETE)?;
    let kind = Some(template.key_type().ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?);
    rules_of(class, kind).ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?;
    let creation = Creation { origin: Origins::UNWRAP, class, kind };
    let mut attributes = complete(creation, caller, &template)?;
    let by = unwrapping.class().ok_or(Rv::UNWRAPPING_KEY_HANDLE_INVALID)?;
    if separation::unwraps_in_the_open(by, &unwrapping.attributes) {
        no_plaintext(caller, class, &attributes, false)?;
    } else {
        close(caller.policy, &mut attributes);
    }
    may_make(caller, creation, &attributes)?;
    Ok(decided(creation, attributes, Descent::Foreign))
}

/// Keeps what is unwrapped in a strict ring hidden: who wrapped it may have done so to read it here, under another
/// template than it had.
fn close(policy: RingPolicy, attributes: &mut Template) {
    if policy == RingPolicy::Strict {
        attributes.set(Attribute::bool(AttributeType::SENSITIVE, true));
        attributes.set(Attribute::bool(AttributeType::EXTRACTABLE, false));
    }
}

/// Decides on a key that is derived from others; the first one is the base, whose template counts.
///
/// # Errors
/// What the table refuses, and `CKR_TEMPLATE_INCONSISTENT` for what a strict ring does not derive.
pub fn derive(
    caller: &Caller,
    mechanism: &Mechanism,
    bases: &[&Object],
    template: &Template,
) -> Result<Decision, Rv> {
    let base = bases.first().ok_or(Rv::KEY_HANDLE_INVALID)?;
    let template = prescribed(base, AttributeType::DERIVE_TEMPLATE, template)?;
    let creation = secret(Origins::DERIVE, &template)?;
    let mut attributes = complete(creation, caller, &template)?;
    let open = |base: &&Object| base.attributes.bool(AttributeType::SENSITIVE) == Some(false);
    no_plaintext(caller, creation.class, &attributes, !bases.iter().any(open))?;
    let (agreed, inherits) = match mechanism.kind {
        // The other side knows it, so it is no secret of the base's: ECDH consumers read it and derive it again at will.
        MechanismType::ECDH1_DERIVE | MechanismType::ECDH1_COFACTOR_DERIVE => (true, false),
        // Spec, "Concatenation of a base key and another key": in any ring, for it shows the base itself.
        MechanismType::CONCATENATE_BASE_AND_KEY
        | MechanismType::CONCATENATE_BASE_AND_DATA
        | MechanismType::CONCATENATE_DATA_AND_BASE
        | MechanismType::XOR_BASE_AND_DATA
        | MechanismType::EXTRACT_KEY_FROM_KEY => (false, true),
        _ => (false, caller.policy == RingPolicy::Strict),
    };
    if inherits {
        if !bases.iter().all(open) {
            attributes.set(Attribute::bool(AttributeType::SENSITIVE, true));
        }
        if !bases.iter().all(|base| base.is(AttributeType::EXTRACTABLE)) {
            attributes.set(Attribute::bool(AttributeType::EXTRACTABLE, false));
        }
    }
    // A short key can be guessed by what it signs, and with it a part of what it was cut from.
    let guessable = template
        .ulong(AttributeType::VALUE_LEN)
        .is_some_and(|length| length < ring::STRICT_GENERIC_BYTES_MIN);
    if guessable && caller.policy == RingPolicy::Strict && !agreed && !bases.iter().all(open) {
        return Err(Rv::ATTRIBUTE_VALUE_INVALID);
    }
    may_make(caller, creation, &attributes)?;
    Ok(decided(creation, attributes, Descent::Derived(bases)))
}

/// Decides on a secret that is agreed on with the holder of a key pair: by its public half (`C_EncapsulateKey`) or its
/// private half (`C_DecapsulateKey`).
///
/// # Errors
/// What the table refuses, and `CKR_TEMPLATE_INCONSISTENT` where the template contradicts the key's.
pub fn agree(caller: &Caller, key: &Object, template: &Template) -> Result<Decision, Rv> {
    let private = key.class() == Some(ObjectClass::PRIVATE_KEY);
    let by = if private { AttributeType::DECAPSULATE_TEMPLATE } else { AttributeType::ENCAPSULATE_TEMPLATE };
    let template = prescribed(key, by, template)?;
    let creation = secret(Origins::DERIVE, &template)?;
    let attributes = complete(creation, caller, &template)?;
    may_make(caller, creation, &attributes)?;
    let bases = [key];
    let descent = if private { Descent::Derived(&bases) } else { Descent::Foreign };
    Ok(decided(creation, attributes, descent))
}

/// A secret key of the type and length that a template names; a generic secret where it names none.
fn secret(origin: Origins, template: &Template) -> Result<Creation, Rv> {
    let class = ObjectClass::SECRET_KEY;
    if template.value(AttributeType::CLASS).is_some() && template.class() != Some(class) {
        return Err(Rv::TEMPLATE_INCONSISTENT);
    }
    let kind = match template.value(AttributeType::KEY_TYPE) {
        Some(_) => template.key_type().ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?,
        None => KeyType::GENERIC_SECRET,
    };
    rules_of(class, Some(kind)).ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?;
    let (least, most) = (u64::from(GENERIC_BYTES.0), u64::from(GENERIC_BYTES.1));
    let legal = |length: u64| match kind {
        KeyType::AES => matches!(length, 16 | 24 | 32),
        KeyType::CHACHA20 => length == 32,
        _ => (least..=most).contains(&length),
    };
    match template.ulong(AttributeType::VALUE_LEN) {
        Some(length) if !legal(length) => Err(Rv::ATTRIBUTE_VALUE_INVALID),
        Some(_) | None => Ok(Creation { origin, class, kind: Some(kind) }),
    }
}

/// Decides on a copy: the object's attributes with those of the template over them.
///
/// # Errors
/// `CKR_TEMPLATE_INCONSISTENT` for what would make the copy weaker than the object, and what the table refuses.
pub fn copy(caller: &Caller, object: &Object, template: &Template) -> Result<Decision, Rv> {
    let class = object.class().ok_or(Rv::ACTION_PROHIBITED)?;
    let kind = object.key_type().filter(|_| is_key(class));
    let rules = rules_of(class, kind).ok_or(Rv::ACTION_PROHIBITED)?;
    let mut attributes = object.attributes.clone();
    // What the officer trusts is the object he saw.
    attributes.0.retain(|attribute| attribute.kind != AttributeType::UNIQUE_ID);
    if object.is(AttributeType::TRUSTED) {
        attributes.set(Attribute::bool(AttributeType::TRUSTED, false));
    }
    for (at, attribute) in template.0.iter().enumerate() {
        let rule = rule_of(&rules, attribute.kind).ok_or(Rv::ATTRIBUTE_TYPE_INVALID)?;
        check_value(rule, &attribute.value)?;
        said_once(template, at)?;
        if object.attributes.value(attribute.kind) == Some(&attribute.value) {
            continue;
        }
        if !rule.given.has(Origins::COPY) {
            return Err(Rv::ATTRIBUTE_READ_ONLY);
        }
        if !may_differ(rule, caller, object, &attribute.value) {
            return Err(Rv::TEMPLATE_INCONSISTENT);
        }
        attributes.set(attribute.clone());
    }
    let creation = Creation { origin: Origins::COPY, class, kind };
    let to_token = !object.is(AttributeType::TOKEN) && attributes.bool(AttributeType::TOKEN) == Some(true);
    if to_token {
        no_plaintext(caller, class, &attributes, object.is(AttributeType::ALWAYS_SENSITIVE))?;
    }
    ring::hold(caller.policy, creation, &mut attributes);
    may_make(caller, creation, &attributes)?;
    let token = attributes.bool(AttributeType::TOKEN) == Some(true);
    Ok(Decision { class, kind, draft: Draft { attributes, token }, bytes: None })
}

/// Whether a copy's attribute may have this value, which differs from the object's.
fn may_differ(rule: &Rule, caller: &Caller, object: &Object, value: &Value) -> bool {
    match rule.kind {
        AttributeType::TOKEN | AttributeType::MODIFIABLE | AttributeType::DESTROYABLE => true,
        AttributeType::PRIVATE => !is_private(&object.attributes),
        // Fewer mechanisms; where none is named, all were allowed.
        AttributeType::ALLOWED_MECHANISMS => match (object.attributes.value(rule.kind), value) {
            (Some(Value::Mechanisms(before)), Value::Mechanisms(after)) => {
                let fewer = !after.0.is_empty() && after.0.iter().all(|kind| before.0.contains(kind));
                before.0.is_empty() || fewer
            }
            _ => false,
        },
        AttributeType::WRAP_TEMPLATE
        | AttributeType::UNWRAP_TEMPLATE
        | AttributeType::DERIVE_TEMPLATE
        | AttributeType::ENCAPSULATE_TEMPLATE
        | AttributeType::DECAPSULATE_TEMPLATE => {
            super::template::nested(&object.attributes, rule.kind).is_empty()
        }
        _ => may_become(rule, caller, object, value),
    }
}

/// A strict ring's token keys come from inside. `inside` tells that this one does.
fn no_plaintext(caller: &Caller, class: ObjectClass, attributes: &Template, inside: bool) -> Result<(), Rv> {
    let on_token = attributes.bool(AttributeType::TOKEN) == Some(true);
    let refused = caller.policy == RingPolicy::Strict && on_token && is_hidden(class) && !inside;
    if refused { Err(Rv::TEMPLATE_INCONSISTENT) } else { Ok(()) }
}

fn decided(creation: Creation, attributes: Template, descent: Descent<'_>) -> Decision {
    let bytes = attributes.ulong(AttributeType::VALUE_LEN).and_then(|length| usize::try_from(length).ok());
    Decision {
        class: creation.class,
        kind: creation.kind,
        draft: with_defaults(creation, attributes, descent),
        bytes,
    }
}
