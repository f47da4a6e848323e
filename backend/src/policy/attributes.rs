//! The attribute table: for each class and type of key, what an object holds, who may set it and when, and what it
//! starts as. Making and changing objects are walks over these rows (`generate`, `template`).
//!
//! Cites the specification's tables by the sections "Storage objects", "Key objects", "Public key objects",
//! "Private key objects", "Secret key objects", and those of RSA, elliptic curves, AES and generic secrets.

use kms_protocol::{AttributeType as A, KeyType, ObjectClass, Shape};

/// One attribute of one class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Which attribute.
    pub(super) kind: A,
    /// In which templates it may stand.
    pub(super) given: Origins,
    /// In which templates it must stand.
    pub(super) required: Origins,
    /// What it is when the template does not say.
    pub(super) starts: Start,
    /// Whether `C_SetAttributeValue` may set it.
    pub(super) change: Change,
    /// Whether it is part of the key's secret: never in an object's visible attributes.
    pub(super) secret: bool,
    /// The most bytes of a value that is bytes.
    pub(super) bytes_max: usize,
}

/// The ways an object comes to be, as a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Origins(u8);

impl Origins {
    pub(super) const NONE: Self = Self(0);
    /// `C_GenerateKey`, `C_GenerateKeyPair`.
    pub(super) const GENERATE: Self = Self(1);
    /// `C_CreateObject`.
    pub(super) const CREATE: Self = Self(2);
    /// `C_UnwrapKey`.
    pub(super) const UNWRAP: Self = Self(4);
    /// `C_DeriveKey`.
    pub(super) const DERIVE: Self = Self(8);
    /// `C_CopyObject`.
    pub(super) const COPY: Self = Self(16);
    /// All but copying.
    pub(super) const NEW: Self = Self(15);
    /// All of them.
    pub(super) const ANY: Self = Self::NEW.or(Self::COPY);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What an attribute is when the template does not say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// Not there.
    Absent,
    /// This.
    Bool(bool),
    /// No bytes, or no mechanisms.
    Empty,
    /// What the ring's table says (`ring`).
    Ring,
    /// What policy computes when the object is made.
    Computed,
    /// What comes with the key itself (`crypto::make`).
    Made,
}

/// Whether `C_SetAttributeValue` may set an attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// No.
    Never,
    /// To any value of its shape.
    Free,
    /// To this value only, and never back.
    OnlyTo(bool),
    /// What a key may be used for: freely in a compat ring, only given up in a strict one. Otherwise a key's owner
    /// makes a data key a wrapping key, wraps, and changes it back to decrypt (Clulow; Delaune, Kremer and Steel).
    Use,
    /// By the security officer.
    Officer,
}

/// The longest label, in bytes. Oracle's have 98 characters.
const LABEL_BYTES_MAX: usize = 1024;

/// The longest `CKA_ID`, in bytes: consumers write it in hexadecimal in URIs.
const ID_BYTES_MAX: usize = 256;

/// The longest DER name or key, in bytes.
const DER_BYTES_MAX: usize = 8 << 10;

/// The longest of all other values, in bytes: an RSA number.
const OTHER_BYTES_MAX: usize = 1024;

const fn rule(kind: A) -> Rule {
    Rule {
        kind,
        given: Origins::NONE,
        required: Origins::NONE,
        starts: Start::Absent,
        change: Change::Never,
        secret: false,
        bytes_max: OTHER_BYTES_MAX,
    }
}

impl Rule {
    const fn given(mut self, origins: Origins) -> Self {
        self.given = self.given.or(origins);
        self
    }

    const fn required(mut self, origins: Origins) -> Self {
        self.required = origins;
        self.given(origins)
    }

    const fn starts(mut self, start: Start) -> Self {
        self.starts = start;
        self
    }

    const fn change(mut self, change: Change) -> Self {
        self.change = change;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn up_to(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Whether bytes are ones this attribute may hold.
    pub(super) fn takes_bytes(&self, bytes: &[u8]) -> bool {
        match self.kind {
            // CK_DATE: year, month and day in digits, or nothing.
            A::START_DATE | A::END_DATE => {
                bytes.is_empty() || (bytes.len() == 8 && bytes.iter().all(u8::is_ascii_digit))
            }
            _ => bytes.len() <= self.bytes_max,
        }
    }
}

const fn usage(kind: A) -> Rule {
    rule(kind).given(Origins::ANY).starts(Start::Ring).change(Change::Use)
}

const OBJECT: &[Rule] = &[
    rule(A::CLASS).given(Origins::ANY).starts(Start::Computed),
    rule(A::TOKEN).given(Origins::ANY).starts(Start::Bool(false)),
    rule(A::PRIVATE).given(Origins::ANY).starts(Start::Ring),
    rule(A::MODIFIABLE).given(Origins::ANY).starts(Start::Bool(true)),
    // pkcs11-provider copies each copyable key into the session, so keys are not, unless asked.
    rule(A::COPYABLE).given(Origins::ANY).starts(Start::Bool(false)).change(Change::OnlyTo(false)),
    rule(A::DESTROYABLE).given(Origins::ANY).starts(Start::Bool(true)),
    rule(A::LABEL).given(Origins::ANY).starts(Start::Empty).change(Change::Free).up_to(LABEL_BYTES_MAX),
    rule(A::UNIQUE_ID).starts(Start::Made),
];

const KEY: &[Rule] = &[
    rule(A::KEY_TYPE).given(Origins::ANY).starts(Start::Computed),
    rule(A::ID).given(Origins::ANY).starts(Start::Empty).change(Change::Free).up_to(ID_BYTES_MAX),
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
    rule(A::TRUSTED).given(Origins::NEW).starts(Start::Bool(false)).change(Change::Officer),
    rule(A::PUBLIC_KEY_INFO).given(Origins::CREATE).starts(Start::Made).up_to(DER_BYTES_MAX),
];

/// What secret and private keys share.
const HIDDEN: &[Rule] = &[
    rule(A::SENSITIVE).given(Origins::ANY).starts(Start::Ring).change(Change::OnlyTo(true)),
    rule(A::EXTRACTABLE).given(Origins::ANY).starts(Start::Ring).change(Change::OnlyTo(false)),
    rule(A::ALWAYS_SENSITIVE).starts(Start::Computed),
    rule(A::NEVER_EXTRACTABLE).starts(Start::Computed),
    rule(A::WRAP_WITH_TRUSTED).given(Origins::ANY).starts(Start::Bool(false)).change(Change::OnlyTo(true)),
];

const PRIVATE: &[Rule] = &[
    rule(A::SUBJECT).given(Origins::ANY).starts(Start::Empty).change(Change::Free).up_to(DER_BYTES_MAX),
    usage(A::DECRYPT),
    usage(A::SIGN),
    usage(A::SIGN_RECOVER),
    usage(A::UNWRAP),
    rule(A::ALWAYS_AUTHENTICATE).given(Origins::ANY).starts(Start::Bool(false)),
    rule(A::PUBLIC_KEY_INFO)
        .given(Origins::CREATE.or(Origins::UNWRAP))
        .starts(Start::Made)
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
    rule(A::CHECK_VALUE).given(Origins::CREATE.or(Origins::UNWRAP).or(Origins::DERIVE)).starts(Start::Made),
    rule(A::VALUE).required(Origins::CREATE).secret(),
    rule(A::VALUE_LEN)
        .required(Origins::GENERATE)
        .given(Origins::UNWRAP.or(Origins::DERIVE))
        .starts(Start::Made),
];

const RSA_PUBLIC: &[Rule] = &[
    rule(A::MODULUS).required(Origins::CREATE).starts(Start::Made),
    rule(A::MODULUS_BITS).required(Origins::GENERATE).starts(Start::Made),
    rule(A::PUBLIC_EXPONENT).required(Origins::CREATE).given(Origins::GENERATE).starts(Start::Made),
];

const RSA_PRIVATE: &[Rule] = &[
    rule(A::MODULUS).required(Origins::CREATE).starts(Start::Made),
    rule(A::PUBLIC_EXPONENT).given(Origins::CREATE).starts(Start::Made),
    rule(A::PRIVATE_EXPONENT).required(Origins::CREATE).secret(),
    rule(A::PRIME_1).given(Origins::CREATE).secret(),
    rule(A::PRIME_2).given(Origins::CREATE).secret(),
    rule(A::EXPONENT_1).given(Origins::CREATE).secret(),
    rule(A::EXPONENT_2).given(Origins::CREATE).secret(),
    rule(A::COEFFICIENT).given(Origins::CREATE).secret(),
];

const EC_PUBLIC: &[Rule] = &[
    rule(A::EC_PARAMS).required(Origins::GENERATE.or(Origins::CREATE)).starts(Start::Made),
    rule(A::EC_POINT).required(Origins::CREATE).starts(Start::Made),
];

const EC_PRIVATE: &[Rule] = &[
    // Some callers name the curve for both halves; `generate_pair` sees that they agree.
    rule(A::EC_PARAMS).required(Origins::CREATE).given(Origins::GENERATE).starts(Start::Made),
    rule(A::VALUE).required(Origins::CREATE).secret(),
];

/// The rows for a class and type of key. None for what is no key here.
pub(super) fn rules_of(class: ObjectClass, kind: KeyType) -> Option<[&'static [Rule]; 5]> {
    match (class, kind) {
        (ObjectClass::SECRET_KEY, KeyType::AES | KeyType::GENERIC_SECRET) => {
            Some([OBJECT, KEY, HIDDEN, SECRET, &[]])
        }
        (ObjectClass::PRIVATE_KEY, KeyType::RSA) => Some([OBJECT, KEY, HIDDEN, PRIVATE, RSA_PRIVATE]),
        (ObjectClass::PRIVATE_KEY, KeyType::EC) => Some([OBJECT, KEY, HIDDEN, PRIVATE, EC_PRIVATE]),
        (ObjectClass::PUBLIC_KEY, KeyType::RSA) => Some([OBJECT, KEY, PUBLIC, RSA_PUBLIC, &[]]),
        (ObjectClass::PUBLIC_KEY, KeyType::EC) => Some([OBJECT, KEY, PUBLIC, EC_PUBLIC, &[]]),
        _ => None,
    }
}

/// The row of one attribute.
pub(super) fn rule_of(rules: &[&'static [Rule]], kind: A) -> Option<&'static Rule> {
    rules.iter().flat_map(|rows| rows.iter()).find(|rule| rule.kind == kind)
}

/// The shape of an attribute's empty value.
pub(super) fn empty_of(kind: A) -> kms_protocol::Value {
    match kind.shape() {
        Shape::Mechanisms => kms_protocol::Value::Mechanisms(kms_protocol::Mechanisms::default()),
        Shape::Bool | Shape::Ulong | Shape::Bytes | Shape::Template => {
            kms_protocol::Value::Bytes(kms_protocol::Secret::default())
        }
    }
}

/// Every kind of key that has rows.
#[cfg(test)]
pub(super) const KINDS: [(ObjectClass, KeyType); 6] = [
    (ObjectClass::SECRET_KEY, KeyType::AES),
    (ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET),
    (ObjectClass::PRIVATE_KEY, KeyType::RSA),
    (ObjectClass::PUBLIC_KEY, KeyType::RSA),
    (ObjectClass::PRIVATE_KEY, KeyType::EC),
    (ObjectClass::PUBLIC_KEY, KeyType::EC),
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
                assert!(seen.insert(rule.kind), "{} stands twice for {class} {kind}", rule.kind);
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
            "# The attributes of keys\n\nWritten by a test from `backend/src/policy/attributes.rs`. \"Given\" says in the \
             templates of which functions an attribute may stand, \"needed\" in which it must; \"ring\" means that \
             `POLICY.md` says it, \"made\" that it comes with the key.\n",
        );
        for (class, kind) in KINDS {
            writeln!(page, "\n## {class}, {kind}\n\n| attribute | given | needed | starts as | may change |")
                .unwrap();
            page.push_str("|---|---|---|---|---|\n");
            for rule in rules_of(class, kind).unwrap().iter().flat_map(|rows| rows.iter()) {
                let starts = match rule.starts {
                    Start::Absent if rule.secret => "secret".to_owned(),
                    Start::Absent => "absent".to_owned(),
                    Start::Bool(value) => value.to_string(),
                    Start::Empty => "empty".to_owned(),
                    Start::Ring => "ring".to_owned(),
                    Start::Computed => "computed".to_owned(),
                    Start::Made => "made".to_owned(),
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

    #[test]
    fn dates_are_dates() {
        let row = rule(A::START_DATE);
        for (bytes, right) in
            [(&b""[..], true), (b"20260131", true), (b"2026013", false), (b"2026-1-1", false)]
        {
            assert_eq!(row.takes_bytes(bytes), right);
        }
    }
}
