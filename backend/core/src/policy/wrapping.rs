//! Permits for keys whose value goes into another object: wrapped under a key, copied, or used in a derivation. No
//! caller sees the value then, but the result must not reveal more than the key itself may.

use kms_protocol::{AttributeType, Mechanism, ObjectClass, RingPolicy, Rv};

use super::classes::is_secret_or_private;
use super::proof::stays_inside;
use super::template::nested;
use super::usage::{allows, may_use};
use super::{Permit, Usage, derivation, is_private, is_user, separation};
use crate::object::{Caller, Object};

/// Checks what a ring requires of a key in addition to the attribute for the use.
///
/// # Errors
/// `CKR_KEY_FUNCTION_NOT_PERMITTED` for a wrapping key whose value a caller may know
/// (`separation::is_safe_wrapping_key`).
pub(super) fn check_wrapping_key(policy: RingPolicy, usage: Usage, key: &Object) -> Result<(), Rv> {
    let unsafe_key = |class| !separation::is_safe_wrapping_key(class, &key.attributes);
    if policy == RingPolicy::Strict && usage == Usage::Wrap && key.class().is_none_or(unsafe_key) {
        return Err(Rv::KEY_FUNCTION_NOT_PERMITTED);
    }
    Ok(())
}

/// Decides whether a key may be wrapped by another key, for which [`super::permit`] has permitted wrapping.
///
/// # Errors
/// `CKR_KEY_UNEXTRACTABLE`; `CKR_KEY_NOT_WRAPPABLE` where the attributes of one of the keys exclude the other.
pub fn permit_being_wrapped(caller: &Caller, wrapping: &Object, key: &Object) -> Result<Permit, Rv> {
    may_use(caller, &key.attributes)?;
    if !key.class().is_some_and(is_secret_or_private) {
        return Err(Rv::KEY_NOT_WRAPPABLE);
    }
    if !key.is(AttributeType::EXTRACTABLE) {
        return Err(Rv::KEY_UNEXTRACTABLE);
    }
    if stays_inside(caller.policy, key) {
        return Err(Rv::KEY_NOT_WRAPPABLE);
    }
    if key.is(AttributeType::WRAP_WITH_TRUSTED) && !wrapping.is(AttributeType::TRUSTED) {
        return Err(Rv::KEY_NOT_WRAPPABLE);
    }
    let template = nested(&wrapping.attributes, AttributeType::WRAP_TEMPLATE);
    let fits = template.iter().all(|required| key.attributes.value(required.kind) == Some(&required.value));
    if fits { Ok(Permit::transfer(key)) } else { Err(Rv::KEY_NOT_WRAPPABLE) }
}

/// Decides whether an object may be copied at all; `copy` decides on the copy's attributes.
///
/// # Errors
/// `CKR_USER_NOT_LOGGED_IN`, or `CKR_ACTION_PROHIBITED` for an object that is not copyable.
pub fn permit_copy(caller: &Caller, object: &Object) -> Result<Permit, Rv> {
    if is_private(&object.attributes) && !is_user(caller) {
        return Err(Rv::USER_NOT_LOGGED_IN);
    }
    // A missing attribute counts as false.
    if object.is(AttributeType::COPYABLE) { Ok(Permit::transfer(object)) } else { Err(Rv::ACTION_PROHIBITED) }
}

/// Decides whether a key may be the second key of a derivation: the one that is concatenated, or the salt of HKDF.
///
/// # Errors
/// As for the base key.
pub fn permit_second_base(caller: &Caller, mechanism: &Mechanism, key: &Object) -> Result<Permit, Rv> {
    may_use(caller, &key.attributes)?;
    if key.class() != Some(ObjectClass::SECRET_KEY) {
        return Err(Rv::KEY_TYPE_INCONSISTENT);
    }
    if !key.is(AttributeType::DERIVE) {
        return Err(Rv::KEY_FUNCTION_NOT_PERMITTED);
    }
    allows(&key.attributes, mechanism.kind)?;
    derivation::check_base(caller.policy, key)?;
    Ok(Permit::transfer(key))
}
