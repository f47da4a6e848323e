//! The client's side of bringing one's own key: material wrapped for the way to the service.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use kms_core::object::KeyBytes;
use kms_protocol::{MechanismType, Mgf};
use rsa::PublicKey;
use rsa::pkcs8::DecodePublicKey;

use super::keywrap::Padding;
use super::{aes, public};

/// Wraps material as `rsa_…_oaep_sha256_aes_256_key_wrap` has it (PKCS #11, `CKM_RSA_AES_KEY_WRAP`): a fresh AES-256 key
/// under the wrapping key's public half (PEM), then the material under that. None if the public half is no RSA key, or
/// there are no random numbers.
pub fn wrap_for_import(public_pem: &str, material: &[u8], random: &SystemRandom) -> Option<Vec<u8>> {
    let wrapping = PublicKey::from_public_key_pem(public_pem).ok()?;
    let mut between = KeyBytes::from(vec![0; 32]);
    random.fill(&mut between.0).ok()?;
    let oaep = (MechanismType::SHA256, Mgf::SHA256, [].as_slice());
    let front = public::encrypt_oaep(&wrapping, oaep, between.as_ref(), random).ok()?;
    let back = aes::open(&between)?.wrap(Padding::Zeros, material).ok()?;
    Some([&*front, &*back].concat())
}
