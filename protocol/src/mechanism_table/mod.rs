//! The mechanism table: what we offer, for which keys, of which sizes, and who computes it.
//!
//! Everything that depends on a mechanism alone is read from here: mechanism lists and infos, parameter checks, what a
//! hash-then-sign mechanism is made of, and `provider/SUPPORT.md`.

mod rows;

use crate::attribute::KeyType;
use crate::mechanism_names::MechanismType as M;
use crate::response::RingPolicy;

pub use rows::TABLE;

/// Which functions a mechanism serves, as `CK_MECHANISM_INFO` flags name them.
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

    /// Whether all of `other` are among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The kind of parameter a mechanism takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parameter {
    /// None at all.
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
    /// `CK_EDDSA_PARAMS`, or none for Ed25519 and Ed448 as most know them.
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
        /// Which.
        feedback: bool,
    },
    /// `CK_KEY_DERIVATION_STRING_DATA`, or `CK_AES_CBC_ENCRYPT_DATA_PARAMS`.
    Data {
        /// The length of the vector before the data; 0 for the first.
        iv_bytes: usize,
    },
    /// `CK_OBJECT_HANDLE`.
    Key,
    /// `CK_EXTRACT_PARAMS`.
    Extract,
    /// An initial value of AES key wrap, or none for the usual one.
    WrapIv {
        /// Its length.
        bytes: usize,
    },
    /// `CK_RSA_AES_KEY_WRAP_PARAMS`.
    RsaAes,
}

impl Parameter {
    /// Whether the mechanism may come without.
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

/// One mechanism.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// Its name.
    pub kind: M,
    /// What it serves.
    pub uses: Uses,
    /// What a strict ring leaves out of `uses`.
    pub not_strict: Uses,
    /// The type of key it works with or makes; [`Row::suits`] says which others serve it as well.
    pub key: Option<KeyType>,
    /// Smallest and largest key.
    pub sizes: (u32, u32),
    /// What `sizes` counts.
    pub unit: SizeUnit,
    /// What parameter it takes.
    pub parameter: Parameter,
    /// The digest inside: of a hash-then-sign mechanism, of an HMAC, or the digest itself.
    pub digest: Option<M>,
    /// Of a hash-then-sign mechanism: the mechanism that signs the digest.
    pub signs: Option<M>,
}

impl Row {
    /// The functions that the mechanism serves in a ring of this policy.
    pub const fn uses_in(&self, policy: RingPolicy) -> Uses {
        match policy {
            RingPolicy::Strict => self.uses.without(self.not_strict),
            RingPolicy::Compat => self.uses,
        }
    }

    /// Whether a key of this type serves the mechanism.
    pub fn suits(&self, kind: KeyType) -> bool {
        if self.key == Some(kind) {
            return true;
        }
        match self.kind {
            // Key agreement on Montgomery's curve goes by the same name (spec, "Elliptic curve Diffie-Hellman").
            M::ECDH1_DERIVE | M::ECDH1_COFACTOR_DERIVE => kind == KeyType::EC_MONTGOMERY,
            M::HKDF_DERIVE => kind == KeyType::GENERIC_SECRET,
            // What the pseudorandom function takes is checked where the key is: an AES key, or any bytes.
            M::SP800_108_COUNTER_KDF | M::SP800_108_FEEDBACK_KDF => kind == KeyType::AES || is_hmac_key(kind),
            M::CONCATENATE_BASE_AND_KEY
            | M::CONCATENATE_BASE_AND_DATA
            | M::CONCATENATE_DATA_AND_BASE
            | M::XOR_BASE_AND_DATA => kind == KeyType::AES || is_hmac_key(kind),
            // A part of an AES key is no key of anybody's.
            M::EXTRACT_KEY_FROM_KEY => is_hmac_key(kind),
            _ => self.is_hmac() && self.digest.and_then(hmac_key) == Some(kind),
        }
    }

    /// Whether it is an HMAC.
    pub fn is_hmac(&self) -> bool {
        self.key == Some(KeyType::GENERIC_SECRET) && self.digest.is_some()
    }

    const fn taking(mut self, parameter: Parameter) -> Self {
        self.parameter = parameter;
        self
    }

    const fn over(mut self, digest: M) -> Self {
        self.digest = Some(digest);
        self
    }

    const fn hashed(mut self, digest: M, signs: M) -> Self {
        self.digest = Some(digest);
        self.signs = Some(signs);
        self
    }

    const fn sized(mut self, sizes: (u32, u32)) -> Self {
        self.sizes = sizes;
        self
    }

    const fn compat_only(mut self, uses: Uses) -> Self {
        self.not_strict = uses;
        self
    }
}

/// RSA moduli we make and use, in bits.
pub const RSA_BITS: (u32, u32) = (2048, 4096);

/// The largest modulus of a public key that comes from elsewhere, in bits: certificates of authorities have such.
pub const RSA_PUBLIC_BITS_MAX: u32 = 8192;

/// The fields of the curves we have, in bits: P-256, P-384, P-521.
pub const EC_BITS: (u32, u32) = (256, 521);

/// Generic secrets, in bytes. A strict ring has its own minimum.
pub const GENERIC_BYTES: (u32, u32) = (1, 512);

/// The fields of the curves of Edwards's and Montgomery's form, in bits: curve 25519 and curve 448.
pub const EDWARDS_BITS: (u32, u32) = (255, 448);

/// The curves of key agreement, in bits: curve 25519 and those of [`EC_BITS`].
pub const AGREEMENT_BITS: (u32, u32) = (EDWARDS_BITS.0, EC_BITS.1);

/// ChaCha20's one length of keys, in bytes.
pub const CHACHA_BYTES: (u32, u32) = (32, 32);

/// What we know of a mechanism, if we offer it.
pub fn row_of(kind: M) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.kind == kind)
}

/// The key type made for an HMAC over this digest, which serves it like a generic secret.
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

/// Whether keys of this type are secrets of any length that only HMACs use.
pub fn is_hmac_key(kind: KeyType) -> bool {
    TABLE
        .iter()
        .filter(|row| row.is_hmac())
        .filter_map(|row| row.digest)
        .any(|digest| hmac_key(digest) == Some(kind))
}

/// The length of the whole MAC that a mechanism makes, if it makes MACs.
pub fn mac_bytes(row: &Row) -> Option<u32> {
    match row.kind {
        M::AES_CMAC | M::AES_CMAC_GENERAL => Some(16),
        _ if row.is_hmac() => row.digest.and_then(digest_bytes),
        _ => None,
    }
}

/// The length of a digest in bytes, if `kind` is one we know.
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
    fn each_mechanism_stands_once_and_has_a_name() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(row.kind.name().is_some(), "{at}");
            assert!(TABLE[..at].iter().all(|other| other.kind != row.kind), "{}", row.kind);
            assert!(row.uses.has(row.not_strict), "{}: it leaves out what it has", row.kind);
            assert!(row.sizes.0 <= row.sizes.1, "{}", row.kind);
        }
    }

    #[test]
    fn keys_serve_the_mechanisms_they_are_made_for() {
        let suits = |kind, key| row_of(kind).unwrap().suits(key);
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
    fn a_strict_ring_wraps_and_derives_with_what_is_safe() {
        let strict = |kind| row_of(kind).map(|row| row.uses.without(row.not_strict)).unwrap();
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
