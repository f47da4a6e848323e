//! The mechanism table: the supported mechanisms, their functions, key types, key sizes and parameters.
//!
//! Everything that depends on a mechanism alone is read from here: mechanism lists and infos, parameter checks, the
//! parts of a hash-then-sign mechanism, and `provider/SUPPORT.md`.

mod rows;

use crate::attribute::KeyType;
use crate::mechanism_names::MechanismType as M;
use crate::response::RingPolicy;

pub use rows::TABLE;

/// The functions that a mechanism supports, as flags of `CK_MECHANISM_INFO`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Uses(pub u32);

#[allow(missing_docs, reason = "the names are the specification's")]
impl Uses {
    pub const NONE: Self = Self(0);
    pub const ENCRYPT: Self = Self(0x100);
    pub const DECRYPT: Self = Self(0x200);
    pub const DIGEST: Self = Self(0x400);
    pub const SIGN: Self = Self(0x800);
    pub const VERIFY: Self = Self(0x2000);
    pub const GENERATE: Self = Self(0x8000);
    pub const GENERATE_PAIR: Self = Self(0x1_0000);
    pub const WRAP: Self = Self(0x2_0000);
    pub const UNWRAP: Self = Self(0x4_0000);
    pub const DERIVE: Self = Self(0x8_0000);
    pub const MESSAGE_ENCRYPT: Self = Self(0x2);
    pub const MESSAGE_DECRYPT: Self = Self(0x4);
    pub const ENCAPSULATE: Self = Self(0x1000_0000);
    pub const DECAPSULATE: Self = Self(0x2000_0000);
    pub const CIPHER: Self = Self(Self::ENCRYPT.0 | Self::DECRYPT.0);
    pub const SIGNATURE: Self = Self(Self::SIGN.0 | Self::VERIFY.0);
    pub const WRAPPING: Self = Self(Self::WRAP.0 | Self::UNWRAP.0);
    pub const MESSAGE: Self = Self(Self::MESSAGE_ENCRYPT.0 | Self::MESSAGE_DECRYPT.0);
    pub const KEM: Self = Self(Self::ENCAPSULATE.0 | Self::DECAPSULATE.0);

    /// Whether these flags include all of `other`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and `other`.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The kind of parameter that a mechanism takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parameter {
    /// No parameter.
    None,
    /// 16 bytes.
    Iv,
    /// `CK_AES_CTR_PARAMS`.
    Ctr,
    /// `CK_GCM_PARAMS`.
    Gcm,
    /// `CK_RSA_PKCS_PSS_PARAMS`.
    Pss,
    /// `CK_RSA_PKCS_OAEP_PARAMS`.
    Oaep,
    /// `CK_MAC_GENERAL_PARAMS`.
    MacBytes,
    /// `CK_CCM_PARAMS`.
    Ccm,
    /// `CK_SALSA20_CHACHA20_POLY1305_PARAMS`.
    Poly1305,
    /// `CK_EDDSA_PARAMS`, or none for plain Ed25519 and Ed448.
    Eddsa,
    /// `CK_SIGN_ADDITIONAL_CONTEXT`, or none.
    MlDsa,
    /// `CK_HASH_SIGN_ADDITIONAL_CONTEXT`.
    HashMlDsa,
    /// `CK_ECDH1_DERIVE_PARAMS`.
    Ecdh,
    /// `CK_HKDF_PARAMS`.
    Hkdf,
    /// `CK_SP800_108_KDF_PARAMS`, or `CK_SP800_108_FEEDBACK_KDF_PARAMS`.
    Kbkdf {
        /// Whether it is the second.
        feedback: bool,
    },
    /// `CK_KEY_DERIVATION_STRING_DATA`, or `CK_AES_CBC_ENCRYPT_DATA_PARAMS`.
    Data {
        /// The length of the IV before the data; 0 for the first.
        iv_bytes: usize,
    },
    /// `CK_OBJECT_HANDLE`.
    Key,
    /// `CK_EXTRACT_PARAMS`.
    Extract,
    /// An initial value of AES key wrap, or none for the default one.
    WrapIv {
        /// Its length.
        bytes: usize,
    },
    /// `CK_RSA_AES_KEY_WRAP_PARAMS`.
    RsaAes,
}

impl Parameter {
    /// Whether the parameter may be missing.
    pub const fn is_optional(self) -> bool {
        match self {
            Self::None => true,
            Self::Eddsa | Self::MlDsa | Self::WrapIv { .. } => true,
            Self::Iv | Self::Ctr | Self::Gcm | Self::Pss | Self::Oaep => false,
            Self::HashMlDsa | Self::MacBytes | Self::Ccm | Self::Poly1305 | Self::Ecdh | Self::Hkdf => false,
            Self::Kbkdf { .. } | Self::Data { .. } | Self::Key | Self::RsaAes | Self::Extract => false,
        }
    }
}

/// The unit in which a mechanism counts key sizes (`ulMinKeySize`, `ulMaxKeySize`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SizeUnit {
    /// The mechanism has no key.
    None,
    /// Bits: RSA and EC.
    Bits,
    /// Bytes: AES and generic secrets.
    Bytes,
}

/// The row of one mechanism.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// The mechanism.
    pub kind: M,
    /// The functions that it supports.
    pub uses: Uses,
    /// The part of `uses` that a strict ring does not allow.
    pub compat_only: Uses,
    /// The type of the key that it uses or generates; [`Row::accepts`] has the other types that it accepts.
    pub key: Option<KeyType>,
    /// The smallest and the largest key.
    pub sizes: (u32, u32),
    /// The unit of `sizes`.
    pub unit: SizeUnit,
    /// The parameter that it takes.
    pub parameter: Parameter,
    /// The digest: that of a hash-then-sign mechanism or of an HMAC, or the digest mechanism itself.
    pub digest: Option<M>,
    /// Of a hash-then-sign mechanism: the mechanism that signs the digest.
    pub signs: Option<M>,
}

impl Row {
    /// The functions that the mechanism serves in a ring of this policy.
    pub const fn uses_in(&self, policy: RingPolicy) -> Uses {
        match policy {
            RingPolicy::Strict => self.uses.without(self.compat_only),
            RingPolicy::Compat => self.uses,
        }
    }

    /// Whether the mechanism accepts keys of this type.
    pub fn accepts(&self, kind: KeyType) -> bool {
        if self.key == Some(kind) {
            return true;
        }
        match self.kind {
            // Key agreement on Montgomery curves has the same mechanism (spec, "Elliptic curve Diffie-Hellman").
            M::ECDH1_DERIVE | M::ECDH1_COFACTOR_DERIVE => kind == KeyType::EC_MONTGOMERY,
            M::HKDF_DERIVE => kind == KeyType::GENERIC_SECRET,
            // Which of the two the pseudorandom function takes, an AES key or any bytes, is checked where the key is
            // used.
            M::SP800_108_COUNTER_KDF | M::SP800_108_FEEDBACK_KDF => kind == KeyType::AES || is_hmac_key(kind),
            M::CONCATENATE_BASE_AND_KEY
            | M::CONCATENATE_BASE_AND_DATA
            | M::CONCATENATE_DATA_AND_BASE
            | M::XOR_BASE_AND_DATA => kind == KeyType::AES || is_hmac_key(kind),
            // Parts of AES keys are not used as keys.
            M::EXTRACT_KEY_FROM_KEY => is_hmac_key(kind),
            _ => self.is_hmac() && self.digest.and_then(hmac_key) == Some(kind),
        }
    }

    /// Whether the mechanism is an HMAC.
    pub fn is_hmac(&self) -> bool {
        self.key == Some(KeyType::GENERIC_SECRET) && self.digest.is_some()
    }

    const fn with_parameter(mut self, parameter: Parameter) -> Self {
        self.parameter = parameter;
        self
    }

    const fn with_digest(mut self, digest: M) -> Self {
        self.digest = Some(digest);
        self
    }

    const fn hash_then_sign(mut self, digest: M, signs: M) -> Self {
        self.digest = Some(digest);
        self.signs = Some(signs);
        self
    }

    const fn with_sizes(mut self, sizes: (u32, u32)) -> Self {
        self.sizes = sizes;
        self
    }

    const fn compat_only(mut self, uses: Uses) -> Self {
        self.compat_only = uses;
        self
    }
}

/// The sizes of RSA moduli that are generated and used, in bits.
pub const RSA_BITS: (u32, u32) = (2048, 4096);

/// The largest modulus of an imported public key, in bits: certificate authorities have such keys.
pub const RSA_PUBLIC_BITS_MAX: u32 = 8192;

/// The field sizes of the NIST curves, in bits: P-256, P-384, P-521.
pub const EC_BITS: (u32, u32) = (256, 521);

/// The sizes of generic secrets, in bytes. A strict ring has its own minimum.
pub const GENERIC_BYTES: (u32, u32) = (1, 512);

/// The field sizes of the Edwards and Montgomery curves, in bits: curve 25519, and curve 448 where
/// backend and provider are built with `pre-release-curves`.
pub const EDWARDS_BITS: (u32, u32) = (255, 448);

/// The field sizes for key agreement, in bits: from curve 25519 to the largest of [`EC_BITS`].
pub const AGREEMENT_BITS: (u32, u32) = (EDWARDS_BITS.0, EC_BITS.1);

/// The size of ChaCha20 keys, in bytes.
pub const CHACHA_BYTES: (u32, u32) = (32, 32);

/// The row of a mechanism, if it is supported.
pub fn row_of(kind: M) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.kind == kind)
}

/// The key type for the HMAC over this digest, which the HMAC accepts beside generic secrets.
pub fn hmac_key(digest: M) -> Option<KeyType> {
    match digest {
        M::SHA_1 => Some(KeyType::SHA_1_HMAC),
        M::SHA224 => Some(KeyType::SHA224_HMAC),
        M::SHA256 => Some(KeyType::SHA256_HMAC),
        M::SHA384 => Some(KeyType::SHA384_HMAC),
        M::SHA512 => Some(KeyType::SHA512_HMAC),
        M::SHA3_224 => Some(KeyType::SHA3_224_HMAC),
        M::SHA3_256 => Some(KeyType::SHA3_256_HMAC),
        M::SHA3_384 => Some(KeyType::SHA3_384_HMAC),
        M::SHA3_512 => Some(KeyType::SHA3_512_HMAC),
        _ => None,
    }
}

/// Whether this is a key type for HMACs: secrets of any length that only HMACs use.
pub fn is_hmac_key(kind: KeyType) -> bool {
    TABLE
        .iter()
        .filter(|row| row.is_hmac())
        .filter_map(|row| row.digest)
        .any(|digest| hmac_key(digest) == Some(kind))
}

/// The length of a mechanism's full MAC, if it computes MACs.
pub fn mac_bytes(row: &Row) -> Option<u32> {
    match row.kind {
        M::AES_CMAC | M::AES_CMAC_GENERAL => Some(16),
        _ if row.is_hmac() => row.digest.and_then(digest_bytes),
        _ => None,
    }
}

/// The length of a digest in bytes, if `kind` is a supported digest.
pub fn digest_bytes(kind: M) -> Option<u32> {
    match kind {
        M::SHA_1 => Some(20),
        M::SHA224 => Some(28),
        M::SHA256 => Some(32),
        M::SHA384 => Some(48),
        M::SHA512 => Some(64),
        M::SHA3_224 => Some(28),
        M::SHA3_256 => Some(32),
        M::SHA3_384 => Some(48),
        M::SHA3_512 => Some(64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mechanism_has_one_row_and_a_name() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(row.kind.name().is_some(), "{at}");
            assert!(TABLE[..at].iter().all(|other| other.kind != row.kind), "{}", row.kind);
            assert!(row.uses.has(row.compat_only), "{}: compat_only is a part of uses", row.kind);
            assert!(row.sizes.0 <= row.sizes.1, "{}", row.kind);
        }
    }

    #[test]
    fn mechanisms_accept_the_key_types_made_for_them() {
        let suits = |kind, key| row_of(kind).unwrap().accepts(key);
        assert!(
            suits(M::SHA256_HMAC, KeyType::GENERIC_SECRET) && suits(M::SHA256_HMAC, KeyType::SHA256_HMAC)
        );
        assert!(!suits(M::SHA256_HMAC, KeyType::SHA512_HMAC) && !suits(M::SHA256_HMAC, KeyType::AES));
        assert!(suits(M::ECDH1_DERIVE, KeyType::EC) && suits(M::ECDH1_DERIVE, KeyType::EC_MONTGOMERY));
        assert!(!suits(M::ECDSA, KeyType::EC_MONTGOMERY) && !suits(M::ECDH1_DERIVE, KeyType::EC_EDWARDS));
        assert!(suits(M::HKDF_DERIVE, KeyType::HKDF) && suits(M::HKDF_DERIVE, KeyType::GENERIC_SECRET));
        assert!(
            suits(M::SP800_108_COUNTER_KDF, KeyType::AES) && !suits(M::SP800_108_COUNTER_KDF, KeyType::RSA)
        );
        assert!(!suits(M::SHA256, KeyType::GENERIC_SECRET));
    }

    #[test]
    fn a_strict_ring_wraps_and_derives_with_safe_mechanisms_only() {
        let strict = |kind| row_of(kind).map(|row| row.uses.without(row.compat_only)).unwrap();
        for kind in [M::RSA_PKCS, M::AES_CBC, M::AES_CBC_PAD] {
            assert_eq!(strict(kind).0 & Uses::WRAPPING.0, 0, "{kind}");
        }
        assert!(!strict(M::AES_GCM).has(Uses::WRAP) && strict(M::AES_GCM).has(Uses::UNWRAP));
        let derives: Vec<M> =
            TABLE.iter().map(|row| row.kind).filter(|kind| strict(*kind).has(Uses::DERIVE)).collect();
        let expected = [
            M::ECDH1_DERIVE,
            M::ECDH1_COFACTOR_DERIVE,
            M::HKDF_DERIVE,
            M::SP800_108_COUNTER_KDF,
            M::SP800_108_FEEDBACK_KDF,
        ];
        assert_eq!(derives, expected);
    }
}
