//! What a ring allows, strict or compat: one table of defaults, and the rules beside it.
//!
//! `compat` is what SoftHSM 2.6 defaults to, but that private keys are sensitive. `strict` gives a key the uses of its
//! type and no others, and keeps token keys sensitive and private.
//!
//! What a strict ring's keys may do to other keys is `separation`'s.
//!
//! Where a strict ring cannot grant what a template asks, it records what it grants instead of refusing: pkcs11-tool
//! asks for `CKA_SENSITIVE=FALSE` and `CKA_PRIVATE=FALSE` for every secret key unless told otherwise, and Vault,
//! python-pkcs11 and pkcs11-provider ask for encrypting and wrapping at once (`docs/decisions/0009`). The object always
//! tells the truth about itself.

use kms_protocol::{Attribute, AttributeType as A, KeyType, ObjectClass, RingPolicy, Template};

use super::separation;
use super::template::Creation;

/// What an attribute starts as in a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Setting {
    /// True.
    Yes,
    /// False.
    No,
    /// True for the uses that a key of the type has by nature, unless the template asks for some of its uses only.
    Natural,
}

/// One line of the ring table.
pub(super) struct Line {
    /// Of which class.
    pub(super) class: ObjectClass,
    /// Which attribute.
    pub(super) kind: A,
    /// In a strict ring.
    pub(super) strict: Setting,
    /// In a compat ring.
    pub(super) compat: Setting,
    /// What a token object of a strict ring has, whatever was asked.
    pub(super) held: Option<bool>,
}

const fn line(class: ObjectClass, kind: A, strict: Setting, compat: Setting) -> Line {
    Line { class, kind, strict, compat, held: None }
}

impl Line {
    const fn held(mut self, value: bool) -> Self {
        self.held = Some(value);
        self
    }
}

const SECRET: ObjectClass = ObjectClass::SECRET_KEY;
const PRIVATE: ObjectClass = ObjectClass::PRIVATE_KEY;
const PUBLIC: ObjectClass = ObjectClass::PUBLIC_KEY;

/// The ring table.
pub(super) const TABLE: &[Line] = &[
    line(SECRET, A::PRIVATE, Setting::Yes, Setting::Yes).held(true),
    line(SECRET, A::SENSITIVE, Setting::Yes, Setting::No).held(true),
    line(SECRET, A::EXTRACTABLE, Setting::No, Setting::No),
    line(SECRET, A::ENCRYPT, Setting::Natural, Setting::Yes),
    line(SECRET, A::DECRYPT, Setting::Natural, Setting::Yes),
    line(SECRET, A::SIGN, Setting::Natural, Setting::Yes),
    line(SECRET, A::VERIFY, Setting::Natural, Setting::Yes),
    line(SECRET, A::WRAP, Setting::No, Setting::Yes),
    line(SECRET, A::UNWRAP, Setting::No, Setting::Yes),
    line(SECRET, A::DERIVE, Setting::Natural, Setting::Natural),
    line(PRIVATE, A::PRIVATE, Setting::Yes, Setting::Yes).held(true),
    line(PRIVATE, A::SENSITIVE, Setting::Yes, Setting::Yes).held(true),
    line(PRIVATE, A::EXTRACTABLE, Setting::No, Setting::No),
    line(PRIVATE, A::DECRYPT, Setting::Natural, Setting::Yes),
    line(PRIVATE, A::SIGN, Setting::Natural, Setting::Yes),
    line(PRIVATE, A::SIGN_RECOVER, Setting::No, Setting::Yes),
    line(PRIVATE, A::UNWRAP, Setting::No, Setting::Yes),
    line(PRIVATE, A::DERIVE, Setting::Natural, Setting::Natural),
    line(PRIVATE, A::DECAPSULATE, Setting::Natural, Setting::Natural),
    line(PUBLIC, A::PRIVATE, Setting::No, Setting::No),
    line(PUBLIC, A::ENCRYPT, Setting::Natural, Setting::Yes),
    line(PUBLIC, A::VERIFY, Setting::Natural, Setting::Yes),
    line(PUBLIC, A::VERIFY_RECOVER, Setting::No, Setting::Yes),
    line(PUBLIC, A::WRAP, Setting::No, Setting::Yes),
    line(PUBLIC, A::DERIVE, Setting::No, Setting::No),
    line(PUBLIC, A::ENCAPSULATE, Setting::Natural, Setting::Natural),
    // Consumers look for certificates before they log in.
    line(ObjectClass::CERTIFICATE, A::PRIVATE, Setting::No, Setting::No),
    line(ObjectClass::DATA, A::PRIVATE, Setting::Yes, Setting::Yes),
    line(ObjectClass::PROFILE, A::PRIVATE, Setting::No, Setting::No),
];

/// The shortest generic secret of a strict ring, in bytes: 128 bits.
pub(super) const STRICT_GENERIC_BYTES_MIN: u64 = 16;

/// The smallest RSA public exponent of a strict ring (FIPS 186-5).
pub(super) const STRICT_EXPONENT_MIN: u64 = 65_537;

/// The uses a key has by nature, and those it can have besides.
fn uses_of(class: ObjectClass, kind: KeyType) -> (&'static [A], &'static [A]) {
    match (class, kind) {
        (ObjectClass::SECRET_KEY, KeyType::AES) => {
            (&[A::ENCRYPT, A::DECRYPT], &[A::WRAP, A::UNWRAP, A::SIGN, A::VERIFY, A::DERIVE])
        }
        (ObjectClass::SECRET_KEY, KeyType::CHACHA20) => (&[A::ENCRYPT, A::DECRYPT], &[]),
        (ObjectClass::SECRET_KEY, KeyType::HKDF) => (&[A::DERIVE], &[]),
        (ObjectClass::SECRET_KEY, _) => (&[A::SIGN, A::VERIFY], &[A::DERIVE]),
        (ObjectClass::PRIVATE_KEY, KeyType::RSA) => (&[A::SIGN, A::DECRYPT], &[A::UNWRAP, A::SIGN_RECOVER]),
        (ObjectClass::PRIVATE_KEY, KeyType::EC_MONTGOMERY) => (&[A::DERIVE], &[]),
        (ObjectClass::PRIVATE_KEY, KeyType::ML_KEM) => (&[A::DECAPSULATE], &[]),
        (ObjectClass::PRIVATE_KEY, _) => (&[A::SIGN], &[A::DERIVE]),
        (ObjectClass::PUBLIC_KEY, KeyType::RSA) => (&[A::VERIFY, A::ENCRYPT], &[A::WRAP, A::VERIFY_RECOVER]),
        (ObjectClass::PUBLIC_KEY, KeyType::EC_MONTGOMERY) => (&[], &[]),
        (ObjectClass::PUBLIC_KEY, KeyType::ML_KEM) => (&[A::ENCAPSULATE], &[]),
        _ => (&[A::VERIFY], &[]),
    }
}

/// What an attribute of a new object starts as, given what its template asks for.
pub(super) fn start_of(
    policy: RingPolicy,
    class: ObjectClass,
    key: Option<KeyType>,
    kind: A,
    asked: &Template,
) -> bool {
    let line = TABLE.iter().find(|line| (line.class, line.kind) == (class, kind));
    let default = line.map_or(Setting::No, |line| match policy {
        RingPolicy::Strict => line.strict,
        RingPolicy::Compat => line.compat,
    });
    match (default, key) {
        (Setting::Yes, _) => true,
        (Setting::No, _) | (Setting::Natural, None) => false,
        (Setting::Natural, Some(key)) => {
            let (natural, besides) = uses_of(class, key);
            let some_asked = natural.iter().chain(besides).any(|wanted| asked.bool(*wanted) == Some(true));
            natural.contains(&kind) && !some_asked
        }
    }
}

/// Makes a strict ring's grant of what was asked for one object: held values, and what it may do to other keys.
pub(super) fn hold(policy: RingPolicy, creation: Creation, attributes: &mut Template) {
    if policy == RingPolicy::Compat {
        return;
    }
    let class = creation.class;
    if attributes.bool(A::TOKEN) == Some(true) {
        for line in TABLE.iter().filter(|line| line.class == class) {
            if let Some(value) = line.held {
                attributes.set(Attribute::bool(line.kind, value));
            }
        }
    }
    separation::settle(creation, attributes);
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect_file;
    use kms_protocol::mechanism_table::{self, Uses};

    use super::*;

    fn word(default: Setting) -> &'static str {
        match default {
            Setting::Yes => "true",
            Setting::No => "false",
            Setting::Natural => "by nature",
        }
    }

    /// The whole table as people read it. `UPDATE_EXPECT=1 cargo test` writes it anew.
    #[test]
    fn the_table_is_as_committed() {
        let mut page = String::from(
            "# What a ring allows\n\nWritten by a test from `backend/core/src/policy/ring.rs` and the mechanism table.\n\n\
             ## What an attribute starts as\n\n| class | attribute | strict | compat |\n|---|---|---|---|\n",
        );
        for line in TABLE {
            let held = if line.held == Some(true) { "; of a token key always true" } else { "" };
            let (strict, compat) = (word(line.strict), word(line.compat));
            writeln!(page, "| {} | {} | {strict}{held} | {compat} |", line.class, line.kind).unwrap();
        }
        page.push_str("\n\"By nature\" is true for these uses, unless the template asks for some of them, or for one of those in brackets:\n\n");
        for (class, kind) in super::super::classes::KINDS {
            let Some(kind) = kind else { continue };
            let (natural, besides) = uses_of(class, kind);
            let names = |uses: &[A]| uses.iter().map(A::to_string).collect::<Vec<_>>().join(", ");
            let besides = if besides.is_empty() { String::new() } else { format!(" ({})", names(besides)) };
            writeln!(page, "- {class}, {kind}: {}{besides}", names(natural)).unwrap();
        }
        page.push_str("\n## What a strict ring records otherwise than asked\n\n");
        page.push_str("- A token key that is secret or private is sensitive and private.\n");
        page.push_str(
            "- A sensitive secret key made here that wraps is unextractable. If it works on data as well (encrypts, decrypts, \
             signs, verifies), it wraps and unwraps with a half of its own (`CKA_KMS_WRAPS_APART`): nothing that it wraps can be \
             decrypted with it.\n",
        );
        page.push_str(
            "- Any other secret key that works on data, was not made here, or is open, wraps only keys that are open: its \
             `CKA_WRAP_TEMPLATE` says so. So does the public half of a pair whose private half works on data, or is open or \
             extractable.\n",
        );
        page.push_str(
            "- An unwrapped key is sensitive and unextractable, in the session too; but for what a key unwraps that works on data: \
             that counts as brought in plaintext.\n",
        );
        page.push_str("- A key derived from a sensitive key is sensitive, from an unextractable one unextractable. A key \
                       agreed on (ECDH, ML-KEM) may be open, in the session only: the other side knows it.\n");
        page.push_str("\n## What a strict ring refuses\n\n");
        page.push_str("- Making a key without a login.\n- To set a use of a key that it does not have: uses can be given up only.\n");
        page.push_str("- Secret and private token keys in plaintext (`C_CreateObject`, copies of open session keys, what is \
                       derived from them, what a key unwraps that works on data).\n");
        page.push_str(
            "- To wrap with a public key that the KMS did not make and the officer does not trust; to wrap what is not open with \
             a secret key that was ever outside.\n",
        );
        writeln!(
            page,
            "- Making generic secrets below {STRICT_GENERIC_BYTES_MIN} bytes, or deriving them from sensitive keys."
        )
        .unwrap();
        writeln!(page, "- RSA public exponents below {STRICT_EXPONENT_MIN}.").unwrap();
        for row in mechanism_table::TABLE.iter().filter(|row| row.not_strict != Uses::NONE) {
            let uses = [
                (Uses::ENCRYPT, "encrypt"),
                (Uses::DECRYPT, "decrypt"),
                (Uses::SIGN, "sign"),
                (Uses::VERIFY, "verify"),
                (Uses::WRAP, "wrap"),
                (Uses::UNWRAP, "unwrap"),
                (Uses::DERIVE, "derive"),
            ];
            let uses = uses.iter().filter(|(bit, _)| row.not_strict.has(*bit)).map(|(_, name)| *name);
            writeln!(page, "- {} to {}.", row.kind, uses.collect::<Vec<_>>().join(" or to ")).unwrap();
        }
        expect_file!["POLICY.md"].assert_eq(&page);
    }

    #[test]
    fn every_line_has_its_row_in_the_attribute_table_and_back() {
        use super::super::attributes::Start;
        use super::super::classes::{KINDS, rules_of};
        for (class, kind) in KINDS {
            let rules = rules_of(class, kind).unwrap();
            let rows = rules.iter().flat_map(|rows| rows.iter()).filter(|rule| rule.starts == Start::Ring);
            let mut rows: Vec<A> = rows.map(|rule| rule.kind).collect();
            let mut lines: Vec<A> =
                TABLE.iter().filter(|line| line.class == class).map(|line| line.kind).collect();
            rows.sort_unstable();
            lines.sort_unstable();
            assert_eq!(rows, lines, "{class} {kind:?}");
        }
    }

    #[test]
    fn no_defaults_let_a_strict_key_do_both() {
        for (class, kind) in super::super::classes::KINDS {
            let start = |use_of| start_of(RingPolicy::Strict, class, kind, use_of, &Template::default());
            assert!(!start(A::WRAP) && !start(A::UNWRAP), "{class} {kind:?}");
        }
    }
}
