//! RSA private keys: signatures and decryption.
//!
//! aws-lc-rs signs in a fifth of the time of `rsa` (architecture D10), but offers no raw private operation: the forms
//! that it lacks are computed by `rsa`, blinded and checked for faults.

use std::sync::OnceLock;

use aws_lc_rs::digest::{self as aws_digest, Digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepAlgorithm, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair, RsaPssSaltLength,
};
use kms_core::object::KeyBytes;
use kms_protocol::{Mechanism, MechanismType, Mgf, Parameters, Rv, Secret, mechanism_table};
use rsa::pkcs8::DecodePrivateKey;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Oaep, Pkcs1v15Encrypt, Pkcs1v15Sign, PrivateKey};

use super::digest::{digest_info_prefix, with_digest};
use super::pss::{self, Padding};
use super::random::Random;

/// The minimum padding of PKCS #1 v1.5, in bytes.
const PKCS1_PADDING_BYTES: usize = 11;

/// A private key, opened in each library at its first use there.
pub(super) struct RsaKey {
    aws: RsaKeyPair,
    oaep: OnceLock<OaepPrivateDecryptingKey>,
    rust_crypto: OnceLock<PrivateKey>,
    material: KeyBytes,
    modulus_bits: usize,
}

impl RsaKey {
    /// Opens a private key from PKCS #8. None if it is not one, or is inconsistent.
    pub(super) fn open(material: &KeyBytes) -> Option<Self> {
        let aws = RsaKeyPair::from_pkcs8(material.as_ref()).ok()?;
        let public = rsa::pkcs1::RsaPublicKeyRef::try_from(aws.public_key().as_ref()).ok()?;
        let modulus = public.modulus.as_bytes();
        let unused = usize::try_from(modulus.first()?.leading_zeros()).ok()?;
        let modulus_bits = modulus.len() * 8 - unused;
        let material = KeyBytes::from(material.as_ref().to_vec());
        Some(Self { aws, oaep: OnceLock::new(), rust_crypto: OnceLock::new(), material, modulus_bits })
    }

    /// The approximate memory: the numbers, their Montgomery forms and blinding factors, in up to three libraries.
    pub(super) fn bytes(&self) -> usize {
        40 * self.size()
    }

    /// The length of the modulus, in bytes.
    pub(super) fn size(&self) -> usize {
        self.aws.public_modulus_len()
    }

    /// Signs data, or the digest of a hash-then-sign mechanism.
    pub(super) fn sign(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        let row = mechanism_table::row_of(mechanism.kind).ok_or(Rv::MECHANISM_INVALID)?;
        if let Some(digest) = row.digest
            && mechanism_table::digest_bytes(digest).and_then(|bytes| usize::try_from(bytes).ok())
                != Some(data.len())
        {
            return Err(Rv::DATA_LEN_RANGE);
        }
        match row.signs.unwrap_or(mechanism.kind) {
            MechanismType::RSA_PKCS => match row.digest {
                Some(digest) => self.sign_digest(digest, data),
                None => self.sign_raw(data),
            },
            MechanismType::RSA_PKCS_PSS => self.sign_pss(&padding_of(mechanism)?, data),
            MechanismType::RSA_X_509 => self.raw_operation(data, Rv::DATA_INVALID),
            _ => Err(Rv::MECHANISM_INVALID),
        }
    }

    /// Signs with PKCS #1 v1.5 the bytes that the caller prepared: nearly always a `DigestInfo`, or any short bytes.
    fn sign_raw(&self, data: &[u8]) -> Result<Secret, Rv> {
        for digest in [MechanismType::SHA256, MechanismType::SHA384, MechanismType::SHA512] {
            if let Some(prefix) = digest_info_prefix(digest)
                && let Some(rest) = data.strip_prefix(prefix)
                && let Ok(digest) = Digest::import_less_safe(rest, aws_of(digest)?)
            {
                return self.sign_with_aws(pkcs1_of(&digest)?, &digest);
            }
        }
        if data.len() + PKCS1_PADDING_BYTES > self.size() {
            return Err(Rv::DATA_LEN_RANGE);
        }
        let mut random = Random(&SystemRandom::new());
        let signature = self.rust_crypto()?.sign_with_rng(&mut random, Pkcs1v15Sign::new_unprefixed(), data);
        Ok(Secret::from(signature.map_err(|_| Rv::FUNCTION_FAILED)?))
    }

    fn sign_digest(&self, digest: MechanismType, data: &[u8]) -> Result<Secret, Rv> {
        let prefix = digest_info_prefix(digest).ok_or(Rv::MECHANISM_INVALID)?;
        self.sign_raw(&[prefix, data].concat())
    }

    fn sign_pss(&self, padding: &Padding, data: &[u8]) -> Result<Secret, Rv> {
        if data.len() != padding.hash_bytes()? {
            return Err(Rv::DATA_LEN_RANGE);
        }
        let longest = padding.salt_bytes_max(self.modulus_bits)?;
        if padding.salt_bytes > longest {
            return Err(Rv::MECHANISM_PARAM_INVALID);
        }
        if let Some(encoding) = pss_of(padding, longest) {
            let digest =
                Digest::import_less_safe(data, aws_of(padding.hash)?).map_err(|_| Rv::DATA_LEN_RANGE)?;
            return self.sign_with_aws(encoding, &digest);
        }
        let random = SystemRandom::new();
        let mut salt = vec![0; padding.salt_bytes];
        random.fill(&mut salt).map_err(|_| Rv::FUNCTION_FAILED)?;
        self.apply(&random, &pss::encode(padding, self.modulus_bits, data, &salt)?)
    }

    fn sign_with_aws(&self, encoding: &'static dyn RsaEncoding, digest: &Digest) -> Result<Secret, Rv> {
        let mut signature = vec![0; self.size()];
        self.aws.sign_digest(encoding, digest, &mut signature).map_err(|_| Rv::FUNCTION_FAILED)?;
        Ok(Secret::from(signature))
    }

    /// The raw private operation on a number below the modulus; `beyond` is the error for any other number.
    fn raw_operation(&self, data: &[u8], beyond: Rv) -> Result<Secret, Rv> {
        if data.is_empty() || data.len() > self.size() {
            return Err(Rv::DATA_LEN_RANGE);
        }
        let padded = [&vec![0; self.size() - data.len()], data].concat();
        // Both have the same length, so their bytes compare as the numbers do. Neither modulus nor data is secret.
        if padded >= self.rust_crypto()?.n_bytes().to_vec() {
            return Err(beyond);
        }
        self.apply(&SystemRandom::new(), &padded)
    }

    /// The private operation on an encoded message, blinded, its result checked with the public key.
    fn apply(&self, random: &SystemRandom, encoded: &[u8]) -> Result<Secret, Rv> {
        let key = self.rust_crypto()?;
        let message =
            BoxedUint::from_be_slice(encoded, key.n_bits_precision()).map_err(|_| Rv::FUNCTION_FAILED)?;
        let signature = rsa::hazmat::rsa_decrypt_and_check(key, Some(&mut Random(random)), &message);
        let bytes = signature.map_err(|_| Rv::FUNCTION_FAILED)?.to_be_bytes();
        let surplus = bytes.len().checked_sub(self.size()).ok_or(Rv::FUNCTION_FAILED)?;
        Ok(Secret::from(&bytes[surplus..]))
    }

    /// Decrypts with the mechanism's padding.
    pub(super) fn decrypt(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        if data.len() != self.size() {
            return Err(Rv::ENCRYPTED_DATA_LEN_RANGE);
        }
        match (mechanism.kind, &mechanism.parameters) {
            (MechanismType::RSA_PKCS_OAEP, Parameters::Oaep { hash, mgf, label }) => {
                self.decrypt_oaep(*hash, *mgf, label, data)
            }
            // Wrong padding gives bytes that depend on key and data only, not an error, so that there is no oracle
            // (Bleichenbacher, Marvin; draft-irtf-cfrg-rsa-guidance, "implicit rejection").
            (MechanismType::RSA_PKCS, Parameters::None) => {
                let mut random = Random(&SystemRandom::new());
                let plain = self.rust_crypto()?.decrypt_blinded(&mut random, Pkcs1v15Encrypt, data);
                Ok(Secret::from(plain.map_err(|_| Rv::ENCRYPTED_DATA_INVALID)?))
            }
            (MechanismType::RSA_X_509, Parameters::None) => {
                self.raw_operation(data, Rv::ENCRYPTED_DATA_INVALID)
            }
            _ => Err(Rv::MECHANISM_INVALID),
        }
    }

    fn decrypt_oaep(&self, hash: MechanismType, mgf: Mgf, label: &[u8], data: &[u8]) -> Result<Secret, Rv> {
        let mask = mgf.digest().ok_or(Rv::MECHANISM_PARAM_INVALID)?;
        if let Some(algorithm) = oaep_of(hash, mask) {
            let mut plain = Secret::from(vec![0; self.size()]);
            let label = (!label.is_empty()).then_some(label);
            let length = self.oaep()?.decrypt(algorithm, data, plain.bytes_mut(), label);
            let length = length.map_err(|_| Rv::ENCRYPTED_DATA_INVALID)?.len();
            plain.bytes_mut().truncate(length);
            return Ok(plain);
        }
        let key = self.rust_crypto()?;
        let mut random = Random(&SystemRandom::new());
        let plain = with_digest!(hash, D => with_digest!(mask, M => {
            let scheme = Oaep::<D, M>::new_with_mgf_hash_and_label(label);
            key.decrypt_blinded(&mut random, scheme, data).map_err(|_| Rv::ENCRYPTED_DATA_INVALID)
        }))?;
        Ok(Secret::from(plain))
    }

    fn oaep(&self) -> Result<&OaepPrivateDecryptingKey, Rv> {
        opened(&self.oaep, || {
            let key = PrivateDecryptingKey::from_pkcs8(self.material.as_ref()).ok()?;
            OaepPrivateDecryptingKey::new(key).ok()
        })
    }

    fn rust_crypto(&self) -> Result<&PrivateKey, Rv> {
        opened(&self.rust_crypto, || PrivateKey::from_pkcs8_der(self.material.as_ref()).ok())
    }
}

/// The key in the cell, which `open` fills first. Concurrent callers may open it twice; one result is dropped.
fn opened<T>(cell: &OnceLock<T>, open: impl FnOnce() -> Option<T>) -> Result<&T, Rv> {
    if let Some(key) = cell.get() {
        return Ok(key);
    }
    let key = open().ok_or(Rv::FUNCTION_FAILED)?;
    Ok(cell.get_or_init(|| key))
}

/// The padding that the parameters of a PSS mechanism name.
fn padding_of(mechanism: &Mechanism) -> Result<Padding, Rv> {
    let Parameters::Pss { hash, mgf, salt_bytes } = &mechanism.parameters else {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    };
    let salt_bytes = usize::try_from(*salt_bytes).map_err(|_| Rv::MECHANISM_PARAM_INVALID)?;
    let mask = mgf.digest().ok_or(Rv::MECHANISM_PARAM_INVALID)?;
    Ok(Padding { hash: *hash, mask, salt_bytes })
}

fn aws_of(digest: MechanismType) -> Result<&'static aws_digest::Algorithm, Rv> {
    match digest {
        MechanismType::SHA256 => Ok(&aws_digest::SHA256),
        MechanismType::SHA384 => Ok(&aws_digest::SHA384),
        MechanismType::SHA512 => Ok(&aws_digest::SHA512),
        _ => Err(Rv::MECHANISM_INVALID),
    }
}

fn pkcs1_of(digest: &Digest) -> Result<&'static dyn RsaEncoding, Rv> {
    match digest.algorithm() {
        digest if *digest == aws_digest::SHA256 => Ok(&RSA_PKCS1_SHA256),
        digest if *digest == aws_digest::SHA384 => Ok(&RSA_PKCS1_SHA384),
        digest if *digest == aws_digest::SHA512 => Ok(&RSA_PKCS1_SHA512),
        _ => Err(Rv::MECHANISM_INVALID),
    }
}

/// The encoding in aws-lc-rs for a padding, if it has one. It takes salt lengths as constants: those of the digests,
/// none, and the longest.
fn pss_of(padding: &Padding, longest: usize) -> Option<&'static dyn RsaEncoding> {
    macro_rules! salted {
        ($encoding:ident) => {
            match padding.salt_bytes {
                0 => Some(&const { $encoding.with_pss_salt_length(RsaPssSaltLength::Custom(0)) }),
                20 => Some(&const { $encoding.with_pss_salt_length(RsaPssSaltLength::Custom(20)) }),
                28 => Some(&const { $encoding.with_pss_salt_length(RsaPssSaltLength::Custom(28)) }),
                32 => Some(&const { $encoding.with_pss_salt_length(RsaPssSaltLength::Custom(32)) }),
                48 => Some(&const { $encoding.with_pss_salt_length(RsaPssSaltLength::Custom(48)) }),
                64 => Some(&const { $encoding.with_pss_salt_length(RsaPssSaltLength::Custom(64)) }),
                salt if salt == longest => {
                    Some(&const { $encoding.with_pss_salt_length(RsaPssSaltLength::Max) })
                }
                _ => None,
            }
        };
    }
    match padding.hash {
        hash if hash != padding.mask => None,
        MechanismType::SHA256 => salted!(RSA_PSS_SHA256),
        MechanismType::SHA384 => salted!(RSA_PSS_SHA384),
        MechanismType::SHA512 => salted!(RSA_PSS_SHA512),
        _ => None,
    }
}

fn oaep_of(hash: MechanismType, mask: MechanismType) -> Option<&'static OaepAlgorithm> {
    match hash {
        hash if hash != mask => None,
        MechanismType::SHA_1 => Some(&OAEP_SHA1_MGF1SHA1),
        MechanismType::SHA256 => Some(&OAEP_SHA256_MGF1SHA256),
        MechanismType::SHA384 => Some(&OAEP_SHA384_MGF1SHA384),
        MechanismType::SHA512 => Some(&OAEP_SHA512_MGF1SHA512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kms_core::object::KeySpec;
    use rsa::pss::{Signature, VerifyingKey};
    use rsa::signature::hazmat::PrehashVerifier;
    use rsa::traits::SignatureScheme;
    use sha1::Sha1;
    use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
    use sha3::{Sha3_224, Sha3_256, Sha3_384, Sha3_512};

    use super::super::generate;
    use super::*;

    fn key() -> RsaKey {
        let spec = KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] };
        RsaKey::open(&generate(&spec, &SystemRandom::new()).unwrap().material).unwrap()
    }

    fn pss(kind: MechanismType, hash: MechanismType, mgf: Mgf, salt_bytes: u32) -> Mechanism {
        Mechanism { kind, parameters: Parameters::Pss { hash, mgf, salt_bytes } }
    }

    #[test]
    fn another_library_verifies_pkcs1_signatures() {
        let key = key();
        let public = key.rust_crypto().unwrap().to_public_key();
        macro_rules! check {
            ($mechanism:ident, $hash:ident, $digest:ident) => {{
                let digest = $digest::digest(b"message");
                let signature = key.sign(&Mechanism::plain(MechanismType::$mechanism), &digest).unwrap();
                Pkcs1v15Sign::new::<$digest>().verify(&public, &digest, &signature).unwrap();
                // A DigestInfo that the caller prepared gives the same signature: the scheme has no randomness.
                let info = [digest_info_prefix(MechanismType::$hash).unwrap(), &digest[..]].concat();
                assert_eq!(key.sign(&Mechanism::plain(MechanismType::RSA_PKCS), &info).unwrap(), signature);
                let short = key.sign(&Mechanism::plain(MechanismType::$mechanism), &digest[1..]);
                assert_eq!(short.unwrap_err(), Rv::DATA_LEN_RANGE);
            }};
        }
        check!(SHA1_RSA_PKCS, SHA_1, Sha1);
        check!(SHA224_RSA_PKCS, SHA224, Sha224);
        check!(SHA256_RSA_PKCS, SHA256, Sha256);
        check!(SHA384_RSA_PKCS, SHA384, Sha384);
        check!(SHA512_RSA_PKCS, SHA512, Sha512);
        check!(SHA3_224_RSA_PKCS, SHA3_224, Sha3_224);
        check!(SHA3_256_RSA_PKCS, SHA3_256, Sha3_256);
        check!(SHA3_384_RSA_PKCS, SHA3_384, Sha3_384);
        check!(SHA3_512_RSA_PKCS, SHA3_512, Sha3_512);
    }

    #[test]
    fn raw_data_is_signed_up_to_the_paddings_length() {
        let key = key();
        let public = key.rust_crypto().unwrap().to_public_key();
        let raw = Mechanism::plain(MechanismType::RSA_PKCS);
        for length in [0, 1, 36, 245] {
            let data = vec![0x5a; length];
            let signature = key.sign(&raw, &data).unwrap();
            Pkcs1v15Sign::new_unprefixed().verify(&public, &data, &signature).unwrap();
        }
        assert_eq!(key.sign(&raw, &[0; 246]).unwrap_err(), Rv::DATA_LEN_RANGE);
    }

    #[test]
    fn another_library_verifies_pss_with_any_salt() {
        let key = key();
        let public = key.rust_crypto().unwrap().to_public_key();
        macro_rules! check {
            ($hash:ident, $mgf:ident, $digest:ident, $salts:expr) => {{
                let digest = $digest::digest(b"message");
                for salt in $salts {
                    let mechanism = pss(MechanismType::RSA_PKCS_PSS, MechanismType::$hash, Mgf::$mgf, salt);
                    let signature = key.sign(&mechanism, &digest).unwrap();
                    let signature = Signature::try_from(&signature[..]).unwrap();
                    let verifier = VerifyingKey::<$digest>::new_with_salt_len(public.clone(), salt as usize);
                    assert!(verifier.verify_prehash(&digest, &signature).is_ok(), "salt of {salt}");
                }
            }};
        }
        check!(SHA_1, SHA1, Sha1, [0, 20]);
        check!(SHA224, SHA224, Sha224, [28]);
        check!(SHA256, SHA256, Sha256, [0, 1, 20, 32, 33, 64, 222]);
        check!(SHA384, SHA384, Sha384, [48, 206]);
        check!(SHA512, SHA512, Sha512, [20, 64, 190]);
        let mechanism = pss(MechanismType::RSA_PKCS_PSS, MechanismType::SHA512, Mgf::SHA512, 191);
        assert_eq!(key.sign(&mechanism, &[0; 64]).unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
        let bare = Mechanism::plain(MechanismType::SHA256_RSA_PKCS_PSS);
        assert_eq!(key.sign(&bare, &Sha256::digest(b"message")).unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
    }

    #[test]
    fn pss_uses_both_of_two_digests() {
        let key = key();
        let digest = Sha256::digest(b"message");
        let mechanism = pss(MechanismType::SHA256_RSA_PKCS_PSS, MechanismType::SHA256, Mgf::SHA1, 32);
        let signature = key.sign(&mechanism, &digest).unwrap();
        let public = key.rust_crypto().unwrap();
        let number = BoxedUint::from_be_slice(&signature, public.n_bits_precision()).unwrap();
        let encoded = rsa::hazmat::rsa_encrypt(public, &number).unwrap().to_be_bytes();
        let padding = Padding { hash: MechanismType::SHA256, mask: MechanismType::SHA_1, salt_bytes: 32 };
        let salt = pss::salt_of(&padding, 2048, &encoded).unwrap();
        assert_eq!(pss::encode(&padding, 2048, &digest, &salt).unwrap(), &encoded[..]);
    }

    #[test]
    fn oaep_with_any_two_digests_is_decrypted() {
        let key = key();
        let public = key.rust_crypto().unwrap().to_public_key();
        let random = SystemRandom::new();
        macro_rules! check {
            ($hash:ident, $digest:ident, $mgf:ident, $mask:ident, $label:expr) => {{
                let label: &[u8] = $label;
                let scheme = Oaep::<$digest, $mask>::new_with_mgf_hash_and_label(label);
                let encrypted = public.encrypt(&mut Random(&random), scheme, b"secret").unwrap();
                let with = |label: &[u8]| Mechanism {
                    kind: MechanismType::RSA_PKCS_OAEP,
                    parameters: Parameters::Oaep {
                        hash: MechanismType::$hash,
                        mgf: Mgf::$mgf,
                        label: Secret::from(label),
                    },
                };
                assert_eq!(&*key.decrypt(&with(label), &encrypted).unwrap(), b"secret");
                let wrong = key.decrypt(&with(b"other"), &encrypted);
                assert_eq!(wrong.unwrap_err(), Rv::ENCRYPTED_DATA_INVALID);
                let cut = key.decrypt(&with(label), &encrypted[1..]);
                assert_eq!(cut.unwrap_err(), Rv::ENCRYPTED_DATA_LEN_RANGE);
            }};
        }
        check!(SHA_1, Sha1, SHA1, Sha1, b"");
        check!(SHA256, Sha256, SHA256, Sha256, b"label");
        check!(SHA384, Sha384, SHA384, Sha384, b"");
        check!(SHA512, Sha512, SHA512, Sha512, b"label");
        check!(SHA224, Sha224, SHA224, Sha224, b"label");
        check!(SHA256, Sha256, SHA1, Sha1, b"label");
        check!(SHA_1, Sha1, SHA512, Sha512, b"");
    }

    #[test]
    fn the_raw_operation_is_reversed_by_the_public_one() {
        let key = key();
        let raw = Mechanism::plain(MechanismType::RSA_X_509);
        let public = key.rust_crypto().unwrap();
        for data in [&[7][..], &[0, 0, 9], &[0x11; 256]] {
            let signed = key.sign(&raw, data).unwrap();
            assert_eq!(signed, key.decrypt(&raw, &[&vec![0; 256 - data.len()], data].concat()).unwrap());
            let number = BoxedUint::from_be_slice(&signed, public.n_bits_precision()).unwrap();
            let back = rsa::hazmat::rsa_encrypt(public, &number).unwrap().to_be_bytes();
            assert!(back.ends_with(data) && back[..256 - data.len()].iter().all(|byte| *byte == 0));
        }
        assert_eq!(key.sign(&raw, &[0xff; 256]).unwrap_err(), Rv::DATA_INVALID);
        assert_eq!(key.sign(&raw, &[1; 257]).unwrap_err(), Rv::DATA_LEN_RANGE);
        assert_eq!(key.decrypt(&raw, &[0xff; 256]).unwrap_err(), Rv::ENCRYPTED_DATA_INVALID);
    }

    #[test]
    fn wrong_pkcs1_padding_gives_the_same_bytes_each_time() {
        let key = key();
        let public = key.rust_crypto().unwrap().to_public_key();
        let random = SystemRandom::new();
        let raw = Mechanism::plain(MechanismType::RSA_PKCS);
        let encrypted = public.encrypt(&mut Random(&random), Pkcs1v15Encrypt, b"secret").unwrap();
        assert_eq!(&*key.decrypt(&raw, &encrypted).unwrap(), b"secret");
        let mut wrong = encrypted;
        wrong[255] ^= 1;
        let (once, twice) = (key.decrypt(&raw, &wrong).unwrap(), key.decrypt(&raw, &wrong).unwrap());
        assert_eq!(once, twice);
        assert_ne!(&*once, b"secret");
    }
}
