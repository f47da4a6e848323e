//! What a row of the attribute table says: who may set an attribute and when, and what it starts as. The rows
//! themselves are next door (`classes`); making and changing objects are walks over them (`template`).

use kms_protocol::{AttributeType as A, Mechanisms, Nested, Secret, Shape, Value};

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
    /// What holds for objects that are no keys: they are created or copied.
    pub(super) const STORED: Self = Self(2 | 16);
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
    /// No bytes, no mechanisms, or a template of nothing.
    Empty,
    /// This number.
    Ulong(u64),
    /// What the ring's table says (`ring`).
    Ring,
    /// What policy computes when the object is made.
    Computed,
    /// What comes with the key itself (`crypto::make`).
    GeneratedKey,
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
pub(super) const LABEL_BYTES_MAX: usize = 1024;

/// The longest `CKA_ID`, in bytes: consumers write it in hexadecimal in URIs.
pub(super) const ID_BYTES_MAX: usize = 256;

/// The longest DER name or key, in bytes.
pub(super) const DER_BYTES_MAX: usize = 8 << 10;

/// The longest certificate, in bytes: RSA-4096 with a chain of names takes 4 KiB. It fits in a seal.
pub(super) const CERTIFICATE_BYTES_MAX: usize = 24 << 10;

/// The longest of all other values, in bytes: an RSA number.
const OTHER_BYTES_MAX: usize = 1024;

pub(super) const fn rule(kind: A) -> Rule {
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
    pub(super) const fn given(mut self, origins: Origins) -> Self {
        self.given = self.given.or(origins);
        self
    }

    pub(super) const fn required(mut self, origins: Origins) -> Self {
        self.required = origins;
        self.given(origins)
    }

    pub(super) const fn starts(mut self, start: Start) -> Self {
        self.starts = start;
        self
    }

    pub(super) const fn change(mut self, change: Change) -> Self {
        self.change = change;
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    pub(super) const fn up_to(mut self, bytes: usize) -> Self {
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

pub(super) const fn usage(kind: A) -> Rule {
    rule(kind).given(Origins::ANY).starts(Start::Ring).change(Change::Use)
}

/// The row of one attribute.
pub(super) fn rule_of(rules: &[&'static [Rule]], kind: A) -> Option<&'static Rule> {
    rules.iter().flat_map(|rows| rows.iter()).find(|rule| rule.kind == kind)
}

/// The shape of an attribute's empty value.
pub(super) fn empty_of(kind: A) -> Value {
    match kind.shape() {
        Shape::Mechanisms => Value::Mechanisms(Mechanisms::default()),
        Shape::Template => Value::Template(Nested::default()),
        Shape::Bool | Shape::Ulong | Shape::Bytes => Value::Bytes(Secret::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
