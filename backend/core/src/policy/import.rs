//! Decisions on objects that are not generated: created from their values, unwrapped, derived, agreed on or copied.

use kms_protocol::{
    Attribute, AttributeType, KeyType, Mechanism, MechanismType, ObjectClass, RingPolicy, Rv, Template,
    Value, mechanism_table::GENERIC_BYTES,
};

use super::attributes::{AttributeRule, Functions, find_rule};
use super::classes::{is_key, is_secret_or_private, rules_of};
use super::defaults::{KeySource, class_of, may_create, with_computed_attributes};
use super::generate::integer;
use super::template::{
    Creation, check_not_contradicted, check_value, complete, may_change_to, merge_prescribed,
};
use super::{derivation, is_private, ring, separation};
use crate::object::{Caller, Draft, Object};

/// A decision that an object may be created, and what it will be.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Its class.
    pub class: ObjectClass,
    /// Its type, if it is a key.
    pub kind: Option<KeyType>,
    /// Its attributes, except those that are added with its value.
    pub draft: Draft,
    /// The length of its value, if the template names one.
    pub bytes: Option<usize>,
}

/// `CKC_X_509`, the only supported type of certificate.
const X_509: u64 = 0;

/// Decides on an object that is created from its values (`C_CreateObject`).
///
/// # Errors
/// The errors of the attribute table, and `CKR_TEMPLATE_INCONSISTENT` for a secret that a strict ring does not accept
/// in plaintext.
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
        check_certificate(template)?;
    }
    let creation = Creation { function: Functions::CREATE, class, kind };
    let attributes = complete(creation, caller, template)?;
    reject_plaintext(caller, class, &attributes, false)?;
    may_create(caller, creation, &attributes)?;
    Ok(decision(creation, attributes, KeySource::External))
}

/// Checks a certificate (spec, "X.509 public key certificate objects"): it has its value, or a URL where it is found.
fn check_certificate(template: &Template) -> Result<(), Rv> {
    match template.ulong(AttributeType::CERTIFICATE_TYPE) {
        None => return Err(Rv::TEMPLATE_INCOMPLETE),
        Some(X_509) => {}
        Some(_) => return Err(Rv::ATTRIBUTE_VALUE_INVALID),
    }
    let filled = |kind| template.bytes(kind).is_some_and(|bytes| !bytes.is_empty());
    let known = filled(AttributeType::VALUE) || filled(AttributeType::URL);
    if known { Ok(()) } else { Err(Rv::TEMPLATE_INCOMPLETE) }
}

/// Decides on a key that is imported wrapped over the REST API, with a template that the service builds.
///
/// # Errors
/// The errors of the attribute table.
pub fn import_wrapped(caller: &Caller, template: &Template) -> Result<Decision, Rv> {
    let class = class_of(template)?;
    let kind = Some(template.key_type().ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?);
    let creation = Creation { function: Functions::UNWRAP, class, kind };
    let mut attributes = complete(creation, caller, template)?;
    protect(caller.policy, &mut attributes);
    if caller.policy == RingPolicy::Strict {
        derivation::restrict_unwrapped(class, &mut attributes);
    }
    may_create(caller, creation, &attributes)?;
    Ok(decision(creation, attributes, KeySource::External))
}

/// Checks what the value of an imported key has, whichever function imports it: a strict ring accepts no RSA private key
/// with a public exponent that it would not generate.
///
/// # Errors
/// `CKR_ATTRIBUTE_VALUE_INVALID`.
pub fn check_imported_value(
    policy: RingPolicy,
    class: ObjectClass,
    kind: KeyType,
    derived: &[Attribute],
) -> Result<(), Rv> {
    if policy == RingPolicy::Compat || class != ObjectClass::PRIVATE_KEY || kind != KeyType::RSA {
        return Ok(());
    }
    let exponent = derived.iter().find(|attribute| attribute.kind == AttributeType::PUBLIC_EXPONENT);
    let Some(Value::Bytes(exponent)) = exponent.map(|attribute| &attribute.value) else {
        return Err(Rv::ATTRIBUTE_VALUE_INVALID);
    };
    let large = integer(exponent).is_none_or(|exponent| exponent >= ring::STRICT_EXPONENT_MIN);
    if large { Ok(()) } else { Err(Rv::ATTRIBUTE_VALUE_INVALID) }
}

/// Decides on a key that is unwrapped.
///
/// # Errors
/// The errors of the attribute table, and `CKR_TEMPLATE_INCONSISTENT` where the template contradicts the unwrapping
/// key's, or requests a token key in a strict ring whose value could also be decrypted.
pub fn unwrap(caller: &Caller, unwrapping: &Object, template: &Template) -> Result<Decision, Rv> {
    let template = merge_prescribed(unwrapping, AttributeType::UNWRAP_TEMPLATE, template)?;
    let class = class_of(&template)?;
    if !is_secret_or_private(class) {
        return Err(Rv::TEMPLATE_INCONSISTENT);
    }
    template.value(AttributeType::KEY_TYPE).ok_or(Rv::TEMPLATE_INCOMPLETE)?;
    let kind = Some(template.key_type().ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?);
    rules_of(class, kind).ok_or(Rv::ATTRIBUTE_VALUE_INVALID)?;
    let creation = Creation { function: Functions::UNWRAP, class, kind };
    let mut attributes = complete(creation, caller, &template)?;
    let by = unwrapping.class().ok_or(Rv::UNWRAPPING_KEY_HANDLE_INVALID)?;
    if separation::unwrapped_value_is_decryptable(by, &unwrapping.attributes) {
        reject_plaintext(caller, class, &attributes, false)?;
    } else {
        protect(caller.policy, &mut attributes);
    }
    if caller.policy == RingPolicy::Strict {
        derivation::restrict_unwrapped(class, &mut attributes);
    }
    may_create(caller, creation, &attributes)?;
    Ok(decision(creation, attributes, KeySource::External))
}

/// Makes an unwrapped key of a strict ring sensitive and unextractable: a caller may have wrapped it to unwrap it under
/// a weaker template and read it.
fn protect(policy: RingPolicy, attributes: &mut Template) {
    if policy == RingPolicy::Strict {
        attributes.set(Attribute::bool(AttributeType::SENSITIVE, true));
        attributes.set(Attribute::bool(AttributeType::EXTRACTABLE, false));
    }
}

/// Decides on a key that is derived from others; the first one is the base key, whose derive template applies.
///
/// # Errors
/// The errors of the attribute table, and `CKR_TEMPLATE_INCONSISTENT` for a key that a strict ring does not derive.
pub fn derive(
    caller: &Caller,
    mechanism: &Mechanism,
    bases: &[&Object],
    template: &Template,
) -> Result<Decision, Rv> {
    let base = bases.first().ok_or(Rv::KEY_HANDLE_INVALID)?;
    let template = merge_prescribed(base, AttributeType::DERIVE_TEMPLATE, template)?;
    let creation = secret_key(Functions::DERIVE, &template)?;
    let mut attributes = complete(creation, caller, &template)?;
    let is_agreement =
        matches!(mechanism.kind, MechanismType::ECDH1_DERIVE | MechanismType::ECDH1_COFACTOR_DERIVE);
    if is_agreement {
        return agreed(caller, base, AttributeType::DERIVE_TEMPLATE, creation, attributes);
    }
    let not_sensitive = |base: &&Object| base.attributes.bool(AttributeType::SENSITIVE) == Some(false);
    let inherits = match mechanism.kind {
        // Spec, "Concatenation of a base key and another key": in any ring, since the result reveals the base key.
        MechanismType::CONCATENATE_BASE_AND_KEY
        | MechanismType::CONCATENATE_BASE_AND_DATA
        | MechanismType::CONCATENATE_DATA_AND_BASE
        | MechanismType::XOR_BASE_AND_DATA
        | MechanismType::EXTRACT_KEY_FROM_KEY => true,
        _ => caller.policy == RingPolicy::Strict,
    };
    if inherits {
        if !bases.iter().all(not_sensitive) {
            attributes.set(Attribute::bool(AttributeType::SENSITIVE, true));
        }
        if !bases.iter().all(|base| base.is(AttributeType::EXTRACTABLE)) {
            attributes.set(Attribute::bool(AttributeType::EXTRACTABLE, false));
        }
    }
    if caller.policy == RingPolicy::Strict {
        derivation::restrict_derived(creation, mechanism, bases, &template, &mut attributes)?;
    }
    let inside = bases.iter().all(|base| base.is(AttributeType::ALWAYS_SENSITIVE));
    reject_plaintext(caller, creation.class, &attributes, inside)?;
    // A short key can be guessed from what it signs, and with it a part of its base key.
    let guessable = template
        .ulong(AttributeType::VALUE_LEN)
        .is_some_and(|length| length < ring::STRICT_GENERIC_BYTES_MIN);
    if guessable && caller.policy == RingPolicy::Strict && !bases.iter().all(not_sensitive) {
        return Err(Rv::ATTRIBUTE_VALUE_INVALID);
    }
    may_create(caller, creation, &attributes)?;
    Ok(decision(creation, attributes, KeySource::Derived(bases)))
}

/// Decides on a shared secret with these attributes, which the key `by` agrees on with another party. The other party
/// knows the value, and the caller can agree on it again at any time: ECDH applications read it. In a strict ring it
/// counts as imported in plaintext, unless the private key agrees on sensitive secrets only.
fn agreed(
    caller: &Caller,
    key: &Object,
    by: AttributeType,
    creation: Creation,
    mut attributes: Template,
) -> Result<Decision, Rv> {
    let source = [key];
    let mut source = KeySource::Derived(&source);
    if caller.policy == RingPolicy::Strict {
        let fixed = derivation::agrees_on_sensitive_only(key, by);
        derivation::restrict_agreed(creation, fixed, &mut attributes);
        reject_plaintext(caller, creation.class, &attributes, fixed)?;
        if !fixed {
            source = KeySource::External;
        }
    } else if key.class() != Some(ObjectClass::PRIVATE_KEY) {
        source = KeySource::External;
    }
    may_create(caller, creation, &attributes)?;
    Ok(decision(creation, attributes, source))
}

/// Decides on a shared secret that is agreed on with the holder of a key pair: by the public key (`C_EncapsulateKey`)
/// or the private key (`C_DecapsulateKey`).
///
/// # Errors
/// The errors of the attribute table, and `CKR_TEMPLATE_INCONSISTENT` where the template contradicts the key's.
pub fn agree_secret(caller: &Caller, key: &Object, template: &Template) -> Result<Decision, Rv> {
    let private = key.class() == Some(ObjectClass::PRIVATE_KEY);
    let by = if private { AttributeType::DECAPSULATE_TEMPLATE } else { AttributeType::ENCAPSULATE_TEMPLATE };
    let template = merge_prescribed(key, by, template)?;
    let creation = secret_key(Functions::DERIVE, &template)?;
    let attributes = complete(creation, caller, &template)?;
    agreed(caller, key, by, creation, attributes)
}

/// The creation of a secret key of the type that a template names, or of a generic secret if it names none.
fn secret_key(function: Functions, template: &Template) -> Result<Creation, Rv> {
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
    let allowed = |length: u64| match kind {
        KeyType::AES => matches!(length, 16 | 24 | 32),
        KeyType::CHACHA20 => length == 32,
        _ => (least..=most).contains(&length),
    };
    match template.ulong(AttributeType::VALUE_LEN) {
        Some(length) if !allowed(length) => Err(Rv::ATTRIBUTE_VALUE_INVALID),
        Some(_) | None => Ok(Creation { function, class, kind: Some(kind) }),
    }
}

/// Decides on a copy: the object's attributes, with those of the template replacing them.
///
/// # Errors
/// `CKR_TEMPLATE_INCONSISTENT` for attributes that would make the copy weaker than the object, and the errors of the
/// attribute table.
pub fn copy(caller: &Caller, object: &Object, template: &Template) -> Result<Decision, Rv> {
    let class = object.class().ok_or(Rv::ACTION_PROHIBITED)?;
    let kind = object.key_type().filter(|_| is_key(class));
    let rules = rules_of(class, kind).ok_or(Rv::ACTION_PROHIBITED)?;
    let mut attributes = object.attributes.clone();
    // The security officer trusts the object, not its copies.
    attributes.0.retain(|attribute| attribute.kind != AttributeType::UNIQUE_ID);
    if object.is(AttributeType::TRUSTED) {
        attributes.set(Attribute::bool(AttributeType::TRUSTED, false));
    }
    for (index, attribute) in template.0.iter().enumerate() {
        let rule = find_rule(&rules, attribute.kind).ok_or(Rv::ATTRIBUTE_TYPE_INVALID)?;
        check_value(rule, &attribute.value)?;
        check_not_contradicted(template, index)?;
        if object.attributes.value(attribute.kind) == Some(&attribute.value) {
            continue;
        }
        if !rule.allowed_in.has(Functions::COPY) {
            return Err(Rv::ATTRIBUTE_READ_ONLY);
        }
        if !copy_may_differ(rule, caller, object, &attribute.value) {
            return Err(Rv::TEMPLATE_INCONSISTENT);
        }
        attributes.set(attribute.clone());
    }
    let creation = Creation { function: Functions::COPY, class, kind };
    let to_token = !object.is(AttributeType::TOKEN) && attributes.bool(AttributeType::TOKEN) == Some(true);
    if to_token {
        reject_plaintext(caller, class, &attributes, object.is(AttributeType::ALWAYS_SENSITIVE))?;
    }
    ring::enforce(caller.policy, creation, &mut attributes);
    may_create(caller, creation, &attributes)?;
    let token = attributes.bool(AttributeType::TOKEN) == Some(true);
    Ok(Decision { class, kind, draft: Draft { attributes, token }, bytes: None })
}

/// Whether a copy's attribute may have this value, which differs from the object's.
fn copy_may_differ(rule: &AttributeRule, caller: &Caller, object: &Object, value: &Value) -> bool {
    match rule.kind {
        AttributeType::TOKEN | AttributeType::MODIFIABLE | AttributeType::DESTROYABLE => true,
        AttributeType::PRIVATE => !is_private(&object.attributes),
        // Fewer mechanisms; an empty list allowed all of them.
        AttributeType::ALLOWED_MECHANISMS => match (object.attributes.value(rule.kind), value) {
            (Some(Value::Mechanisms(before)), Value::Mechanisms(after)) => {
                let fewer = !after.0.is_empty() && after.0.iter().all(|kind| before.0.contains(kind));
                before.0.is_empty() || fewer
            }
            _ => false,
        },
        // These say what callers cannot know (`derivation`), so the original must say it too.
        AttributeType::DERIVE_TEMPLATE | AttributeType::DECAPSULATE_TEMPLATE
            if caller.policy == RingPolicy::Strict =>
        {
            false
        }
        AttributeType::WRAP_TEMPLATE
        | AttributeType::UNWRAP_TEMPLATE
        | AttributeType::DERIVE_TEMPLATE
        | AttributeType::ENCAPSULATE_TEMPLATE
        | AttributeType::DECAPSULATE_TEMPLATE => {
            super::template::nested(&object.attributes, rule.kind).is_empty()
        }
        _ => may_change_to(rule, caller, object, value),
    }
}

/// Rejects a secret or private token key of a strict ring whose value was outside in plaintext. `inside` means that it
/// was not.
fn reject_plaintext(
    caller: &Caller,
    class: ObjectClass,
    attributes: &Template,
    inside: bool,
) -> Result<(), Rv> {
    let on_token = attributes.bool(AttributeType::TOKEN) == Some(true);
    let rejected = caller.policy == RingPolicy::Strict && on_token && is_secret_or_private(class) && !inside;
    if rejected { Err(Rv::TEMPLATE_INCONSISTENT) } else { Ok(()) }
}

fn decision(creation: Creation, attributes: Template, source: KeySource<'_>) -> Decision {
    let bytes = attributes.ulong(AttributeType::VALUE_LEN).and_then(|length| usize::try_from(length).ok());
    Decision {
        class: creation.class,
        kind: creation.kind,
        draft: with_computed_attributes(creation, attributes, source),
        bytes,
    }
}
