//! Mechanisms with typed parameters, and the limits of their sizes.

use serde::{Deserialize, Serialize};

use crate::mechanism_names::{Kdf, MechanismType, Mgf};
use crate::request::ObjectRef;
use crate::secret::Secret;

/// A mechanism with its decoded parameters.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Mechanism {
    /// The mechanism's type.
    pub kind: MechanismType,
    /// Its parameters.
    pub parameters: Parameters,
}

/// The parameters of a mechanism.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Parameters {
    /// None.
    None,
    /// CBC: the initialisation vector (IV).
    Iv([u8; 16]),
    /// `CK_AES_CTR_PARAMS`.
    Ctr {
        /// The width of the counter: the low 1 to 128 bits of the block.
        bits: u8,
        /// The first counter block.
        block: [u8; 16],
    },
    /// `CK_GCM_PARAMS`.
    Gcm {
        /// The IV, 1 to 256 bytes.
        iv: Secret,
        /// The additional authenticated data (AAD).
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
        /// The label, usually empty.
        label: Secret,
    },
    /// `CK_MAC_GENERAL_PARAMS`: the length of the MAC in bytes.
    MacBytes(u32),
    /// GCM with an IV that the backend generates and returns (`CK_GCM_MESSAGE_PARAMS` with a generator).
    GcmGenerate {
        /// The IV's length in bytes.
        iv_bytes: u16,
        /// The IV's first bits, chosen by the caller; unused low bits of the last byte are zero.
        fixed: Secret,
        /// The number of bits in `fixed`.
        fixed_bits: u16,
        /// The additional authenticated data (AAD).
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
        /// The additional authenticated data (AAD).
        aad: Secret,
        /// The length of the MAC: 4, 6 … 16.
        mac_bytes: u8,
    },
    /// `CK_SALSA20_CHACHA20_POLY1305_PARAMS`.
    Poly1305 {
        /// The nonce, 12 bytes.
        nonce: Secret,
        /// The additional authenticated data (AAD).
        aad: Secret,
    },
    /// `CK_EDDSA_PARAMS`.
    Eddsa {
        /// Whether the message is prehashed: Ed25519ph, Ed448ph.
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
        /// The key derivation function that follows the agreement.
        kdf: Kdf,
        /// Shared data: a further input of the function, the same on both sides.
        shared: Secret,
        /// The other side's public key.
        public: Secret,
    },
    /// `CK_HKDF_PARAMS`.
    Hkdf {
        /// Whether to extract.
        extract: bool,
        /// Whether to expand.
        expand: bool,
        /// The digest of the HMAC.
        hash: MechanismType,
        /// The salt.
        salt: Salt,
        /// The info: what the derived key is for.
        info: Secret,
    },
    /// `CK_SP800_108_KDF_PARAMS` and `CK_SP800_108_FEEDBACK_KDF_PARAMS`.
    Kbkdf {
        /// The pseudorandom function: an HMAC or AES-CMAC.
        prf: MechanismType,
        /// The input of each of its calls, in order.
        data: PrfData,
        /// Feedback mode: the initial value.
        iv: Secret,
    },
    /// `CK_KEY_DERIVATION_STRING_DATA`, and `CK_AES_CBC_ENCRYPT_DATA_PARAMS` with its IV.
    Data {
        /// The IV; empty where the mechanism has none.
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
        /// The length of the intermediate AES key, in bits.
        aes_bits: u16,
        /// The digest of the label.
        hash: MechanismType,
        /// The mask generation function.
        mgf: Mgf,
        /// The label, usually empty.
        label: Secret,
    },
    /// `CK_HASH_SIGN_ADDITIONAL_CONTEXT` of HashML-DSA.
    HashMlDsa {
        /// As for ML-DSA.
        hedge: u8,
        /// The context, at most 255 bytes.
        context: Secret,
        /// The digest with which the caller hashed the message.
        hash: MechanismType,
    },
    /// `CK_EXTRACT_PARAMS`.
    Extract {
        /// The first bit that is extracted, counted from the highest bit of the first byte.
        bit: u32,
    },
}

/// The salt of HKDF.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Salt {
    /// Zeros, as many as the digest has bytes.
    None,
    /// These bytes.
    Data(Secret),
    /// The value of this key.
    Key(ObjectRef),
}

/// The input of each call of the pseudorandom function of SP 800-108: at most [`PRF_DATA_MAX`] parts.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PrfData(#[serde(deserialize_with = "crate::bounded::vec::<_, _, PRF_DATA_MAX>")] pub Vec<PrfPart>);

/// The maximum number of parts of the input of SP 800-108: label, separator, context, counter, length and some more.
pub const PRF_DATA_MAX: usize = 16;

/// One part of the input.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum PrfPart {
    /// `CK_SP800_108_ITERATION_VARIABLE`: the counter in counter mode, the previous output in feedback mode.
    Iteration(Counter),
    /// `CK_SP800_108_COUNTER`, in feedback mode.
    Counter(Counter),
    /// `CK_SP800_108_DKM_LENGTH`: the length of all that is derived, in bits.
    Length(Counter),
    /// `CK_SP800_108_BYTE_ARRAY`.
    Bytes(Secret),
    /// `CK_SP800_108_DKM_LENGTH`: the length of all outputs of the function before truncation, in bits.
    Segments(Counter),
}

/// The encoding of a number in the input.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Counter {
    /// The width: 8, 16, 24 … 64 bits.
    pub bits: u8,
    /// Whether the lowest byte comes first.
    pub little_endian: bool,
}

/// The maximum length of a GCM IV, in bytes: what SoftHSM and the specification's `CK_GCM_PARAMS` allow.
pub const GCM_IV_BYTES_MAX: usize = 256;

/// The length of a nonce of ChaCha20-Poly1305, in bytes (RFC 8439).
pub const POLY1305_NONCE_BYTES: usize = 12;

/// The maximum length of the AAD of one GCM call, in bytes.
pub const GCM_AAD_BYTES_MAX: usize = 64 << 10;

/// The maximum length of an OAEP label, in bytes. Labels in use are empty or a short name.
pub const OAEP_LABEL_BYTES_MAX: usize = 4 << 10;

/// The maximum length of a public key in a key agreement, in bytes: an uncompressed point of P-521 in an OCTET STRING.
pub const ECDH_PUBLIC_BYTES_MAX: usize = 136;

/// The maximum length of data in a key derivation, in bytes. TLS, the largest user, needs some hundred.
pub const DERIVATION_BYTES_MAX: usize = 16 << 10;

/// The maximum length of a signature's context, in bytes (RFC 8032, "Ed25519ctx"; FIPS 204, "ML-DSA Signature
/// Generation").
pub const CONTEXT_BYTES_MAX: usize = 255;

/// The maximum plaintext of AES-CCM, in bytes: the data of one call. A nonce of 13 bytes allows less.
pub const CCM_DATA_BYTES_MAX: u32 = 1 << 20;

impl Mechanism {
    /// A mechanism without parameters.
    pub fn plain(kind: MechanismType) -> Self {
        Self { kind, parameters: Parameters::None }
    }
}
