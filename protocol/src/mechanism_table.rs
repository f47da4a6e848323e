//! The mechanism table: what we offer, for which keys, of which sizes, and who computes it.
//!
//! Everything that depends on a mechanism alone is read from here: mechanism lists and infos, parameter checks, what a
//! hash-then-sign mechanism is made of, and `provider/SUPPORT.md`.

use crate::attribute::KeyType;
use crate::mechanism::MechanismType as M;

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
    pub const CIPHER: Self = Self(Self::ENCRYPT.0 | Self::DECRYPT.0);
    pub const SIGNATURE: Self = Self(Self::SIGN.0 | Self::VERIFY.0);

    /// Whether all of `other` are among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
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
    Pss {
        /// Whether the mechanism may come without, taking its own digest, its MGF1, and a salt as long.
        optional: bool,
    },
    /// `CK_RSA_PKCS_OAEP_PARAMS`.
    Oaep,
    /// `CK_MAC_GENERAL_PARAMS`.
    MacBytes,
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
    /// The type of key it works with or makes.
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

const fn row(kind: M, uses: Uses, key: KeyType, sizes: (u32, u32), unit: SizeUnit) -> Row {
    let not_strict = Uses::NONE;
    Row {
        kind,
        uses,
        not_strict,
        key: Some(key),
        sizes,
        unit,
        parameter: Parameter::None,
        digest: None,
        signs: None,
    }
}

const fn rsa(kind: M, uses: Uses) -> Row {
    row(kind, uses, KeyType::RSA, RSA_BITS, SizeUnit::Bits)
}

const fn aes(kind: M, uses: Uses) -> Row {
    row(kind, uses, KeyType::AES, (16, 32), SizeUnit::Bytes)
}

const fn ec(kind: M, uses: Uses) -> Row {
    row(kind, uses, KeyType::EC, EC_BITS, SizeUnit::Bits)
}

const fn hmac(kind: M, digest: M) -> Row {
    row(kind, Uses::SIGNATURE, KeyType::GENERIC_SECRET, GENERIC_BYTES, SizeUnit::Bytes).over(digest)
}

const fn digest(kind: M) -> Row {
    let (not_strict, sizes, unit) = (Uses::NONE, (0, 0), SizeUnit::None);
    let parameter = Parameter::None;
    Row {
        kind,
        uses: Uses::DIGEST,
        not_strict,
        key: None,
        sizes,
        unit,
        parameter,
        digest: Some(kind),
        signs: None,
    }
}

impl Row {
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

    const fn compat_only(mut self, uses: Uses) -> Self {
        self.not_strict = uses;
        self
    }
}

/// RSA moduli we make and use, in bits.
pub const RSA_BITS: (u32, u32) = (2048, 4096);

/// The fields of the curves we have, in bits: P-256, P-384, P-521.
pub const EC_BITS: (u32, u32) = (256, 521);

/// Generic secrets, in bytes. A strict ring has its own minimum.
pub const GENERIC_BYTES: (u32, u32) = (1, 512);

const PSS: Parameter = Parameter::Pss { optional: false };
const PSS_HASHED: Parameter = Parameter::Pss { optional: true };

/// Every mechanism, in the order in which `C_GetMechanismList` lists them.
pub const TABLE: &[Row] = &[
    aes(M::AES_KEY_GEN, Uses::GENERATE),
    aes(M::AES_ECB, Uses::CIPHER),
    aes(M::AES_CBC, Uses::CIPHER).taking(Parameter::Iv),
    aes(M::AES_CBC_PAD, Uses::CIPHER).taking(Parameter::Iv),
    aes(M::AES_CTR, Uses::CIPHER).taking(Parameter::Ctr),
    aes(M::AES_GCM, Uses::CIPHER).taking(Parameter::Gcm),
    rsa(M::RSA_PKCS_KEY_PAIR_GEN, Uses::GENERATE_PAIR),
    // A strict ring signs and verifies with PKCS #1 v1.5; it neither encrypts nor decrypts with it (Bleichenbacher).
    rsa(M::RSA_PKCS, Uses(Uses::SIGNATURE.0 | Uses::CIPHER.0)).compat_only(Uses::CIPHER),
    rsa(M::SHA1_RSA_PKCS, Uses::SIGNATURE).hashed(M::SHA_1, M::RSA_PKCS),
    rsa(M::SHA224_RSA_PKCS, Uses::SIGNATURE).hashed(M::SHA224, M::RSA_PKCS),
    rsa(M::SHA256_RSA_PKCS, Uses::SIGNATURE).hashed(M::SHA256, M::RSA_PKCS),
    rsa(M::SHA384_RSA_PKCS, Uses::SIGNATURE).hashed(M::SHA384, M::RSA_PKCS),
    rsa(M::SHA512_RSA_PKCS, Uses::SIGNATURE).hashed(M::SHA512, M::RSA_PKCS),
    rsa(M::RSA_PKCS_PSS, Uses::SIGNATURE).taking(PSS),
    rsa(M::SHA1_RSA_PKCS_PSS, Uses::SIGNATURE).hashed(M::SHA_1, M::RSA_PKCS_PSS).taking(PSS_HASHED),
    rsa(M::SHA224_RSA_PKCS_PSS, Uses::SIGNATURE).hashed(M::SHA224, M::RSA_PKCS_PSS).taking(PSS_HASHED),
    rsa(M::SHA256_RSA_PKCS_PSS, Uses::SIGNATURE).hashed(M::SHA256, M::RSA_PKCS_PSS).taking(PSS_HASHED),
    rsa(M::SHA384_RSA_PKCS_PSS, Uses::SIGNATURE).hashed(M::SHA384, M::RSA_PKCS_PSS).taking(PSS_HASHED),
    rsa(M::SHA512_RSA_PKCS_PSS, Uses::SIGNATURE).hashed(M::SHA512, M::RSA_PKCS_PSS).taking(PSS_HASHED),
    rsa(M::RSA_PKCS_OAEP, Uses::CIPHER).taking(Parameter::Oaep),
    ec(M::EC_KEY_PAIR_GEN, Uses::GENERATE_PAIR),
    ec(M::ECDSA, Uses::SIGNATURE),
    ec(M::ECDSA_SHA1, Uses::SIGNATURE).hashed(M::SHA_1, M::ECDSA),
    ec(M::ECDSA_SHA224, Uses::SIGNATURE).hashed(M::SHA224, M::ECDSA),
    ec(M::ECDSA_SHA256, Uses::SIGNATURE).hashed(M::SHA256, M::ECDSA),
    ec(M::ECDSA_SHA384, Uses::SIGNATURE).hashed(M::SHA384, M::ECDSA),
    ec(M::ECDSA_SHA512, Uses::SIGNATURE).hashed(M::SHA512, M::ECDSA),
    row(M::GENERIC_SECRET_KEY_GEN, Uses::GENERATE, KeyType::GENERIC_SECRET, GENERIC_BYTES, SizeUnit::Bytes),
    hmac(M::SHA_1_HMAC, M::SHA_1),
    hmac(M::SHA224_HMAC, M::SHA224),
    hmac(M::SHA256_HMAC, M::SHA256),
    hmac(M::SHA384_HMAC, M::SHA384),
    hmac(M::SHA512_HMAC, M::SHA512),
    hmac(M::SHA_1_HMAC_GENERAL, M::SHA_1).taking(Parameter::MacBytes),
    hmac(M::SHA224_HMAC_GENERAL, M::SHA224).taking(Parameter::MacBytes),
    hmac(M::SHA256_HMAC_GENERAL, M::SHA256).taking(Parameter::MacBytes),
    hmac(M::SHA384_HMAC_GENERAL, M::SHA384).taking(Parameter::MacBytes),
    hmac(M::SHA512_HMAC_GENERAL, M::SHA512).taking(Parameter::MacBytes),
    digest(M::SHA_1),
    digest(M::SHA224),
    digest(M::SHA256),
    digest(M::SHA384),
    digest(M::SHA512),
];

/// What we know of a mechanism, if we offer it.
pub fn row_of(kind: M) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.kind == kind)
}

/// The length of a digest in bytes, if `kind` is one we know.
pub fn digest_bytes(kind: M) -> Option<u32> {
    match kind {
        M::SHA_1 => Some(20),
        M::SHA224 => Some(28),
        M::SHA256 => Some(32),
        M::SHA384 => Some(48),
        M::SHA512 => Some(64),
        _ => None,
    }
}
