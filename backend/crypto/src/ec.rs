//! ECDSA and key agreement on the NIST curves.

use std::sync::OnceLock;

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::digest::{self as aws_digest, Digest};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm,
};
use kms_core::object::{Curve, KeyBytes};
use kms_protocol::{Mechanism, MechanismType, Rv, Secret, mechanism_table};
use p521::ecdsa::signature::hazmat::RandomizedPrehashSigner;
use p521::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use zeroize::Zeroizing;

use super::der;
use super::random::Random;

/// The approximate memory of an opened key: aws-lc's key with its group.
pub(super) const OPENED_BYTES: usize = 2048;

/// A private key on a NIST curve.
pub(super) struct EcKey {
    pair: EcdsaKeyPair,
    curve: Curve,
    /// The same key for agreements, opened at its first use: most keys only sign.
    agreement_key: OnceLock<PrivateKey>,
}

impl EcKey {
    /// Opens a private key from PKCS #8. None if it is not one on a supported curve.
    pub(super) fn open(material: &KeyBytes) -> Option<Self> {
        let curve = curve_of(material)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm_of(curve), material.as_ref()).ok()?;
        Some(Self { pair, curve, agreement_key: OnceLock::new() })
    }

    /// Signs a digest. Of one that is longer than the curve's order, the leftmost bits are used (FIPS 186-5).
    pub(super) fn sign(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        let row = mechanism_table::row_of(mechanism.kind).ok_or(Rv::MECHANISM_INVALID)?;
        if row.signs.unwrap_or(mechanism.kind) != MechanismType::ECDSA {
            return Err(Rv::MECHANISM_INVALID);
        }
        let expected = row.digest.and_then(mechanism_table::digest_bytes);
        let expected = expected.map_or(Ok(data.len()), usize::try_from).map_err(|_| Rv::MECHANISM_INVALID)?;
        // An empty digest is the number 0, for which a signature can be computed without the key.
        if data.is_empty() || data.len() != expected {
            return Err(Rv::DATA_LEN_RANGE);
        }
        let hash = hash_of(self.curve);
        if self.curve == Curve::P521 && data.len() > hash.output_len() {
            return self.sign_long(data);
        }
        let digest = Digest::import_less_safe(&fitted(data, hash.output_len()), hash);
        let digest = digest.map_err(|_| Rv::FUNCTION_FAILED)?;
        let signature = self.pair.sign_digest(&digest).map_err(|_| Rv::FUNCTION_FAILED)?;
        Ok(Secret::from(signature.as_ref()))
    }

    /// The shared secret: the first coordinate of the common point. All supported curves have cofactor 1.
    ///
    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID` unless `public` is an uncompressed point of the curve.
    pub(super) fn agree(&self, public: &[u8]) -> Result<Zeroizing<Vec<u8>>, Rv> {
        let invalid = Rv::MECHANISM_PARAM_INVALID;
        let public = der::point(public, 1 + 2 * self.curve.field_bytes()).ok_or(invalid)?;
        let algorithm = agreement_of(self.curve);
        let key = match self.agreement_key.get() {
            Some(key) => key,
            None => {
                let scalar = self.scalar().ok_or(Rv::FUNCTION_FAILED)?;
                let key =
                    PrivateKey::from_private_key(algorithm, &scalar).map_err(|_| Rv::FUNCTION_FAILED)?;
                self.agreement_key.get_or_init(|| key)
            }
        };
        agreement::agree(key, UnparsedPublicKey::new(algorithm, public), invalid, |shared| {
            Ok(Zeroizing::new(shared.to_vec()))
        })
    }

    /// The private scalar, as long as a field element.
    fn scalar(&self) -> Option<Zeroizing<Vec<u8>>> {
        let scalar = self.pair.private_key().as_be_bytes().ok()?;
        Some(Zeroizing::new(fitted(scalar.as_ref(), self.curve.field_bytes())))
    }

    /// Signs more than 64 bytes with P-521. aws-lc-rs takes digests by their algorithms, and no digest is that long.
    fn sign_long(&self, data: &[u8]) -> Result<Secret, Rv> {
        let scalar = self.pair.private_key().as_be_bytes().map_err(|_| Rv::FUNCTION_FAILED)?;
        let scalar = Zeroizing::new(scalar.as_ref().to_vec());
        let key = p521::ecdsa::SigningKey::from_slice(&scalar).map_err(|_| Rv::FUNCTION_FAILED)?;
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature: p521::ecdsa::Signature = key
            .sign_prehash_with_rng(&mut Random(&random), &leftmost_521(data))
            .map_err(|_| Rv::FUNCTION_FAILED)?;
        Ok(Secret::from(signature.to_bytes().to_vec()))
    }
}

/// A digest as a number of exactly `length` bytes: a short one gets leading zeros, which do not change the number; of a
/// long one the leftmost bits are used.
fn fitted(data: &[u8], length: usize) -> Vec<u8> {
    let taken = &data[..data.len().min(length)];
    let mut fitted = vec![0; length - taken.len()];
    fitted.extend_from_slice(taken);
    fitted
}

/// The leftmost 521 bits as a number of 66 bytes.
fn leftmost_521(data: &[u8]) -> Vec<u8> {
    const BYTES: usize = 66;
    if data.len() < BYTES {
        return fitted(data, BYTES);
    }
    let mut carried = 0;
    let shifted = data[..BYTES].iter().map(|byte| {
        let moved = carried | (byte >> 7);
        carried = byte << 1;
        moved
    });
    shifted.collect()
}

/// The algorithm with which aws-lc-rs holds a key. The digest in its name is only the one that fits the curve.
pub(super) fn algorithm_of(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        Curve::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
    }
}

fn agreement_of(curve: Curve) -> &'static agreement::Algorithm {
    match curve {
        Curve::P256 => &ECDH_P256,
        Curve::P384 => &ECDH_P384,
        Curve::P521 => &ECDH_P521,
    }
}

pub(super) fn hash_of(curve: Curve) -> &'static aws_digest::Algorithm {
    match curve {
        Curve::P256 => &aws_digest::SHA256,
        Curve::P384 => &aws_digest::SHA384,
        Curve::P521 => &aws_digest::SHA512,
    }
}

/// The curve that a private key's PKCS #8 form names.
pub(super) fn curve_of(material: &KeyBytes) -> Option<Curve> {
    let info = p521::pkcs8::PrivateKeyInfoRef::try_from(material.as_ref()).ok()?;
    let oid = info.algorithm.parameters_oid().ok()?;
    // `oid_der` has two bytes of tag and length before the identifier.
    Curve::ALL.into_iter().find(|curve| curve.oid_der().get(2..) == Some(oid.as_bytes()))
}

/// The private scalar, as long as a field element, for export.
pub(super) fn scalar(material: &KeyBytes) -> Option<Zeroizing<Vec<u8>>> {
    EcKey::open(material)?.scalar()
}

/// Builds a private key in the stored form from its scalar, which may have any number of leading zeros.
pub(super) fn build(curve: Curve, number: &[u8]) -> Option<KeyBytes> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = number.get(zeros..).filter(|number| number.len() <= curve.field_bytes())?;
    let scalar = Zeroizing::new(fitted(number, curve.field_bytes()));
    macro_rules! build {
        ($curve:ident) => {
            $curve::SecretKey::from_slice(&scalar).ok()?.to_pkcs8_der().ok()?
        };
    }
    let document = match curve {
        Curve::P256 => build!(p256),
        Curve::P384 => build!(p384),
        Curve::P521 => build!(p521),
    };
    Some(KeyBytes::from(document.as_bytes().to_vec()))
}

/// Converts a private key in PKCS #8 to the stored form, which contains the public key; other software may omit it.
pub(super) fn stored(material: &KeyBytes) -> Option<KeyBytes> {
    macro_rules! rebuild {
        ($curve:ident) => {
            $curve::SecretKey::from_pkcs8_der(material.as_ref()).ok()?.to_pkcs8_der().ok()?
        };
    }
    let document = match curve_of(material)? {
        Curve::P256 => rebuild!(p256),
        Curve::P384 => rebuild!(p384),
        Curve::P521 => rebuild!(p521),
    };
    Some(KeyBytes::from(document.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::KeyPair;
    use kms_core::object::KeySpec;
    use p521::ecdsa::signature::hazmat::PrehashVerifier;
    use proptest::prelude::*;

    use super::*;
    use crate::generate;

    fn key(curve: Curve) -> EcKey {
        let generated = generate(&KeySpec::Ec { curve }, &SystemRandom::new()).unwrap();
        EcKey::open(&generated.material).unwrap()
    }

    /// Whether RustCrypto accepts a signature over the number that the leftmost bits of `data` are.
    fn verifies_with_rustcrypto(key: &EcKey, data: &[u8], signature: &[u8]) -> bool {
        let point = key.pair.public_key().as_ref();
        macro_rules! verify {
            ($curve:ident, $digest:expr) => {{
                let public = $curve::ecdsa::VerifyingKey::from_sec1_bytes(point).unwrap();
                let signature = $curve::ecdsa::Signature::from_slice(signature).unwrap();
                public.verify_prehash($digest, &signature).is_ok()
            }};
        }
        match key.curve {
            Curve::P256 => verify!(p256, &fitted(data, 32)),
            Curve::P384 => verify!(p384, &fitted(data, 48)),
            Curve::P521 => verify!(p521, &leftmost_521(data)),
        }
    }

    #[test]
    fn another_library_verifies_digests_of_any_length() {
        for curve in Curve::ALL {
            let key = key(curve);
            for length in [1, 20, 28, 32, 48, 64, 65, 66, 67, 128] {
                let data: Vec<u8> = (1..=length).collect();
                let signature = key.sign(&Mechanism::plain(MechanismType::ECDSA), &data).unwrap();
                assert_eq!(signature.len(), 2 * curve.field_bytes());
                assert!(verifies_with_rustcrypto(&key, &data, &signature), "{curve:?}, {length} bytes");
                let other: Vec<u8> = (2..=length + 1).collect();
                assert!(!verifies_with_rustcrypto(&key, &other, &signature), "{curve:?}, {length} bytes");
            }
        }
    }

    #[test]
    fn a_hashed_mechanism_takes_its_digest_only() {
        let key = key(Curve::P256);
        let mechanism = Mechanism::plain(MechanismType::ECDSA_SHA256);
        assert!(key.sign(&mechanism, &[1; 32]).is_ok());
        for wrong in [0, 20, 31, 33, 64] {
            assert_eq!(key.sign(&mechanism, &vec![1; wrong]).unwrap_err(), Rv::DATA_LEN_RANGE);
        }
        let raw = Mechanism::plain(MechanismType::ECDSA);
        assert_eq!(key.sign(&raw, &[]).unwrap_err(), Rv::DATA_LEN_RANGE);
    }

    #[test]
    fn the_curve_and_the_whole_scalar_are_read_back() {
        for curve in Curve::ALL {
            let generated = generate(&KeySpec::Ec { curve }, &SystemRandom::new()).unwrap();
            assert_eq!(scalar(&generated.material).unwrap().len(), curve.field_bytes());
            assert_eq!(curve_of(&generated.material), Some(curve));
        }
    }

    #[test]
    fn two_sides_agree_and_so_does_another_library() {
        for curve in Curve::ALL {
            let keys = [key(curve), key(curve)];
            let public = |key: &EcKey| key.pair.public_key().as_ref().to_vec();
            let shared = keys[0].agree(&public(&keys[1])).unwrap();
            assert_eq!(shared.len(), curve.field_bytes());
            assert_eq!(shared, keys[1].agree(&public(&keys[0])).unwrap());
            assert_eq!(shared, keys[1].agree(&der::octet_string(&public(&keys[0]))).unwrap());
            let mut off = public(&keys[1]);
            off[curve.field_bytes()] ^= 1;
            assert_eq!(keys[0].agree(&off).unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
            assert_eq!(keys[0].agree(&off[1..]).unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
        }
        let keys = [key(Curve::P256), key(Curve::P256)];
        let own = p256::SecretKey::from_slice(&keys[0].scalar().unwrap()).unwrap();
        let other = p256::PublicKey::from_sec1_bytes(keys[1].pair.public_key().as_ref()).unwrap();
        let common = other.to_projective() * own.to_nonzero_scalar().as_ref();
        let common = p256::PublicKey::try_from(common).unwrap().to_sec1_bytes();
        let ours = keys[0].agree(keys[1].pair.public_key().as_ref()).unwrap();
        assert_eq!(ours.as_slice(), &common[1..33]);
    }

    #[test]
    fn a_scalar_may_have_any_number_of_leading_zeros() {
        for curve in Curve::ALL {
            let generated = generate(&KeySpec::Ec { curve }, &SystemRandom::new()).unwrap();
            let number = scalar(&generated.material).unwrap();
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            for given in [number.to_vec(), number[zeros..].to_vec(), [&[0, 0], &number[..]].concat()] {
                let built = build(curve, &given).unwrap();
                assert_eq!(scalar(&built).unwrap(), number);
                assert_eq!(stored(&generated.material).unwrap().as_ref(), built.as_ref());
            }
            assert!(build(curve, &[]).is_none());
            assert!(build(curve, &vec![0xff; curve.field_bytes()]).is_none(), "beyond the order");
        }
    }

    proptest! {
        #[test]
        fn shifting_preserves_the_leftmost_bits(data in prop::collection::vec(any::<u8>(), 66..100)) {
            let shifted = leftmost_521(&data);
            prop_assert_eq!(shifted.len(), 66);
            prop_assert!(shifted[0] <= 1);
            for bit in 0..521_usize {
                let (from, to) = (bit, bit + 7);
                let read = |bytes: &[u8], bit: usize| bytes[bit / 8] >> (7 - bit % 8) & 1;
                prop_assert_eq!(read(&data, from), read(&shifted, to));
            }
        }
    }
}
