//! The attribute table: for each class of object and each type of key, its attributes, who may set them and when, and
//! their default values.
//!
//! From the tables in the specification's sections "Storage objects", "Key objects", "Public key objects", "Private
//! key objects", "Secret key objects", "X.509 public key certificate objects", "Data objects", "Profile objects", and
//! those of RSA, elliptic curves, AES, ChaCha20, generic secrets, ML-KEM and ML-DSA.

use kms_protocol::{AttributeType as A, DATA_BYTES_MAX, KeyType, ObjectClass};

use super::attributes::{
    AttributeRule, CERTIFICATE_BYTES_MAX, Change, DER_BYTES_MAX, Functions, ID_BYTES_MAX, Initial,
    LABEL_BYTES_MAX, rule, usage_flag,
};

// Short names, so that a row stays on one line.
const ANY: Functions = Functions::ANY;
const ALL_BUT_COPY: Functions = Functions::ALL_BUT_COPY;
const GENERATE: Functions = Functions::GENERATE;
const CREATE: Functions = Functions::CREATE;
const UNWRAP: Functions = Functions::UNWRAP;
const DERIVE: Functions = Functions::DERIVE;
const COPY: Functions = Functions::COPY;
/// Objects that are not keys: they are created or copied.
const STORED: Functions = Functions::CREATE_OR_COPY;

const OBJECT: &[AttributeRule] = &[
    rule(A::CLASS).allowed(ANY).initial(Initial::Computed),
    rule(A::TOKEN).allowed(ANY).initial(Initial::Bool(false)),
    rule(A::PRIVATE).allowed(ANY).initial(Initial::Ring),
    rule(A::MODIFIABLE).allowed(ANY).initial(Initial::Bool(true)),
    // pkcs11-provider copies each copyable token key into its session, so token keys are copyable only on request.
    rule(A::COPYABLE).allowed(ANY).initial(Initial::Computed).change(Change::OnlyTo(false)),
    rule(A::DESTROYABLE).allowed(ANY).initial(Initial::Bool(true)),
    rule(A::LABEL).allowed(ANY).initial(Initial::Empty).change(Change::Any).max_bytes(LABEL_BYTES_MAX),
    rule(A::UNIQUE_ID).initial(Initial::SetWithKey),
];

const KEY: &[AttributeRule] = &[
    rule(A::KEY_TYPE).allowed(ANY).initial(Initial::Computed),
    // One is generated if the template has none; an empty one in the template stays empty.
    rule(A::ID).allowed(ANY).initial(Initial::SetWithKey).change(Change::Any).max_bytes(ID_BYTES_MAX),
    rule(A::START_DATE).allowed(ANY).initial(Initial::Empty).change(Change::Any),
    rule(A::END_DATE).allowed(ANY).initial(Initial::Empty).change(Change::Any),
    usage_flag(A::DERIVE),
    rule(A::LOCAL).initial(Initial::Computed),
    rule(A::KEY_GEN_MECHANISM).initial(Initial::Computed),
    rule(A::ALLOWED_MECHANISMS).allowed(ANY).initial(Initial::Empty),
];

const PUBLIC: &[AttributeRule] = &[
    rule(A::SUBJECT).allowed(ANY).initial(Initial::Empty).change(Change::Any).max_bytes(DER_BYTES_MAX),
    usage_flag(A::ENCRYPT),
    usage_flag(A::VERIFY),
    usage_flag(A::VERIFY_RECOVER),
    usage_flag(A::WRAP),
    usage_flag(A::ENCAPSULATE),
    rule(A::TRUSTED).allowed(ALL_BUT_COPY).initial(Initial::Bool(false)).change(Change::Officer),
    rule(A::WRAP_TEMPLATE).allowed(ANY).initial(Initial::Empty),
    rule(A::ENCAPSULATE_TEMPLATE).allowed(ANY).initial(Initial::Empty),
    rule(A::PUBLIC_KEY_INFO).allowed(CREATE).initial(Initial::SetWithKey).max_bytes(DER_BYTES_MAX),
];

/// Attributes of both secret and private keys.
const SECRET_OR_PRIVATE: &[AttributeRule] = &[
    rule(A::SENSITIVE).allowed(ANY).initial(Initial::Ring).change(Change::OnlyTo(true)),
    rule(A::EXTRACTABLE).allowed(ANY).initial(Initial::Ring).change(Change::OnlyTo(false)),
    rule(A::ALWAYS_SENSITIVE).initial(Initial::Computed),
    rule(A::NEVER_EXTRACTABLE).initial(Initial::Computed),
    rule(A::WRAP_WITH_TRUSTED).allowed(ANY).initial(Initial::Bool(false)).change(Change::OnlyTo(true)),
    rule(A::UNWRAP_TEMPLATE).allowed(ANY).initial(Initial::Empty),
    rule(A::DERIVE_TEMPLATE).allowed(ANY).initial(Initial::Empty),
];

const PRIVATE: &[AttributeRule] = &[
    rule(A::SUBJECT).allowed(ANY).initial(Initial::Empty).change(Change::Any).max_bytes(DER_BYTES_MAX),
    usage_flag(A::DECRYPT),
    usage_flag(A::SIGN),
    usage_flag(A::SIGN_RECOVER),
    usage_flag(A::UNWRAP),
    usage_flag(A::DECAPSULATE),
    rule(A::ALWAYS_AUTHENTICATE).allowed(ANY).initial(Initial::Bool(false)),
    rule(A::DECAPSULATE_TEMPLATE).allowed(ANY).initial(Initial::Empty),
    rule(A::PUBLIC_KEY_INFO).allowed(CREATE.or(UNWRAP)).initial(Initial::SetWithKey).max_bytes(DER_BYTES_MAX),
];

const SECRET: &[AttributeRule] = &[
    usage_flag(A::ENCRYPT),
    usage_flag(A::DECRYPT),
    usage_flag(A::SIGN),
    usage_flag(A::VERIFY),
    usage_flag(A::WRAP),
    usage_flag(A::UNWRAP),
    rule(A::TRUSTED).allowed(ALL_BUT_COPY).initial(Initial::Bool(false)).change(Change::Officer),
    rule(A::WRAP_TEMPLATE).allowed(ANY).initial(Initial::Empty),
    // Set in a strict ring on a key that both works on data and wraps (`separation`).
    rule(A::KMS_WRAP_SUBKEY),
    rule(A::CHECK_VALUE).allowed(CREATE.or(UNWRAP).or(DERIVE)).initial(Initial::SetWithKey),
    rule(A::VALUE).required(CREATE).secret(),
];

/// Secret keys of various lengths.
const VARIABLE_LENGTH: &[AttributeRule] =
    &[rule(A::VALUE_LEN).required(GENERATE).allowed(UNWRAP.or(DERIVE)).initial(Initial::SetWithKey)];

/// Secret keys of one length.
const FIXED_LENGTH: &[AttributeRule] =
    &[rule(A::VALUE_LEN).allowed(GENERATE.or(UNWRAP).or(DERIVE)).initial(Initial::SetWithKey)];

const RSA_PUBLIC: &[AttributeRule] = &[
    rule(A::MODULUS).required(CREATE).initial(Initial::SetWithKey),
    rule(A::MODULUS_BITS).required(GENERATE).initial(Initial::SetWithKey),
    rule(A::PUBLIC_EXPONENT).required(CREATE).allowed(GENERATE).initial(Initial::SetWithKey),
];

const RSA_PRIVATE: &[AttributeRule] = &[
    rule(A::MODULUS).required(CREATE).initial(Initial::SetWithKey),
    rule(A::PUBLIC_EXPONENT).allowed(CREATE).initial(Initial::SetWithKey),
    rule(A::PRIVATE_EXPONENT).required(CREATE).secret(),
    rule(A::PRIME_1).allowed(CREATE).secret(),
    rule(A::PRIME_2).allowed(CREATE).secret(),
    rule(A::EXPONENT_1).allowed(CREATE).secret(),
    rule(A::EXPONENT_2).allowed(CREATE).secret(),
    rule(A::COEFFICIENT).allowed(CREATE).secret(),
];

const EC_PUBLIC: &[AttributeRule] = &[
    rule(A::EC_PARAMS).required(GENERATE.or(CREATE)).initial(Initial::SetWithKey),
    rule(A::EC_POINT).required(CREATE).initial(Initial::SetWithKey),
];

const EC_PRIVATE: &[AttributeRule] = &[
    // Some applications name the curve in both templates; `generate_pair` checks that they agree.
    rule(A::EC_PARAMS).required(CREATE).allowed(GENERATE).initial(Initial::SetWithKey),
    rule(A::VALUE).required(CREATE).secret(),
];

/// ML-KEM and ML-DSA. The public key itself is `CKA_VALUE`.
const LATTICE_PUBLIC: &[AttributeRule] = &[
    rule(A::PARAMETER_SET).required(GENERATE.or(CREATE)).initial(Initial::SetWithKey),
    rule(A::VALUE).required(CREATE).initial(Initial::SetWithKey).max_bytes(DER_BYTES_MAX),
];

const LATTICE_PRIVATE: &[AttributeRule] = &[
    rule(A::PARAMETER_SET).required(CREATE).allowed(GENERATE).initial(Initial::SetWithKey),
    // One of the two, which `kms_crypto` checks at import.
    rule(A::SEED).allowed(CREATE).secret(),
    rule(A::VALUE).allowed(CREATE).secret().max_bytes(DER_BYTES_MAX),
];

const CERTIFICATE: &[AttributeRule] = &[
    rule(A::CERTIFICATE_TYPE).required(CREATE).allowed(COPY),
    rule(A::TRUSTED).allowed(CREATE).initial(Initial::Bool(false)).change(Change::Officer),
    rule(A::CERTIFICATE_CATEGORY).allowed(STORED).initial(Initial::Ulong(0)),
    rule(A::CHECK_VALUE).allowed(STORED).initial(Initial::Empty),
    rule(A::START_DATE).allowed(STORED).initial(Initial::Empty),
    rule(A::END_DATE).allowed(STORED).initial(Initial::Empty),
    rule(A::PUBLIC_KEY_INFO).allowed(STORED).initial(Initial::Empty).max_bytes(DER_BYTES_MAX),
    rule(A::SUBJECT).required(CREATE).allowed(COPY).max_bytes(DER_BYTES_MAX),
    rule(A::ID).allowed(STORED).initial(Initial::Empty).change(Change::Any).max_bytes(ID_BYTES_MAX),
    rule(A::ISSUER).allowed(STORED).initial(Initial::Empty).change(Change::Any).max_bytes(DER_BYTES_MAX),
    rule(A::SERIAL_NUMBER).allowed(STORED).initial(Initial::Empty).change(Change::Any),
    rule(A::VALUE).allowed(STORED).initial(Initial::Empty).max_bytes(CERTIFICATE_BYTES_MAX),
    rule(A::URL).allowed(STORED).initial(Initial::Empty),
    rule(A::HASH_OF_SUBJECT_PUBLIC_KEY).allowed(STORED).initial(Initial::Empty),
    rule(A::HASH_OF_ISSUER_PUBLIC_KEY).allowed(STORED).initial(Initial::Empty),
    rule(A::JAVA_MIDP_SECURITY_DOMAIN).allowed(STORED).initial(Initial::Ulong(0)),
    rule(A::NAME_HASH_ALGORITHM).allowed(STORED),
];

const DATA: &[AttributeRule] = &[
    rule(A::APPLICATION).allowed(STORED).initial(Initial::Empty).max_bytes(LABEL_BYTES_MAX),
    rule(A::OBJECT_ID).allowed(STORED).initial(Initial::Empty),
    // VeraCrypt stores key files here, Oracle the names of its keys: encrypted like a key, returned to callers who may
    // see the object.
    rule(A::VALUE).allowed(CREATE).secret().max_bytes(DATA_BYTES_MAX),
];

const PROFILE: &[AttributeRule] = &[rule(A::PROFILE_ID).required(CREATE).allowed(COPY)];

/// The rows for a class of object and, if it is a key, its type. None if the class or type is not supported.
pub(super) fn rules_of(class: ObjectClass, kind: Option<KeyType>) -> Option<[&'static [AttributeRule]; 5]> {
    let lattice = |kind| matches!(kind, KeyType::ML_KEM | KeyType::ML_DSA);
    let elliptic = |kind| matches!(kind, KeyType::EC | KeyType::EC_EDWARDS | KeyType::EC_MONTGOMERY);
    match (class, kind) {
        (ObjectClass::SECRET_KEY, Some(KeyType::CHACHA20)) => {
            Some([OBJECT, KEY, SECRET_OR_PRIVATE, SECRET, FIXED_LENGTH])
        }
        (ObjectClass::SECRET_KEY, Some(kind)) if has_variable_length(kind) => {
            Some([OBJECT, KEY, SECRET_OR_PRIVATE, SECRET, VARIABLE_LENGTH])
        }
        (ObjectClass::PRIVATE_KEY, Some(KeyType::RSA)) => {
            Some([OBJECT, KEY, SECRET_OR_PRIVATE, PRIVATE, RSA_PRIVATE])
        }
        (ObjectClass::PRIVATE_KEY, Some(kind)) if elliptic(kind) => {
            Some([OBJECT, KEY, SECRET_OR_PRIVATE, PRIVATE, EC_PRIVATE])
        }
        (ObjectClass::PRIVATE_KEY, Some(kind)) if lattice(kind) => {
            Some([OBJECT, KEY, SECRET_OR_PRIVATE, PRIVATE, LATTICE_PRIVATE])
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

/// Whether secret keys of this type have various lengths, so that templates name one.
fn has_variable_length(kind: KeyType) -> bool {
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

/// Whether objects of this class are keys, which have a key type.
pub(super) fn is_key(class: ObjectClass) -> bool {
    matches!(class, ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY | ObjectClass::PUBLIC_KEY)
}

/// Whether objects of this class are secret or private keys.
pub(super) fn is_secret_or_private(class: ObjectClass) -> bool {
    matches!(class, ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY)
}

/// Every class and key type that has rows; of the HMAC key types only one, since all have the same rows.
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
                assert!(seen.insert(rule.kind), "{} has two rows for {class} {kind:?}", rule.kind);
                assert!(
                    rule.allowed_in.has(rule.required_in),
                    "{} is required where it is not allowed",
                    rule.kind
                );
            }
        }
    }

    #[test]
    fn secret_attributes_have_no_default_and_never_change() {
        for (class, kind) in KINDS {
            for rule in rules_of(class, kind).unwrap().iter().flat_map(|rows| rows.iter()) {
                if rule.secret {
                    assert_eq!(
                        (rule.initial, rule.change),
                        (Initial::Absent, Change::Never),
                        "{}",
                        rule.kind
                    );
                }
            }
        }
    }

    fn function_names(functions: Functions) -> String {
        let names = [
            (Functions::GENERATE, "generate"),
            (Functions::CREATE, "create"),
            (Functions::UNWRAP, "unwrap"),
            (Functions::DERIVE, "derive"),
            (Functions::COPY, "copy"),
        ];
        match functions {
            Functions::NONE => "none".to_owned(),
            Functions::ANY => "all".to_owned(),
            _ => names
                .iter()
                .filter(|(one, _)| functions.has(*one))
                .map(|(_, name)| *name)
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// The whole table, for readers. `UPDATE_EXPECT=1 cargo test` writes it again.
    #[test]
    fn the_table_is_as_committed() {
        let mut page = String::from(
            "# The attributes of objects\n\nGenerated by a test from `backend/core/src/policy/classes.rs`.\n\n\
             - *allowed in*: the functions whose templates may contain the attribute (`generate` is `C_GenerateKey` and\n  \
               `C_GenerateKeyPair`, `create` `C_CreateObject`, `unwrap` `C_UnwrapKey`, `derive` `C_DeriveKey`,\n  \
               `C_EncapsulateKey` and `C_DecapsulateKey`, `copy` `C_CopyObject`).\n\
             - *required in*: the functions whose templates must contain it.\n\
             - *default*: its value if the template does not contain it. *Ring policy*: see `POLICY.md`. *Computed*: policy\n  \
               computes it. *Set with the key*: it is added when the key or object is created. *Secret*: it is part of the\n  \
               object's secret, and is only returned if policy permits it. *Absent*: the object does not have it.\n\
             - *can change*: whether `C_SetAttributeValue` may set it.\n",
        );
        for (class, kind) in KINDS {
            let kind_name = kind.map_or(String::new(), |kind| format!(", {kind}"));
            writeln!(
                page,
                "\n## {class}{kind_name}\n\n| attribute | allowed in | required in | default | can change |"
            )
            .unwrap();
            page.push_str("|---|---|---|---|---|\n");
            for rule in rules_of(class, kind).unwrap().iter().flat_map(|rows| rows.iter()) {
                let default = match rule.initial {
                    Initial::Absent if rule.secret => "secret".to_owned(),
                    Initial::Absent => "absent".to_owned(),
                    Initial::Bool(value) => value.to_string(),
                    Initial::Empty => "empty".to_owned(),
                    Initial::Ulong(value) => value.to_string(),
                    Initial::Ring => "ring policy".to_owned(),
                    Initial::Computed => "computed".to_owned(),
                    Initial::SetWithKey => "set with the key".to_owned(),
                };
                let change = match rule.change {
                    Change::Never => "no".to_owned(),
                    Change::Any => "yes".to_owned(),
                    Change::OnlyTo(value) => format!("only to {value}"),
                    Change::UsageFlag => "yes; in a strict ring only to false".to_owned(),
                    Change::Officer => "by the security officer".to_owned(),
                };
                let required = if rule.required_in == Functions::NONE {
                    String::new()
                } else {
                    function_names(rule.required_in)
                };
                writeln!(
                    page,
                    "| {} | {} | {required} | {default} | {change} |",
                    rule.kind,
                    function_names(rule.allowed_in)
                )
                .unwrap();
            }
        }
        expect_file!["ATTRIBUTES.md"].assert_eq(&page);
    }
}
