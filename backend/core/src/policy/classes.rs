//! The attribute table: for each class of object, and each type of key, what it holds, who may set it and when, and
//! what it starts as.
//!
//! Cites the specification's tables by the sections "Storage objects", "Key objects", "Public key objects", "Private
//! key objects", "Secret key objects", "X.509 public key certificate objects", "Data objects", "Profile objects", and
//! those of RSA, elliptic curves, AES, ChaCha20, generic secrets, ML-KEM and ML-DSA.

use kms_protocol::{AttributeType as A, DATA_BYTES_MAX, KeyType, ObjectClass};

use super::attributes::{
    CERTIFICATE_BYTES_MAX, Change, DER_BYTES_MAX, ID_BYTES_MAX, LABEL_BYTES_MAX, Origins, Rule, Start, rule,
    usage,
};

const OBJECT: &[Rule] = &[
    rule(A::CLASS).given(Origins::ANY).starts(Start::Computed),
    rule(A::TOKEN).given(Origins::ANY).starts(Start::Bool(false)),
    rule(A::PRIVATE).given(Origins::ANY).starts(Start::Ring),
    rule(A::MODIFIABLE).given(Origins::ANY).starts(Start::Bool(true)),
    // pkcs11-provider copies each copyable token key into its session, so those are not, unless asked.
    rule(A::COPYABLE).given(Origins::ANY).starts(Start::Computed).change(Change::OnlyTo(false)),
    rule(A::DESTROYABLE).given(Origins::ANY).starts(Start::Bool(true)),
    rule(A::LABEL).given(Origins::ANY).starts(Start::Empty).change(Change::Free).up_to(LABEL_BYTES_MAX),
    rule(A::UNIQUE_ID).starts(Start::GeneratedKey),
];

const KEY: &[Rule] = &[
    rule(A::KEY_TYPE).given(Origins::ANY).starts(Start::Computed),
    // None given: one is made. An empty one given: it stays so.
    rule(A::ID).given(Origins::ANY).starts(Start::GeneratedKey).change(Change::Free).up_to(ID_BYTES_MAX),
    rule(A::START_DATE).given(Origins::ANY).starts(Start::Empty).change(Change::Free),
    rule(A::END_DATE).given(Origins::ANY).starts(Start::Empty).change(Change::Free),
    usage(A::DERIVE),
    rule(A::LOCAL).starts(Start::Computed),
    rule(A::KEY_GEN_MECHANISM).starts(Start::Computed),
    rule(A::ALLOWED_MECHANISMS).given(Origins::ANY).starts(Start::Empty),
];

const PUBLIC: &[Rule] = &[
    rule(A::SUBJECT).given(Origins::ANY).starts(Start::Empty).change(Change::Free).up_to(DER_BYTES_MAX),
    usage(A::ENCRYPT),
    usage(A::VERIFY),
    usage(A::VERIFY_RECOVER),
    usage(A::WRAP),
    usage(A::ENCAPSULATE),
    rule(A::TRUSTED).given(Origins::NEW).starts(Start::Bool(false)).change(Change::Officer),
    rule(A::WRAP_TEMPLATE).given(Origins::ANY).starts(Start::Empty),
    rule(A::ENCAPSULATE_TEMPLATE).given(Origins::ANY).starts(Start::Empty),
    rule(A::PUBLIC_KEY_INFO).given(Origins::CREATE).starts(Start::GeneratedKey).up_to(DER_BYTES_MAX),
];

/// What secret and private keys share.
const HIDDEN: &[Rule] = &[
    rule(A::SENSITIVE).given(Origins::ANY).starts(Start::Ring).change(Change::OnlyTo(true)),
    rule(A::EXTRACTABLE).given(Origins::ANY).starts(Start::Ring).change(Change::OnlyTo(false)),
    rule(A::ALWAYS_SENSITIVE).starts(Start::Computed),
    rule(A::NEVER_EXTRACTABLE).starts(Start::Computed),
    rule(A::WRAP_WITH_TRUSTED).given(Origins::ANY).starts(Start::Bool(false)).change(Change::OnlyTo(true)),
    rule(A::UNWRAP_TEMPLATE).given(Origins::ANY).starts(Start::Empty),
    rule(A::DERIVE_TEMPLATE).given(Origins::ANY).starts(Start::Empty),
];

const PRIVATE: &[Rule] = &[
    rule(A::SUBJECT).given(Origins::ANY).starts(Start::Empty).change(Change::Free).up_to(DER_BYTES_MAX),
    usage(A::DECRYPT),
    usage(A::SIGN),
    usage(A::SIGN_RECOVER),
    usage(A::UNWRAP),
    usage(A::DECAPSULATE),
    rule(A::ALWAYS_AUTHENTICATE).given(Origins::ANY).starts(Start::Bool(false)),
    rule(A::DECAPSULATE_TEMPLATE).given(Origins::ANY).starts(Start::Empty),
    rule(A::PUBLIC_KEY_INFO)
        .given(Origins::CREATE.or(Origins::UNWRAP))
        .starts(Start::GeneratedKey)
        .up_to(DER_BYTES_MAX),
];

const SECRET: &[Rule] = &[
    usage(A::ENCRYPT),
    usage(A::DECRYPT),
    usage(A::SIGN),
    usage(A::VERIFY),
    usage(A::WRAP),
    usage(A::UNWRAP),
    rule(A::TRUSTED).given(Origins::NEW).starts(Start::Bool(false)).change(Change::Officer),
    rule(A::WRAP_TEMPLATE).given(Origins::ANY).starts(Start::Empty),
    // A strict ring's answer to who asks for both (`separation`).
    rule(A::KMS_WRAP_SUBKEY),
    rule(A::CHECK_VALUE)
        .given(Origins::CREATE.or(Origins::UNWRAP).or(Origins::DERIVE))
        .starts(Start::GeneratedKey),
    rule(A::VALUE).required(Origins::CREATE).secret(),
];

/// Secret keys of several lengths.
const SIZED: &[Rule] = &[rule(A::VALUE_LEN)
    .required(Origins::GENERATE)
    .given(Origins::UNWRAP.or(Origins::DERIVE))
    .starts(Start::GeneratedKey)];

/// Secret keys of one length.
const FIXED: &[Rule] = &[rule(A::VALUE_LEN)
    .given(Origins::GENERATE.or(Origins::UNWRAP).or(Origins::DERIVE))
    .starts(Start::GeneratedKey)];

const RSA_PUBLIC: &[Rule] = &[
    rule(A::MODULUS).required(Origins::CREATE).starts(Start::GeneratedKey),
    rule(A::MODULUS_BITS).required(Origins::GENERATE).starts(Start::GeneratedKey),
    rule(A::PUBLIC_EXPONENT).required(Origins::CREATE).given(Origins::GENERATE).starts(Start::GeneratedKey),
];

const RSA_PRIVATE: &[Rule] = &[
    rule(A::MODULUS).required(Origins::CREATE).starts(Start::GeneratedKey),
    rule(A::PUBLIC_EXPONENT).given(Origins::CREATE).starts(Start::GeneratedKey),
    rule(A::PRIVATE_EXPONENT).required(Origins::CREATE).secret(),
    rule(A::PRIME_1).given(Origins::CREATE).secret(),
    rule(A::PRIME_2).given(Origins::CREATE).secret(),
    rule(A::EXPONENT_1).given(Origins::CREATE).secret(),
    rule(A::EXPONENT_2).given(Origins::CREATE).secret(),
    rule(A::COEFFICIENT).given(Origins::CREATE).secret(),
];

const EC_PUBLIC: &[Rule] = &[
    rule(A::EC_PARAMS).required(Origins::GENERATE.or(Origins::CREATE)).starts(Start::GeneratedKey),
    rule(A::EC_POINT).required(Origins::CREATE).starts(Start::GeneratedKey),
];

const EC_PRIVATE: &[Rule] = &[
    // Some callers name the curve for both halves; `generate_pair` sees that they agree.
    rule(A::EC_PARAMS).required(Origins::CREATE).given(Origins::GENERATE).starts(Start::GeneratedKey),
    rule(A::VALUE).required(Origins::CREATE).secret(),
];

/// ML-KEM and ML-DSA. The public key itself is its value.
const LATTICE_PUBLIC: &[Rule] = &[
    rule(A::PARAMETER_SET).required(Origins::GENERATE.or(Origins::CREATE)).starts(Start::GeneratedKey),
    rule(A::VALUE).required(Origins::CREATE).starts(Start::GeneratedKey).up_to(DER_BYTES_MAX),
];

const LATTICE_PRIVATE: &[Rule] = &[
    rule(A::PARAMETER_SET).required(Origins::CREATE).given(Origins::GENERATE).starts(Start::GeneratedKey),
    // One of the two; `crypto::import` sees to it.
    rule(A::SEED).given(Origins::CREATE).secret(),
    rule(A::VALUE).given(Origins::CREATE).secret().up_to(DER_BYTES_MAX),
];

const CERTIFICATE: &[Rule] = &[
    rule(A::CERTIFICATE_TYPE).required(Origins::CREATE).given(Origins::COPY),
    rule(A::TRUSTED).given(Origins::CREATE).starts(Start::Bool(false)).change(Change::Officer),
    rule(A::CERTIFICATE_CATEGORY).given(Origins::STORED).starts(Start::Ulong(0)),
    rule(A::CHECK_VALUE).given(Origins::STORED).starts(Start::Empty),
    rule(A::START_DATE).given(Origins::STORED).starts(Start::Empty),
    rule(A::END_DATE).given(Origins::STORED).starts(Start::Empty),
    rule(A::PUBLIC_KEY_INFO).given(Origins::STORED).starts(Start::Empty).up_to(DER_BYTES_MAX),
    rule(A::SUBJECT).required(Origins::CREATE).given(Origins::COPY).up_to(DER_BYTES_MAX),
    rule(A::ID).given(Origins::STORED).starts(Start::Empty).change(Change::Free).up_to(ID_BYTES_MAX),
    rule(A::ISSUER).given(Origins::STORED).starts(Start::Empty).change(Change::Free).up_to(DER_BYTES_MAX),
    rule(A::SERIAL_NUMBER).given(Origins::STORED).starts(Start::Empty).change(Change::Free),
    rule(A::VALUE).given(Origins::STORED).starts(Start::Empty).up_to(CERTIFICATE_BYTES_MAX),
    rule(A::URL).given(Origins::STORED).starts(Start::Empty),
    rule(A::HASH_OF_SUBJECT_PUBLIC_KEY).given(Origins::STORED).starts(Start::Empty),
    rule(A::HASH_OF_ISSUER_PUBLIC_KEY).given(Origins::STORED).starts(Start::Empty),
    rule(A::JAVA_MIDP_SECURITY_DOMAIN).given(Origins::STORED).starts(Start::Ulong(0)),
    rule(A::NAME_HASH_ALGORITHM).given(Origins::STORED),
];

const DATA: &[Rule] = &[
    rule(A::APPLICATION).given(Origins::STORED).starts(Start::Empty).up_to(LABEL_BYTES_MAX),
    rule(A::OBJECT_ID).given(Origins::STORED).starts(Start::Empty),
    // VeraCrypt keeps its key files here, Oracle the names of its keys: encrypted like a key, shown to who may see it.
    rule(A::VALUE).given(Origins::CREATE).secret().up_to(DATA_BYTES_MAX),
];

const PROFILE: &[Rule] = &[rule(A::PROFILE_ID).required(Origins::CREATE).given(Origins::COPY)];

/// The rows for a class of object and, if it is a key, its type. None for what is no object here.
pub(super) fn rules_of(class: ObjectClass, kind: Option<KeyType>) -> Option<[&'static [Rule]; 5]> {
    let lattice = |kind| matches!(kind, KeyType::ML_KEM | KeyType::ML_DSA);
    let elliptic = |kind| matches!(kind, KeyType::EC | KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY);
    match (class, kind) {
        (ObjectClass::SECRET_KEY, Some(KeyType::CHACHA20)) => Some([OBJECT, KEY, HIDDEN, SECRET, FIXED]),
        (ObjectClass::SECRET_KEY, Some(kind)) if is_sized(kind) => Some([OBJECT, KEY, HIDDEN, SECRET, SIZED]),
        (ObjectClass::PRIVATE_KEY, Some(KeyType::RSA)) => Some([OBJECT, KEY, HIDDEN, PRIVATE, RSA_PRIVATE]),
        (ObjectClass::PRIVATE_KEY, Some(kind)) if elliptic(kind) => {
            Some([OBJECT, KEY, HIDDEN, PRIVATE, EC_PRIVATE])
        }
        (ObjectClass::PRIVATE_KEY, Some(kind)) if lattice(kind) => {
            Some([OBJECT, KEY, HIDDEN, PRIVATE, LATTICE_PRIVATE])
        }
        (ObjectClass::PUBLIC_KEY, Some(KeyType::RSA)) => Some([OBJECT, KEY, PUBLIC, RSA_PUBLIC, &[]]),
        (ObjectClass::PUBLIC_KEY, Some(kind)) if elliptic(kind) => {
            Some([OBJECT, KEY, PUBLIC, EC_PUBLIC, &[]])
        }
        (ObjectClass::PUBLIC_KEY, Some(kind)) if lattice(kind) => {
            Some([OBJECT, KEY, PUBLIC, LATTICE_PUBLIC, &[]])
        }
        (ObjectClass::CERTIFICATE, None) => Some([OBJECT, CERTIFICATE, &[], &[], &[]]),
        (ObjectClass::DATA, None) => Some([OBJECT, DATA, &[], &[], &[]]),
        (ObjectClass::PROFILE, None) => Some([OBJECT, PROFILE, &[], &[], &[]]),
        _ => None,
    }
}

/// Secret keys whose templates say how long they are.
fn is_sized(kind: KeyType) -> bool {
    let known = [
        KeyType::AES,
        KeyType::GENERIC_SECRET,
        KeyType::HKDF,
        KeyType::SHA_1_HMAC,
        KeyType::SHA224_HMAC,
        KeyType::SHA256_HMAC,
        KeyType::SHA384_HMAC,
        KeyType::SHA512_HMAC,
        KeyType::SHA3_224_HMAC,
        KeyType::SHA3_256_HMAC,
        KeyType::SHA3_384_HMAC,
        KeyType::SHA3_512_HMAC,
    ];
    known.contains(&kind)
}

/// Whether objects of this class are keys, which have a type.
pub(super) fn is_key(class: ObjectClass) -> bool {
    matches!(class, ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY | ObjectClass::PUBLIC_KEY)
}

/// Whether objects of this class are keys with a secret.
pub(super) fn is_hidden(class: ObjectClass) -> bool {
    matches!(class, ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY)
}

/// Every kind of object that has rows; of secrets for HMACs one, for they are all alike.
#[cfg(test)]
pub(super) const KINDS: [(ObjectClass, Option<KeyType>); 19] = [
    (ObjectClass::SECRET_KEY, Some(KeyType::AES)),
    (ObjectClass::SECRET_KEY, Some(KeyType::GENERIC_SECRET)),
    (ObjectClass::SECRET_KEY, Some(KeyType::SHA256_HMAC)),
    (ObjectClass::SECRET_KEY, Some(KeyType::HKDF)),
    (ObjectClass::SECRET_KEY, Some(KeyType::CHACHA20)),
    (ObjectClass::PRIVATE_KEY, Some(KeyType::RSA)),
    (ObjectClass::PUBLIC_KEY, Some(KeyType::RSA)),
    (ObjectClass::PRIVATE_KEY, Some(KeyType::EC)),
    (ObjectClass::PUBLIC_KEY, Some(KeyType::EC)),
    (ObjectClass::PRIVATE_KEY, Some(KeyType::EC_EDWARDS)),
    (ObjectClass::PUBLIC_KEY, Some(KeyType::EC_EDWARDS)),
    (ObjectClass::PRIVATE_KEY, Some(KeyType::EC_MONTGOMERY)),
    (ObjectClass::PUBLIC_KEY, Some(KeyType::EC_MONTGOMERY)),
    (ObjectClass::PRIVATE_KEY, Some(KeyType::ML_KEM)),
    (ObjectClass::PUBLIC_KEY, Some(KeyType::ML_KEM)),
    (ObjectClass::PRIVATE_KEY, Some(KeyType::ML_DSA)),
    (ObjectClass::CERTIFICATE, None),
    (ObjectClass::DATA, None),
    (ObjectClass::PROFILE, None),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fmt::Write;

    use expect_test::expect_file;

    use super::*;

    #[test]
    fn each_attribute_has_one_row() {
        for (class, kind) in KINDS {
            let mut seen = HashSet::new();
            for rule in rules_of(class, kind).unwrap().iter().flat_map(|rows| rows.iter()) {
                assert!(seen.insert(rule.kind), "{} stands twice for {class} {kind:?}", rule.kind);
                assert!(rule.given.has(rule.required), "{} is required where it may not stand", rule.kind);
            }
        }
    }

    #[test]
    fn secrets_are_never_part_of_what_is_seen() {
        for (class, kind) in KINDS {
            for rule in rules_of(class, kind).unwrap().iter().flat_map(|rows| rows.iter()) {
                if rule.secret {
                    assert_eq!((rule.starts, rule.change), (Start::Absent, Change::Never), "{}", rule.kind);
                }
            }
        }
    }

    fn origins(set: Origins) -> String {
        let names = [
            (Origins::GENERATE, "generate"),
            (Origins::CREATE, "create"),
            (Origins::UNWRAP, "unwrap"),
            (Origins::DERIVE, "derive"),
            (Origins::COPY, "copy"),
        ];
        match set {
            Origins::NONE => "never".to_owned(),
            Origins::ANY => "always".to_owned(),
            _ => names
                .iter()
                .filter(|(one, _)| set.has(*one))
                .map(|(_, name)| *name)
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// The whole table as people read it. `UPDATE_EXPECT=1 cargo test` writes it anew.
    #[test]
    fn the_table_is_as_committed() {
        let mut page = String::from(
            "# The attributes of objects\n\nWritten by a test from `backend/core/src/policy/classes.rs`. \"Given\" says in the \
             templates of which functions an attribute may stand, \"needed\" in which it must; \"ring\" means that \
             `POLICY.md` says it, \"made\" that it comes with the key.\n",
        );
        for (class, kind) in KINDS {
            let kind_name = kind.map_or(String::new(), |kind| format!(", {kind}"));
            writeln!(
                page,
                "\n## {class}{kind_name}\n\n| attribute | given | needed | starts as | may change |"
            )
            .unwrap();
            page.push_str("|---|---|---|---|---|\n");
            for rule in rules_of(class, kind).unwrap().iter().flat_map(|rows| rows.iter()) {
                let starts = match rule.starts {
                    Start::Absent if rule.secret => "secret".to_owned(),
                    Start::Absent => "absent".to_owned(),
                    Start::Bool(value) => value.to_string(),
                    Start::Empty => "empty".to_owned(),
                    Start::Ulong(value) => value.to_string(),
                    Start::Ring => "ring".to_owned(),
                    Start::Computed => "computed".to_owned(),
                    Start::GeneratedKey => "made".to_owned(),
                };
                let change = match rule.change {
                    Change::Never => "no".to_owned(),
                    Change::Free => "yes".to_owned(),
                    Change::OnlyTo(value) => format!("to {value}"),
                    Change::Use => "yes; strict: to false".to_owned(),
                    Change::Officer => "by the officer".to_owned(),
                };
                let needed =
                    if rule.required == Origins::NONE { String::new() } else { origins(rule.required) };
                writeln!(
                    page,
                    "| {} | {} | {needed} | {starts} | {change} |",
                    rule.kind,
                    origins(rule.given)
                )
                .unwrap();
            }
        }
        expect_file!["ATTRIBUTES.md"].assert_eq(&page);
    }
}
