//! Validation of a mechanism's parameters against the mechanism table.

use crate::mechanism::{
    CCM_DATA_BYTES_MAX, CONTEXT_BYTES_MAX, Counter, DERIVATION_BYTES_MAX, ECDH_PUBLIC_BYTES_MAX,
    GCM_AAD_BYTES_MAX, GCM_IV_BYTES_MAX, Mechanism, OAEP_LABEL_BYTES_MAX, POLY1305_NONCE_BYTES, PRF_DATA_MAX,
    Parameters, PrfData, PrfPart, Salt,
};
use crate::mechanism_names::{Kdf, MechanismType, Mgf};
use crate::mechanism_table::{self, Parameter, RSA_BITS, Row};
use crate::prehash::prehash_bytes;
use crate::rv::Rv;
use crate::secret::Secret;

impl Mechanism {
    /// Checks that the mechanism is supported and its parameters are valid, and returns its row. Both sides check: the
    /// provider to fail early, the backend because it does not trust its clients. Sizes that depend on the key are
    /// checked where the key is used.
    ///
    /// # Errors
    /// `CKR_MECHANISM_INVALID` or `CKR_MECHANISM_PARAM_INVALID`.
    pub fn check(&self) -> Result<&'static Row, Rv> {
        let row = mechanism_table::row_of(self.kind).ok_or(Rv::MECHANISM_INVALID)?;
        if self.is_valid(row) { Ok(row) } else { Err(Rv::MECHANISM_PARAM_INVALID) }
    }

    fn is_valid(&self, row: &Row) -> bool {
        let known = |digest: MechanismType| mechanism_table::digest_bytes(digest).is_some();
        match (&self.parameters, row.parameter) {
            (Parameters::None, wanted) => wanted.is_optional(),
            (Parameters::Iv(_), Parameter::Iv) => true,
            (Parameters::Ctr { bits, .. }, Parameter::Ctr) => (1..=128).contains(bits),
            (Parameters::Gcm { iv, aad, tag_bits }, Parameter::Gcm) => {
                (1..=GCM_IV_BYTES_MAX).contains(&iv.len())
                    && aad.len() <= GCM_AAD_BYTES_MAX
                    && is_gcm_tag_length(*tag_bits)
            }
            (Parameters::GcmGenerate { iv_bytes, fixed, fixed_bits, aad, tag_bits }, Parameter::Gcm) => {
                (1..=GCM_IV_BYTES_MAX).contains(&usize::from(*iv_bytes))
                    && *fixed_bits <= iv_bytes * 8
                    && fixed.len() == usize::from(fixed_bits.div_ceil(8))
                    && aad.len() <= GCM_AAD_BYTES_MAX
                    && is_gcm_tag_length(*tag_bits)
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
                are_oaep_digests(*hash, *mgf) && label.len() <= OAEP_LABEL_BYTES_MAX
            }
            (Parameters::RsaAes { aes_bits, hash, mgf, label }, Parameter::RsaAes) => {
                matches!(aes_bits, 128 | 192 | 256)
                    && are_oaep_digests(*hash, *mgf)
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
            _ => self.is_valid_derivation(row),
        }
    }

    /// The same for mechanisms that derive keys or wrap them.
    fn is_valid_derivation(&self, row: &Row) -> bool {
        let fits = |bytes: &Secret| bytes.len() <= DERIVATION_BYTES_MAX;
        match (&self.parameters, row.parameter) {
            (Parameters::Ecdh { kdf, shared, public }, Parameter::Ecdh) => {
                kdf.name().is_some()
                    && (*kdf != Kdf::NULL || shared.is_empty())
                    && fits(shared)
                    && (1..=ECDH_PUBLIC_BYTES_MAX).contains(&public.len())
            }
            (Parameters::Hkdf { extract, expand, hash, salt, info }, Parameter::Hkdf) => {
                let salt_fits = match salt {
                    Salt::Data(salt) => fits(salt),
                    Salt::None | Salt::Key(_) => true,
                };
                (*extract || *expand)
                    && mechanism_table::digest_bytes(*hash).is_some()
                    && salt_fits
                    && fits(info)
            }
            (Parameters::Kbkdf { prf, data, iv }, Parameter::Kbkdf { feedback }) => {
                is_prf(*prf) && fits(iv) && (feedback || iv.is_empty()) && data.is_valid(feedback)
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

/// Whether both digests of OAEP are supported. SHA-3 is not: the library has a type for each pair, and there is no
/// demand.
fn are_oaep_digests(hash: MechanismType, mgf: Mgf) -> bool {
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

/// Whether a GCM tag may have this length in bits.
fn is_gcm_tag_length(bits: u8) -> bool {
    matches!(bits, 32 | 64 | 96 | 104 | 112 | 120 | 128)
}

/// The maximum data for a nonce of this length: the rest of the block holds its length, and one call has a limit.
fn ccm_data_bytes_max(nonce_bytes: usize) -> u32 {
    if nonce_bytes == 13 { u32::from(u16::MAX) } else { CCM_DATA_BYTES_MAX }
}

/// Whether it is supported as the pseudorandom function of SP 800-108.
fn is_prf(kind: MechanismType) -> bool {
    kind == MechanismType::AES_CMAC
        || mechanism_table::row_of(kind).is_some_and(|row| row.is_hmac() && row.parameter == Parameter::None)
}

impl PrfData {
    /// Whether exactly one part is the iteration variable (counter or previous output), and all widths are valid.
    fn is_valid(&self, feedback: bool) -> bool {
        let iterations = self.0.iter().filter(|part| matches!(part, PrfPart::Iteration(_))).count();
        let parts_are_valid = self.0.iter().all(|part| match part {
            // In feedback mode it is the previous output, and its width is not used.
            PrfPart::Iteration(counter) => feedback || counter.is_valid(),
            PrfPart::Counter(counter) => feedback && counter.is_valid(),
            PrfPart::Length(counter) | PrfPart::Segments(counter) => counter.is_valid(),
            PrfPart::Bytes(bytes) => bytes.len() <= DERIVATION_BYTES_MAX,
        });
        self.0.len() <= PRF_DATA_MAX && iterations == 1 && parts_are_valid
    }
}

impl Counter {
    fn is_valid(self) -> bool {
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
    fn the_fixed_part_of_an_iv_fits_in_it() {
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
    fn ccm_limits_the_data_by_the_nonce_length() {
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
    fn kbkdf_input_has_exactly_one_iteration_variable() {
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
