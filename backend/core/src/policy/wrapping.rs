//! Keys that leave one form for another: wrapped under a key, copied, mixed into a derivation. Nobody sees them then,
//! but what they turn into must not tell more than they do.

use kms_protocol::{AttributeType, Mechanism, ObjectClass, RingPolicy, Rv};

use super::classes::is_hidden;
use super::template::nested;
use super::usage::{allows, may_use};
use super::{Permit, Usage, is_private, is_user, separation};
use crate::object::{Caller, Object};

/// What a ring asks of a key besides its attribute for the use.
///
/// # Errors
/// `CKR_KEY_FUNCTION_NOT_PERMITTED` for a wrapping key whose value somebody may know (`separation::wraps_safely`).
pub(super) fn permit_by(policy: RingPolicy, usage: Usage, key: &Object) -> Result<(), Rv> {
    let known = |class| !separation::wraps_safely(class, &key.attributes);
    if policy == RingPolicy::Strict && usage == Usage::Wrap && key.class().is_none_or(known) {
        return Err(Rv::KEY_FUNCTION_NOT_PERMITTED);
    }
    Ok(())
}

/// Decides whether a key may be wrapped by another, which [`super::permit`] has let wrap.
///
/// # Errors
/// `CKR_KEY_UNEXTRACTABLE`; `CKR_KEY_NOT_WRAPPABLE` where one of the two keys does not want the other.
pub fn permit_wrapped(caller: &Caller, wrapping: &Object, key: &Object) -> Result<Permit, Rv> {
    may_use(caller, &key.attributes)?;
    if !key.class().is_some_and(is_hidden) {
        return Err(Rv::KEY_NOT_WRAPPABLE);
    }
    if !key.is(AttributeType::EXTRACTABLE) {
        return Err(Rv::KEY_UNEXTRACTABLE);
    }
    if key.is(AttributeType::WRAP_WITH_TRUSTED) && !wrapping.is(AttributeType::TRUSTED) {
        return Err(Rv::KEY_NOT_WRAPPABLE);
    }
    let template = nested(&wrapping.attributes, AttributeType::WRAP_TEMPLATE);
    let fits = template.iter().all(|wanted| key.attributes.value(wanted.kind) == Some(&wanted.value));
    if fits { Ok(Permit::carry(key)) } else { Err(Rv::KEY_NOT_WRAPPABLE) }
}

/// Decides whether an object may be copied at all; what the copy may be like is `copy`'s.
///
/// # Errors
/// `CKR_USER_NOT_LOGGED_IN`, or `CKR_ACTION_PROHIBITED` for an object that says so.
pub fn permit_copy(caller: &Caller, object: &Object) -> Result<Permit, Rv> {
    if is_private(&object.attributes) && !is_user(caller) {
        return Err(Rv::USER_NOT_LOGGED_IN);
    }
    // An attribute that is missing forbids it, as one that says so does.
    if object.is(AttributeType::COPYABLE) { Ok(Permit::carry(object)) } else { Err(Rv::ACTION_PROHIBITED) }
}

/// Decides whether a key may be the second one of a derivation: what is concatenated, or the salt of HKDF.
///
/// # Errors
/// As for the first one.
pub fn permit_second(caller: &Caller, mechanism: &Mechanism, key: &Object) -> Result<Permit, Rv> {
    may_use(caller, &key.attributes)?;
    if key.class() != Some(ObjectClass::SECRET_KEY) {
        return Err(Rv::KEY_TYPE_INCONSISTENT);
    }
    if !key.is(AttributeType::DERIVE) {
        return Err(Rv::KEY_FUNCTION_NOT_PERMITTED);
    }
    allows(&key.attributes, mechanism.kind)?;
    Ok(Permit::carry(key))
}
