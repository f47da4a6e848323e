//! Mechanisms with typed parameters.

use serde::{Deserialize, Serialize};

use crate::codes::codes;
use crate::mechanism_table::{self, Parameter, RSA_BITS};
use crate::request::ObjectRef;
use crate::rv::Rv;
use crate::secret::Secret;

codes! {
    /// The name of a mechanism.
    MechanismType, "CKM_" {
        RSA_PKCS_KEY_PAIR_GEN = 0x0000,
        RSA_PKCS = 0x0001,
        RSA_X_509 = 0x0003,
        SHA1_RSA_PKCS = 0x0006,
        RSA_PKCS_OAEP = 0x0009,
        RSA_PKCS_PSS = 0x000d,
        SHA1_RSA_PKCS_PSS = 0x000e,
        SHA256_RSA_PKCS = 0x0040,
        SHA384_RSA_PKCS = 0x0041,
        SHA512_RSA_PKCS = 0x0042,
        SHA256_RSA_PKCS_PSS = 0x0043,
        SHA384_RSA_PKCS_PSS = 0x0044,
        SHA512_RSA_PKCS_PSS = 0x0045,
        SHA224_RSA_PKCS = 0x0046,
        SHA224_RSA_PKCS_PSS = 0x0047,
        SHA_1 = 0x0220,
        SHA_1_HMAC = 0x0221,
        SHA_1_HMAC_GENERAL = 0x0222,
        SHA256 = 0x0250,
        SHA256_HMAC = 0x0251,
        SHA256_HMAC_GENERAL = 0x0252,
        SHA224 = 0x0255,
        SHA224_HMAC = 0x0256,
        SHA224_HMAC_GENERAL = 0x0257,
        SHA384 = 0x0260,
        SHA384_HMAC = 0x0261,
        SHA384_HMAC_GENERAL = 0x0262,
        SHA512 = 0x0270,
        SHA512_HMAC = 0x0271,
        SHA512_HMAC_GENERAL = 0x0272,
        GENERIC_SECRET_KEY_GEN = 0x0350,
        EC_KEY_PAIR_GEN = 0x1040,
        ECDSA = 0x1041,
        ECDSA_SHA1 = 0x1042,
        ECDSA_SHA224 = 0x1043,
        ECDSA_SHA256 = 0x1044,
        ECDSA_SHA384 = 0x1045,
        ECDSA_SHA512 = 0x1046,
        AES_KEY_GEN = 0x1080,
        AES_ECB = 0x1081,
        AES_CBC = 0x1082,
        AES_CBC_PAD = 0x1085,
        AES_CTR = 0x1086,
        AES_GCM = 0x1087,
    }
}

codes! {
    /// A mask generation function of RSA-PSS and RSA-OAEP.
    Mgf, "CKG_MGF1_" {
        SHA1 = 1,
        SHA256 = 2,
        SHA384 = 3,
        SHA512 = 4,
        SHA224 = 5,
    }
}

/// A mechanism as a caller names it, its parameters understood.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Mechanism {
    /// Which one.
    pub kind: MechanismType,
    /// How.
    pub parameters: Parameters,
}

/// The parameters of a mechanism.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Parameters {
    /// None.
    None,
    /// CBC: the block before the first.
    Iv([u8; 16]),
    /// `CK_AES_CTR_PARAMS`.
    Ctr {
        /// How many low bits of the block count, 1 to 128.
        bits: u8,
        /// The first counter block.
        block: [u8; 16],
    },
    /// `CK_GCM_PARAMS`.
    Gcm {
        /// The initialisation vector, 1 to 256 bytes.
        iv: Secret,
        /// Data authenticated but not encrypted.
        aad: Secret,
        /// The tag's length in bits, a multiple of 8 from 96 to 128, or 32 or 64.
        tag_bits: u8,
    },
    /// `CK_RSA_PKCS_PSS_PARAMS`.
    Pss {
        /// The digest of the message.
        hash: MechanismType,
        /// The mask generation function.
        mgf: Mgf,
        /// The salt's length in bytes.
        salt_bytes: u32,
    },
    /// `CK_RSA_PKCS_OAEP_PARAMS`.
    Oaep {
        /// The digest of the label.
        hash: MechanismType,
        /// The mask generation function.
        mgf: Mgf,
        /// The label, empty for most.
        label: Secret,
    },
    /// `CK_MAC_GENERAL_PARAMS`: the length of the MAC in bytes.
    MacBytes(u32),
    /// GCM whose initialisation vector the backend makes and gives back (`CK_GCM_MESSAGE_PARAMS` with a generator).
    GcmGenerate {
        /// The vector's length in bytes.
        iv_bytes: u16,
        /// Its first bits, chosen by the caller; unused low bits of the last byte are zero.
        fixed: Secret,
        /// How many bits of `fixed` count.
        fixed_bits: u16,
        /// Data authenticated but not encrypted.
        aad: Secret,
        /// The tag's length in bits.
        tag_bits: u8,
    },
    /// `CK_CCM_PARAMS`.
    Ccm {
        /// The length of the plaintext.
        data_bytes: u32,
        /// The nonce, 7 to 13 bytes.
        nonce: Secret,
        /// Data authenticated but not encrypted.
        aad: Secret,
        /// The length of the MAC: 4, 6 … 16.
        mac_bytes: u8,
    },
    /// `CK_SALSA20_CHACHA20_POLY1305_PARAMS`.
    Poly1305 {
        /// The nonce, 12 bytes.
        nonce: Secret,
        /// Data authenticated but not encrypted.
        aad: Secret,
    },
    /// `CK_EDDSA_PARAMS`.
    Eddsa {
        /// Ed25519ph rather than Ed25519 or Ed25519ctx.
        prehashed: bool,
        /// The context, at most 255 bytes.
        context: Secret,
    },
    /// `CK_SIGN_ADDITIONAL_CONTEXT` of ML-DSA.
    MlDsa {
        /// Whether the signature may, must or must not be randomised (`CKH_HEDGE_PREFERRED`, `…_REQUIRED`,
        /// `CKH_DETERMINISTIC_REQUIRED`).
        hedge: u8,
        /// The context, at most 255 bytes.
        context: Secret,
    },
    /// `CK_ECDH1_DERIVE_PARAMS`.
    Ecdh {
        /// The key derivation function after the agreement.
        kdf: Kdf,
        /// Data both sides put into it.
        shared: Secret,
        /// The other side's public value.
        public: Secret,
    },
    /// `CK_HKDF_PARAMS`.
    Hkdf {
        /// Whether to extract.
        extract: bool,
        /// Whether to expand.
        expand: bool,
        /// The digest inside.
        hash: MechanismType,
        /// The salt.
        salt: Salt,
        /// What the derived key is for.
        info: Secret,
    },
    /// `CK_SP800_108_KDF_PARAMS` and `CK_SP800_108_FEEDBACK_KDF_PARAMS`.
    Kbkdf {
        /// The pseudorandom function: an HMAC or AES-CMAC.
        prf: MechanismType,
        /// What goes into each call of it, in order.
        data: PrfData,
        /// Feedback mode: the value before the first.
        iv: Secret,
    },
    /// `CK_KEY_DERIVATION_STRING_DATA`, and `CK_AES_CBC_ENCRYPT_DATA_PARAMS` with its vector.
    Data {
        /// The vector; empty where the mechanism has none.
        iv: Secret,
        /// The data.
        data: Secret,
    },
    /// A second key, to concatenate.
    Key(ObjectRef),
    /// The initial value of an AES key wrap, 8 or 4 bytes.
    WrapIv(Secret),
    /// `CK_RSA_AES_KEY_WRAP_PARAMS`.
    RsaAes {
        /// The length of the AES key between, in bits.
        aes_bits: u16,
        /// The digest of the label.
        hash: MechanismType,
        /// The mask generation function.
        mgf: Mgf,
        /// The label, empty for most.
        label: Secret,
    },
}

codes! {
    /// A key derivation function after an ECDH agreement.
    Kdf, "CKD_" {
        NULL = 1,
        SHA1_KDF = 2,
        SHA224_KDF = 5,
        SHA256_KDF = 6,
        SHA384_KDF = 7,
        SHA512_KDF = 8,
    }
}

/// The salt of HKDF.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Salt {
    /// As many zeros as the digest is long.
    None,
    /// These bytes.
    Data(Secret),
    /// The value of this key.
    Key(ObjectRef),
}

/// What goes into each call of the pseudorandom function of SP 800-108: at most [`PRF_DATA_MAX`] parts.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PrfData(#[serde(deserialize_with = "crate::bounded::vec::<_, _, PRF_DATA_MAX>")] pub Vec<PrfPart>);

/// Parts of the input of SP 800-108: label, separator, context, counter, length and some more.
pub const PRF_DATA_MAX: usize = 16;

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum PrfPart {
    /// `CK_SP800_108_ITERATION_VARIABLE`: the counter in counter mode, the value before in feedback mode.
    Iteration(Counter),
    /// `CK_SP800_108_COUNTER`, in feedback mode.
    Counter(Counter),
    /// `CK_SP800_108_DKM_LENGTH`: the length of all that is derived, in bits.
    Length(Counter),
    /// `CK_SP800_108_BYTE_ARRAY`.
    Bytes(Secret),
}

/// How a number is written into the input.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Counter {
    /// 8, 16, 24 … 64 bits.
    pub bits: u8,
    /// Lowest byte first.
    pub little_endian: bool,
}

/// The longest initialisation vector GCM takes here, in bytes: what SoftHSM and the specification's `CK_GCM_PARAMS` allow.
pub const GCM_IV_BYTES_MAX: usize = 256;

/// The longest additional data of one GCM call, in bytes.
pub const GCM_AAD_BYTES_MAX: usize = 64 << 10;

/// The longest label of OAEP, in bytes. Labels in the wild are empty or a short name.
pub const OAEP_LABEL_BYTES_MAX: usize = 4 << 10;

impl Mechanism {
    /// A mechanism without parameters.
    pub fn plain(kind: MechanismType) -> Self {
        Self { kind, parameters: Parameters::None }
    }

    /// Whether we offer this mechanism, and its parameters are legal. Both sides ask: the provider to answer early,
    /// the backend because it trusts nobody. Sizes that depend on the key are checked where the key is.
    ///
    /// # Errors
    /// `CKR_MECHANISM_INVALID` or `CKR_MECHANISM_PARAM_INVALID`.
    pub fn check(&self) -> Result<&'static mechanism_table::Row, Rv> {
        let row = mechanism_table::row_of(self.kind).ok_or(Rv::MECHANISM_INVALID)?;
        let legal = match (&self.parameters, row.parameter) {
            (Parameters::None, Parameter::None | Parameter::Pss { optional: true }) => true,
            (Parameters::Iv(_), Parameter::Iv) => true,
            (Parameters::Ctr { bits, .. }, Parameter::Ctr) => (1..=128).contains(bits),
            (Parameters::Gcm { iv, aad, tag_bits }, Parameter::Gcm) => {
                (1..=GCM_IV_BYTES_MAX).contains(&iv.len())
                    && aad.len() <= GCM_AAD_BYTES_MAX
                    && matches!(tag_bits, 32 | 64 | 96 | 104 | 112 | 120 | 128)
            }
            (Parameters::Pss { hash, mgf, salt_bytes }, Parameter::Pss { .. }) => {
                mechanism_table::digest_bytes(*hash).is_some()
                    && row.digest.is_none_or(|digest| digest == *hash)
                    && mgf.name().is_some()
                    && *salt_bytes <= RSA_BITS.1 / 8
            }
            (Parameters::Oaep { hash, mgf, label }, Parameter::Oaep) => {
                mechanism_table::digest_bytes(*hash).is_some()
                    && mgf.name().is_some()
                    && label.len() <= OAEP_LABEL_BYTES_MAX
            }
            (Parameters::MacBytes(bytes), Parameter::MacBytes) => row
                .digest
                .and_then(mechanism_table::digest_bytes)
                .is_some_and(|full| (1..=full).contains(bytes)),
            _ => false,
        };
        if legal { Ok(row) } else { Err(Rv::MECHANISM_PARAM_INVALID) }
    }
}
