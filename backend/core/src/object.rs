//! What the rooms of the backend hand each other. Pure: no I/O, no clock, no randomness.

use std::fmt;

use kms_protocol::{AttributeType, KeyType, ObjectClass, ObjectId, RingId, RingPolicy, Template};
use zeroize::Zeroizing;

/// Key bytes outside the HSM. Not `Clone`, not `Serialize`: used or dropped, and dropping wipes them.
/// A secret key is its value; a private key is PKCS #8 (`PrivateKeyInfo`, RFC 5958), DER.
pub struct KeyBytes(pub Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for KeyBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBytes({} bytes)", self.0.len())
    }
}

/// A version of the master key in the HSM, counted from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MasterVersion(pub u32);

/// A key's material as the store keeps it: wrapped by the HSM under a version of the master key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wrapped {
    /// Which master key opens it.
    pub master: MasterVersion,
    /// The wrapped bytes.
    pub bytes: Vec<u8>,
}

/// Which version of which KMS key an object belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyVersion {
    /// The key's UUID.
    pub key: [u8; 16],
    /// The version's number, from 1.
    pub number: u32,
}

/// The day of a time in seconds since 1970, as `CK_DATE` writes it.
pub fn day_of(seconds: u64) -> [u8; 8] {
    let days = i64::try_from(seconds / 86_400).unwrap_or(0);
    let date = time::Date::from_ordinal_date(1970, 1)
        .ok()
        .and_then(|first| first.checked_add(time::Duration::days(days)));
    let text = date.map_or_else(String::new, |date| {
        format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day())
    });
    text.as_bytes().try_into().unwrap_or(*b"19700101")
}

/// An object, loaded: of the store, or out of a seal.
#[derive(Debug)]
pub struct Object {
    /// Its number in the store; a session object has none.
    pub id: Option<ObjectId>,
    /// The ring it belongs to.
    pub ring: RingId,
    /// The key and version it belongs to; certificates and data belong to none.
    pub version: Option<KeyVersion>,
    /// All its attributes, except those that are secret.
    pub attributes: Template,
    /// Its secret, where it has one.
    pub material: Material,
}

/// Where an object's secret is.
#[derive(Debug)]
pub enum Material {
    /// It has none: public keys, certificates.
    None,
    /// In the store, wrapped.
    Wrapped(Wrapped),
    /// Out of a seal.
    Open(KeyBytes),
}

impl Object {
    /// A true-or-false attribute; one that is not there is false.
    pub fn is(&self, attribute: AttributeType) -> bool {
        self.attributes.bool(attribute).unwrap_or(false)
    }

    /// Its class.
    pub fn class(&self) -> Option<ObjectClass> {
        self.attributes.class()
    }

    /// Its type, if it is a key.
    pub fn key_type(&self) -> Option<KeyType> {
        self.attributes.key_type()
    }
}

/// A key to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySpec {
    /// An AES key of 16, 24 or 32 bytes.
    Aes {
        /// Its length.
        bytes: u32,
    },
    /// A generic secret, for HMAC.
    Generic {
        /// Its length.
        bytes: u32,
    },
    /// An RSA key pair.
    Rsa {
        /// The modulus, in bits.
        bits: u32,
        /// The public exponent, big endian, without leading zeros.
        exponent: Vec<u8>,
    },
    /// A key pair on a NIST curve.
    Ec {
        /// Which.
        curve: Curve,
    },
    /// A ChaCha20 key of 32 bytes.
    ChaCha20,
    /// A key pair on a curve of Edwards's or Montgomery's form.
    EdwardsMontgomery {
        /// Which.
        curve: EdwardsMontgomery,
    },
    /// An ML-KEM key pair.
    MlKem {
        /// Of which strength.
        set: MlKemSet,
    },
    /// An ML-DSA key pair.
    MlDsa {
        /// Of which strength.
        set: MlDsaSet,
    },
}

/// The curves of RFC 7748 and RFC 8032: Edwards's forms sign, Montgomery's agree.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EdwardsMontgomery {
    /// Ed25519 (`CKK_EC_EDWARDS`).
    Ed25519,
    /// X25519 (`CKK_EC_MONTGOMERY`).
    X25519,
    /// Ed448 (`CKK_EC_EDWARDS`).
    Ed448,
    /// X448 (`CKK_EC_MONTGOMERY`).
    X448,
}

impl EdwardsMontgomery {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ed25519, Self::X25519, Self::Ed448, Self::X448];

    /// The object identifier, DER (RFC 8410): the value of `CKA_EC_PARAMS`, and of the algorithm in PKCS #8.
    pub fn oid_der(self) -> &'static [u8] {
        match self {
            Self::Ed25519 => &[0x06, 0x03, 0x2b, 0x65, 0x70],
            Self::X25519 => &[0x06, 0x03, 0x2b, 0x65, 0x6e],
            Self::Ed448 => &[0x06, 0x03, 0x2b, 0x65, 0x71],
            Self::X448 => &[0x06, 0x03, 0x2b, 0x65, 0x6f],
        }
    }

    /// The curve that `CKA_EC_PARAMS` names: by its identifier, or by its name in a `PrintableString` as PKCS #11 3.0 has
    /// it.
    pub fn of_params(params: &[u8]) -> Option<Self> {
        match params {
            b"\x13\x0cedwards25519" => Some(Self::Ed25519),
            b"\x13\x0acurve25519" => Some(Self::X25519),
            b"\x13\x0aedwards448" => Some(Self::Ed448),
            b"\x13\x08curve448" => Some(Self::X448),
            _ => Self::ALL.into_iter().find(|curve| curve.oid_der() == params),
        }
    }

    /// The type of keys on it.
    pub fn key_type(self) -> KeyType {
        match self {
            Self::Ed25519 | Self::Ed448 => KeyType::EC_EDWARDS,
            Self::X25519 | Self::X448 => KeyType::EC_MONTGOMERY,
        }
    }

    /// The length of a private and of a public key, in bytes.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Ed25519 | Self::X25519 => 32,
            Self::Ed448 => 57,
            Self::X448 => 56,
        }
    }
}

/// The parameter sets of ML-KEM (FIPS 203).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MlKemSet {
    /// ML-KEM-512.
    Kem512,
    /// ML-KEM-768.
    Kem768,
    /// ML-KEM-1024.
    Kem1024,
}

impl MlKemSet {
    /// The DER of its object identifier (RFC 9881, RFC 9935).
    pub fn oid_der(self) -> &'static [u8] {
        match self {
            Self::Kem512 => &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 0x01],
            Self::Kem768 => &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 0x02],
            Self::Kem1024 => &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 0x03],
        }
    }

    /// The length of a ciphertext, in bytes (FIPS 203, "Parameter Sets").
    pub fn ciphertext_bytes(self) -> usize {
        match self {
            Self::Kem512 => 768,
            Self::Kem768 => 1088,
            Self::Kem1024 => 1568,
        }
    }

    /// The polynomials in a vector: all lengths follow from them (FIPS 203, "Parameter Sets").
    pub fn rank(self) -> usize {
        match self {
            Self::Kem512 => 2,
            Self::Kem768 => 3,
            Self::Kem1024 => 4,
        }
    }

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kem512, Self::Kem768, Self::Kem1024];

    /// Its number in `CKA_PARAMETER_SET` (`CKP_ML_KEM_512` and so on).
    pub fn number(self) -> u64 {
        match self {
            Self::Kem512 => 1,
            Self::Kem768 => 2,
            Self::Kem1024 => 3,
        }
    }

    /// The set with this number.
    pub fn of_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.number() == number)
    }
}

/// The parameter sets of ML-DSA (FIPS 204).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MlDsaSet {
    /// ML-DSA-44.
    Dsa44,
    /// ML-DSA-65.
    Dsa65,
    /// ML-DSA-87.
    Dsa87,
}

impl MlDsaSet {
    /// The DER of its object identifier (RFC 9881, RFC 9935).
    pub fn oid_der(self) -> &'static [u8] {
        match self {
            Self::Dsa44 => &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x11],
            Self::Dsa65 => &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12],
            Self::Dsa87 => &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x13],
        }
    }

    /// The length of a public key, in bytes (FIPS 204, "Parameter Sets").
    pub fn public_bytes(self) -> usize {
        match self {
            Self::Dsa44 => 1312,
            Self::Dsa65 => 1952,
            Self::Dsa87 => 2592,
        }
    }

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dsa44, Self::Dsa65, Self::Dsa87];

    /// Its number in `CKA_PARAMETER_SET` (`CKP_ML_DSA_44` and so on).
    pub fn number(self) -> u64 {
        match self {
            Self::Dsa44 => 1,
            Self::Dsa65 => 2,
            Self::Dsa87 => 3,
        }
    }

    /// The set with this number.
    pub fn of_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.number() == number)
    }
}

/// The curves we have.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl Curve {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The curve's object identifier, DER: the value of `CKA_EC_PARAMS`.
    pub fn oid_der(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }

    /// The length of a field element and of half a signature, in bytes.
    pub fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// An object to be stored or sealed: policy has checked and completed its attributes, but for the values that come
/// with the key itself.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its attributes.
    pub attributes: Template,
    /// Whether it is a token object.
    pub token: bool,
}

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The process at the other end, where the door knows it.
    pub peer: Option<Peer>,
    /// The login its ticket proves; nobody without.
    pub login: Option<Login>,
    /// What the ring it asks about allows.
    pub policy: RingPolicy,
}

/// The process at the other end of a Unix socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process id when it connected.
    pub pid: i32,
}

/// A login that holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    /// The ring it holds for.
    pub ring: RingId,
    /// The principal's name: `user` and `so` are the ring's own.
    pub name: String,
    /// What it may do.
    pub ring_role: RingRole,
}

/// What a principal may do in a ring.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RingRole {
    /// Sets the user's PIN; sees no private object (`CKU_SO`).
    Officer,
    /// All with keys: make, use, change, destroy (`kms.admin`; the ring's user).
    Admin,
    /// Use and rotate (`kms.editor`).
    Editor,
    /// Use (`kms.user`).
    User,
    /// See (`kms.reader`).
    Reader,
}

impl Caller {
    /// What the caller may do; nobody may do nothing but look at public objects.
    pub fn ring_role(&self) -> Option<RingRole> {
        self.login.as_ref().map(|login| login.ring_role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_as_cryptoki_writes_them() {
        assert_eq!(&day_of(0), b"19700101");
        assert_eq!(&day_of(951_782_400), b"20000229");
        assert_eq!(&day_of(1_795_651_200), b"20261126");
        assert_eq!(&day_of(86_399), b"19700101");
    }
}
