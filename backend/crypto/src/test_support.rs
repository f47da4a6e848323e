//! Callers, objects and permits for the tests of this crate.

use kms_core::object::{Caller, KeySpec, Login, LoginId, Material, Object, RingRole};
use kms_core::policy::{self, Permit, Usage};
use kms_protocol::{Attribute, AttributeType, KeyType, Mechanism, ObjectClass, RingId, RingPolicy, Template};

use super::edwards_montgomery;

/// A caller with this login in a ring with this policy.
pub(super) fn caller(ring_role: Option<RingRole>, policy: RingPolicy) -> Caller {
    let (id, ring) = (LoginId::default(), RingId([1; 16]));
    let login = ring_role.map(|role| Login::new(id, ring, "someone".to_owned(), role));
    Caller { peer: None, login, policy }
}

/// A key that is not sensitive, extractable, and allowed every use.
pub(super) fn object(class: ObjectClass, kind: KeyType, attributes: &[Attribute]) -> Object {
    let number = |kind, code: u32| Attribute::ulong(kind, u64::from(code));
    let mut template = Template(vec![
        number(AttributeType::CLASS, class.0),
        number(AttributeType::KEY_TYPE, kind.0),
        Attribute::bool(AttributeType::SENSITIVE, false),
        Attribute::bool(AttributeType::EXTRACTABLE, true),
    ]);
    for flag in [
        AttributeType::ENCRYPT,
        AttributeType::DECRYPT,
        AttributeType::SIGN,
        AttributeType::VERIFY,
        AttributeType::WRAP,
        AttributeType::UNWRAP,
        AttributeType::DERIVE,
        AttributeType::ENCAPSULATE,
        AttributeType::DECAPSULATE,
    ] {
        template.set(Attribute::bool(flag, true));
    }
    attributes.iter().for_each(|attribute| template.set(attribute.clone()));
    Object { id: None, ring: RingId([1; 16]), version: None, attributes: template, material: Material::None }
}

/// Whether this build has keys of this kind: not those on curve 448 without the feature `pre-release-curves`.
pub(super) fn is_built_in(spec: &KeySpec) -> bool {
    match spec {
        KeySpec::EdwardsMontgomery { curve } => edwards_montgomery::check_built_in(*curve).is_ok(),
        KeySpec::Aes { .. } | KeySpec::Generic { .. } | KeySpec::ChaCha20 => true,
        KeySpec::Rsa { .. } | KeySpec::Ec { .. } | KeySpec::MlKem { .. } | KeySpec::MlDsa { .. } => true,
    }
}

/// A permit for a use of the object in a compat ring.
pub(super) fn permit(usage: Usage, mechanism: &Mechanism, object: &Object) -> Permit {
    mechanism.check().unwrap();
    let user = caller(Some(RingRole::User), RingPolicy::Compat);
    policy::permit(&user, usage, mechanism, object).unwrap()
}
