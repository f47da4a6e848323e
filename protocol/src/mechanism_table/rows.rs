//! The rows of the mechanism table.

use super::{
    AGREEMENT_BITS, CHACHA_BYTES, EC_BITS, EDWARDS_BITS, GENERIC_BYTES, Parameter, RSA_BITS, Row, SizeUnit,
    Uses,
};
use crate::attribute::KeyType;
use crate::mechanism_names::MechanismType as M;

const SIGNATURE_AND_CIPHER: Uses = Uses::SIGNATURE.and(Uses::CIPHER);

const CIPHER_MESSAGE: Uses = Uses::CIPHER.and(Uses::MESSAGE);

const STRING_DATA: Parameter = Parameter::Data { iv_bytes: 0 };

const WRAPPING_CIPHER: Uses = Uses::CIPHER.and(Uses::WRAPPING);

const PSS: Parameter = Parameter::Pss;

/// Every mechanism, in the order in which `C_GetMechanismList` lists them.
pub const TABLE: &[Row] = &[
    aes(M::AES_KEY_GEN, Uses::GENERATE),
    aes(M::AES_ECB, Uses::CIPHER),
    // A strict ring wraps with authenticated mechanisms only, and unwraps with none that could be a padding oracle.
    aes(M::AES_CBC, WRAPPING_CIPHER).compat_only(Uses::WRAPPING).with_parameter(Parameter::Iv),
    aes(M::AES_CBC_PAD, WRAPPING_CIPHER).compat_only(Uses::WRAPPING).with_parameter(Parameter::Iv),
    aes(M::AES_CTR, Uses::CIPHER).with_parameter(Parameter::Ctr),
    // Two keys wrapped under one IV, which the caller of C_WrapKey chooses, reveal their difference: if one of them is
    // known, so is the other. A strict ring wraps with AES_KEY_WRAP instead.
    aes(M::AES_GCM, WRAPPING_CIPHER.and(Uses::MESSAGE))
        .compat_only(Uses::WRAP)
        .with_parameter(Parameter::Gcm),
    aes(M::AES_CCM, Uses::CIPHER).with_parameter(Parameter::Ccm),
    aes(M::AES_CMAC, Uses::SIGNATURE),
    aes(M::AES_CMAC_GENERAL, Uses::SIGNATURE).with_parameter(Parameter::MacBytes),
    aes(M::AES_KEY_WRAP, Uses::WRAPPING).with_parameter(Parameter::WrapIv { bytes: 8 }),
    aes(M::AES_KEY_WRAP_PAD, Uses::WRAPPING).with_parameter(Parameter::WrapIv { bytes: 4 }),
    aes(M::AES_KEY_WRAP_KWP, Uses::WRAPPING).with_parameter(Parameter::WrapIv { bytes: 4 }),
    // This derivation is encryption: a caller who may derive can read what the key encrypts.
    aes(M::AES_ECB_ENCRYPT_DATA, Uses::DERIVE)
        .compat_only(Uses::DERIVE)
        .with_parameter(Parameter::Data { iv_bytes: 0 }),
    aes(M::AES_CBC_ENCRYPT_DATA, Uses::DERIVE)
        .compat_only(Uses::DERIVE)
        .with_parameter(Parameter::Data { iv_bytes: 16 }),
    row(M::CHACHA20_KEY_GEN, Uses::GENERATE, KeyType::CHACHA20, CHACHA_BYTES, SizeUnit::Bytes),
    row(M::CHACHA20_POLY1305, CIPHER_MESSAGE, KeyType::CHACHA20, CHACHA_BYTES, SizeUnit::Bytes)
        .with_parameter(Parameter::Poly1305),
    rsa(M::RSA_PKCS_KEY_PAIR_GEN, Uses::GENERATE_PAIR),
    // A strict ring signs and verifies with PKCS #1 v1.5; it neither encrypts nor decrypts with it (Bleichenbacher).
    rsa(M::RSA_PKCS, Uses::SIGNATURE.and(WRAPPING_CIPHER)).compat_only(WRAPPING_CIPHER),
    // Raw RSA: open to the attacks on every padding.
    rsa(M::RSA_X_509, SIGNATURE_AND_CIPHER).compat_only(SIGNATURE_AND_CIPHER),
    rsa(M::SHA1_RSA_PKCS, Uses::SIGNATURE).hash_then_sign(M::SHA_1, M::RSA_PKCS),
    rsa(M::SHA224_RSA_PKCS, Uses::SIGNATURE).hash_then_sign(M::SHA224, M::RSA_PKCS),
    rsa(M::SHA256_RSA_PKCS, Uses::SIGNATURE).hash_then_sign(M::SHA256, M::RSA_PKCS),
    rsa(M::SHA384_RSA_PKCS, Uses::SIGNATURE).hash_then_sign(M::SHA384, M::RSA_PKCS),
    rsa(M::SHA512_RSA_PKCS, Uses::SIGNATURE).hash_then_sign(M::SHA512, M::RSA_PKCS),
    rsa(M::SHA3_224_RSA_PKCS, Uses::SIGNATURE).hash_then_sign(M::SHA3_224, M::RSA_PKCS),
    rsa(M::SHA3_256_RSA_PKCS, Uses::SIGNATURE).hash_then_sign(M::SHA3_256, M::RSA_PKCS),
    rsa(M::SHA3_384_RSA_PKCS, Uses::SIGNATURE).hash_then_sign(M::SHA3_384, M::RSA_PKCS),
    rsa(M::SHA3_512_RSA_PKCS, Uses::SIGNATURE).hash_then_sign(M::SHA3_512, M::RSA_PKCS),
    rsa(M::RSA_PKCS_PSS, Uses::SIGNATURE).with_parameter(PSS),
    rsa(M::SHA1_RSA_PKCS_PSS, Uses::SIGNATURE).hash_then_sign(M::SHA_1, M::RSA_PKCS_PSS).with_parameter(PSS),
    rsa(M::SHA224_RSA_PKCS_PSS, Uses::SIGNATURE)
        .hash_then_sign(M::SHA224, M::RSA_PKCS_PSS)
        .with_parameter(PSS),
    rsa(M::SHA256_RSA_PKCS_PSS, Uses::SIGNATURE)
        .hash_then_sign(M::SHA256, M::RSA_PKCS_PSS)
        .with_parameter(PSS),
    rsa(M::SHA384_RSA_PKCS_PSS, Uses::SIGNATURE)
        .hash_then_sign(M::SHA384, M::RSA_PKCS_PSS)
        .with_parameter(PSS),
    rsa(M::SHA512_RSA_PKCS_PSS, Uses::SIGNATURE)
        .hash_then_sign(M::SHA512, M::RSA_PKCS_PSS)
        .with_parameter(PSS),
    rsa(M::SHA3_224_RSA_PKCS_PSS, Uses::SIGNATURE)
        .hash_then_sign(M::SHA3_224, M::RSA_PKCS_PSS)
        .with_parameter(PSS),
    rsa(M::SHA3_256_RSA_PKCS_PSS, Uses::SIGNATURE)
        .hash_then_sign(M::SHA3_256, M::RSA_PKCS_PSS)
        .with_parameter(PSS),
    rsa(M::SHA3_384_RSA_PKCS_PSS, Uses::SIGNATURE)
        .hash_then_sign(M::SHA3_384, M::RSA_PKCS_PSS)
        .with_parameter(PSS),
    rsa(M::SHA3_512_RSA_PKCS_PSS, Uses::SIGNATURE)
        .hash_then_sign(M::SHA3_512, M::RSA_PKCS_PSS)
        .with_parameter(PSS),
    rsa(M::RSA_PKCS_OAEP, WRAPPING_CIPHER).with_parameter(Parameter::Oaep),
    rsa(M::RSA_AES_KEY_WRAP, Uses::WRAPPING).with_parameter(Parameter::RsaAes),
    ec(M::EC_KEY_PAIR_GEN, Uses::GENERATE_PAIR),
    ec(M::ECDSA, Uses::SIGNATURE),
    ec(M::ECDSA_SHA1, Uses::SIGNATURE).hash_then_sign(M::SHA_1, M::ECDSA),
    ec(M::ECDSA_SHA224, Uses::SIGNATURE).hash_then_sign(M::SHA224, M::ECDSA),
    ec(M::ECDSA_SHA256, Uses::SIGNATURE).hash_then_sign(M::SHA256, M::ECDSA),
    ec(M::ECDSA_SHA384, Uses::SIGNATURE).hash_then_sign(M::SHA384, M::ECDSA),
    ec(M::ECDSA_SHA512, Uses::SIGNATURE).hash_then_sign(M::SHA512, M::ECDSA),
    ec(M::ECDSA_SHA3_224, Uses::SIGNATURE).hash_then_sign(M::SHA3_224, M::ECDSA),
    ec(M::ECDSA_SHA3_256, Uses::SIGNATURE).hash_then_sign(M::SHA3_256, M::ECDSA),
    ec(M::ECDSA_SHA3_384, Uses::SIGNATURE).hash_then_sign(M::SHA3_384, M::ECDSA),
    ec(M::ECDSA_SHA3_512, Uses::SIGNATURE).hash_then_sign(M::SHA3_512, M::ECDSA),
    ec(M::ECDH1_DERIVE, Uses::DERIVE).with_sizes(AGREEMENT_BITS).with_parameter(Parameter::Ecdh),
    ec(M::ECDH1_COFACTOR_DERIVE, Uses::DERIVE).with_sizes(AGREEMENT_BITS).with_parameter(Parameter::Ecdh),
    row(M::EC_EDWARDS_KEY_PAIR_GEN, Uses::GENERATE_PAIR, KeyType::EC_EDWARDS, EDWARDS_BITS, SizeUnit::Bits),
    row(M::EDDSA, Uses::SIGNATURE, KeyType::EC_EDWARDS, EDWARDS_BITS, SizeUnit::Bits)
        .with_parameter(Parameter::Eddsa),
    row(
        M::EC_MONTGOMERY_KEY_PAIR_GEN,
        Uses::GENERATE_PAIR,
        KeyType::EC_MONTGOMERY,
        EDWARDS_BITS,
        SizeUnit::Bits,
    ),
    row(M::ML_KEM_KEY_PAIR_GEN, Uses::GENERATE_PAIR, KeyType::ML_KEM, (0, 0), SizeUnit::None),
    row(M::ML_KEM, Uses::KEM, KeyType::ML_KEM, (0, 0), SizeUnit::None),
    row(M::ML_DSA_KEY_PAIR_GEN, Uses::GENERATE_PAIR, KeyType::ML_DSA, (0, 0), SizeUnit::None),
    ml_dsa(M::ML_DSA).with_parameter(Parameter::MlDsa),
    ml_dsa(M::HASH_ML_DSA).with_parameter(Parameter::HashMlDsa),
    hash_ml_dsa(M::HASH_ML_DSA_SHA224, M::SHA224),
    hash_ml_dsa(M::HASH_ML_DSA_SHA256, M::SHA256),
    hash_ml_dsa(M::HASH_ML_DSA_SHA384, M::SHA384),
    hash_ml_dsa(M::HASH_ML_DSA_SHA512, M::SHA512),
    hash_ml_dsa(M::HASH_ML_DSA_SHA3_224, M::SHA3_224),
    hash_ml_dsa(M::HASH_ML_DSA_SHA3_256, M::SHA3_256),
    hash_ml_dsa(M::HASH_ML_DSA_SHA3_384, M::SHA3_384),
    hash_ml_dsa(M::HASH_ML_DSA_SHA3_512, M::SHA3_512),
    // SHAKE has no digest mechanism; the signing mechanism stands for it.
    hash_ml_dsa(M::HASH_ML_DSA_SHAKE128, M::HASH_ML_DSA_SHAKE128),
    hash_ml_dsa(M::HASH_ML_DSA_SHAKE256, M::HASH_ML_DSA_SHAKE256),
    row(M::HKDF_DERIVE, Uses::DERIVE, KeyType::HKDF, GENERIC_BYTES, SizeUnit::Bytes)
        .with_parameter(Parameter::Hkdf),
    generic(M::SP800_108_COUNTER_KDF, Uses::DERIVE).with_parameter(Parameter::Kbkdf { feedback: false }),
    generic(M::SP800_108_FEEDBACK_KDF, Uses::DERIVE).with_parameter(Parameter::Kbkdf { feedback: true }),
    // Known bytes next to unknown ones, and a result of any length: a key can be read one byte at a time.
    generic(M::CONCATENATE_BASE_AND_KEY, Uses::DERIVE)
        .compat_only(Uses::DERIVE)
        .with_parameter(Parameter::Key),
    generic(M::CONCATENATE_BASE_AND_DATA, Uses::DERIVE).compat_only(Uses::DERIVE).with_parameter(STRING_DATA),
    generic(M::CONCATENATE_DATA_AND_BASE, Uses::DERIVE).compat_only(Uses::DERIVE).with_parameter(STRING_DATA),
    generic(M::XOR_BASE_AND_DATA, Uses::DERIVE).compat_only(Uses::DERIVE).with_parameter(STRING_DATA),
    generic(M::EXTRACT_KEY_FROM_KEY, Uses::DERIVE)
        .compat_only(Uses::DERIVE)
        .with_parameter(Parameter::Extract),
    generic(M::GENERIC_SECRET_KEY_GEN, Uses::GENERATE),
    key_gen(M::SHA_1_KEY_GEN, KeyType::SHA_1_HMAC),
    key_gen(M::SHA224_KEY_GEN, KeyType::SHA224_HMAC),
    key_gen(M::SHA256_KEY_GEN, KeyType::SHA256_HMAC),
    key_gen(M::SHA384_KEY_GEN, KeyType::SHA384_HMAC),
    key_gen(M::SHA512_KEY_GEN, KeyType::SHA512_HMAC),
    key_gen(M::SHA3_224_KEY_GEN, KeyType::SHA3_224_HMAC),
    key_gen(M::SHA3_256_KEY_GEN, KeyType::SHA3_256_HMAC),
    key_gen(M::SHA3_384_KEY_GEN, KeyType::SHA3_384_HMAC),
    key_gen(M::SHA3_512_KEY_GEN, KeyType::SHA3_512_HMAC),
    key_gen(M::HKDF_KEY_GEN, KeyType::HKDF),
    hmac(M::SHA_1_HMAC, M::SHA_1),
    hmac(M::SHA224_HMAC, M::SHA224),
    hmac(M::SHA256_HMAC, M::SHA256),
    hmac(M::SHA384_HMAC, M::SHA384),
    hmac(M::SHA512_HMAC, M::SHA512),
    hmac(M::SHA_1_HMAC_GENERAL, M::SHA_1).with_parameter(Parameter::MacBytes),
    hmac(M::SHA224_HMAC_GENERAL, M::SHA224).with_parameter(Parameter::MacBytes),
    hmac(M::SHA256_HMAC_GENERAL, M::SHA256).with_parameter(Parameter::MacBytes),
    hmac(M::SHA384_HMAC_GENERAL, M::SHA384).with_parameter(Parameter::MacBytes),
    hmac(M::SHA512_HMAC_GENERAL, M::SHA512).with_parameter(Parameter::MacBytes),
    hmac(M::SHA3_224_HMAC, M::SHA3_224),
    hmac(M::SHA3_256_HMAC, M::SHA3_256),
    hmac(M::SHA3_384_HMAC, M::SHA3_384),
    hmac(M::SHA3_512_HMAC, M::SHA3_512),
    hmac(M::SHA3_224_HMAC_GENERAL, M::SHA3_224).with_parameter(Parameter::MacBytes),
    hmac(M::SHA3_256_HMAC_GENERAL, M::SHA3_256).with_parameter(Parameter::MacBytes),
    hmac(M::SHA3_384_HMAC_GENERAL, M::SHA3_384).with_parameter(Parameter::MacBytes),
    hmac(M::SHA3_512_HMAC_GENERAL, M::SHA3_512).with_parameter(Parameter::MacBytes),
    digest(M::SHA_1),
    digest(M::SHA224),
    digest(M::SHA256),
    digest(M::SHA384),
    digest(M::SHA512),
    digest(M::SHA3_224),
    digest(M::SHA3_256),
    digest(M::SHA3_384),
    digest(M::SHA3_512),
];

const fn row(kind: M, uses: Uses, key: KeyType, sizes: (u32, u32), unit: SizeUnit) -> Row {
    let compat_only = Uses::NONE;
    Row {
        kind,
        uses,
        compat_only,
        key: Some(key),
        sizes,
        unit,
        parameter: Parameter::None,
        digest: None,
        signs: None,
    }
}

/// A generation mechanism for secrets of one key type.
const fn key_gen(kind: M, key: KeyType) -> Row {
    row(kind, Uses::GENERATE, key, GENERIC_BYTES, SizeUnit::Bytes)
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

const fn ml_dsa(kind: M) -> Row {
    row(kind, Uses::SIGNATURE, KeyType::ML_DSA, (0, 0), SizeUnit::None)
}

const fn hash_ml_dsa(kind: M, digest: M) -> Row {
    ml_dsa(kind).hash_then_sign(digest, M::HASH_ML_DSA).with_parameter(Parameter::MlDsa)
}

const fn generic(kind: M, uses: Uses) -> Row {
    row(kind, uses, KeyType::GENERIC_SECRET, GENERIC_BYTES, SizeUnit::Bytes)
}

const fn hmac(kind: M, digest: M) -> Row {
    generic(kind, Uses::SIGNATURE).with_digest(digest)
}

const fn digest(kind: M) -> Row {
    let (compat_only, sizes, unit) = (Uses::NONE, (0, 0), SizeUnit::None);
    let parameter = Parameter::None;
    Row {
        kind,
        uses: Uses::DIGEST,
        compat_only,
        key: None,
        sizes,
        unit,
        parameter,
        digest: Some(kind),
        signs: None,
    }
}
