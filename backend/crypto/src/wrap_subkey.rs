//! The half of a key that wraps, where a strict ring's key both works on data and wraps (`policy::separation`).
//!
//! HKDF (RFC 5869) with SHA-512, no salt, and an info of its own: whatever the key itself does as AES tells nothing
//! about this half, and nothing wrapped under it can be decrypted with the key. No such key derives others, so nobody
//! gets the half by asking for it.

use hkdf::Hkdf;
use kms_core::object::KeyBytes;
use kms_protocol::Rv;
use sha2::Sha512;
use zeroize::Zeroizing;

use super::{Kind, OpenedKey, aes};

/// What the half is derived for. Wrapped keys are kept outside: it never changes.
const INFO: &[u8] = b"kms: the half of an AES key that wraps, 1";

impl OpenedKey {
    /// The half of an AES key that wraps and unwraps, as long as the key.
    ///
    /// # Errors
    /// `CKR_KEY_TYPE_INCONSISTENT` for other keys: they have none.
    pub fn wrap_subkey(&self) -> Result<Self, Rv> {
        let Kind::Aes(key) = &self.0 else { return Err(Rv::KEY_TYPE_INCONSISTENT) };
        aes::open(&half(key.value())?).map(|half| Self(Kind::Aes(half))).ok_or(Rv::KEY_TYPE_INCONSISTENT)
    }
}

fn half(value: &[u8]) -> Result<KeyBytes, Rv> {
    let mut half = Zeroizing::new(vec![0; value.len()]);
    Hkdf::<Sha512>::new(None, value).expand(INFO, &mut half).map_err(|_| Rv::KEY_TYPE_INCONSISTENT)?;
    Ok(KeyBytes(half))
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
    fn it_is_what_another_library_derives() {
        for bytes in [16, 24, 32] {
            let value: Vec<u8> = (0..bytes).collect();
            let mut expected = vec![0; value.len()];
            let extracted = Salt::new(HKDF_SHA512, &[]).extract(&value);
            extracted.expand(&[INFO], Length(value.len())).unwrap().fill(&mut expected).unwrap();
            assert_eq!(half(&value).unwrap().as_ref(), expected);
        }
    }

    /// What was wrapped is outside, and must be unwrapped by every later version.
    #[test]
    fn it_never_changes() {
        let half = half(&[7; 32]).unwrap();
        let fingerprint: String = half.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        expect_test::expect!["ec8ae012178ffc10538725ef86155252ea0fb3bafb0945f8021801ad017038f8"]
            .assert_eq(&fingerprint);
    }
}
