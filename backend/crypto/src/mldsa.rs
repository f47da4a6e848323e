//! ML-DSA (FIPS 204): post-quantum signatures.

use aws_lc_rs::encoding::AsRawBytes;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{
    KeyPair, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaKeyPair, PqdsaSigningAlgorithm,
};
use kms_core::object::{KeyBytes, MlDsaSet};
use kms_protocol::{Mechanism, MechanismType, Parameters, Prehash, Rv, Secret};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::der::{self, Forms};
use super::random::Random;

/// The length of a seed, in bytes.
const SEED_BYTES: usize = 32;

/// The length of the randomness in a signature, in bytes.
const RANDOM_BYTES: usize = 32;

/// `CKH_DETERMINISTIC_REQUIRED`.
const DETERMINISTIC: u8 = 2;

/// The approximate memory of an opened key: a matrix of polynomials and precomputed values.
pub(super) const OPENED_BYTES: usize = 64 << 10;

/// The library's name for a parameter set.
fn algorithm_of(set: MlDsaSet) -> &'static PqdsaSigningAlgorithm {
    match set {
        MlDsaSet::Dsa44 => &ML_DSA_44_SIGNING,
        MlDsaSet::Dsa65 => &ML_DSA_65_SIGNING,
        MlDsaSet::Dsa87 => &ML_DSA_87_SIGNING,
    }
}

/// A private ML-DSA key.
pub(super) struct DsaKey {
    pair: PqdsaKeyPair,
    set: MlDsaSet,
    seed: Option<Zeroizing<Vec<u8>>>,
}

impl DsaKey {
    /// Generates a private key, in PKCS #8: its seed.
    pub(super) fn generate(set: MlDsaSet, random: &SystemRandom) -> Option<KeyBytes> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        random.fill(&mut *seed).ok()?;
        Self::private_key(set, Some(&*seed), None)
    }

    /// A private key in PKCS #8, from its seed or its expanded form; if both are given, they must belong together.
    pub(super) fn private_key(
        set: MlDsaSet,
        seed: Option<&[u8]>,
        expanded: Option<&[u8]>,
    ) -> Option<KeyBytes> {
        let Some(seed) = seed else {
            let expanded = expanded?;
            let pair = PqdsaKeyPair::from_raw_private_key(algorithm_of(set), expanded).ok()?;
            let same = bool::from(expanded_of(&pair)?.ct_eq(expanded));
            return same.then(|| der::private_key(set.oid_der(), &der::octet_string(expanded)))?;
        };
        let pair = PqdsaKeyPair::from_seed(algorithm_of(set), seed).ok()?;
        if expanded
            .is_some_and(|expanded| !expanded_of(&pair).is_some_and(|own| bool::from(own.ct_eq(expanded))))
        {
            return None;
        }
        der::private_key(set.oid_der(), &Forms { seed: Some(seed), expanded: None }.write()?)
    }

    /// Converts a private key in PKCS #8, in any of its forms, to the stored form.
    pub(super) fn stored(material: &[u8]) -> Option<KeyBytes> {
        let (set, Forms { seed, expanded }) = parts(material)?;
        Self::private_key(set, seed, expanded)
    }

    /// Opens a private key from PKCS #8.
    pub(super) fn open(material: &[u8]) -> Option<Self> {
        let (set, Forms { seed, expanded }) = parts(material)?;
        let pair = match seed {
            Some(seed) => PqdsaKeyPair::from_seed(algorithm_of(set), seed),
            None => PqdsaKeyPair::from_raw_private_key(algorithm_of(set), expanded?),
        };
        Some(Self { pair: pair.ok()?, set, seed: seed.map(|seed| Zeroizing::new(seed.to_vec())) })
    }

    /// The parameter set.
    pub(super) fn set(&self) -> MlDsaSet {
        self.set
    }

    /// The public key.
    pub(super) fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The expanded key, for export.
    pub(super) fn expanded(&self) -> Option<Zeroizing<Vec<u8>>> {
        expanded_of(&self.pair)
    }

    /// Signs a message, randomised unless the caller forbids it.
    pub(super) fn sign(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        match (mechanism.kind, &mechanism.parameters) {
            (MechanismType::ML_DSA, Parameters::None) => self.sign_plain(data),
            (MechanismType::ML_DSA, Parameters::MlDsa { hedge, context })
                if context.is_empty() && *hedge != DETERMINISTIC =>
            {
                self.sign_plain(data)
            }
            (MechanismType::ML_DSA, Parameters::MlDsa { hedge, context }) => {
                self.sign_with_options(*hedge == DETERMINISTIC, context, data)
            }
            (MechanismType::ML_DSA, _) => Err(Rv::MECHANISM_PARAM_INVALID),
            _ => {
                let prehash = Prehash::of(mechanism).ok_or(Rv::MECHANISM_INVALID)?;
                let message = prehash.message(data).ok_or(Rv::DATA_LEN_RANGE)?;
                self.sign_prehashed(prehash.hedge == DETERMINISTIC, &message)
            }
        }
    }

    /// Signs with HashML-DSA (FIPS 204, section 5.4): the bytes that stand for the message go to the internal
    /// algorithm, which the library offers. It needs a seed, for the reason given at [`DsaKey::sign_with_options`].
    fn sign_prehashed(&self, deterministic: bool, message: &[u8]) -> Result<Secret, Rv> {
        let seed = self.seed.as_ref().ok_or(Rv::MECHANISM_INVALID)?;
        let mut random = Zeroizing::new([0; RANDOM_BYTES]);
        if !deterministic {
            SystemRandom::new().fill(&mut *random).map_err(|_| Rv::FUNCTION_FAILED)?;
        }
        macro_rules! sign {
            ($set:ident) => {{
                let seed = seed.as_slice().try_into().map_err(|_| Rv::FUNCTION_FAILED)?;
                let key = ml_dsa::ExpandedSigningKey::<ml_dsa::$set>::from_seed(&seed);
                key.sign_internal(&[message], &(*random).into()).encode().to_vec()
            }};
        }
        Ok(Secret::from(match self.set {
            MlDsaSet::Dsa44 => sign!(MlDsa44),
            MlDsaSet::Dsa65 => sign!(MlDsa65),
            MlDsaSet::Dsa87 => sign!(MlDsa87),
        }))
    }

    fn sign_plain(&self, data: &[u8]) -> Result<Secret, Rv> {
        let mut signature = vec![0; algorithm_of(self.set).signature_len()];
        self.pair.sign(data, &mut signature).map_err(|_| Rv::FUNCTION_FAILED)?;
        Ok(Secret::from(signature))
    }

    /// Signs with a context, or without randomness: aws-lc-rs offers neither, and the other library panics on expanded
    /// keys that are wrong. So a key without a seed supports neither.
    fn sign_with_options(&self, deterministic: bool, context: &[u8], data: &[u8]) -> Result<Secret, Rv> {
        let seed = self.seed.as_ref().ok_or(Rv::MECHANISM_PARAM_INVALID)?;
        let random = SystemRandom::new();
        macro_rules! sign {
            ($set:ident) => {{
                let seed = seed.as_slice().try_into().map_err(|_| Rv::FUNCTION_FAILED)?;
                let key = ml_dsa::ExpandedSigningKey::<ml_dsa::$set>::from_seed(&seed);
                let signature = if deterministic {
                    key.sign_deterministic(data, context)
                } else {
                    key.sign_randomized(data, context, &mut Random(&random))
                };
                signature.map_err(|_| Rv::FUNCTION_FAILED)?.encode().to_vec()
            }};
        }
        Ok(Secret::from(match self.set {
            MlDsaSet::Dsa44 => sign!(MlDsa44),
            MlDsaSet::Dsa65 => sign!(MlDsa65),
            MlDsaSet::Dsa87 => sign!(MlDsa87),
        }))
    }
}

/// The seed in PKCS #8, for export; a key that was imported in expanded form has none.
pub(super) fn seed_of(material: &[u8]) -> Option<&[u8]> {
    parts(material)?.1.seed
}

/// The `CKA_PUBLIC_KEY_INFO` of an ML-DSA key.
pub(super) fn info(set: MlDsaSet, public: &[u8]) -> Option<Vec<u8>> {
    der::public_info(set.oid_der(), public)
}

fn expanded_of(pair: &PqdsaKeyPair) -> Option<Zeroizing<Vec<u8>>> {
    let raw = pair.private_key().as_raw_bytes().ok()?;
    Some(Zeroizing::new(raw.as_ref().to_vec()))
}

/// The parameter set, and the content of PKCS #8.
fn parts(material: &[u8]) -> Option<(MlDsaSet, Forms<'_>)> {
    MlDsaSet::ALL.into_iter().find_map(|set| {
        let inner = der::inner_of(material, set.oid_der())?;
        Forms::read(inner).map(|forms| (set, forms))
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ML_DSA_44, ML_DSA_65, ML_DSA_87, UnparsedPublicKey};

    use super::*;

    #[test]
    fn both_libraries_verify() {
        let random = SystemRandom::new();
        let algorithms = [&ML_DSA_44, &ML_DSA_65, &ML_DSA_87];
        for (set, algorithm) in MlDsaSet::ALL.into_iter().zip(algorithms) {
            let material = DsaKey::generate(set, &random).unwrap();
            let key = DsaKey::open(material.as_ref()).unwrap();
            assert_eq!(key.set(), set);
            let plain = key.sign(&Mechanism::plain(MechanismType::ML_DSA), b"message").unwrap();
            let with = |hedge, context: &[u8]| Mechanism {
                kind: MechanismType::ML_DSA,
                parameters: Parameters::MlDsa { hedge, context: Secret::from(context) },
            };
            let verify = |signature: &[u8]| {
                UnparsedPublicKey::new(algorithm, key.public()).verify(b"message", signature).is_ok()
            };
            let deterministic = key.sign(&with(DETERMINISTIC, b""), b"message").unwrap();
            assert!(verify(&plain) && verify(&deterministic));
            assert_eq!(key.sign(&with(DETERMINISTIC, b""), b"message").unwrap(), deterministic);
            let bound = key.sign(&with(0, b"context"), b"message").unwrap();
            assert!(!verify(&bound), "the context is part of what is signed");
        }
    }

    /// Both libraries compute the same deterministic signatures, and each verifies the other's.
    #[test]
    fn prehashed_signatures_agree_with_another_library() {
        use fips204::traits::{KeyGen, SerDes, Signer, Verifier};
        let hashes = [
            (MechanismType::HASH_ML_DSA_SHA224, MechanismType::SHA224, 28, 4),
            (MechanismType::HASH_ML_DSA_SHA256, MechanismType::SHA256, 32, 1),
            (MechanismType::HASH_ML_DSA_SHA384, MechanismType::SHA384, 48, 2),
            (MechanismType::HASH_ML_DSA_SHA512, MechanismType::SHA512, 64, 3),
            (MechanismType::HASH_ML_DSA_SHA3_224, MechanismType::SHA3_224, 28, 7),
            (MechanismType::HASH_ML_DSA_SHA3_256, MechanismType::SHA3_256, 32, 8),
            (MechanismType::HASH_ML_DSA_SHA3_384, MechanismType::SHA3_384, 48, 9),
            (MechanismType::HASH_ML_DSA_SHA3_512, MechanismType::SHA3_512, 64, 10),
            (MechanismType::HASH_ML_DSA_SHAKE128, MechanismType::HASH_ML_DSA_SHAKE128, 32, 11),
            (MechanismType::HASH_ML_DSA_SHAKE256, MechanismType::HASH_ML_DSA_SHAKE256, 64, 12),
        ];
        macro_rules! check {
            ($set:ident, $module:ident) => {{
                let seed = [0x5a; SEED_BYTES];
                let material = DsaKey::private_key(MlDsaSet::$set, Some(&seed), None).unwrap();
                let key = DsaKey::open(material.as_ref()).unwrap();
                let (public, private) = fips204::$module::KG::keygen_from_seed(&seed);
                assert_eq!(key.public(), public.clone().into_bytes());
                for (named, hash, bytes, arc) in hashes {
                    let oid = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, arc];
                    let digest = vec![0xd1; bytes];
                    for context in [b"".as_slice(), b"context", &[9; 255]] {
                        let secret = || Secret::from(context);
                        let of_digest = |hedge| Mechanism {
                            kind: MechanismType::HASH_ML_DSA,
                            parameters: Parameters::HashMlDsa { hedge, context: secret(), hash },
                        };
                        let of_message = |hedge| Mechanism {
                            kind: named,
                            parameters: Parameters::MlDsa { hedge, context: secret() },
                        };
                        let deterministic = key.sign(&of_digest(DETERMINISTIC), &digest).unwrap();
                        assert_eq!(key.sign(&of_message(DETERMINISTIC), &digest).unwrap(), deterministic);
                        let theirs =
                            private.try_hash_sign_with_seed(&[0; 32], &digest, context, &oid).unwrap();
                        assert_eq!(&*deterministic, theirs.as_slice(), "{named}");
                        let hedged = key.sign(&of_message(0), &digest).unwrap();
                        assert_ne!(hedged, deterministic);
                        let hedged = (*hedged).try_into().unwrap();
                        assert!(public.hash_verify(&digest, &hedged, context, &oid), "{named}");
                        assert!(!public.hash_verify(&digest, &hedged, b"other", &oid), "{named}");
                        let short = key.sign(&of_message(0), &digest[1..]);
                        assert_eq!(short.unwrap_err(), Rv::DATA_LEN_RANGE);
                    }
                }
            }};
        }
        check!(Dsa44, ml_dsa_44);
        check!(Dsa65, ml_dsa_65);
        check!(Dsa87, ml_dsa_87);
    }

    #[test]
    fn an_expanded_key_is_the_key_of_its_seed() {
        let material = DsaKey::generate(MlDsaSet::Dsa65, &SystemRandom::new()).unwrap();
        let key = DsaKey::open(material.as_ref()).unwrap();
        let expanded = key.expanded().unwrap();
        let imported = DsaKey::private_key(MlDsaSet::Dsa65, None, Some(&expanded)).unwrap();
        assert_eq!(DsaKey::open(imported.as_ref()).unwrap().public(), key.public());
        assert_eq!(seed_of(imported.as_ref()), None);
        let seed = seed_of(material.as_ref()).unwrap();
        assert!(DsaKey::private_key(MlDsaSet::Dsa65, Some(seed), Some(&expanded)).is_some());
        assert!(DsaKey::private_key(MlDsaSet::Dsa65, Some(&[1; 32]), Some(&expanded)).is_none());
        assert!(DsaKey::private_key(MlDsaSet::Dsa87, None, Some(&expanded)).is_none());
        assert_eq!(DsaKey::stored(material.as_ref()).unwrap().as_ref(), material.as_ref());
    }
}
