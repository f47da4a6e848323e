//! Directed tests of decisions on copies, salts and data objects: each of a mutant that no other test found.

use kms_protocol::{
    Attribute, AttributeType as A, KeyType, Mechanism, MechanismType, ObjectClass, RingId, RingPolicy, Rv,
    Template,
};

use super::callers::{LOGINS, caller};
use super::{copy, derive, generate, permit_copy, permit_reveal, permit_second_base, unwrap};
use crate::object::{Caller, Material, Object, RingRole};

const POLICIES: [RingPolicy; 2] = [RingPolicy::Strict, RingPolicy::Compat];

fn admin(policy: RingPolicy) -> Caller {
    caller(Some(RingRole::Admin), policy)
}

fn object(attributes: Template) -> Object {
    Object { id: None, ring: RingId([1; 16]), version: None, attributes, material: Material::None }
}

fn yes(kind: A) -> Attribute {
    Attribute::bool(kind, true)
}

fn no(kind: A) -> Attribute {
    Attribute::bool(kind, false)
}

/// A secret key that was generated with these attributes.
fn secret(policy: RingPolicy, mechanism: MechanismType, requested: &[Attribute]) -> Object {
    let mut template = requested.to_vec();
    template.push(Attribute::ulong(A::VALUE_LEN, 32));
    let generated = generate(&admin(policy), &Mechanism::plain(mechanism), &Template(template));
    object(generated.unwrap().1.attributes)
}

fn hkdf() -> Mechanism {
    Mechanism::plain(MechanismType::HKDF_DERIVE)
}

#[test]
fn a_copy_of_a_trusted_key_is_not_trusted() {
    for policy in POLICIES {
        let mut key = secret(policy, MechanismType::AES_KEY_GEN, &[yes(A::COPYABLE)]);
        key.attributes.set(yes(A::TRUSTED));
        let copied = copy(&admin(policy), &key, &Template::default()).unwrap().draft.attributes;
        assert_eq!(copied.bool(A::TRUSTED), Some(false));
    }
}

#[test]
fn a_copy_of_a_private_object_is_private() {
    for policy in POLICIES {
        let key = secret(policy, MechanismType::AES_KEY_GEN, &[yes(A::COPYABLE), yes(A::PRIVATE)]);
        let public = copy(&admin(policy), &key, &Template(vec![no(A::PRIVATE)])).map(drop);
        assert_eq!(public, Err(Rv::TEMPLATE_INCONSISTENT));
        let private = copy(&admin(policy), &key, &Template(vec![yes(A::PRIVATE)])).unwrap();
        assert_eq!(private.draft.attributes.bool(A::PRIVATE), Some(true));
        for login in LOGINS {
            let may = permit_copy(&caller(login, policy), &key).map(drop);
            let logged_in = !matches!(login, None | Some(RingRole::Officer));
            assert_eq!(may.is_ok(), logged_in, "{login:?}");
        }
    }
}

#[test]
fn a_copy_has_a_public_object_made_private() {
    let policy = RingPolicy::Compat;
    let key = secret(policy, MechanismType::AES_KEY_GEN, &[yes(A::COPYABLE), no(A::PRIVATE)]);
    let private = copy(&admin(policy), &key, &Template(vec![yes(A::PRIVATE)])).unwrap();
    assert_eq!(private.draft.attributes.bool(A::PRIVATE), Some(true));
}

#[test]
fn a_salt_that_is_a_key_derives() {
    for policy in POLICIES {
        let derives = secret(policy, MechanismType::GENERIC_SECRET_KEY_GEN, &[yes(A::DERIVE)]);
        let signs = secret(policy, MechanismType::GENERIC_SECRET_KEY_GEN, &[yes(A::SIGN), no(A::DERIVE)]);
        let may = |key: &Object| permit_second_base(&admin(policy), &hkdf(), key).map(drop);
        assert_eq!(may(&derives), Ok(()));
        assert_eq!(may(&signs), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
        let reader = caller(Some(RingRole::Reader), policy);
        assert!(permit_second_base(&reader, &hkdf(), &derives).is_err());
    }
}

#[test]
fn in_a_strict_ring_a_salt_does_nothing_but_derive() {
    let policy = RingPolicy::Strict;
    let mut both = secret(policy, MechanismType::GENERIC_SECRET_KEY_GEN, &[yes(A::DERIVE)]);
    both.attributes.set(yes(A::SIGN));
    let refused = permit_second_base(&admin(policy), &hkdf(), &both).map(drop);
    assert_eq!(refused, Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
}

#[test]
fn a_data_object_is_read_by_who_may_use_keys() {
    for policy in POLICIES {
        let data = |private| {
            object(Template(vec![
                Attribute::ulong(A::CLASS, u64::from(ObjectClass::DATA.0)),
                Attribute::bool(A::PRIVATE, private),
            ]))
        };
        for login in LOGINS {
            let caller = caller(login, policy);
            assert!(permit_reveal(&caller, &data(false)).is_ok(), "a public one: {login:?}");
            let uses_keys = matches!(login, Some(RingRole::Admin | RingRole::Editor | RingRole::User));
            assert_eq!(permit_reveal(&caller, &data(true)).is_ok(), uses_keys, "{login:?}");
        }
    }
}

#[test]
fn a_key_of_earlier_versions_derives_after_its_other_uses_are_removed() {
    let policy = RingPolicy::Strict;
    let mut key = secret(policy, MechanismType::GENERIC_SECRET_KEY_GEN, &[yes(A::DERIVE)]);
    let may = |key: &Object| super::permit(&admin(policy), super::Usage::Derive, &hkdf(), key).map(drop);
    assert_eq!(may(&key), Ok(()));
    for usage in [A::ENCRYPT, A::DECRYPT, A::SIGN, A::VERIFY, A::WRAP, A::UNWRAP, A::EXTRACTABLE] {
        key.attributes.set(yes(usage));
        assert_eq!(may(&key), Err(Rv::KEY_FUNCTION_NOT_PERMITTED), "{usage}");
        key.attributes.set(no(usage));
        assert_eq!(may(&key), Ok(()), "{usage}");
    }
    key.attributes.0.retain(|attribute| attribute.kind != A::SIGN);
    assert_eq!(may(&key), Err(Rv::KEY_FUNCTION_NOT_PERMITTED), "a missing attribute counts as set");
}

#[test]
fn in_a_strict_ring_a_key_of_the_kms_is_no_salt_for_a_value_that_the_caller_knows() {
    let policy = RingPolicy::Strict;
    let inside = secret(policy, MechanismType::GENERIC_SECRET_KEY_GEN, &[yes(A::DERIVE)]);
    let readable = [yes(A::DERIVE), no(A::SENSITIVE), yes(A::EXTRACTABLE)];
    let known = secret(policy, MechanismType::GENERIC_SECRET_KEY_GEN, &readable);
    let template = Template(vec![
        Attribute::ulong(A::CLASS, u64::from(ObjectClass::SECRET_KEY.0)),
        Attribute::ulong(A::KEY_TYPE, u64::from(KeyType::AES.0)),
    ]);
    let derives = |bases: &[&Object]| derive(&admin(policy), &hkdf(), bases, &template).map(drop);
    assert_eq!(derives(&[&known, &inside]), Err(Rv::KEY_FUNCTION_NOT_PERMITTED));
    for bases in [[&inside, &inside], [&inside, &known], [&known, &known]] {
        assert_eq!(derives(&bases), Ok(()));
    }
}

#[test]
fn an_unwrapped_secret_does_not_derive_in_a_strict_ring() {
    for policy in POLICIES {
        let wrapping = secret(policy, MechanismType::AES_KEY_GEN, &[yes(A::UNWRAP), no(A::DECRYPT)]);
        let template = Template(vec![
            Attribute::ulong(A::CLASS, u64::from(ObjectClass::SECRET_KEY.0)),
            Attribute::ulong(A::KEY_TYPE, u64::from(KeyType::GENERIC_SECRET.0)),
            yes(A::DERIVE),
        ]);
        let unwrapped = unwrap(&admin(policy), &wrapping, &template).unwrap().draft.attributes;
        assert_eq!(unwrapped.bool(A::DERIVE), Some(policy == RingPolicy::Compat));
    }
}
