//! The keys with which service accounts sign: generated, and read from files. They are RSA keys, and only the public
//! key is stored.

use aws_lc_rs::rand::SystemRandom;
use kms_core::object::KeySpec;
use kms_protocol::KeyType;
use rsa::pkcs1::{DecodeRsaPublicKey, EncodeRsaPublicKey};
use rsa::pkcs8::spki::{self, der::pem};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::traits::PublicKeyParts;
use rsa::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::{CryptoError, generate};

/// The maximum size of a public key file, in bytes: RSA-4096 in PEM takes 800.
pub const PUBLIC_KEY_FILE_BYTES_MAX: usize = 8192;

/// The minimum public exponent: the one that every library generates.
const EXPONENT_MIN: u64 = 65_537;

/// A key pair that was generated for a service account.
pub struct AccountPair {
    /// The private key, PKCS #8, PEM.
    pub private: Zeroizing<String>,
    /// The public key, `SubjectPublicKeyInfo`, DER.
    pub public: Vec<u8>,
}

/// Generates a key pair.
///
/// # Errors
/// When the library fails.
pub fn generate_account_key_pair(bits: u32, random: &SystemRandom) -> Result<AccountPair, CryptoError> {
    const FAILED: CryptoError = CryptoError::Generation(KeyType::RSA);
    let generated = generate(&KeySpec::Rsa { bits, exponent: vec![1, 0, 1] }, random)?;
    let key = PrivateKey::from_pkcs8_der(generated.material.as_ref()).map_err(|_| FAILED)?;
    let private = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| FAILED)?;
    let public = key.to_public_key().to_public_key_der().map_err(|_| FAILED)?;
    Ok(AccountPair { private, public: public.into_vec() })
}

/// Why a file contains no public key that an account may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PublicKeyError {
    /// It holds a private key.
    #[error("it holds a private key, which never leaves its owner; name the file of the public key")]
    Private,
    /// It contains no RSA public key.
    #[error("it holds no RSA public key in PEM (`BEGIN PUBLIC KEY` or `BEGIN RSA PUBLIC KEY`)")]
    Unreadable,
    /// The key has another length.
    #[error("it holds an RSA key of {0} bits; 2048 or 4096 are required")]
    Length(u32),
    /// The public exponent is too small.
    #[error("its public exponent is smaller than {EXPONENT_MIN}")]
    Exponent,
}

/// Reads a public key in PEM. Returns its `SubjectPublicKeyInfo`, DER, and its length in bits.
///
/// # Errors
/// When it is not one that an account may use.
pub fn read_public_key(text: &str) -> Result<(Vec<u8>, u32), PublicKeyError> {
    if text.contains("PRIVATE KEY-----") {
        return Err(PublicKeyError::Private);
    }
    let text = text.trim();
    let key = PublicKey::from_public_key_pem(text)
        .or_else(|_| PublicKey::from_pkcs1_pem(text).map_err(|_| spki::Error::KeyMalformed));
    let key = key.map_err(|_| PublicKeyError::Unreadable)?;
    let bits = key.n().bit_width();
    if ![2048, 4096].contains(&bits) {
        return Err(PublicKeyError::Length(bits));
    }
    if key.e() < &rsa::BoxedUint::from(EXPONENT_MIN) {
        return Err(PublicKeyError::Exponent);
    }
    let der = key.to_public_key_der().map_err(|_| PublicKeyError::Unreadable)?;
    Ok((der.into_vec(), bits))
}

/// Encodes a public key's `SubjectPublicKeyInfo` in PEM.
pub fn public_key_pem(info: &[u8]) -> Option<String> {
    pem::encode_string("PUBLIC KEY", LineEnding::LF, info).ok()
}

/// Returns the `RSAPublicKey` (PKCS #1), DER, of a `SubjectPublicKeyInfo`, for the verification of signatures.
///
/// # Errors
/// When it is not an RSA key.
pub fn rsa_public_key(info: &[u8]) -> Result<Vec<u8>, PublicKeyError> {
    let key = PublicKey::from_public_key_der(info).map_err(|_| PublicKeyError::Unreadable)?;
    Ok(key.to_pkcs1_der().map_err(|_| PublicKeyError::Unreadable)?.into_vec())
}

#[cfg(test)]
mod tests {
    use rsa::pkcs1::EncodeRsaPublicKey;

    use super::*;

    #[test]
    fn a_pair_matches_and_its_public_key_is_read_in_both_encodings() {
        let pair = generate_account_key_pair(2048, &SystemRandom::new()).unwrap();
        let private = PrivateKey::from_pkcs8_pem(&pair.private).unwrap();
        let pem = public_key_pem(&pair.public).unwrap();
        assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        assert_eq!(read_public_key(&pem), Ok((pair.public.clone(), 2048)));
        let pkcs1 = private.to_public_key().to_pkcs1_pem(LineEnding::CRLF).unwrap();
        assert_eq!(read_public_key(&format!("\n{pkcs1}\n")), Ok((pair.public.clone(), 2048)));
        let raw = private.to_public_key().to_pkcs1_der().unwrap();
        assert_eq!(rsa_public_key(&pair.public).unwrap(), raw.as_bytes());
        assert_eq!(read_public_key(&pair.private), Err(PublicKeyError::Private));
    }

    #[test]
    fn unsuitable_public_keys_are_rejected() {
        assert_eq!(read_public_key("a text"), Err(PublicKeyError::Unreadable));
        let pair = generate_account_key_pair(3072, &SystemRandom::new()).unwrap();
        let pem = public_key_pem(&pair.public).unwrap();
        assert_eq!(read_public_key(&pem), Err(PublicKeyError::Length(3072)));
        assert_eq!(rsa_public_key(b"not der"), Err(PublicKeyError::Unreadable));
    }
}
