//! Ring policies: the defaults of attributes in a strict and in a compat ring, and what a strict ring enforces.
//!
//! `compat` has the defaults of SoftHSM 2.6, except that private keys are sensitive. `strict` gives a key the uses of
//! its type and no others, and keeps token keys sensitive and private.
//!
//! `separation` decides what keys of a strict ring may do to other keys, `derivation` which keys derive others.
//!
//! Where a strict ring cannot grant what a template requests, it creates the object with what it grants instead of
//! rejecting the template: pkcs11-tool requests `CKA_SENSITIVE=FALSE` and `CKA_PRIVATE=FALSE` for every secret key
//! unless options say otherwise, and Vault, python-pkcs11 and pkcs11-provider request encrypting and wrapping at once
//! (`docs/decisions/0009`). The object's attributes always state what was granted.

use kms_protocol::{Attribute, AttributeType as A, KeyType, ObjectClass, RingPolicy, Template};

use super::template::Creation;
use super::{derivation, separation};

/// The default of a boolean attribute in a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FlagDefault {
    /// True.
    True,
    /// False.
    False,
    /// True for the usual uses of the key type, unless the template requests some of its uses.
    ByKeyType,
}

/// A row of the ring table: the defaults of one attribute.
pub(super) struct RingRow {
    /// The class of objects.
    pub(super) class: ObjectClass,
    /// The attribute's type.
    pub(super) kind: A,
    /// Its default in a strict ring.
    pub(super) strict: FlagDefault,
    /// Its default in a compat ring.
    pub(super) compat: FlagDefault,
    /// The value of a token object in a strict ring, whatever the template requests.
    pub(super) enforced: Option<bool>,
}

const fn row(class: ObjectClass, kind: A, strict: FlagDefault, compat: FlagDefault) -> RingRow {
    RingRow { class, kind, strict, compat, enforced: None }
}

impl RingRow {
    const fn enforced(mut self, value: bool) -> Self {
        self.enforced = Some(value);
        self
    }
}

const SECRET: ObjectClass = ObjectClass::SECRET_KEY;
const PRIVATE: ObjectClass = ObjectClass::PRIVATE_KEY;
const PUBLIC: ObjectClass = ObjectClass::PUBLIC_KEY;

/// The ring table.
pub(super) const TABLE: &[RingRow] = &[
    row(SECRET, A::PRIVATE, FlagDefault::True, FlagDefault::True).enforced(true),
    row(SECRET, A::SENSITIVE, FlagDefault::True, FlagDefault::False).enforced(true),
    row(SECRET, A::EXTRACTABLE, FlagDefault::False, FlagDefault::False),
    row(SECRET, A::ENCRYPT, FlagDefault::ByKeyType, FlagDefault::True),
    row(SECRET, A::DECRYPT, FlagDefault::ByKeyType, FlagDefault::True),
    row(SECRET, A::SIGN, FlagDefault::ByKeyType, FlagDefault::True),
    row(SECRET, A::VERIFY, FlagDefault::ByKeyType, FlagDefault::True),
    row(SECRET, A::WRAP, FlagDefault::False, FlagDefault::True),
    row(SECRET, A::UNWRAP, FlagDefault::False, FlagDefault::True),
    row(SECRET, A::DERIVE, FlagDefault::ByKeyType, FlagDefault::ByKeyType),
    row(PRIVATE, A::PRIVATE, FlagDefault::True, FlagDefault::True).enforced(true),
    row(PRIVATE, A::SENSITIVE, FlagDefault::True, FlagDefault::True).enforced(true),
    row(PRIVATE, A::EXTRACTABLE, FlagDefault::False, FlagDefault::False),
    row(PRIVATE, A::DECRYPT, FlagDefault::ByKeyType, FlagDefault::True),
    row(PRIVATE, A::SIGN, FlagDefault::ByKeyType, FlagDefault::True),
    row(PRIVATE, A::SIGN_RECOVER, FlagDefault::False, FlagDefault::True),
    row(PRIVATE, A::UNWRAP, FlagDefault::False, FlagDefault::True),
    row(PRIVATE, A::DERIVE, FlagDefault::ByKeyType, FlagDefault::ByKeyType),
    row(PRIVATE, A::DECAPSULATE, FlagDefault::ByKeyType, FlagDefault::ByKeyType),
    row(PUBLIC, A::PRIVATE, FlagDefault::False, FlagDefault::False),
    row(PUBLIC, A::ENCRYPT, FlagDefault::ByKeyType, FlagDefault::True),
    row(PUBLIC, A::VERIFY, FlagDefault::ByKeyType, FlagDefault::True),
    row(PUBLIC, A::VERIFY_RECOVER, FlagDefault::False, FlagDefault::True),
    row(PUBLIC, A::WRAP, FlagDefault::False, FlagDefault::True),
    row(PUBLIC, A::DERIVE, FlagDefault::False, FlagDefault::False),
    row(PUBLIC, A::ENCAPSULATE, FlagDefault::ByKeyType, FlagDefault::ByKeyType),
    // Applications search for certificates before they log in.
    row(ObjectClass::CERTIFICATE, A::PRIVATE, FlagDefault::False, FlagDefault::False),
    row(ObjectClass::DATA, A::PRIVATE, FlagDefault::True, FlagDefault::True),
    row(ObjectClass::PROFILE, A::PRIVATE, FlagDefault::False, FlagDefault::False),
];

/// The minimum length of a generic secret in a strict ring, in bytes: 128 bits.
pub(super) const STRICT_GENERIC_BYTES_MIN: u64 = 16;

/// The shortest GCM tag of a strict ring, in bits (SP 800-38D, section 5.2.1.2).
pub(super) const STRICT_GCM_TAG_BITS_MIN: u32 = 96;

/// The shortest CCM tag or truncated MAC of a strict ring, in bits (SP 800-38B, appendix A; SP 800-38C, appendix B).
pub(super) const STRICT_MAC_BITS_MIN: u32 = 64;

/// The smallest RSA public exponent of a strict ring (FIPS 186-5).
pub(super) const STRICT_EXPONENT_MIN: u64 = 65_537;

/// The usual uses of a key type, and those that it can have on request.
pub(super) fn uses_of(class: ObjectClass, kind: KeyType) -> (&'static [A], &'static [A]) {
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

/// The default of an attribute of a new object, which depends on what its template requests.
pub(super) fn default_of(
    policy: RingPolicy,
    class: ObjectClass,
    key: Option<KeyType>,
    kind: A,
    requested: &Template,
) -> bool {
    let row = TABLE.iter().find(|row| (row.class, row.kind) == (class, kind));
    let default = row.map_or(FlagDefault::False, |row| match policy {
        RingPolicy::Strict => row.strict,
        RingPolicy::Compat => row.compat,
    });
    match (default, key) {
        (FlagDefault::True, _) => true,
        (FlagDefault::False, _) | (FlagDefault::ByKeyType, None) => false,
        (FlagDefault::ByKeyType, Some(key)) => {
            let (usual, optional) = uses_of(class, key);
            let some_requested =
                usual.iter().chain(optional).any(|usage| requested.bool(*usage) == Some(true));
            usual.contains(&kind) && !some_requested
        }
    }
}

/// Applies a strict ring's policy to a new object: enforced values, and what the object may do to other keys.
pub(super) fn enforce(policy: RingPolicy, creation: Creation, attributes: &mut Template) {
    if policy == RingPolicy::Compat {
        return;
    }
    let class = creation.class;
    if attributes.bool(A::TOKEN) == Some(true) {
        for row in TABLE.iter().filter(|row| row.class == class) {
            if let Some(value) = row.enforced {
                attributes.set(Attribute::bool(row.kind, value));
            }
        }
    }
    derivation::restrict_deriving(creation, attributes);
    separation::restrict_wrapping(creation, attributes);
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect_file;
    use kms_protocol::mechanism_table::{self, Uses};

    use super::*;

    fn default_text(default: FlagDefault) -> &'static str {
        match default {
            FlagDefault::True => "true",
            FlagDefault::False => "false",
            FlagDefault::ByKeyType => "by key type",
        }
    }

    /// The sections of POLICY.md after the tables of defaults, without the mechanisms.
    const RULES: &str = "
## Values that a strict ring sets whatever the template says

A strict ring does not reject these templates. It creates the object with the values below, and the object's attributes
show them. A key is *readable* if `CKA_SENSITIVE` is false and `CKA_EXTRACTABLE` is true. A key *works on data* if it
encrypts, decrypts, signs or verifies.

- Secret and private token keys are sensitive and private.
- A secret key that is not readable and has `CKA_DERIVE` does nothing else, and is unextractable. If the template
  requests other uses that the key's type has, `CKA_DERIVE` is false.
- A key that HKDF extracts from such a key, without expanding, has `CKA_DERIVE` only. A key that is derived from it in any
  other way does not derive, and neither does an unwrapped key.
- A sensitive secret key that is generated with `CKA_WRAP` is unextractable. If it also works on data, it wraps and
  unwraps with a wrapping subkey (`CKA_KMS_WRAP_SUBKEY`): nothing that it wraps can be decrypted with it.
- Any other secret key with `CKA_WRAP` wraps only readable keys if it works on data, was not generated in the KMS or is
  not sensitive. Its `CKA_WRAP_TEMPLATE` states this; if the template requests other keys there, `CKA_WRAP` is false.
  The same holds for the public key of a pair if the private key works on data, derives keys, is not sensitive or is
  extractable.
- An unwrapped key is sensitive and unextractable, also as a session object. This does not apply if the unwrapping key
  also works on data and has no wrapping subkey: the unwrapped key then counts as imported in plaintext.
- A key derived from a sensitive key is sensitive; a key derived from an unextractable key is unextractable.
- A shared secret (ECDH, ML-KEM) has the attributes that the template requests and counts as imported in plaintext,
  because the same secret can be agreed on again with another template. If the private key was generated in the KMS,
  never extractable, and its `CKA_DERIVE_TEMPLATE` (ML-KEM: `CKA_DECAPSULATE_TEMPLATE`) has `CKA_SENSITIVE` true and
  `CKA_EXTRACTABLE` false, all its shared secrets are so, and none of them derives.
- The next version of a key is not trusted (`CKA_TRUSTED`) until the security officer trusts it.

## What a strict ring rejects

- Creating a key without a login, except importing a public key into a session.
- Giving a key a use that it does not have: uses can only be removed.
- Secret and private token keys that come from plaintext: created with `C_CreateObject`, copied from session keys that
  were not always sensitive, derived from keys that were not always sensitive, shared secrets that can be readable, or
  keys unwrapped by a key that also works on data and has no wrapping subkey.
- Deriving from a key that is not readable and also does other things or is extractable: keys made before these rules.
  After its other uses are removed and it is made unextractable, it derives again.
- HKDF with a salt that is a key of the KMS and a base key that came from outside.
- Adding a template for shared secrets to the copy of a private key.
- Wrapping with a public key that the KMS did not generate and the security officer does not trust.
- Wrapping keys that are not readable with a secret key that was ever outside the KMS.
- Reading or wrapping a private key with `CKA_ALWAYS_AUTHENTICATE`, also if it is readable; in every ring, each use of such
  a key needs a context-specific login of its own, and only signing and decrypting have one.
";

    /// The whole table, for readers. `UPDATE_EXPECT=1 cargo test` writes it again.
    #[test]
    fn the_table_is_as_committed() {
        let mut page = String::from(
            "# What a ring allows\n\nGenerated by a test from `backend/core/src/policy/ring.rs` and the mechanism table. Each ring \
             has one of the\npolicies `strict` (the default) and `compat`.\n\n## Defaults of attributes\n\n\
             | class | attribute | strict | compat |\n|---|---|---|---|\n",
        );
        for row in TABLE {
            let enforced = if row.enforced == Some(true) { "; always true for token keys" } else { "" };
            let (strict, compat) = (default_text(row.strict), default_text(row.compat));
            writeln!(page, "| {} | {} | {strict}{enforced} | {compat} |", row.class, row.kind).unwrap();
        }
        page.push_str(
            "\n*By key type*: the attributes listed below for the key type are true. If the template requests any of them, or any\n\
             of those in brackets, only the requested ones are true.\n\n",
        );
        for (class, kind) in super::super::classes::KINDS {
            let Some(kind) = kind else { continue };
            let (usual, optional) = uses_of(class, kind);
            let names = |uses: &[A]| uses.iter().map(A::to_string).collect::<Vec<_>>().join(", ");
            let optional =
                if optional.is_empty() { String::new() } else { format!(" ({})", names(optional)) };
            let usual = if usual.is_empty() { "none".to_owned() } else { names(usual) };
            writeln!(page, "- {class}, {kind}: {usual}{optional}").unwrap();
        }
        page.push_str(RULES);
        writeln!(
            page,
            "- Generating generic secrets shorter than {STRICT_GENERIC_BYTES_MIN} bytes, or deriving them from sensitive keys."
        )
        .unwrap();
        writeln!(page, "- RSA public exponents below {STRICT_EXPONENT_MIN}.").unwrap();
        writeln!(
            page,
            "- GCM tags below {STRICT_GCM_TAG_BITS_MIN} bits, CCM tags and truncated MACs below {STRICT_MAC_BITS_MIN} bits."
        )
        .unwrap();
        for row in mechanism_table::TABLE.iter().filter(|row| row.compat_only != Uses::NONE) {
            let uses = [
                (Uses::ENCRYPT, "encrypting"),
                (Uses::DECRYPT, "decrypting"),
                (Uses::SIGN, "signing"),
                (Uses::VERIFY, "verifying"),
                (Uses::WRAP, "wrapping"),
                (Uses::UNWRAP, "unwrapping"),
                (Uses::DERIVE, "deriving"),
            ];
            let uses = uses.iter().filter(|(bit, _)| row.compat_only.has(*bit)).map(|(_, name)| *name);
            writeln!(page, "- {} for {}.", row.kind, uses.collect::<Vec<_>>().join(" or ")).unwrap();
        }
        expect_file!["POLICY.md"].assert_eq(&page);
    }

    #[test]
    fn ring_table_and_attribute_table_have_the_same_rows() {
        use super::super::attributes::Initial;
        use super::super::classes::{KINDS, rules_of};
        for (class, kind) in KINDS {
            let rules = rules_of(class, kind).unwrap();
            let rows = rules.iter().flat_map(|rows| rows.iter()).filter(|rule| rule.initial == Initial::Ring);
            let mut attribute_rows: Vec<A> = rows.map(|rule| rule.kind).collect();
            let mut ring_rows: Vec<A> =
                TABLE.iter().filter(|row| row.class == class).map(|row| row.kind).collect();
            attribute_rows.sort_unstable();
            ring_rows.sort_unstable();
            assert_eq!(attribute_rows, ring_rows, "{class} {kind:?}");
        }
    }

    #[test]
    fn no_default_of_a_strict_ring_allows_wrapping() {
        for (class, kind) in super::super::classes::KINDS {
            let default = |usage| default_of(RingPolicy::Strict, class, kind, usage, &Template::default());
            assert!(!default(A::WRAP) && !default(A::UNWRAP), "{class} {kind:?}");
        }
    }
}
