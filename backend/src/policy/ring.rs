//! What a ring allows, strict or compat: one table of defaults, and the rules beside it.
//!
//! `compat` is what SoftHSM 2.6 defaults to. `strict` gives a key the uses of its type and no others, keeps token keys
//! sensitive and private, and lets no key both protect data and protect keys.
//!
//! Where a strict ring cannot grant what a template asks, it records what it grants instead of refusing: pkcs11-tool
//! asks for `CKA_SENSITIVE=FALSE` and `CKA_PRIVATE=FALSE` for every secret key unless told otherwise, and Vault,
//! python-pkcs11 and pkcs11-provider ask for encrypting and wrapping at once (`docs/decisions/0009`). The object always
//! tells the truth about itself.

use kms_protocol::{AttributeType as A, KeyType, ObjectClass, RingPolicy, Template};

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
    line(SECRET, A::SENSITIVE, Setting::Yes, Setting::Yes).held(true),
    line(SECRET, A::EXTRACTABLE, Setting::No, Setting::No),
    line(SECRET, A::ENCRYPT, Setting::Natural, Setting::Yes),
    line(SECRET, A::DECRYPT, Setting::Natural, Setting::Yes),
    line(SECRET, A::SIGN, Setting::Natural, Setting::Yes),
    line(SECRET, A::VERIFY, Setting::Natural, Setting::Yes),
    line(SECRET, A::WRAP, Setting::No, Setting::Yes),
    line(SECRET, A::UNWRAP, Setting::No, Setting::Yes),
    line(SECRET, A::DERIVE, Setting::No, Setting::No),
    line(PRIVATE, A::PRIVATE, Setting::Yes, Setting::Yes).held(true),
    line(PRIVATE, A::SENSITIVE, Setting::Yes, Setting::Yes).held(true),
    line(PRIVATE, A::EXTRACTABLE, Setting::No, Setting::No),
    line(PRIVATE, A::DECRYPT, Setting::Natural, Setting::Yes),
    line(PRIVATE, A::SIGN, Setting::Natural, Setting::Yes),
    line(PRIVATE, A::SIGN_RECOVER, Setting::No, Setting::Yes),
    line(PRIVATE, A::UNWRAP, Setting::No, Setting::Yes),
    line(PRIVATE, A::DERIVE, Setting::No, Setting::No),
    line(PUBLIC, A::PRIVATE, Setting::No, Setting::No),
    line(PUBLIC, A::ENCRYPT, Setting::Natural, Setting::Yes),
    line(PUBLIC, A::VERIFY, Setting::Natural, Setting::Yes),
    line(PUBLIC, A::VERIFY_RECOVER, Setting::No, Setting::Yes),
    line(PUBLIC, A::WRAP, Setting::No, Setting::Yes),
    line(PUBLIC, A::DERIVE, Setting::No, Setting::No),
];

/// The shortest generic secret of a strict ring, in bytes: 128 bits.
pub(super) const STRICT_GENERIC_BYTES_MIN: u64 = 16;

/// The smallest RSA public exponent of a strict ring (FIPS 186-5).
pub(super) const STRICT_EXPONENT_MIN: u64 = 65_537;

/// The uses a key has by nature, and those it can have besides.
fn uses_of(class: ObjectClass, kind: KeyType) -> (&'static [A], &'static [A]) {
    match (class, kind) {
        (ObjectClass::SECRET_KEY, KeyType::AES) => (&[A::ENCRYPT, A::DECRYPT], &[A::WRAP, A::UNWRAP]),
        (ObjectClass::SECRET_KEY, _) => (&[A::SIGN, A::VERIFY], &[]),
        (ObjectClass::PRIVATE_KEY, KeyType::RSA) => (&[A::SIGN, A::DECRYPT], &[A::UNWRAP, A::SIGN_RECOVER]),
        (ObjectClass::PRIVATE_KEY, _) => (&[A::SIGN], &[A::DERIVE]),
        (ObjectClass::PUBLIC_KEY, KeyType::RSA) => (&[A::VERIFY, A::ENCRYPT], &[A::WRAP, A::VERIFY_RECOVER]),
        _ => (&[A::VERIFY], &[]),
    }
}

/// What an attribute of a new key starts as, given what its template asks for.
pub(super) fn start_of(
    policy: RingPolicy,
    class: ObjectClass,
    key: KeyType,
    kind: A,
    asked: &Template,
) -> bool {
    let line = TABLE.iter().find(|line| (line.class, line.kind) == (class, kind));
    let default = line.map_or(Setting::No, |line| match policy {
        RingPolicy::Strict => line.strict,
        RingPolicy::Compat => line.compat,
    });
    match default {
        Setting::Yes => true,
        Setting::No => false,
        Setting::Natural => {
            let (natural, besides) = uses_of(class, key);
            let some_asked = natural.iter().chain(besides).any(|wanted| asked.bool(*wanted) == Some(true));
            natural.contains(&kind) && !some_asked
        }
    }
}

/// Makes a strict ring's grant of what was asked for one key: held values, and data before keys.
pub(super) fn hold(policy: RingPolicy, class: ObjectClass, attributes: &mut Template) {
    if policy == RingPolicy::Compat {
        return;
    }
    if attributes.bool(A::TOKEN) == Some(true) {
        for line in TABLE.iter().filter(|line| line.class == class) {
            if let Some(value) = line.held {
                attributes.set(kms_protocol::Attribute::bool(line.kind, value));
            }
        }
    }
    if protects_data(class, attributes) {
        give_up(attributes, &[A::WRAP, A::UNWRAP]);
    }
}

/// The same for the public half of a pair whose private half is decided: a key that can be wrapped by the one and
/// decrypted by the other is read in two calls.
pub(super) fn hold_public(policy: RingPolicy, private: &Template, public: &mut Template) {
    if policy == RingPolicy::Strict && protects_data(ObjectClass::PRIVATE_KEY, private) {
        give_up(public, &[A::WRAP]);
    }
}

/// Whether a key encrypts or decrypts data. The public half alone cannot tell: the private one decides.
fn protects_data(class: ObjectClass, attributes: &Template) -> bool {
    let is = |kind| attributes.bool(kind) == Some(true);
    match class {
        ObjectClass::SECRET_KEY => is(A::ENCRYPT) || is(A::DECRYPT),
        ObjectClass::PRIVATE_KEY => is(A::DECRYPT),
        _ => false,
    }
}

fn give_up(attributes: &mut Template, uses: &[A]) {
    for kind in uses {
        if attributes.bool(*kind) == Some(true) {
            attributes.set(kms_protocol::Attribute::bool(*kind, false));
        }
    }
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
            "# What a ring allows\n\nWritten by a test from `backend/src/policy/ring.rs` and the mechanism table.\n\n\
             ## What an attribute starts as\n\n| class | attribute | strict | compat |\n|---|---|---|---|\n",
        );
        for line in TABLE {
            let held = if line.held == Some(true) { "; of a token key always true" } else { "" };
            let (strict, compat) = (word(line.strict), word(line.compat));
            writeln!(page, "| {} | {} | {strict}{held} | {compat} |", line.class, line.kind).unwrap();
        }
        page.push_str("\n\"By nature\" is true for these uses, unless the template asks for some of them, or for one of those in brackets:\n\n");
        for (class, kind) in super::super::attributes::KINDS {
            let (natural, besides) = uses_of(class, kind);
            let names = |uses: &[A]| uses.iter().map(A::to_string).collect::<Vec<_>>().join(", ");
            let besides = if besides.is_empty() { String::new() } else { format!(" ({})", names(besides)) };
            writeln!(page, "- {class}, {kind}: {}{besides}", names(natural)).unwrap();
        }
        page.push_str("\n## What a strict ring records otherwise than asked\n\n");
        page.push_str("- A token key that is secret or private is sensitive and private.\n");
        page.push_str("- A secret key that encrypts or decrypts neither wraps nor unwraps.\n");
        page.push_str("- A private key that decrypts does not unwrap, and its public half does not wrap.\n");
        page.push_str("\n## What a strict ring refuses\n\n");
        page.push_str("- Making a key without a login.\n- To set a use of a key that it does not have: uses can be given up only.\n");
        writeln!(page, "- Generic secrets below {STRICT_GENERIC_BYTES_MIN} bytes.").unwrap();
        writeln!(page, "- RSA public exponents below {STRICT_EXPONENT_MIN}.").unwrap();
        for row in mechanism_table::TABLE.iter().filter(|row| row.not_strict != Uses::NONE) {
            let uses = [
                (Uses::ENCRYPT, "encrypt"),
                (Uses::DECRYPT, "decrypt"),
                (Uses::SIGN, "sign"),
                (Uses::VERIFY, "verify"),
            ];
            let uses = uses.iter().filter(|(bit, _)| row.not_strict.has(*bit)).map(|(_, name)| *name);
            writeln!(page, "- {} to {}.", row.kind, uses.collect::<Vec<_>>().join(" or to ")).unwrap();
        }
        expect_file!["POLICY.md"].assert_eq(&page);
    }

    #[test]
    fn every_line_has_its_row_in_the_attribute_table_and_back() {
        use super::super::attributes::{KINDS, Start, rules_of};
        for (class, kind) in KINDS {
            let rules = rules_of(class, kind).unwrap();
            let rows = rules.iter().flat_map(|rows| rows.iter()).filter(|rule| rule.starts == Start::Ring);
            let mut rows: Vec<A> = rows.map(|rule| rule.kind).collect();
            let mut lines: Vec<A> =
                TABLE.iter().filter(|line| line.class == class).map(|line| line.kind).collect();
            rows.sort_unstable();
            lines.sort_unstable();
            assert_eq!(rows, lines, "{class} {kind}");
        }
    }

    #[test]
    fn no_defaults_let_a_strict_key_do_both() {
        for (class, kind) in super::super::attributes::KINDS {
            let start = |use_of| start_of(RingPolicy::Strict, class, kind, use_of, &Template::default());
            assert!(!start(A::WRAP) && !start(A::UNWRAP), "{class} {kind}");
        }
    }
}
