//! The client's side of an import: wrapping material for its way to the service.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use kms_core::object::KeyBytes;
use kms_protocol::{MechanismType, Mgf};
use rsa::PublicKey;
use rsa::pkcs8::DecodePublicKey;

use super::keywrap::Padding;
use super::{aes, public};

/// Wraps material for `rsa_…_oaep_sha256_aes_256_key_wrap` (PKCS #11, `CKM_RSA_AES_KEY_WRAP`): a new AES-256 key under
/// the public wrapping key (PEM), then the material under that key. None if the public key is no RSA key, or there are
/// no random numbers.
pub fn wrap_for_import(public_pem: &str, material: &[u8], random: &SystemRandom) -> Option<Vec<u8>> {
    let wrapping = PublicKey::from_public_key_pem(public_pem).ok()?;
    let mut intermediate = KeyBytes::from(vec![0; 32]);
    random.fill(&mut intermediate.0).ok()?;
    let oaep = (MechanismType::SHA256, Mgf::SHA256, [].as_slice());
    let rsa_part = public::encrypt_oaep(&wrapping, oaep, intermediate.as_ref(), random).ok()?;
    let aes_part = aes::open(&intermediate)?.wrap(Padding::Zeros, material).ok()?;
    Some([&*rsa_part, &*aes_part].concat())
}
