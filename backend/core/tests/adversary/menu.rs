//! The calls that the attacker may make, and the templates that it tries.

use kms_core::object::Curve;
use kms_protocol::{
    Attribute, AttributeType as A, KeyType, Mechanism, MechanismType as M, Nested, ObjectClass, Parameters,
    Salt, Secret, Template, Value,
};

/// What the attacker may do. An attack is shown by the moves that it needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Move {
    /// Creates keys with values that it chose.
    Create,
    /// Derives with HKDF and the KDFs of SP 800-108.
    Derive,
    /// Derives a part of a key.
    Extract,
    /// Agrees on secrets with a private key.
    Agree,
    /// Wraps keys.
    Wrap,
    /// Unwraps keys as keys of their own type.
    Unwrap,
    /// Unwraps keys as keys of another type.
    UnwrapAsOtherType,
    /// Unwraps keys with a template that is weaker than the key was.
    UnwrapReadable,
    /// Copies keys.
    Copy,
    /// Changes the attributes of keys.
    Change,
    /// Signs or verifies; a verification tells the MAC of a message as well, if it may be truncated.
    Sign,
    /// Encrypts.
    Encrypt,
    /// Decrypts.
    Decrypt,
    /// Learns from the errors of unwrapping what a ciphertext contains (Bleichenbacher; Vaudenay).
    PaddingOracle,
}

/// All moves.
pub(crate) const ALL: [Move; 14] = [
    Move::Create,
    Move::Derive,
    Move::Extract,
    Move::Agree,
    Move::Wrap,
    Move::Unwrap,
    Move::UnwrapAsOtherType,
    Move::UnwrapReadable,
    Move::Copy,
    Move::Change,
    Move::Sign,
    Move::Encrypt,
    Move::Decrypt,
    Move::PaddingOracle,
];

/// The uses of a secret key that a template can request, each in all rings by itself.
pub(crate) const USES: [A; 7] = [A::ENCRYPT, A::DECRYPT, A::SIGN, A::VERIFY, A::DERIVE, A::WRAP, A::UNWRAP];

/// The sets of uses that the templates of new keys request: one use, or those that policies treat differently together.
fn uses(several: bool) -> Vec<Vec<A>> {
    if !several {
        let pairs = [vec![A::WRAP, A::UNWRAP]];
        return USES.iter().map(|usage| vec![*usage]).chain(pairs).collect();
    }
    vec![
        vec![A::DERIVE],
        vec![A::UNWRAP],
        vec![A::WRAP, A::UNWRAP],
        vec![A::SIGN],
        vec![A::DECRYPT, A::UNWRAP],
        vec![A::ENCRYPT, A::DECRYPT, A::WRAP, A::UNWRAP],
        vec![A::DERIVE, A::SIGN],
        vec![A::DERIVE, A::WRAP, A::UNWRAP],
        vec![A::ENCRYPT, A::DECRYPT, A::SIGN, A::VERIFY, A::WRAP, A::UNWRAP],
        USES.to_vec(),
    ]
}

/// Whether a new key is to be sensitive and extractable. All keys are session objects, of which a ring allows more.
const PROTECTIONS: [(bool, bool); 4] = [(true, false), (true, true), (false, true), (false, false)];

/// The number of keys that are generated of each kind.
pub(crate) const INSTANCES: usize = 2;

/// The value that the attacker gives to keys that it creates or smuggles in.
pub(crate) const TROJAN: u8 = 0;

/// The message of derivations: the attacker also creates a key with this value.
pub(crate) const MESSAGE: u8 = 1;

/// The salt of HKDF.
pub(crate) const SALT: u8 = 2;

/// The templates of secret keys.
pub(crate) fn secrets(several_uses: bool) -> Vec<Template> {
    let kinds = [KeyType::AES, KeyType::GENERIC_SECRET, KeyType::HKDF];
    let mut templates = Vec::new();
    for uses in uses(several_uses) {
        for protection in PROTECTIONS {
            templates.extend(kinds.map(|kind| secret(kind, &uses, protection)));
        }
    }
    templates
}

/// The template of a secret key with exactly these uses.
fn secret(kind: KeyType, uses: &[A], protection: (bool, bool)) -> Template {
    let (sensitive, extractable) = protection;
    let mut template = vec![
        Attribute::ulong(A::CLASS, u64::from(ObjectClass::SECRET_KEY.0)),
        Attribute::ulong(A::KEY_TYPE, u64::from(kind.0)),
        Attribute::bool(A::SENSITIVE, sensitive),
        Attribute::bool(A::EXTRACTABLE, extractable),
        Attribute::bool(A::TOKEN, false),
        Attribute::bool(A::COPYABLE, true),
    ];
    template.extend(USES.map(|usage| Attribute::bool(usage, uses.contains(&usage))));
    Template(template)
}

/// The template of a private key that is unwrapped.
pub(crate) fn private(kind: KeyType, uses: &[A]) -> Template {
    let mut template = vec![
        Attribute::ulong(A::CLASS, u64::from(ObjectClass::PRIVATE_KEY.0)),
        Attribute::ulong(A::KEY_TYPE, u64::from(kind.0)),
    ];
    template.extend(uses.iter().map(|usage| Attribute::bool(*usage, true)));
    Template(template)
}

/// The pairs that are generated: the mechanism, the public and the private template.
pub(crate) fn pairs() -> Vec<(M, Template, Template)> {
    let rsa = Template(vec![
        Attribute::ulong(A::MODULUS_BITS, 2048),
        Attribute::bool(A::WRAP, true),
        Attribute::bool(A::ENCRYPT, true),
    ]);
    let ec = Template(vec![Attribute::bytes(A::EC_PARAMS, Curve::P256.oid_der())]);
    let mut pairs = Vec::new();
    for extractable in [false, true] {
        let always = [Attribute::bool(A::COPYABLE, true), Attribute::bool(A::EXTRACTABLE, extractable)];
        let private = |more: &[Attribute]| Template([&always[..], more].concat());
        let uses = |uses: &[A]| uses.iter().map(|usage| Attribute::bool(*usage, true)).collect::<Vec<_>>();
        for set in [&[A::DECRYPT][..], &[A::UNWRAP], &[A::DECRYPT, A::UNWRAP], &[A::SIGN, A::UNWRAP]] {
            pairs.push((M::RSA_PKCS_KEY_PAIR_GEN, rsa.clone(), private(&uses(set))));
        }
        let derives = Attribute::bool(A::DERIVE, true);
        pairs.push((M::EC_KEY_PAIR_GEN, ec.clone(), private(std::slice::from_ref(&derives))));
        pairs.push((M::EC_KEY_PAIR_GEN, ec.clone(), private(&[derives, sensitive_only()])));
    }
    pairs
}

/// The changes that are tried, by changing an object and by copying it.
pub(crate) fn changes() -> Vec<Template> {
    let flags = [A::SENSITIVE, A::EXTRACTABLE, A::TOKEN].into_iter().chain(USES);
    let flags = flags.flat_map(|kind| [true, false].map(|to| Template(vec![Attribute::bool(kind, to)])));
    let only_derives = USES.map(|usage| Attribute::bool(usage, usage == A::DERIVE));
    flags.chain([Template(vec![sensitive_only()]), Template(only_derives.to_vec())]).collect()
}

/// The template for shared secrets that makes all of them sensitive and unextractable.
fn sensitive_only() -> Attribute {
    let nested = Nested(vec![Attribute::bool(A::SENSITIVE, true), Attribute::bool(A::EXTRACTABLE, false)]);
    Attribute { kind: A::DERIVE_TEMPLATE, value: Value::Template(nested) }
}

/// HKDF with one of its steps or both.
pub(crate) fn hkdf(extract: bool, expand: bool) -> Mechanism {
    let (hash, salt, info) = (M::SHA256, Salt::None, Secret::default());
    Mechanism { kind: M::HKDF_DERIVE, parameters: Parameters::Hkdf { extract, expand, hash, salt, info } }
}
