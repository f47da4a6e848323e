//! The wrapping subkey of a strict ring's key that both works on data and wraps (`policy::separation`).
//!
//! HKDF (RFC 5869) with SHA-512, no salt, and an info of its own: AES operations with the key reveal nothing about the
//! subkey, and nothing wrapped with the subkey can be decrypted with the key. Such keys derive no others, so no caller
//! can derive the subkey.

use hkdf::Hkdf;
use kms_core::object::KeyBytes;
use kms_protocol::Rv;
use sha2::Sha512;
use zeroize::Zeroizing;

use super::aes;
use super::opened_key::{Kind, OpenedKey};

/// The info of the derivation. Wrapped keys are stored outside of the KMS, so it never changes.
const INFO: &[u8] = b"kms: the half of an AES key that wraps, 1";

impl OpenedKey {
    /// The subkey of an AES key that wraps and unwraps, as long as the key.
    ///
    /// # Errors
    /// `CKR_KEY_TYPE_INCONSISTENT` for other keys: they have none.
    pub fn wrap_subkey(&self) -> Result<Self, Rv> {
        let Kind::Aes(key) = &self.0 else { return Err(Rv::KEY_TYPE_INCONSISTENT) };
        aes::open(&derive_subkey(key.value())?)
            .map(|subkey| Self(Kind::Aes(subkey)))
            .ok_or(Rv::KEY_TYPE_INCONSISTENT)
    }
}

fn derive_subkey(value: &[u8]) -> Result<KeyBytes, Rv> {
    let mut subkey = Zeroizing::new(vec![0; value.len()]);
    Hkdf::<Sha512>::new(None, value).expand(INFO, &mut subkey).map_err(|_| Rv::KEY_TYPE_INCONSISTENT)?;
    Ok(KeyBytes(subkey))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};

    use super::*;

    struct Length(usize);

    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn another_library_derives_the_same_subkey() {
        for bytes in [16, 24, 32] {
            let value: Vec<u8> = (0..bytes).collect();
            let mut expected = vec![0; value.len()];
            let extracted = Salt::new(HKDF_SHA512, &[]).extract(&value);
            extracted.expand(&[INFO], Length(value.len())).unwrap().fill(&mut expected).unwrap();
            assert_eq!(derive_subkey(&value).unwrap().as_ref(), expected);
        }
    }

    /// Keys that were wrapped are stored outside, and every later version must unwrap them.
    #[test]
    fn the_subkey_never_changes() {
        let subkey = derive_subkey(&[7; 32]).unwrap();
        let hex: String = subkey.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        expect_test::expect!["ec8ae012178ffc10538725ef86155252ea0fb3bafb0945f8021801ad017038f8"]
            .assert_eq(&hex);
    }
}
