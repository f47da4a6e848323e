//! The type of a row of the attribute table: who may set an attribute and when, and its default value. `classes` has
//! the rows; `template` applies them when objects are created and changed.

use kms_protocol::{AttributeType as A, Mechanisms, Nested, Secret, Shape, Value};

/// One attribute of one class.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttributeRule {
    /// The attribute's type.
    pub(super) kind: A,
    /// The functions whose templates may contain it.
    pub(super) allowed_in: Functions,
    /// The functions whose templates must contain it.
    pub(super) required_in: Functions,
    /// Its value when the template does not contain it.
    pub(super) initial: Initial,
    /// Whether `C_SetAttributeValue` may set it.
    pub(super) change: Change,
    /// Whether it is part of the key's secret: never in an object's visible attributes.
    pub(super) secret: bool,
    /// The maximum length of a byte string, in bytes.
    pub(super) bytes_max: usize,
}

/// The PKCS#11 functions that create an object, as a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Functions(u8);

impl Functions {
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
    /// Objects that are not keys: they are created or copied.
    pub(super) const CREATE_OR_COPY: Self = Self(2 | 16);
    /// All except copying.
    pub(super) const ALL_BUT_COPY: Self = Self(15);
    /// All of them.
    pub(super) const ANY: Self = Self::ALL_BUT_COPY.or(Self::COPY);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The initial value of an attribute that the template does not contain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Initial {
    /// The object does not have it.
    Absent,
    /// This boolean.
    Bool(bool),
    /// An empty byte string, mechanism list or template.
    Empty,
    /// This number.
    Ulong(u64),
    /// The value in the ring policy's table (`ring`).
    Ring,
    /// A value that policy computes when the object is created.
    Computed,
    /// A value that is added with the key's value, by `kms_crypto` or the dispatcher.
    SetWithKey,
}

/// Whether `C_SetAttributeValue` may set an attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// No.
    Never,
    /// To any value of its shape.
    Any,
    /// To this value only; it cannot be changed back.
    OnlyTo(bool),
    /// A use of a key: any value in a compat ring, only to false in a strict ring. Otherwise a caller could turn a data
    /// key into a wrapping key, wrap with it, and change it back to decrypt (Clulow; Delaune, Kremer and Steel).
    UsageFlag,
    /// By the security officer only.
    Officer,
}

/// The maximum length of a label, in bytes. Oracle's have 98 characters.
pub(super) const LABEL_BYTES_MAX: usize = 1024;

/// The maximum length of a `CKA_ID`, in bytes: applications write it in hexadecimal in URIs.
pub(super) const ID_BYTES_MAX: usize = 256;

/// The maximum length of a DER name or key, in bytes.
pub(super) const DER_BYTES_MAX: usize = 8 << 10;

/// The maximum length of a certificate, in bytes: RSA-4096 with a chain of names takes 4 KiB. It fits in a seal.
pub(super) const CERTIFICATE_BYTES_MAX: usize = 24 << 10;

/// The maximum length of all other values, in bytes: an RSA number.
const OTHER_BYTES_MAX: usize = 1024;

/// A row in which nothing is allowed yet.
pub(super) const fn rule(kind: A) -> AttributeRule {
    AttributeRule {
        kind,
        allowed_in: Functions::NONE,
        required_in: Functions::NONE,
        initial: Initial::Absent,
        change: Change::Never,
        secret: false,
        bytes_max: OTHER_BYTES_MAX,
    }
}

impl AttributeRule {
    pub(super) const fn allowed(mut self, functions: Functions) -> Self {
        self.allowed_in = self.allowed_in.or(functions);
        self
    }

    pub(super) const fn required(mut self, functions: Functions) -> Self {
        self.required_in = functions;
        self.allowed(functions)
    }

    pub(super) const fn initial(mut self, value: Initial) -> Self {
        self.initial = value;
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

    pub(super) const fn max_bytes(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Whether the attribute may have this byte string as its value.
    pub(super) fn accepts_bytes(&self, bytes: &[u8]) -> bool {
        match self.kind {
            // CK_DATE: year, month and day in digits, or nothing.
            A::START_DATE | A::END_DATE => {
                bytes.is_empty() || (bytes.len() == 8 && bytes.iter().all(u8::is_ascii_digit))
            }
            _ => bytes.len() <= self.bytes_max,
        }
    }
}

/// A row of an attribute that allows a use of the key.
pub(super) const fn usage_flag(kind: A) -> AttributeRule {
    rule(kind).allowed(Functions::ANY).initial(Initial::Ring).change(Change::UsageFlag)
}

/// The row of an attribute, if the object has one for it.
pub(super) fn find_rule(rules: &[&'static [AttributeRule]], kind: A) -> Option<&'static AttributeRule> {
    rules.iter().flat_map(|rows| rows.iter()).find(|rule| rule.kind == kind)
}

/// The empty value of an attribute, in its shape.
pub(super) fn empty_value(kind: A) -> Value {
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
    fn dates_are_checked() {
        let row = rule(A::START_DATE);
        for (bytes, right) in
            [(&b""[..], true), (b"20260131", true), (b"2026013", false), (b"2026-1-1", false)]
        {
            assert_eq!(row.accepts_bytes(bytes), right);
        }
    }
}
