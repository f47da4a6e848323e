//! Key specifications, and the curves and parameter sets that they name.

use kms_protocol::KeyType;

/// The specification of a key to be generated.
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
        /// The curve.
        curve: Curve,
    },
    /// A ChaCha20 key of 32 bytes.
    ChaCha20,
    /// A key pair on an Edwards or Montgomery curve.
    EdwardsMontgomery {
        /// The curve.
        curve: EdwardsMontgomery,
    },
    /// An ML-KEM key pair.
    MlKem {
        /// The parameter set.
        set: MlKemSet,
    },
    /// An ML-DSA key pair.
    MlDsa {
        /// The parameter set.
        set: MlDsaSet,
    },
}

/// The Edwards curves, for signatures (RFC 8032), and the Montgomery curves, for key agreement (RFC 7748).
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

    /// The object identifier, DER (RFC 8410): the value of `CKA_EC_PARAMS`, and the algorithm in PKCS #8.
    pub fn oid_der(self) -> &'static [u8] {
        match self {
            Self::Ed25519 => &[0x06, 0x03, 0x2b, 0x65, 0x70],
            Self::X25519 => &[0x06, 0x03, 0x2b, 0x65, 0x6e],
            Self::Ed448 => &[0x06, 0x03, 0x2b, 0x65, 0x71],
            Self::X448 => &[0x06, 0x03, 0x2b, 0x65, 0x6f],
        }
    }

    /// The curve that `CKA_EC_PARAMS` names, by its object identifier or by its name in a `PrintableString` (PKCS #11
    /// 3.0).
    pub fn of_params(params: &[u8]) -> Option<Self> {
        match params {
            b"\x13\x0cedwards25519" => Some(Self::Ed25519),
            b"\x13\x0acurve25519" => Some(Self::X25519),
            b"\x13\x0aedwards448" => Some(Self::Ed448),
            b"\x13\x08curve448" => Some(Self::X448),
            _ => Self::ALL.into_iter().find(|curve| curve.oid_der() == params),
        }
    }

    /// The type of keys on the curve.
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

    /// The number of polynomials in a vector, from which all lengths follow (FIPS 203, "Parameter Sets").
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

/// The supported NIST curves.
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

    /// The length of a field element, and of each of the two integers of a signature, in bytes.
    pub fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}
