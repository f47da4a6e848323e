//! How a strict ring separates keys that protect keys from keys that work on data.
//!
//! A caller that can wrap a key and decrypt the result reads the key (Clulow; Delaune, Kremer and Steel; Bortolozzo,
//! Centenaro, Focardi and Steel). Yet Vault, python-pkcs11 and many others request encrypting and wrapping at once. So
//! a generated secret key that requests both has two values: its own works on data, and a wrapping subkey, which is
//! derived from it and never shown, wraps and unwraps (`CKA_KMS_WRAP_SUBKEY`, `kms_crypto`'s `wrap_subkey`). Where that
//! is not possible, because a caller may know the key or derives from it, or because it is the public key of a pair,
//! the key wraps only keys that every caller that may use them can read anyway: its `CKA_WRAP_TEMPLATE` states this,
//! and copies keep it.
//!
//! What a key that works on data unwraps could also be decrypted, so it counts as imported in plaintext.
//! `docs/decisions/0042` has the arguments.

use kms_protocol::{
    Attribute, AttributeType as A, NESTED_ATTRIBUTES_MAX, Nested, ObjectClass, Template, Value,
};

use super::attributes::Functions;
use super::template::{Creation, nested};

/// The attributes of a readable key: every caller that may use it can read its value.
const READABLE: [(A, bool); 2] = [(A::SENSITIVE, false), (A::EXTRACTABLE, true)];

/// Restricts what a new key of a strict ring may wrap.
pub(super) fn restrict_wrapping(creation: Creation, attributes: &mut Template) {
    if creation.class != ObjectClass::SECRET_KEY || attributes.bool(A::WRAP) != Some(true) {
        return;
    }
    let generated = creation.function == Functions::GENERATE;
    if generated && attributes.bool(A::SENSITIVE) == Some(true) {
        // A wrapping key is not extractable: with its value a caller could unwrap outside the KMS.
        attributes.set(Attribute::bool(A::EXTRACTABLE, false));
    }
    let never_outside = match creation.function {
        Functions::GENERATE => cannot_leave(attributes),
        Functions::COPY => may_wrap_any_key(creation.class, attributes),
        _ => false,
    };
    let data_key = works_on_data(creation.class, attributes);
    if generated && never_outside && data_key {
        attributes.set(Attribute::bool(A::KMS_WRAP_SUBKEY, true));
    } else if !never_outside || (data_key && !uses_wrap_subkey(attributes)) {
        wrap_only_readable(attributes);
    }
}

/// Restricts what the public key of a pair may wrap, given the attributes of the private key: a key that is wrapped by
/// the public key and decrypted by the private key is read in two calls, and in one if the private key is known.
pub(super) fn restrict_public_wrapping(private: &Template, public: &mut Template) {
    let readable = works_on_data(ObjectClass::PRIVATE_KEY, private) || !cannot_leave(private);
    if readable && public.bool(A::WRAP) == Some(true) {
        wrap_only_readable(public);
    }
}

/// Whether a strict ring may wrap any key with this key: no caller knows its value, or the security officer trusts it.
///
/// A secret key must never have been outside in any form, not even wrapped: unwrapped again it could decrypt.
fn may_wrap_any_key(class: ObjectClass, wrapping: &Template) -> bool {
    let is = |kind| wrapping.bool(kind) == Some(true);
    match class {
        ObjectClass::PUBLIC_KEY => is(A::LOCAL) || is(A::TRUSTED),
        ObjectClass::SECRET_KEY => is(A::LOCAL) && is(A::ALWAYS_SENSITIVE) && is(A::NEVER_EXTRACTABLE),
        _ => false,
    }
}

/// Whether a strict ring allows wrapping with a key: it may wrap any key, or its `CKA_WRAP_TEMPLATE` allows only
/// readable keys.
pub(super) fn is_safe_wrapping_key(class: ObjectClass, wrapping: &Template) -> bool {
    may_wrap_any_key(class, wrapping) || wraps_only_readable(wrapping)
}

/// Whether the value that a key unwraps could also be obtained by decrypting with it.
pub(super) fn unwrapped_value_is_decryptable(class: ObjectClass, unwrapping: &Template) -> bool {
    works_on_data(class, unwrapping) && !uses_wrap_subkey(unwrapping)
}

/// Whether a key wraps with a wrapping subkey.
fn uses_wrap_subkey(attributes: &Template) -> bool {
    attributes.bool(A::KMS_WRAP_SUBKEY) == Some(true)
}

/// Restricts a key to wrapping readable keys, or to no wrapping if its template requests other keys.
fn wrap_only_readable(attributes: &mut Template) {
    let mut required = nested(attributes, A::WRAP_TEMPLATE).to_vec();
    for (kind, value) in READABLE {
        required.retain(|attribute| *attribute != Attribute::bool(kind, value));
        required.push(Attribute::bool(kind, value));
    }
    let contradicts =
        |(kind, _): (A, bool)| required.iter().filter(|attribute| attribute.kind == kind).count() > 1;
    if READABLE.into_iter().any(contradicts) || required.len() > NESTED_ATTRIBUTES_MAX {
        attributes.set(Attribute::bool(A::WRAP, false));
    } else {
        attributes.set(Attribute { kind: A::WRAP_TEMPLATE, value: Value::Template(Nested(required)) });
    }
}

/// Whether the `CKA_WRAP_TEMPLATE` of a key allows only readable keys.
fn wraps_only_readable(attributes: &Template) -> bool {
    let required = nested(attributes, A::WRAP_TEMPLATE);
    READABLE.iter().all(|(kind, value)| required.contains(&Attribute::bool(*kind, *value)))
}

/// Whether every caller that may use a key can read its value.
pub(super) fn is_readable(attributes: &Template) -> bool {
    READABLE.iter().all(|(kind, value)| attributes.bool(*kind) == Some(*value))
}

/// Whether a key's value cannot be exported, neither in plaintext nor wrapped.
fn cannot_leave(attributes: &Template) -> bool {
    attributes.bool(A::SENSITIVE) == Some(true) && attributes.bool(A::EXTRACTABLE) == Some(false)
}

/// Whether a key works on data: encrypts, decrypts, signs, derives. Raw RSA signing decrypts, AES-CMAC and derivations
/// with AES encrypt. Of a pair, only the private key is considered.
fn works_on_data(class: ObjectClass, attributes: &Template) -> bool {
    let is = |kind: &A| attributes.bool(*kind) == Some(true);
    match class {
        ObjectClass::SECRET_KEY => [A::ENCRYPT, A::DECRYPT, A::SIGN, A::VERIFY, A::DERIVE].iter().any(is),
        ObjectClass::PRIVATE_KEY => [A::DECRYPT, A::SIGN, A::SIGN_RECOVER, A::DERIVE].iter().any(is),
        _ => false,
    }
}
