//! How a strict ring separates keys that derive keys from keys that work on data.
//!
//! A key derivation is made of the functions that callers use on data: HKDF (RFC 5869) is HMAC, and the KDFs of SP
//! 800-108 are HMAC or AES-CMAC, which is AES. A caller that may sign or encrypt with the value of a base key computes
//! every key that is derived from it. So in a strict ring:
//!
//! - a secret key that derives does nothing else, and is unextractable: unwrapped again it could sign;
//! - what is extracted (HKDF without its second step) derives and does nothing else, and what is derived in any other
//!   way does not derive: the same value can be derived again, as a key that signs;
//! - an unwrapped key does not derive, for the same reason;
//! - a salt that is a key is combined with keys of the KMS only: a caller that knows the base key chooses the message
//!   of the salt's HMAC;
//! - a shared secret counts as known to the caller, who can agree on it again under any template, unless the private
//!   key's template for shared secrets makes them sensitive and unextractable.
//!
//! None of this applies to readable keys, whose values callers know. `tests/adversary` derives the rules' consequences
//! from the equations; `docs/decisions/0056` has the arguments.

use kms_protocol::{
    Attribute, AttributeType as A, KeyType, Mechanism, ObjectClass, Parameters, RingPolicy, Rv, Template,
};

use super::attributes::Functions;
use super::ring::uses_of;
use super::separation::is_readable;
use super::template::{Creation, nested};
use crate::object::Object;

/// Everything that a secret key may do other than derive.
const OTHER_USES: [A; 6] = [A::ENCRYPT, A::DECRYPT, A::SIGN, A::VERIFY, A::WRAP, A::UNWRAP];

/// Restricts what a new secret key of a strict ring derives. Keys that are unwrapped or derived are restricted when
/// their other attributes are final.
pub(super) fn restrict_deriving(creation: Creation, attributes: &mut Template) {
    match creation.function {
        Functions::UNWRAP | Functions::DERIVE => {}
        _ => separate(creation, attributes),
    }
}

/// Restricts what an unwrapped key derives.
pub(super) fn restrict_unwrapped(class: ObjectClass, attributes: &mut Template) {
    if class == ObjectClass::SECRET_KEY && !is_readable(attributes) {
        remove_use(attributes, A::DERIVE);
    }
}

/// Restricts what a shared secret derives. `fixed` means that all shared secrets of the private key are sensitive.
pub(super) fn restrict_agreed(creation: Creation, fixed: bool, attributes: &mut Template) {
    if fixed {
        restrict_unwrapped(creation.class, attributes);
    } else {
        separate(creation, attributes);
    }
}

/// Restricts a key that is derived from secret keys, and which keys may be combined.
///
/// # Errors
/// `CKR_KEY_FUNCTION_NOT_PERMITTED` for a salt that is a key of the KMS with a base key that is not.
pub(super) fn restrict_derived(
    creation: Creation,
    mechanism: &Mechanism,
    bases: &[&Object],
    requested: &Template,
    attributes: &mut Template,
) -> Result<(), Rv> {
    let never_known = |base: &&Object| base.is(A::NEVER_EXTRACTABLE);
    if let [base, salt] = bases
        && never_known(salt)
        && !never_known(base)
    {
        return Err(Rv::KEY_FUNCTION_NOT_PERMITTED);
    }
    if bases.iter().all(|base| is_readable(&base.attributes)) {
        separate(creation, attributes);
    } else if is_extraction(mechanism) {
        derive_only(attributes);
        attributes.set(Attribute::bool(A::DERIVE, requested.bool(A::DERIVE) != Some(false)));
    } else {
        remove_use(attributes, A::DERIVE);
    }
    Ok(())
}

/// Whether every shared secret of a private key is sensitive and unextractable: the key was never outside the KMS, and
/// its template for shared secrets (`by`), which is fixed when it is generated, says so.
pub(super) fn agrees_on_sensitive_only(private: &Object, by: A) -> bool {
    let template = nested(&private.attributes, by);
    private.class() == Some(ObjectClass::PRIVATE_KEY)
        && private.is(A::NEVER_EXTRACTABLE)
        && template.contains(&Attribute::bool(A::SENSITIVE, true))
        && template.contains(&Attribute::bool(A::EXTRACTABLE, false))
}

/// Checks that a base key, or a salt that is a key, derives and does nothing else. Keys of earlier versions of this
/// program do other things as well.
///
/// # Errors
/// `CKR_KEY_FUNCTION_NOT_PERMITTED`.
pub(super) fn check_base(policy: RingPolicy, key: &Object) -> Result<(), Rv> {
    if policy == RingPolicy::Compat || key.class() != Some(ObjectClass::SECRET_KEY) {
        return Ok(());
    }
    let attributes = &key.attributes;
    let other_use = OTHER_USES.iter().any(|usage| attributes.bool(*usage) != Some(false));
    let separated = !other_use && attributes.bool(A::EXTRACTABLE) == Some(false);
    if separated || is_readable(attributes) { Ok(()) } else { Err(Rv::KEY_FUNCTION_NOT_PERMITTED) }
}

/// Makes a secret key either derive or do other things. The other uses win, if the key's type has them: applications
/// that request all uses of a key encrypt or sign with it.
fn separate(creation: Creation, attributes: &mut Template) {
    let derives = attributes.bool(A::DERIVE) == Some(true);
    if creation.class != ObjectClass::SECRET_KEY || !derives || is_readable(attributes) {
        return;
    }
    if creation.kind.is_some_and(|kind| has_other_use(kind, attributes)) {
        remove_use(attributes, A::DERIVE);
    } else {
        derive_only(attributes);
    }
}

/// Whether a key has a use other than deriving that mechanisms of its type have.
fn has_other_use(kind: KeyType, attributes: &Template) -> bool {
    let (usual, optional) = uses_of(ObjectClass::SECRET_KEY, kind);
    let other = |usage: &&A| OTHER_USES.contains(usage) && attributes.bool(**usage) == Some(true);
    usual.iter().chain(optional).any(|usage| other(&usage))
}

fn derive_only(attributes: &mut Template) {
    for usage in OTHER_USES {
        remove_use(attributes, usage);
    }
    attributes.set(Attribute::bool(A::EXTRACTABLE, false));
}

fn remove_use(attributes: &mut Template, usage: A) {
    attributes.set(Attribute::bool(usage, false));
}

/// Whether a mechanism is the first step of HKDF alone, whose result is the base key of the second.
fn is_extraction(mechanism: &Mechanism) -> bool {
    matches!(mechanism.parameters, Parameters::Hkdf { extract: true, expand: false, .. })
}
