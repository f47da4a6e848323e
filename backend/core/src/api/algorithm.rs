//! The algorithms of the API, and what they are in PKCS#11.

use kms_protocol::{AttributeType, KeyType, MechanismType, Mgf, ObjectClass, Template};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::object::{Curve, KeySpec};

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = algorithm)]
pub enum Algorithm {
    /// AES-256 in GCM.
    #[serde(rename = "aes_256_gcm")]
    Aes256Gcm,
    /// RSA-2048, OAEP with SHA-256.
    #[serde(rename = "rsa_2048_oaep_sha256")]
    Rsa2048OaepSha256,
    /// RSA-3072, OAEP with SHA-256.
    #[serde(rename = "rsa_3072_oaep_sha256")]
    Rsa3072OaepSha256,
    /// RSA-4096, OAEP with SHA-256.
    #[serde(rename = "rsa_4096_oaep_sha256")]
    Rsa4096OaepSha256,
    /// RSA-4096, OAEP with SHA-512.
    #[serde(rename = "rsa_4096_oaep_sha512")]
    Rsa4096OaepSha512,
    /// HMAC with SHA-256.
    #[serde(rename = "hmac_sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac_sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac_sha512")]
    HmacSha512,
    /// ECDSA on P-256 over SHA-256.
    #[serde(rename = "ecdsa_p256_sha256")]
    EcdsaP256Sha256,
    /// ECDSA on P-384 over SHA-384.
    #[serde(rename = "ecdsa_p384_sha384")]
    EcdsaP384Sha384,
    /// ECDSA on P-521 over SHA-512.
    #[serde(rename = "ecdsa_p521_sha512")]
    EcdsaP521Sha512,
}

/// The purpose of a key. Each algorithm has one purpose.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = purpose)]
pub enum Purpose {
    /// Encrypt and decrypt with a secret key.
    SymmetricEncryptDecrypt,
    /// Encrypt with the public key, decrypt with the private key.
    AsymmetricEncryptDecrypt,
    /// Authenticate messages.
    MessageAuthenticationCode,
    /// Sign with the private key, verify with the public key.
    AsymmetricSignVerify,
}

/// The networks from which a key may be used.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = access_scope)]
pub enum AccessScope {
    /// From anywhere.
    #[default]
    Public,
    /// From inside a STACKIT network area.
    Sna,
}

/// A hash function.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// The length of its digest, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Its mechanism, for OAEP parameters.
    pub fn mechanism(self) -> MechanismType {
        match self {
            Self::Sha256 => MechanismType::SHA256,
            Self::Sha384 => MechanismType::SHA384,
            Self::Sha512 => MechanismType::SHA512,
        }
    }

    /// The mask generation function (MGF1) with it.
    pub fn mgf(self) -> Mgf {
        match self {
            Self::Sha256 => Mgf::SHA256,
            Self::Sha384 => Mgf::SHA384,
            Self::Sha512 => Mgf::SHA512,
        }
    }

    /// The mechanism of HMAC with it.
    pub fn hmac(self) -> MechanismType {
        match self {
            Self::Sha256 => MechanismType::SHA256_HMAC,
            Self::Sha384 => MechanismType::SHA384_HMAC,
            Self::Sha512 => MechanismType::SHA512_HMAC,
        }
    }
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Aes256Gcm,
        Self::Rsa2048OaepSha256,
        Self::Rsa3072OaepSha256,
        Self::Rsa4096OaepSha256,
        Self::Rsa4096OaepSha512,
        Self::HmacSha256,
        Self::HmacSha384,
        Self::HmacSha512,
        Self::EcdsaP256Sha256,
        Self::EcdsaP384Sha384,
        Self::EcdsaP521Sha512,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes_256_gcm",
            Self::Rsa2048OaepSha256 => "rsa_2048_oaep_sha256",
            Self::Rsa3072OaepSha256 => "rsa_3072_oaep_sha256",
            Self::Rsa4096OaepSha256 => "rsa_4096_oaep_sha256",
            Self::Rsa4096OaepSha512 => "rsa_4096_oaep_sha512",
            Self::HmacSha256 => "hmac_sha256",
            Self::HmacSha384 => "hmac_sha384",
            Self::HmacSha512 => "hmac_sha512",
            Self::EcdsaP256Sha256 => "ecdsa_p256_sha256",
            Self::EcdsaP384Sha384 => "ecdsa_p384_sha384",
            Self::EcdsaP521Sha512 => "ecdsa_p521_sha512",
        }
    }

    /// The algorithm of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its purpose.
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Aes256Gcm => Purpose::SymmetricEncryptDecrypt,
            Self::Rsa2048OaepSha256
            | Self::Rsa3072OaepSha256
            | Self::Rsa4096OaepSha256
            | Self::Rsa4096OaepSha512 => Purpose::AsymmetricEncryptDecrypt,
            Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512 => Purpose::MessageAuthenticationCode,
            Self::EcdsaP256Sha256 | Self::EcdsaP384Sha384 | Self::EcdsaP521Sha512 => {
                Purpose::AsymmetricSignVerify
            }
        }
    }

    /// Its hash function; AES has none.
    pub fn hash(self) -> Option<Hash> {
        match self {
            Self::Aes256Gcm => None,
            Self::Rsa2048OaepSha256
            | Self::Rsa3072OaepSha256
            | Self::Rsa4096OaepSha256
            | Self::HmacSha256
            | Self::EcdsaP256Sha256 => Some(Hash::Sha256),
            Self::HmacSha384 | Self::EcdsaP384Sha384 => Some(Hash::Sha384),
            Self::Rsa4096OaepSha512 | Self::HmacSha512 | Self::EcdsaP521Sha512 => Some(Hash::Sha512),
        }
    }

    /// The specification of its keys. HMAC keys are as long as their digest (RFC 2104: no less).
    pub fn spec(self) -> KeySpec {
        let rsa = |bits| KeySpec::Rsa { bits, exponent: vec![1, 0, 1] };
        match self {
            Self::Aes256Gcm => KeySpec::Aes { bytes: 32 },
            Self::Rsa2048OaepSha256 => rsa(2048),
            Self::Rsa3072OaepSha256 => rsa(3072),
            Self::Rsa4096OaepSha256 | Self::Rsa4096OaepSha512 => rsa(4096),
            Self::HmacSha256 => KeySpec::Generic { bytes: 32 },
            Self::HmacSha384 => KeySpec::Generic { bytes: 48 },
            Self::HmacSha512 => KeySpec::Generic { bytes: 64 },
            Self::EcdsaP256Sha256 => KeySpec::Ec { curve: Curve::P256 },
            Self::EcdsaP384Sha384 => KeySpec::Ec { curve: Curve::P384 },
            Self::EcdsaP521Sha512 => KeySpec::Ec { curve: Curve::P521 },
        }
    }

    /// The type of its key.
    pub fn key_type(self) -> KeyType {
        match self.purpose() {
            Purpose::SymmetricEncryptDecrypt => KeyType::AES,
            Purpose::AsymmetricEncryptDecrypt => KeyType::RSA,
            Purpose::MessageAuthenticationCode => KeyType::GENERIC_SECRET,
            Purpose::AsymmetricSignVerify => KeyType::EC,
        }
    }

    /// The class of the object that has the secret.
    pub fn class(self) -> ObjectClass {
        match self.purpose() {
            Purpose::SymmetricEncryptDecrypt | Purpose::MessageAuthenticationCode => ObjectClass::SECRET_KEY,
            Purpose::AsymmetricEncryptDecrypt | Purpose::AsymmetricSignVerify => ObjectClass::PRIVATE_KEY,
        }
    }
}

/// The API's algorithm of a key that was created over PKCS#11, from the attributes of its secret or private object;
/// none if the API has no name for it.
pub fn algorithm_of(attributes: &Template) -> Option<Algorithm> {
    let is = |kind| attributes.bool(kind) == Some(true);
    match (attributes.class()?, attributes.key_type()?) {
        (ObjectClass::SECRET_KEY, KeyType::AES) => {
            let right_length = attributes.ulong(AttributeType::VALUE_LEN) == Some(32);
            let both = is(AttributeType::ENCRYPT) && is(AttributeType::DECRYPT);
            (right_length && both).then_some(Algorithm::Aes256Gcm)
        }
        (ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET) => {
            let both = is(AttributeType::SIGN) && is(AttributeType::VERIFY);
            match attributes.ulong(AttributeType::VALUE_LEN) {
                Some(32) if both => Some(Algorithm::HmacSha256),
                Some(48) if both => Some(Algorithm::HmacSha384),
                Some(64) if both => Some(Algorithm::HmacSha512),
                Some(_) | None => None,
            }
        }
        (ObjectClass::PRIVATE_KEY, KeyType::RSA) if is(AttributeType::DECRYPT) => {
            match attributes.bytes(AttributeType::MODULUS)?.len() {
                256 => Some(Algorithm::Rsa2048OaepSha256),
                384 => Some(Algorithm::Rsa3072OaepSha256),
                512 => Some(Algorithm::Rsa4096OaepSha256),
                _ => None,
            }
        }
        (ObjectClass::PRIVATE_KEY, KeyType::EC) if is(AttributeType::SIGN) => {
            let params = attributes.bytes(AttributeType::EC_PARAMS)?;
            Curve::ALL.into_iter().find(|curve| curve.oid_der() == params).map(|curve| match curve {
                Curve::P256 => Algorithm::EcdsaP256Sha256,
                Curve::P384 => Algorithm::EcdsaP384Sha384,
                Curve::P521 => Algorithm::EcdsaP521Sha512,
            })
        }
        _ => None,
    }
}

/// How key material is wrapped for import. The names without a suffix encrypt the material itself with OAEP; those with
/// `_aes_256_key_wrap` encrypt an AES key with OAEP, which wraps the material (`CKM_RSA_AES_KEY_WRAP`).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[schema(as = wrappingAlgorithm)]
pub enum WrappingAlgorithm {
    /// RSA-2048, OAEP with SHA-256.
    #[serde(rename = "rsa_2048_oaep_sha256")]
    Rsa2048OaepSha256,
    /// RSA-3072, OAEP with SHA-256.
    #[serde(rename = "rsa_3072_oaep_sha256")]
    Rsa3072OaepSha256,
    /// RSA-4096, OAEP with SHA-256.
    #[serde(rename = "rsa_4096_oaep_sha256")]
    Rsa4096OaepSha256,
    /// RSA-4096, OAEP with SHA-512.
    #[serde(rename = "rsa_4096_oaep_sha512")]
    Rsa4096OaepSha512,
    /// RSA-2048, OAEP with SHA-256, over AES key wrap.
    #[serde(rename = "rsa_2048_oaep_sha256_aes_256_key_wrap")]
    Rsa2048OaepSha256Aes256KeyWrap,
    /// RSA-3072, OAEP with SHA-256, over AES key wrap.
    #[serde(rename = "rsa_3072_oaep_sha256_aes_256_key_wrap")]
    Rsa3072OaepSha256Aes256KeyWrap,
    /// RSA-4096, OAEP with SHA-256, over AES key wrap.
    #[serde(rename = "rsa_4096_oaep_sha256_aes_256_key_wrap")]
    Rsa4096OaepSha256Aes256KeyWrap,
    /// RSA-4096, OAEP with SHA-512, over AES key wrap.
    #[serde(rename = "rsa_4096_oaep_sha512_aes_256_key_wrap")]
    Rsa4096OaepSha512Aes256KeyWrap,
}

impl WrappingAlgorithm {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Rsa2048OaepSha256,
        Self::Rsa3072OaepSha256,
        Self::Rsa4096OaepSha256,
        Self::Rsa4096OaepSha512,
        Self::Rsa2048OaepSha256Aes256KeyWrap,
        Self::Rsa3072OaepSha256Aes256KeyWrap,
        Self::Rsa4096OaepSha256Aes256KeyWrap,
        Self::Rsa4096OaepSha512Aes256KeyWrap,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa2048OaepSha256 => "rsa_2048_oaep_sha256",
            Self::Rsa3072OaepSha256 => "rsa_3072_oaep_sha256",
            Self::Rsa4096OaepSha256 => "rsa_4096_oaep_sha256",
            Self::Rsa4096OaepSha512 => "rsa_4096_oaep_sha512",
            Self::Rsa2048OaepSha256Aes256KeyWrap => "rsa_2048_oaep_sha256_aes_256_key_wrap",
            Self::Rsa3072OaepSha256Aes256KeyWrap => "rsa_3072_oaep_sha256_aes_256_key_wrap",
            Self::Rsa4096OaepSha256Aes256KeyWrap => "rsa_4096_oaep_sha256_aes_256_key_wrap",
            Self::Rsa4096OaepSha512Aes256KeyWrap => "rsa_4096_oaep_sha512_aes_256_key_wrap",
        }
    }

    /// The algorithm of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The length of its modulus, in bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::Rsa2048OaepSha256 | Self::Rsa2048OaepSha256Aes256KeyWrap => 2048,
            Self::Rsa3072OaepSha256 | Self::Rsa3072OaepSha256Aes256KeyWrap => 3072,
            Self::Rsa4096OaepSha256
            | Self::Rsa4096OaepSha512
            | Self::Rsa4096OaepSha256Aes256KeyWrap
            | Self::Rsa4096OaepSha512Aes256KeyWrap => 4096,
        }
    }

    /// The hash function of OAEP and its MGF1.
    pub fn hash(self) -> Hash {
        match self {
            Self::Rsa4096OaepSha512 | Self::Rsa4096OaepSha512Aes256KeyWrap => Hash::Sha512,
            Self::Rsa2048OaepSha256
            | Self::Rsa3072OaepSha256
            | Self::Rsa4096OaepSha256
            | Self::Rsa2048OaepSha256Aes256KeyWrap
            | Self::Rsa3072OaepSha256Aes256KeyWrap
            | Self::Rsa4096OaepSha256Aes256KeyWrap => Hash::Sha256,
        }
    }

    /// Whether the RSA key wraps an AES key, which wraps the material.
    pub fn wraps_by_aes(self) -> bool {
        self.name().ends_with("_aes_256_key_wrap")
    }
}

/// The purpose of a wrapping key: what it may wrap.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = wrappingPurpose)]
pub enum WrappingPurpose {
    /// AES and HMAC keys, as their bytes.
    WrapSymmetricKey,
    /// RSA and ECDSA private keys, as PKCS #8, DER.
    WrapAsymmetricKey,
}

impl WrappingPurpose {
    /// Whether it may wrap material for a key of this purpose.
    pub fn accepts(self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::SymmetricEncryptDecrypt | Purpose::MessageAuthenticationCode => {
                self == Self::WrapSymmetricKey
            }
            Purpose::AsymmetricEncryptDecrypt | Purpose::AsymmetricSignVerify => {
                self == Self::WrapAsymmetricKey
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_serde() {
        for algorithm in Algorithm::ALL {
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.name());
            assert_eq!(Algorithm::named(algorithm.name()), Some(algorithm));
        }
        for algorithm in WrappingAlgorithm::ALL {
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.name());
            assert_eq!(WrappingAlgorithm::named(algorithm.name()), Some(algorithm));
        }
    }
}
