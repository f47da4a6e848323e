//! Key generation (`docs/decisions/0006`).

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{EcdsaKeyPair, RsaKeyPair};
use kms_core::object::{Curve, KeyBytes, KeySpec};
use kms_protocol::{Attribute, KeyType};
use rsa::pkcs8::EncodePrivateKey;
use zeroize::Zeroizing;

use super::mldsa::DsaKey;
use super::mlkem::KemKey;
use super::public_attributes::{self, PairAttributes};
use super::random::Random;
use super::{CryptoError, ec, edwards_montgomery};

/// The public exponent that aws-lc-rs uses, big endian.
const USUAL_EXPONENT: &[u8] = &[1, 0, 1];

/// The length of a ChaCha20 key.
const CHACHA_BYTES: u32 = 32;

/// A generated key.
#[derive(Debug)]
pub struct GeneratedKey {
    /// Its secret: a secret key's value, or a private key in PKCS #8.
    pub material: KeyBytes,
    /// The attributes that follow from it, for the secret or private key's object.
    pub attributes: Vec<Attribute>,
    /// The attributes that follow from it, for the public key's object; none for a secret key.
    pub public: Vec<Attribute>,
}

/// Generates a key.
///
/// # Errors
/// When the library fails: an unsupported length, or no random numbers.
pub fn generate(spec: &KeySpec, random: &SystemRandom) -> Result<GeneratedKey, CryptoError> {
    match spec {
        KeySpec::Aes { bytes } => secret_key(random_material(*bytes, KeyType::AES, random)?, KeyType::AES),
        KeySpec::Generic { bytes } => {
            let kind = KeyType::GENERIC_SECRET;
            secret_key(random_material(*bytes, kind, random)?, kind)
        }
        KeySpec::Rsa { bits, exponent } => rsa_pair(*bits, exponent, random),
        KeySpec::Ec { curve } => ec_pair(*curve),
        KeySpec::ChaCha20 => {
            let material = random_material(CHACHA_BYTES, KeyType::CHACHA20, random)?;
            secret_key(material, KeyType::CHACHA20)
        }
        KeySpec::EdwardsMontgomery { curve } => {
            edwards_montgomery::check_built_in(*curve)?;
            pair(curve.key_type(), edwards_montgomery::generate(*curve, random))
        }
        KeySpec::MlKem { set } => pair(KeyType::ML_KEM, KemKey::generate(*set)),
        KeySpec::MlDsa { set } => pair(KeyType::ML_DSA, DsaKey::generate(*set, random)),
    }
}

fn random_material(bytes: u32, kind: KeyType, random: &SystemRandom) -> Result<KeyBytes, CryptoError> {
    let length = usize::try_from(bytes).map_err(|_| CryptoError::Generation(kind))?;
    let mut material = Zeroizing::new(vec![0; length]);
    random.fill(&mut material).map_err(|_| CryptoError::Generation(kind))?;
    Ok(KeyBytes(material))
}

fn secret_key(material: KeyBytes, kind: KeyType) -> Result<GeneratedKey, CryptoError> {
    let attributes =
        public_attributes::of_secret(kind, &material).map_err(|_| CryptoError::Generation(kind))?;
    Ok(GeneratedKey { material, attributes, public: Vec::new() })
}

fn pair(kind: KeyType, material: Option<KeyBytes>) -> Result<GeneratedKey, CryptoError> {
    let material = material.ok_or(CryptoError::Generation(kind))?;
    let attributes = public_attributes::of_pair(kind, &material);
    with_attributes(kind, material, attributes)
}

fn with_attributes(
    kind: KeyType,
    material: KeyBytes,
    attributes: Option<PairAttributes>,
) -> Result<GeneratedKey, CryptoError> {
    let PairAttributes { private, public } = attributes.ok_or(CryptoError::Generation(kind))?;
    Ok(GeneratedKey { material, attributes: private, public })
}

fn rsa_pair(bits: u32, exponent: &[u8], random: &SystemRandom) -> Result<GeneratedKey, CryptoError> {
    const FAILED: CryptoError = CryptoError::Generation(KeyType::RSA);
    let usual_size = match bits {
        2048 => Some(KeySize::Rsa2048),
        3072 => Some(KeySize::Rsa3072),
        4096 => Some(KeySize::Rsa4096),
        _ => None,
    };
    let (pair, material) = match usual_size.filter(|_| exponent == USUAL_EXPONENT) {
        Some(size) => {
            let pair = RsaKeyPair::generate(size).map_err(|_| FAILED)?;
            let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| FAILED)?;
            let material = KeyBytes::from(der.as_ref().to_vec());
            (pair, material)
        }
        None => {
            let size = usize::try_from(bits).map_err(|_| FAILED)?;
            let exponent_bits = u32::try_from(exponent.len()).map_err(|_| FAILED)?.saturating_mul(8);
            let exponent =
                rsa::BoxedUint::from_be_slice(exponent, exponent_bits.max(64)).map_err(|_| FAILED)?;
            let key =
                rsa::PrivateKey::new_with_exp(&mut Random(random), size, exponent).map_err(|_| FAILED)?;
            let der = key.to_pkcs8_der().map_err(|_| FAILED)?;
            let pair = RsaKeyPair::from_pkcs8(der.as_bytes()).map_err(|_| FAILED)?;
            (pair, KeyBytes::from(der.as_bytes().to_vec()))
        }
    };
    with_attributes(KeyType::RSA, material, public_attributes::of_rsa(&pair))
}

fn ec_pair(curve: Curve) -> Result<GeneratedKey, CryptoError> {
    const FAILED: CryptoError = CryptoError::Generation(KeyType::EC);
    let pair = EcdsaKeyPair::generate(ec::algorithm_of(curve)).map_err(|_| FAILED)?;
    let der = pair.to_pkcs8v1().map_err(|_| FAILED)?;
    let material = KeyBytes::from(der.as_ref().to_vec());
    with_attributes(KeyType::EC, material, public_attributes::of_ec(curve, &pair))
}

#[cfg(test)]
mod tests {
    use kms_protocol::AttributeType;
    use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
    use rsa::traits::PublicKeyParts;

    use super::*;

    fn of(attributes: &[Attribute], kind: AttributeType) -> Vec<u8> {
        kms_protocol::Template(attributes.to_vec()).bytes(kind).unwrap().to_vec()
    }

    #[test]
    fn secrets_have_their_length_and_differ() {
        let random = SystemRandom::new();
        for bytes in [16, 24, 32] {
            let (one, two) = (
                generate(&KeySpec::Aes { bytes }, &random).unwrap(),
                generate(&KeySpec::Aes { bytes }, &random).unwrap(),
            );
            assert_eq!(one.material.as_ref().len(), bytes as usize);
            assert_ne!(one.material.as_ref(), two.material.as_ref());
            assert_eq!(of(&one.attributes, AttributeType::CHECK_VALUE).len(), 3);
            assert!(one.public.is_empty());
        }
        assert_eq!(generate(&KeySpec::Generic { bytes: 1 }, &random).unwrap().material.as_ref().len(), 1);
    }

    #[test]
    fn rsa_pairs_open_in_both_libraries() {
        let random = SystemRandom::new();
        for (bits, exponent) in [(2048, vec![1, 0, 1]), (3072, vec![1, 0, 1]), (2048, vec![3])] {
            let generated = generate(&KeySpec::Rsa { bits, exponent: exponent.clone() }, &random).unwrap();
            let other = rsa::PrivateKey::from_pkcs8_der(generated.material.as_ref()).unwrap();
            other.validate().unwrap();
            assert!(RsaKeyPair::from_pkcs8(generated.material.as_ref()).is_ok());
            assert_eq!(of(&generated.public, AttributeType::MODULUS), other.n_bytes().to_vec());
            assert_eq!(of(&generated.public, AttributeType::MODULUS).len() * 8, bits as usize);
            assert_eq!(of(&generated.attributes, AttributeType::PUBLIC_EXPONENT), exponent);
            let info = of(&generated.attributes, AttributeType::PUBLIC_KEY_INFO);
            assert_eq!(rsa::PublicKey::from_public_key_der(&info).unwrap(), other.to_public_key());
        }
    }

    #[test]
    fn ec_pairs_open_in_both_libraries() {
        macro_rules! check {
            ($module:ident, $curve:expr, $head:expr) => {{
                let generated = generate(&KeySpec::Ec { curve: $curve }, &SystemRandom::new()).unwrap();
                let secret = $module::SecretKey::from_pkcs8_der(generated.material.as_ref()).unwrap();
                let info = of(&generated.attributes, AttributeType::PUBLIC_KEY_INFO);
                assert_eq!($module::PublicKey::from_public_key_der(&info).unwrap(), secret.public_key());
                let point = of(&generated.public, AttributeType::EC_POINT);
                let (head, rest) = point.split_at($head.len());
                assert_eq!(head, $head);
                assert_eq!($module::PublicKey::from_sec1_bytes(rest).unwrap(), secret.public_key());
                assert_eq!(of(&generated.public, AttributeType::EC_PARAMS), $curve.oid_der());
            }};
        }
        check!(p256, Curve::P256, [4, 65]);
        check!(p384, Curve::P384, [4, 97]);
        check!(p521, Curve::P521, [4, 0x81, 133]);
    }
}
