//! Attribute types, values and templates.
//!
//! Values are encoded by their meaning, not as C memory: `CK_ULONG` is 32 bits wide in some applications and 64 in
//! others, in the host's byte order. [`AttributeType::shape`] gives the meaning of each type.

use serde::{Deserialize, Serialize};

use crate::codes::codes;
use crate::mechanism_names::MechanismType;
use crate::secret::Secret;

/// The maximum number of attributes in one template. pkcs11-tool sends 15, SunPKCS11 20; a real key has about 40.
pub const TEMPLATE_ATTRIBUTES_MAX: usize = 128;

/// The maximum number of attributes in a template inside an attribute: the usage flags, class, type, length and the
/// like.
pub const NESTED_ATTRIBUTES_MAX: usize = 64;

/// The maximum number of mechanisms in one `CKA_ALLOWED_MECHANISMS`: more than PKCS#11 3.2 has for one key type.
pub const ALLOWED_MECHANISMS_MAX: usize = 256;

codes! {
    /// The class of an object.
    ObjectClass, "CKO_" {
        DATA = 0,
        CERTIFICATE = 1,
        PUBLIC_KEY = 2,
        PRIVATE_KEY = 3,
        SECRET_KEY = 4,
        HW_FEATURE = 5,
        DOMAIN_PARAMETERS = 6,
        MECHANISM = 7,
        OTP_KEY = 8,
        PROFILE = 9,
        VALIDATION = 10,
        TRUST = 11,
    }
}

codes! {
    /// The type of a key: its algorithm.
    KeyType, "CKK_" {
        RSA = 0x00,
        EC = 0x03,
        GENERIC_SECRET = 0x10,
        AES = 0x1f,
        SHA_1_HMAC = 0x28,
        SHA256_HMAC = 0x2b,
        SHA384_HMAC = 0x2c,
        SHA512_HMAC = 0x2d,
        SHA224_HMAC = 0x2e,
        CHACHA20 = 0x33,
        SHA3_224_HMAC = 0x36,
        SHA3_256_HMAC = 0x37,
        SHA3_384_HMAC = 0x38,
        SHA3_512_HMAC = 0x39,
        EC_EDWARDS = 0x40,
        EC_MONTGOMERY = 0x41,
        HKDF = 0x42,
        ML_KEM = 0x49,
        ML_DSA = 0x4a,
    }
}

codes! {
    /// The type of an attribute.
    AttributeType, "CKA_" {
        CLASS = 0x0,
        TOKEN = 0x1,
        PRIVATE = 0x2,
        LABEL = 0x3,
        UNIQUE_ID = 0x4,
        APPLICATION = 0x10,
        VALUE = 0x11,
        OBJECT_ID = 0x12,
        CERTIFICATE_TYPE = 0x80,
        ISSUER = 0x81,
        SERIAL_NUMBER = 0x82,
        TRUSTED = 0x86,
        CERTIFICATE_CATEGORY = 0x87,
        JAVA_MIDP_SECURITY_DOMAIN = 0x88,
        URL = 0x89,
        HASH_OF_SUBJECT_PUBLIC_KEY = 0x8a,
        HASH_OF_ISSUER_PUBLIC_KEY = 0x8b,
        NAME_HASH_ALGORITHM = 0x8c,
        CHECK_VALUE = 0x90,
        KEY_TYPE = 0x100,
        SUBJECT = 0x101,
        ID = 0x102,
        SENSITIVE = 0x103,
        ENCRYPT = 0x104,
        DECRYPT = 0x105,
        WRAP = 0x106,
        UNWRAP = 0x107,
        SIGN = 0x108,
        SIGN_RECOVER = 0x109,
        VERIFY = 0x10a,
        VERIFY_RECOVER = 0x10b,
        DERIVE = 0x10c,
        START_DATE = 0x110,
        END_DATE = 0x111,
        MODULUS = 0x120,
        MODULUS_BITS = 0x121,
        PUBLIC_EXPONENT = 0x122,
        PRIVATE_EXPONENT = 0x123,
        PRIME_1 = 0x124,
        PRIME_2 = 0x125,
        EXPONENT_1 = 0x126,
        EXPONENT_2 = 0x127,
        COEFFICIENT = 0x128,
        PUBLIC_KEY_INFO = 0x129,
        VALUE_LEN = 0x161,
        EXTRACTABLE = 0x162,
        LOCAL = 0x163,
        NEVER_EXTRACTABLE = 0x164,
        ALWAYS_SENSITIVE = 0x165,
        KEY_GEN_MECHANISM = 0x166,
        MODIFIABLE = 0x170,
        COPYABLE = 0x171,
        DESTROYABLE = 0x172,
        EC_PARAMS = 0x180,
        EC_POINT = 0x181,
        ALWAYS_AUTHENTICATE = 0x202,
        WRAP_WITH_TRUSTED = 0x210,
        PROFILE_ID = 0x601,
        PARAMETER_SET = 0x61d,
        OBJECT_VALIDATION_FLAGS = 0x61e,
        ENCAPSULATE_TEMPLATE = 0x62a,
        DECAPSULATE_TEMPLATE = 0x62b,
        ENCAPSULATE = 0x633,
        DECAPSULATE = 0x634,
        SEED = 0x637,
        WRAP_TEMPLATE = 0x40000211,
        UNWRAP_TEMPLATE = 0x40000212,
        DERIVE_TEMPLATE = 0x40000213,
        ALLOWED_MECHANISMS = 0x40000600,
        // Vendor-defined (`CKA_VENDOR_DEFINED`): the key wraps and unwraps with a subkey, not with its value.
        KMS_WRAP_SUBKEY = 0x80004b01,
    }
}

/// The representation of an attribute's value in C memory, and its meaning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// `CK_BBOOL`, one byte.
    Bool,
    /// `CK_ULONG`, in the host's width.
    Ulong,
    /// Bytes: labels, big integers, DER, `CK_DATE`.
    Bytes,
    /// An array of `CK_MECHANISM_TYPE`.
    Mechanisms,
    /// An array of `CK_ATTRIBUTE`.
    Template,
}

impl AttributeType {
    /// The shape of values of this type. An unknown type has the shape `Bytes`.
    pub fn shape(self) -> Shape {
        match self {
            Self::TOKEN | Self::PRIVATE | Self::TRUSTED | Self::SENSITIVE | Self::ENCRYPT | Self::DECRYPT => {
                Shape::Bool
            }
            Self::WRAP | Self::UNWRAP | Self::SIGN | Self::SIGN_RECOVER | Self::VERIFY => Shape::Bool,
            Self::VERIFY_RECOVER | Self::DERIVE | Self::EXTRACTABLE | Self::LOCAL => Shape::Bool,
            Self::NEVER_EXTRACTABLE | Self::ALWAYS_SENSITIVE | Self::MODIFIABLE | Self::COPYABLE => {
                Shape::Bool
            }
            Self::DESTROYABLE | Self::ALWAYS_AUTHENTICATE | Self::WRAP_WITH_TRUSTED => Shape::Bool,
            Self::ENCAPSULATE | Self::DECAPSULATE | Self::KMS_WRAP_SUBKEY => Shape::Bool,
            Self::CLASS | Self::CERTIFICATE_TYPE | Self::CERTIFICATE_CATEGORY | Self::KEY_TYPE => {
                Shape::Ulong
            }
            Self::JAVA_MIDP_SECURITY_DOMAIN | Self::NAME_HASH_ALGORITHM | Self::MODULUS_BITS => Shape::Ulong,
            Self::VALUE_LEN | Self::KEY_GEN_MECHANISM | Self::PROFILE_ID | Self::PARAMETER_SET => {
                Shape::Ulong
            }
            Self::OBJECT_VALIDATION_FLAGS => Shape::Ulong,
            Self::ALLOWED_MECHANISMS => Shape::Mechanisms,
            Self::WRAP_TEMPLATE | Self::UNWRAP_TEMPLATE | Self::DERIVE_TEMPLATE => Shape::Template,
            Self::ENCAPSULATE_TEMPLATE | Self::DECAPSULATE_TEMPLATE => Shape::Template,
            _ => Shape::Bytes,
        }
    }
}

/// The value of an attribute. `CK_UNAVAILABLE_INFORMATION` is `Ulong(u64::MAX)` on the wire, whatever the host's width.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A `CK_BBOOL`.
    Bool(bool),
    /// A `CK_ULONG`.
    Ulong(u64),
    /// Bytes, never printed because they may be a key.
    Bytes(Secret),
    /// A list of mechanisms.
    Mechanisms(Mechanisms),
    /// A template for the keys that this key wraps, unwraps or derives.
    Template(Nested),
}

impl Value {
    /// Whether the value has this shape.
    pub fn has_shape(&self, shape: Shape) -> bool {
        match self {
            Self::Bool(_) => shape == Shape::Bool,
            Self::Ulong(_) => shape == Shape::Ulong,
            Self::Bytes(_) => shape == Shape::Bytes,
            Self::Mechanisms(_) => shape == Shape::Mechanisms,
            Self::Template(_) => shape == Shape::Template,
        }
    }
}

/// The value of `CKA_ALLOWED_MECHANISMS`: at most [`ALLOWED_MECHANISMS_MAX`].
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Mechanisms(
    #[serde(deserialize_with = "crate::bounded::vec::<_, _, ALLOWED_MECHANISMS_MAX>")] pub Vec<MechanismType>,
);

/// A template inside an attribute: at most [`NESTED_ATTRIBUTES_MAX`] attributes, none of which is a template. This
/// bounds the recursion when a frame is decoded.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Nested(pub Vec<Attribute>);

impl Nested {
    /// Whether none of its attributes is a template.
    pub fn is_flat(&self) -> bool {
        self.0.iter().all(|attribute| !matches!(attribute.value, Value::Template(_)))
    }
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// [`Value`] without its last variant, with the same encoding.
        #[derive(Deserialize)]
        enum Flat {
            Bool(bool),
            Ulong(u64),
            Bytes(Secret),
            Mechanisms(Mechanisms),
        }
        let flat: Vec<(AttributeType, Flat)> =
            crate::bounded::vec::<_, _, NESTED_ATTRIBUTES_MAX>(deserializer)?;
        let attribute = |(kind, value): (AttributeType, Flat)| {
            let value = match value {
                Flat::Bool(value) => Value::Bool(value),
                Flat::Ulong(value) => Value::Ulong(value),
                Flat::Bytes(value) => Value::Bytes(value),
                Flat::Mechanisms(value) => Value::Mechanisms(value),
            };
            Attribute { kind, value }
        };
        check_shapes(flat.into_iter().map(attribute).collect()).map(Self)
    }
}

/// Returns the attributes if each value has the shape of its type.
fn check_shapes<E: serde::de::Error>(attributes: Vec<Attribute>) -> Result<Vec<Attribute>, E> {
    match attributes.iter().find(|attribute| !attribute.value.has_shape(attribute.kind.shape())) {
        Some(wrong) => Err(E::custom(format_args!("{} has a value of the wrong shape", wrong.kind))),
        None => Ok(attributes),
    }
}

/// One attribute with its value.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its type.
    pub kind: AttributeType,
    /// Its value, in the shape of the type.
    pub value: Value,
}

impl Attribute {
    /// An attribute with a boolean value.
    pub fn bool(kind: AttributeType, value: bool) -> Self {
        Self { kind, value: Value::Bool(value) }
    }

    /// An attribute with a number.
    pub fn ulong(kind: AttributeType, value: u64) -> Self {
        Self { kind, value: Value::Ulong(value) }
    }

    /// An attribute with bytes.
    pub fn bytes(kind: AttributeType, value: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: Value::Bytes(Secret::from(value.into())) }
    }
}

/// A list of attributes, in the caller's order: at most [`TEMPLATE_ATTRIBUTES_MAX`].
///
/// A decoded template has values of the right shape; whether a type may occur, and how often, is up to policy.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Template(pub Vec<Attribute>);

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        check_shapes(crate::bounded::vec::<_, _, TEMPLATE_ATTRIBUTES_MAX>(deserializer)?).map(Self)
    }
}

impl Template {
    /// The value of an attribute: the first one if the attribute occurs twice.
    pub fn value(&self, kind: AttributeType) -> Option<&Value> {
        self.0.iter().find(|attribute| attribute.kind == kind).map(|attribute| &attribute.value)
    }

    /// The boolean value of an attribute, if present.
    pub fn bool(&self, kind: AttributeType) -> Option<bool> {
        match self.value(kind) {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// The number in an attribute, if present.
    pub fn ulong(&self, kind: AttributeType) -> Option<u64> {
        match self.value(kind) {
            Some(Value::Ulong(value)) => Some(*value),
            _ => None,
        }
    }

    /// The bytes in an attribute, if present.
    pub fn bytes(&self, kind: AttributeType) -> Option<&[u8]> {
        match self.value(kind) {
            Some(Value::Bytes(value)) => Some(value),
            _ => None,
        }
    }

    /// The class of the object, if the template states it.
    pub fn class(&self) -> Option<ObjectClass> {
        self.ulong(AttributeType::CLASS).and_then(|class| u32::try_from(class).ok()).map(ObjectClass)
    }

    /// The type of the key, if the template states it.
    pub fn key_type(&self) -> Option<KeyType> {
        self.ulong(AttributeType::KEY_TYPE).and_then(|kind| u32::try_from(kind).ok()).map(KeyType)
    }

    /// Sets an attribute, replacing its value if it has one.
    pub fn set(&mut self, attribute: Attribute) {
        match self.0.iter_mut().find(|existing| existing.kind == attribute.kind) {
            Some(existing) => existing.value = attribute.value,
            None => self.0.push(attribute),
        }
    }

    /// Whether these attributes match the search template `wanted`: each of its attributes is present with the same
    /// value.
    pub fn matches(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|attribute| self.value(attribute.kind) == Some(&attribute.value))
    }
}
