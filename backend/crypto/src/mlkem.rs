//! ML-KEM (FIPS 203): post-quantum key encapsulation.

use aws_lc_rs::kem::{self, Ciphertext, DecapsulationKey, EncapsulationKey};
use kms_core::object::{KeyBytes, MlKemSet};
use kms_protocol::{Mechanism, MechanismType, Rv, Secret};
#[expect(deprecated, reason = "see `expand`")]
use ml_kem::ExpandedKeyEncoding;
use ml_kem::{DecapsulationKey512, DecapsulationKey768, DecapsulationKey1024};
use sha3::{Digest, Sha3_256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::der::{self, Forms};

/// The approximate memory of an opened key: a matrix of polynomials and precomputed values.
pub(super) const OPENED_BYTES: usize = 32 << 10;

/// The library's name for a parameter set.
fn algorithm_of(set: MlKemSet) -> &'static kem::Algorithm {
    match set {
        MlKemSet::Kem512 => &kem::ML_KEM_512,
        MlKemSet::Kem768 => &kem::ML_KEM_768,
        MlKemSet::Kem1024 => &kem::ML_KEM_1024,
    }
}

/// A private ML-KEM key.
pub(super) struct KemKey {
    key: DecapsulationKey,
    set: MlKemSet,
}

impl KemKey {
    /// Generates a private key, in PKCS #8.
    pub(super) fn generate(set: MlKemSet) -> Option<KeyBytes> {
        let key = DecapsulationKey::generate(algorithm_of(set)).ok()?;
        let bytes = key.key_bytes().ok()?;
        Self::private_key(set, None, Some(bytes.as_ref()))
    }

    /// A private key in PKCS #8, from its seed or its expanded form, if it is consistent, which aws-lc-rs does not
    /// check. With a seed, the expanded key is stored too, so that opening the key costs nothing.
    pub(super) fn private_key(
        set: MlKemSet,
        seed: Option<&[u8]>,
        expanded: Option<&[u8]>,
    ) -> Option<KeyBytes> {
        let own = seed.map(|seed| expand(set, seed).ok_or(())).transpose().ok()?;
        let expanded = match (&own, expanded) {
            (Some(own), Some(given)) if !bool::from(own.as_slice().ct_eq(given)) => return None,
            (Some(own), _) => own.as_slice(),
            (None, given) => given?,
        };
        let public = Self::public_in(set, expanded)?;
        let hash = expanded.get(768 * set.rank() + 32..768 * set.rank() + 64)?;
        if !bool::from(Sha3_256::digest(public).as_slice().ct_eq(hash)) {
            return None;
        }
        der::private_key(set.oid_der(), &Forms { seed, expanded: Some(expanded) }.write()?)
    }

    /// Converts a private key in PKCS #8, in any of its forms, to the stored form.
    pub(super) fn stored(material: &[u8]) -> Option<KeyBytes> {
        let (set, Forms { seed, expanded }) = parts(material)?;
        Self::private_key(set, seed, expanded)
    }

    /// Opens a private key from PKCS #8.
    pub(super) fn open(material: &[u8]) -> Option<Self> {
        let (set, expanded) = Self::expanded(material)?;
        let key = DecapsulationKey::new(algorithm_of(set), expanded).ok()?;
        Some(Self { key, set })
    }

    /// The parameter set and the expanded key, for export.
    pub(super) fn expanded(material: &[u8]) -> Option<(MlKemSet, &[u8])> {
        let (set, forms) = parts(material)?;
        forms
            .expanded
            .filter(|expanded| expanded.len() == 768 * set.rank() + 96)
            .map(|expanded| (set, expanded))
    }

    /// The public key inside an expanded private one (FIPS 203, "K-PKE.KeyGen" and "ML-KEM.KeyGen_internal").
    pub(super) fn public_in(set: MlKemSet, expanded: &[u8]) -> Option<&[u8]> {
        expanded
            .get(384 * set.rank()..768 * set.rank() + 32)
            .filter(|_| expanded.len() == 768 * set.rank() + 96)
    }

    /// The shared secret of 32 bytes. An invalid ciphertext gives bytes that depend on it and on the key only.
    pub(super) fn decapsulate(&self, mechanism: &Mechanism, ciphertext: &[u8]) -> Result<KeyBytes, Rv> {
        plain_kem(mechanism)?;
        if ciphertext.len() != self.set.ciphertext_bytes() {
            return Err(Rv::WRAPPED_KEY_LEN_RANGE);
        }
        let secret =
            self.key.decapsulate(Ciphertext::from(ciphertext)).map_err(|_| Rv::WRAPPED_KEY_INVALID)?;
        Ok(KeyBytes::from(secret.as_ref().to_vec()))
    }
}

/// A public ML-KEM key.
pub(super) struct KemPublic(EncapsulationKey);

impl KemPublic {
    /// Opens a key. None if it is not one of this set.
    pub(super) fn open(set: MlKemSet, key: &[u8]) -> Option<Self> {
        is_reduced(key.get(..384 * set.rank())?)
            .then(|| EncapsulationKey::new(algorithm_of(set), key).ok().map(Self))?
    }

    /// Generates a secret. Returns its encapsulation for the private key's holder, and the secret.
    pub(super) fn encapsulate(&self, mechanism: &Mechanism) -> Result<(Secret, KeyBytes), Rv> {
        plain_kem(mechanism)?;
        let (ciphertext, secret) = self.0.encapsulate().map_err(|_| Rv::FUNCTION_FAILED)?;
        Ok((Secret::from(ciphertext.as_ref()), KeyBytes::from(secret.as_ref().to_vec())))
    }
}

/// The seed in PKCS #8, for export; a key that was generated here or imported in expanded form has none.
pub(super) fn seed_of(material: &[u8]) -> Option<&[u8]> {
    parts(material)?.1.seed
}

/// The parameter set, and the content of PKCS #8.
fn parts(material: &[u8]) -> Option<(MlKemSet, Forms<'_>)> {
    MlKemSet::ALL.into_iter().find_map(|set| {
        let inner = der::inner_of(material, set.oid_der())?;
        Forms::read(inner).map(|forms| (set, forms))
    })
}

/// Expands a seed. aws-lc-rs has no seeds of ML-KEM.
#[expect(deprecated, reason = "the other library and `CKA_VALUE` have the expanded form")]
fn expand(set: MlKemSet, seed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let seed = seed.try_into().ok()?;
    Some(Zeroizing::new(match set {
        MlKemSet::Kem512 => DecapsulationKey512::from_seed(seed).to_expanded_bytes().to_vec(),
        MlKemSet::Kem768 => DecapsulationKey768::from_seed(seed).to_expanded_bytes().to_vec(),
        MlKemSet::Kem1024 => DecapsulationKey1024::from_seed(seed).to_expanded_bytes().to_vec(),
    }))
}

/// Whether every coefficient is below the modulus (FIPS 203, "ML-KEM.Encaps", input checking): two of them in 3 bytes.
fn is_reduced(coefficients: &[u8]) -> bool {
    const MODULUS: u16 = 3329;
    coefficients.as_chunks::<3>().0.iter().all(|[low, middle, high]| {
        let first = u16::from(*low) | u16::from(middle & 0x0f) << 8;
        let second = u16::from(middle >> 4) | u16::from(*high) << 4;
        first < MODULUS && second < MODULUS
    })
}

/// The `CKA_PUBLIC_KEY_INFO` of an ML-KEM key.
pub(super) fn info(set: MlKemSet, public: &[u8]) -> Option<Vec<u8>> {
    der::public_info(set.oid_der(), public)
}

fn plain_kem(mechanism: &Mechanism) -> Result<(), Rv> {
    if *mechanism == Mechanism::plain(MechanismType::ML_KEM) { Ok(()) } else { Err(Rv::MECHANISM_INVALID) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_get_the_same_secret() {
        let kem = Mechanism::plain(MechanismType::ML_KEM);
        for set in MlKemSet::ALL {
            let material = KemKey::generate(set).unwrap();
            let (found, expanded) = KemKey::expanded(material.as_ref()).unwrap();
            assert_eq!(found, set);
            let public = KemPublic::open(set, KemKey::public_in(set, expanded).unwrap()).unwrap();
            let (ciphertext, secret) = public.encapsulate(&kem).unwrap();
            let key = KemKey::open(material.as_ref()).unwrap();
            assert_eq!(key.decapsulate(&kem, &ciphertext).unwrap().as_ref(), secret.as_ref());
            let mut wrong = ciphertext.to_vec();
            wrong[7] ^= 1;
            let other = key.decapsulate(&kem, &wrong).unwrap();
            assert_ne!(other.as_ref(), secret.as_ref());
            assert_eq!(other.as_ref(), key.decapsulate(&kem, &wrong).unwrap().as_ref());
            let cut = key.decapsulate(&kem, &ciphertext[1..]);
            assert_eq!(cut.unwrap_err(), Rv::WRAPPED_KEY_LEN_RANGE);
            let mut inconsistent = expanded.to_vec();
            inconsistent[384 * set.rank()] ^= 1;
            assert!(
                KemKey::private_key(set, None, Some(&inconsistent)).is_none(),
                "its hash is that of another key"
            );
        }
    }

    #[test]
    fn a_seed_and_its_expanded_key_belong_together() {
        for set in MlKemSet::ALL {
            let material = KemKey::private_key(set, Some(&[5; 64]), None).unwrap();
            assert_eq!(seed_of(material.as_ref()), Some(&[5; 64][..]));
            let (_, expanded) = KemKey::expanded(material.as_ref()).unwrap();
            assert!(KemKey::private_key(set, Some(&[5; 64]), Some(expanded)).is_some());
            assert!(KemKey::private_key(set, Some(&[6; 64]), Some(expanded)).is_none());
            assert!(KemKey::private_key(set, Some(&[5; 63]), None).is_none());
            assert_eq!(KemKey::stored(material.as_ref()).unwrap().as_ref(), material.as_ref());
            let seed = Forms { seed: Some(&[5; 64]), expanded: None }.write().unwrap();
            let bare = der::private_key(set.oid_der(), &seed).unwrap();
            assert_eq!(KemKey::stored(bare.as_ref()).unwrap().as_ref(), material.as_ref());
            assert!(KemKey::open(material.as_ref()).is_some());
        }
    }
}
