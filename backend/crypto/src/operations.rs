//! Encryption, decryption, signatures and verification: the permit is checked, then the key's family computes.

use kms_core::policy::{Permit, Usage};
use kms_protocol::{Mechanism, Parameters, Rv, Secret};

use super::mac::{self, MacKey};
use super::opened_key::{Kind, OpenedKey};
use super::public;

/// Encrypts with a secret key, or with an RSA public key and OAEP.
///
/// # Errors
/// `CKR_DATA_LEN_RANGE` when the mechanism does not take data of this length.
pub fn encrypt(permit: &Permit, key: &OpenedKey, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    check_permit(permit, Usage::Encrypt, mechanism)?;
    match &key.0 {
        Kind::Aes(key) => key.encrypt(mechanism, data),
        Kind::ChaCha(key) => key.encrypt(mechanism, data),
        Kind::PublicRsa(key) => encrypt_oaep(key, mechanism, data),
        Kind::Rsa(_) | Kind::Ec(_) | Kind::Generic(_) | Kind::Edwards(_) | Kind::Montgomery(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
        Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
    }
}

/// Encrypts with an RSA public key and OAEP.
fn encrypt_oaep(key: &::rsa::PublicKey, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    let Parameters::Oaep { hash, mgf, label } = &mechanism.parameters else {
        return Err(Rv::MECHANISM_INVALID);
    };
    let random = aws_lc_rs::rand::SystemRandom::new();
    let encrypted = public::encrypt_oaep(key, (*hash, *mgf, label), data, &random);
    encrypted.map_err(|rv| if rv == Rv::KEY_SIZE_RANGE { Rv::DATA_LEN_RANGE } else { rv })
}

/// Decrypts with a secret or private key.
///
/// # Errors
/// `CKR_ENCRYPTED_DATA_LEN_RANGE` for a wrong length, `CKR_ENCRYPTED_DATA_INVALID` for any other error in the data.
pub fn decrypt(permit: &Permit, key: &OpenedKey, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    check_permit(permit, Usage::Decrypt, mechanism)?;
    match &key.0 {
        Kind::Aes(key) => key.decrypt(mechanism, data),
        Kind::ChaCha(key) => key.decrypt(mechanism, data),
        Kind::Rsa(key) => key.decrypt(mechanism, data),
        Kind::Ec(_) | Kind::Generic(_) | Kind::Edwards(_) | Kind::Montgomery(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
        Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicRsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
    }
}

/// Signs. For a hash-then-sign mechanism `data` is the digest.
///
/// # Errors
/// `CKR_DATA_LEN_RANGE` when the mechanism does not take data of this length.
pub fn sign(permit: &Permit, key: &OpenedKey, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    check_permit(permit, Usage::Sign, mechanism)?;
    match &key.0 {
        Kind::Rsa(key) => key.sign(mechanism, data),
        Kind::Ec(key) => key.sign(mechanism, data),
        Kind::Generic(key) => mac::sign(key.into(), mechanism, data),
        Kind::Aes(key) => mac::sign(MacKey::Aes(key.as_ref()), mechanism, data),
        Kind::Edwards(key) => key.sign(mechanism, data),
        Kind::Dsa(key) => key.sign(mechanism, data),
        Kind::ChaCha(_) | Kind::Montgomery(_) | Kind::Kem(_) => Err(Rv::KEY_TYPE_INCONSISTENT),
        Kind::PublicRsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// Verifies a MAC, or an ECDSA signature for the REST API. Providers verify signatures themselves, which needs no
/// secret.
///
/// # Errors
/// `CKR_SIGNATURE_INVALID`, or `CKR_SIGNATURE_LEN_RANGE` for a wrong length.
pub fn verify(
    permit: &Permit,
    key: &OpenedKey,
    mechanism: &Mechanism,
    data: &[u8],
    signature: &[u8],
) -> Result<(), Rv> {
    check_permit(permit, Usage::Verify, mechanism)?;
    match &key.0 {
        Kind::Generic(key) => mac::verify(key.into(), mechanism, data, signature),
        Kind::Aes(key) => mac::verify(MacKey::Aes(key.as_ref()), mechanism, data, signature),
        Kind::PublicEc(key) => key.verify(mechanism, data, signature),
        Kind::ChaCha(_) | Kind::Rsa(_) | Kind::Ec(_) | Kind::Edwards(_) | Kind::Montgomery(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
        Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicRsa(_) | Kind::PublicKem(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
    }
}

/// Checks that the permit is for this use and mechanism. Another permit is a bug of the backend.
pub(super) fn check_permit(permit: &Permit, usage: Usage, mechanism: &Mechanism) -> Result<(), Rv> {
    if permit.covers(usage, mechanism.kind) { Ok(()) } else { Err(Rv::KEY_FUNCTION_NOT_PERMITTED) }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::{KeySpec, RingRole};
    use kms_core::policy::permit;
    use kms_protocol::{KeyType, MechanismType, ObjectClass, Parameters, RingPolicy};

    use super::*;
    use crate::test_support::{caller, object};
    use crate::{CryptoError, export_value, generate};

    #[test]
    fn a_permit_is_for_one_use_and_mechanism() {
        let generated = generate(&KeySpec::Aes { bytes: 16 }, &SystemRandom::new()).unwrap();
        let object = object(ObjectClass::SECRET_KEY, KeyType::AES, &generated.attributes);
        let key = OpenedKey::open(ObjectClass::SECRET_KEY, KeyType::AES, &generated.material).unwrap();
        let user = caller(Some(RingRole::User), RingPolicy::Strict);
        let (ecb, cbc) = (
            Mechanism::plain(MechanismType::AES_ECB),
            Mechanism { kind: MechanismType::AES_CBC, parameters: Parameters::Iv([0; 16]) },
        );
        let permit = permit(&user, Usage::Encrypt, &ecb, &object).unwrap();
        assert!(encrypt(&permit, &key, &ecb, &[0; 16]).is_ok());
        let not_permitted = Rv::KEY_FUNCTION_NOT_PERMITTED;
        assert_eq!(encrypt(&permit, &key, &cbc, &[0; 16]).unwrap_err(), not_permitted);
        assert_eq!(decrypt(&permit, &key, &ecb, &[0; 16]).unwrap_err(), not_permitted);
        assert_eq!(sign(&permit, &key, &ecb, &[0; 16]).unwrap_err(), not_permitted);
        assert_eq!(verify(&permit, &key, &ecb, &[0; 16], &[0; 16]).unwrap_err(), not_permitted);
        let exported = export_value(&permit, KeyType::AES, ObjectClass::SECRET_KEY, &generated.material);
        assert!(matches!(exported, Err(CryptoError::Permit)));
    }
}
