//! Mechanisms with typed parameters.

use serde::{Deserialize, Serialize};

use crate::mechanism_names::{Kdf, MechanismType, Mgf};
use crate::mechanism_table::{self, Parameter, RSA_BITS, Row};
use crate::prehash::prehash_bytes;
use crate::request::ObjectRef;
use crate::rv::Rv;
use crate::secret::Secret;

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
        /// Whether the message is hashed before: Ed25519ph, Ed448ph.
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
    /// `CK_HASH_SIGN_ADDITIONAL_CONTEXT` of HashML-DSA.
    HashMlDsa {
        /// As for ML-DSA.
        hedge: u8,
        /// The context, at most 255 bytes.
        context: Secret,
        /// The digest that the caller made of the message.
        hash: MechanismType,
    },
    /// `CK_EXTRACT_PARAMS`.
    Extract {
        /// The first bit that is taken, counted from the highest of the first byte.
        bit: u32,
    },
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
    /// `CK_SP800_108_DKM_LENGTH`: the length of all that the function gave for it, whole outputs, in bits.
    Segments(Counter),
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

/// The nonce of ChaCha20-Poly1305, in bytes (RFC 8439).
pub const POLY1305_NONCE_BYTES: usize = 12;

/// The longest additional data of one GCM call, in bytes.
pub const GCM_AAD_BYTES_MAX: usize = 64 << 10;

/// The longest label of OAEP, in bytes. Labels in the wild are empty or a short name.
pub const OAEP_LABEL_BYTES_MAX: usize = 4 << 10;

/// The longest public value of a key agreement, in bytes: an uncompressed point of P-521 in an OCTET STRING.
pub const ECDH_PUBLIC_BYTES_MAX: usize = 136;

/// The longest data put into a key derivation, in bytes. TLS, the largest user, puts in some hundred.
pub const DERIVATION_BYTES_MAX: usize = 16 << 10;

/// The longest context of a signature, in bytes (RFC 8032, "Ed25519ctx"; FIPS 204, "ML-DSA Signature Generation").
pub const CONTEXT_BYTES_MAX: usize = 255;

/// The largest plaintext of AES-CCM, in bytes: what a nonce of 13 bytes leaves room to count.
pub const CCM_DATA_BYTES_MAX: u32 = 1 << 20;

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
    pub fn check(&self) -> Result<&'static Row, Rv> {
        let row = mechanism_table::row_of(self.kind).ok_or(Rv::MECHANISM_INVALID)?;
        if self.is_legal(row) { Ok(row) } else { Err(Rv::MECHANISM_PARAM_INVALID) }
    }

    fn is_legal(&self, row: &Row) -> bool {
        let known = |digest: MechanismType| mechanism_table::digest_bytes(digest).is_some();
        match (&self.parameters, row.parameter) {
            (Parameters::None, wanted) => wanted.is_optional(),
            (Parameters::Iv(_), Parameter::Iv) => true,
            (Parameters::Ctr { bits, .. }, Parameter::Ctr) => (1..=128).contains(bits),
            (Parameters::Gcm { iv, aad, tag_bits }, Parameter::Gcm) => {
                (1..=GCM_IV_BYTES_MAX).contains(&iv.len())
                    && aad.len() <= GCM_AAD_BYTES_MAX
                    && is_tag(*tag_bits)
            }
            (Parameters::GcmGenerate { iv_bytes, fixed, fixed_bits, aad, tag_bits }, Parameter::Gcm) => {
                (1..=GCM_IV_BYTES_MAX).contains(&usize::from(*iv_bytes))
                    && *fixed_bits <= iv_bytes * 8
                    && fixed.len() == usize::from(fixed_bits.div_ceil(8))
                    && aad.len() <= GCM_AAD_BYTES_MAX
                    && is_tag(*tag_bits)
            }
            (Parameters::Ccm { data_bytes, nonce, aad, mac_bytes }, Parameter::Ccm) => {
                (7..=13).contains(&nonce.len())
                    && *data_bytes <= ccm_data_bytes_max(nonce.len())
                    && aad.len() <= GCM_AAD_BYTES_MAX
                    && matches!(mac_bytes, 4 | 6 | 8 | 10 | 12 | 14 | 16)
            }
            (Parameters::Poly1305 { nonce, aad }, Parameter::Poly1305) => {
                nonce.len() == POLY1305_NONCE_BYTES && aad.len() <= GCM_AAD_BYTES_MAX
            }
            (Parameters::Pss { hash, mgf, salt_bytes }, Parameter::Pss) => {
                known(*hash)
                    && row.digest.is_none_or(|digest| digest == *hash)
                    && mgf.name().is_some()
                    && *salt_bytes <= RSA_BITS.1 / 8
            }
            (Parameters::Oaep { hash, mgf, label }, Parameter::Oaep) => {
                is_oaep(*hash, *mgf) && label.len() <= OAEP_LABEL_BYTES_MAX
            }
            (Parameters::RsaAes { aes_bits, hash, mgf, label }, Parameter::RsaAes) => {
                matches!(aes_bits, 128 | 192 | 256)
                    && is_oaep(*hash, *mgf)
                    && label.len() <= OAEP_LABEL_BYTES_MAX
            }
            (Parameters::MacBytes(bytes), Parameter::MacBytes) => {
                mechanism_table::mac_bytes(row).is_some_and(|full| (1..=full).contains(bytes))
            }
            (Parameters::Eddsa { context, .. }, Parameter::Eddsa) => context.len() <= CONTEXT_BYTES_MAX,
            (Parameters::MlDsa { hedge, context }, Parameter::MlDsa) => {
                *hedge <= 2 && context.len() <= CONTEXT_BYTES_MAX
            }
            (Parameters::HashMlDsa { hedge, context, hash }, Parameter::HashMlDsa) => {
                *hedge <= 2 && context.len() <= CONTEXT_BYTES_MAX && prehash_bytes(*hash).is_some()
            }
            _ => self.derives_legally(row),
        }
    }

    /// The same, of mechanisms that make a key of another, or wrap one.
    fn derives_legally(&self, row: &Row) -> bool {
        let short = |bytes: &Secret| bytes.len() <= DERIVATION_BYTES_MAX;
        match (&self.parameters, row.parameter) {
            (Parameters::Ecdh { kdf, shared, public }, Parameter::Ecdh) => {
                kdf.name().is_some()
                    && (*kdf != Kdf::NULL || shared.is_empty())
                    && short(shared)
                    && (1..=ECDH_PUBLIC_BYTES_MAX).contains(&public.len())
            }
            (Parameters::Hkdf { extract, expand, hash, salt, info }, Parameter::Hkdf) => {
                let salt_is_short = match salt {
                    Salt::Data(salt) => short(salt),
                    Salt::None | Salt::Key(_) => true,
                };
                (*extract || *expand)
                    && mechanism_table::digest_bytes(*hash).is_some()
                    && salt_is_short
                    && short(info)
            }
            (Parameters::Kbkdf { prf, data, iv }, Parameter::Kbkdf { feedback }) => {
                is_prf(*prf) && short(iv) && (feedback || iv.is_empty()) && data.is_legal(feedback)
            }
            (Parameters::Data { iv, data }, Parameter::Data { iv_bytes }) => {
                iv.len() == iv_bytes && (1..=DERIVATION_BYTES_MAX).contains(&data.len())
            }
            (Parameters::Key(_), Parameter::Key) | (Parameters::Extract { .. }, Parameter::Extract) => true,
            (Parameters::WrapIv(iv), Parameter::WrapIv { bytes }) => iv.len() == bytes,
            _ => false,
        }
    }
}

/// The two digests of OAEP. SHA-3 is not among them: the library has a type for each pair, and nobody asked for those.
fn is_oaep(hash: MechanismType, mgf: Mgf) -> bool {
    let has = |digest| {
        let digests = [
            MechanismType::SHA_1,
            MechanismType::SHA224,
            MechanismType::SHA256,
            MechanismType::SHA384,
            MechanismType::SHA512,
        ];
        digests.contains(&digest)
    };
    has(hash) && mgf.digest().is_some_and(has)
}

/// The lengths of GCM's tag, in bits.
fn is_tag(bits: u8) -> bool {
    matches!(bits, 32 | 64 | 96 | 104 | 112 | 120 | 128)
}

/// The most data under a nonce of so many bytes: the rest of a block counts it, and no more than one call takes.
fn ccm_data_bytes_max(nonce_bytes: usize) -> u32 {
    if nonce_bytes == 13 { u32::from(u16::MAX) } else { CCM_DATA_BYTES_MAX }
}

/// Whether SP 800-108 may run on it here.
fn is_prf(kind: MechanismType) -> bool {
    kind == MechanismType::AES_CMAC
        || mechanism_table::row_of(kind).is_some_and(|row| row.is_hmac() && row.parameter == Parameter::None)
}

impl PrfData {
    /// Exactly one part says how often the function ran, or what it gave before; numbers are as wide as can be written.
    fn is_legal(&self, feedback: bool) -> bool {
        let iterations = self.0.iter().filter(|part| matches!(part, PrfPart::Iteration(_))).count();
        let parts_are_legal = self.0.iter().all(|part| match part {
            // In feedback mode it is the value before, which has no width of its own.
            PrfPart::Iteration(counter) => feedback || counter.is_legal(),
            PrfPart::Counter(counter) => feedback && counter.is_legal(),
            PrfPart::Length(counter) | PrfPart::Segments(counter) => counter.is_legal(),
            PrfPart::Bytes(bytes) => bytes.len() <= DERIVATION_BYTES_MAX,
        });
        self.0.len() <= PRF_DATA_MAX && iterations == 1 && parts_are_legal
    }
}

impl Counter {
    fn is_legal(self) -> bool {
        matches!(self.bits, 8 | 16 | 24 | 32 | 40 | 48 | 56 | 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: MechanismType, parameters: Parameters) -> Option<Rv> {
        Mechanism { kind, parameters }.check().err()
    }

    const INVALID: Option<Rv> = Some(Rv::MECHANISM_PARAM_INVALID);

    #[test]
    fn a_mechanism_takes_its_own_parameters_and_no_others() {
        let iv = || Parameters::Iv([0; 16]);
        assert_eq!(check(MechanismType::AES_CBC, iv()), None);
        assert_eq!(check(MechanismType::AES_CBC, Parameters::None), INVALID);
        assert_eq!(check(MechanismType::AES_ECB, iv()), INVALID);
        assert_eq!(check(MechanismType::EDDSA, Parameters::None), None);
        assert_eq!(check(MechanismType::AES_KEY_WRAP, Parameters::WrapIv(vec![0; 8].into())), None);
        assert_eq!(check(MechanismType::AES_KEY_WRAP_KWP, Parameters::WrapIv(vec![0; 8].into())), INVALID);
        assert_eq!(check(MechanismType(0x8000_0001), Parameters::None), Some(Rv::MECHANISM_INVALID));
    }

    #[test]
    fn the_callers_part_of_a_vector_fits_in_it() {
        let generate = |iv_bytes, fixed: usize, fixed_bits| Parameters::GcmGenerate {
            iv_bytes,
            fixed: vec![0; fixed].into(),
            fixed_bits,
            aad: Secret::default(),
            tag_bits: 128,
        };
        assert_eq!(check(MechanismType::AES_GCM, generate(12, 4, 32)), None);
        assert_eq!(check(MechanismType::AES_GCM, generate(12, 5, 32)), INVALID);
        assert_eq!(check(MechanismType::AES_GCM, generate(12, 13, 97)), INVALID);
        assert_eq!(check(MechanismType::AES_GCM, generate(u16::MAX, 0, 0)), INVALID);
    }

    #[test]
    fn ccm_counts_no_more_than_its_nonce_leaves_room_for() {
        let ccm = |nonce: usize, data_bytes, mac_bytes| Parameters::Ccm {
            data_bytes,
            nonce: vec![0; nonce].into(),
            aad: Secret::default(),
            mac_bytes,
        };
        assert_eq!(check(MechanismType::AES_CCM, ccm(13, 65_535, 16)), None);
        assert_eq!(check(MechanismType::AES_CCM, ccm(13, 65_536, 16)), INVALID);
        assert_eq!(check(MechanismType::AES_CCM, ccm(7, 65_536, 4)), None);
        for (nonce, mac) in [(6, 16), (14, 16), (12, 5), (12, 2), (12, 18)] {
            assert_eq!(check(MechanismType::AES_CCM, ccm(nonce, 1, mac)), INVALID);
        }
    }

    #[test]
    fn a_derivation_says_once_how_often_it_ran() {
        let counter = Counter { bits: 32, little_endian: false };
        let kbkdf = |prf, parts: Vec<PrfPart>| {
            let parameters = Parameters::Kbkdf { prf, data: PrfData(parts), iv: Secret::default() };
            check(MechanismType::SP800_108_COUNTER_KDF, parameters)
        };
        let iteration = || PrfPart::Iteration(counter);
        assert_eq!(kbkdf(MechanismType::SHA256_HMAC, vec![iteration()]), None);
        assert_eq!(kbkdf(MechanismType::AES_CMAC, vec![PrfPart::Length(counter), iteration()]), None);
        assert_eq!(kbkdf(MechanismType::SHA256_HMAC, vec![]), INVALID);
        assert_eq!(kbkdf(MechanismType::SHA256_HMAC, vec![iteration(), iteration()]), INVALID);
        assert_eq!(kbkdf(MechanismType::SHA256_HMAC, vec![iteration(), PrfPart::Counter(counter)]), INVALID);
        let odd = Counter { bits: 12, little_endian: false };
        assert_eq!(kbkdf(MechanismType::SHA256_HMAC, vec![PrfPart::Iteration(odd)]), INVALID);
        for other in [MechanismType::SHA256, MechanismType::AES_ECB, MechanismType::SHA256_HMAC_GENERAL] {
            assert_eq!(kbkdf(other, vec![iteration()]), INVALID);
        }
    }
}
