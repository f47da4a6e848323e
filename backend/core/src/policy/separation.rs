//! How a strict ring keeps what protects keys apart from what works on data.
//!
//! Who can wrap a key and decrypt the result reads the key (Clulow; Delaune, Kremer and Steel; Bortolozzo, Centenaro,
//! Focardi and Steel). Yet Vault, python-pkcs11 and many others ask for encrypting and wrapping at once. So a secret key
//! made here that asks for both has two halves: its own value works on data, and a second one, computed from it and
//! never shown, wraps and unwraps (`CKA_KMS_WRAPS_APART`, `crypto::apart`). Where that cannot be, because somebody may
//! know the key or derives from it, or because half of a pair is public, the key wraps only what anybody who may use it
//! can read anyway: its `CKA_WRAP_TEMPLATE` says so, and copies keep it.
//!
//! What a key that works on data unwraps could as well be decrypted, so it counts as brought in plaintext.
//! `docs/decisions/0042` has the arguments.

use kms_protocol::{
    Attribute, AttributeType as A, NESTED_ATTRIBUTES_MAX, Nested, ObjectClass, Template, Value,
};

use super::attributes::Origins;
use super::template::{Creation, nested};

/// What a key must be like that everybody who may use it can read.
const OPEN: [(A, bool); 2] = [(A::SENSITIVE, false), (A::EXTRACTABLE, true)];

/// Settles what a new key of a strict ring may do to other keys.
pub(super) fn settle(creation: Creation, attributes: &mut Template) {
    if creation.class != ObjectClass::SECRET_KEY || attributes.bool(A::WRAP) != Some(true) {
        return;
    }
    let made = creation.origin == Origins::GENERATE;
    if made && attributes.bool(A::SENSITIVE) == Some(true) {
        // What wraps does not travel: with its value somebody could undo the wrapping outside.
        attributes.set(Attribute::bool(A::EXTRACTABLE, false));
    }
    let inside = match creation.origin {
        Origins::GENERATE => stays_inside(attributes),
        Origins::COPY => may_wrap(creation.class, attributes),
        _ => false,
    };
    let derives = attributes.bool(A::DERIVE) == Some(true);
    let works = works_on_data(creation.class, attributes);
    if made && inside && works && !derives {
        attributes.set(Attribute::bool(A::KMS_WRAP_SUBKEY, true));
    } else if !inside || (works && !uses_wrap_subkey(attributes)) {
        narrow(attributes);
    }
}

/// The same for the public half of a pair whose private half is decided: a key that can be wrapped by the one and
/// decrypted by the other is read in two calls, and in one if the other is known.
pub(super) fn settle_public(private: &Template, public: &mut Template) {
    let known = works_on_data(ObjectClass::PRIVATE_KEY, private) || !stays_inside(private);
    if known && public.bool(A::WRAP) == Some(true) {
        narrow(public);
    }
}

/// Whether a strict ring may wrap with a key: nobody knows it, or the officer vouches for who does.
///
/// A secret key must never have been outside in any form, not even wrapped: unwrapped again it could decrypt.
fn may_wrap(class: ObjectClass, wrapping: &Template) -> bool {
    let is = |kind| wrapping.bool(kind) == Some(true);
    match class {
        ObjectClass::PUBLIC_KEY => is(A::LOCAL) || is(A::TRUSTED),
        ObjectClass::SECRET_KEY => is(A::LOCAL) && is(A::ALWAYS_SENSITIVE) && is(A::NEVER_EXTRACTABLE),
        _ => false,
    }
}

/// Whether a strict ring lets a key wrap what its `CKA_WRAP_TEMPLATE` lets it: any key, or only open ones.
pub(super) fn wraps_safely(class: ObjectClass, wrapping: &Template) -> bool {
    may_wrap(class, wrapping) || is_narrow(wrapping)
}

/// Whether what a key unwraps could be had by decrypting as well.
pub(super) fn unwraps_in_the_open(class: ObjectClass, unwrapping: &Template) -> bool {
    works_on_data(class, unwrapping) && !uses_wrap_subkey(unwrapping)
}

/// Whether a key wraps with a half of its own.
fn uses_wrap_subkey(attributes: &Template) -> bool {
    attributes.bool(A::KMS_WRAP_SUBKEY) == Some(true)
}

/// Lets a key wrap open keys only; or none, if it asks for others itself.
fn narrow(attributes: &mut Template) {
    let mut wanted = nested(attributes, A::WRAP_TEMPLATE).to_vec();
    for (kind, value) in OPEN {
        wanted.retain(|attribute| *attribute != Attribute::bool(kind, value));
        wanted.push(Attribute::bool(kind, value));
    }
    let contradicts =
        |(kind, _): (A, bool)| wanted.iter().filter(|attribute| attribute.kind == kind).count() > 1;
    if OPEN.into_iter().any(contradicts) || wanted.len() > NESTED_ATTRIBUTES_MAX {
        attributes.set(Attribute::bool(A::WRAP, false));
    } else {
        attributes.set(Attribute { kind: A::WRAP_TEMPLATE, value: Value::Template(Nested(wanted)) });
    }
}

fn is_narrow(attributes: &Template) -> bool {
    let wanted = nested(attributes, A::WRAP_TEMPLATE);
    OPEN.iter().all(|(kind, value)| wanted.contains(&Attribute::bool(*kind, *value)))
}

/// Whether a key's value shows neither by itself nor wrapped.
fn stays_inside(attributes: &Template) -> bool {
    attributes.bool(A::SENSITIVE) == Some(true) && attributes.bool(A::EXTRACTABLE) == Some(false)
}

/// Whether a key works on data: encrypts, decrypts, signs, derives. Raw RSA signing decrypts, AES-CMAC and derivations
/// with AES encrypt. The public half alone cannot tell: the private one decides.
fn works_on_data(class: ObjectClass, attributes: &Template) -> bool {
    let is = |kind: &A| attributes.bool(*kind) == Some(true);
    match class {
        ObjectClass::SECRET_KEY => [A::ENCRYPT, A::DECRYPT, A::SIGN, A::VERIFY, A::DERIVE].iter().any(is),
        ObjectClass::PRIVATE_KEY => [A::DECRYPT, A::SIGN, A::SIGN_RECOVER, A::DERIVE].iter().any(is),
        _ => false,
    }
}
