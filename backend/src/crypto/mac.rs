//! HMAC with a generic secret.

use hmac::{Hmac, KeyInit, Mac};
use kms_protocol::{Mechanism, MechanismType, Parameters, Rv, Secret, mechanism_table};
use subtle::ConstantTimeEq;

use super::digest::with_digest;
use crate::object::KeyBytes;

/// The MAC of `data`, cut to the length that the mechanism names.
pub(super) fn sign(key: &KeyBytes, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    let (digest, length) = read(mechanism)?;
    let mut mac = full(key, digest, data)?;
    mac.bytes_mut().truncate(length);
    Ok(mac)
}

/// Whether `mac` is the MAC of `data`. Takes the same time wherever they differ.
pub(super) fn verify(key: &KeyBytes, mechanism: &Mechanism, data: &[u8], mac: &[u8]) -> Result<(), Rv> {
    let right = sign(key, mechanism, data)?;
    if right.len() != mac.len() {
        return Err(Rv::SIGNATURE_LEN_RANGE);
    }
    if bool::from(right.ct_eq(mac)) { Ok(()) } else { Err(Rv::SIGNATURE_INVALID) }
}

/// The digest inside a mechanism, and the length of its MAC.
fn read(mechanism: &Mechanism) -> Result<(MechanismType, usize), Rv> {
    let row = mechanism.check()?;
    let digest = row.digest.ok_or(Rv::MECHANISM_INVALID)?;
    let full = mechanism_table::digest_bytes(digest).ok_or(Rv::MECHANISM_INVALID)?;
    let length = match &mechanism.parameters {
        Parameters::None => full,
        Parameters::MacBytes(bytes) => *bytes,
        Parameters::Iv(_)
        | Parameters::Ctr { .. }
        | Parameters::Gcm { .. }
        | Parameters::Pss { .. }
        | Parameters::Oaep { .. }
        | Parameters::GcmGenerate { .. }
        | Parameters::Ccm { .. }
        | Parameters::Poly1305 { .. }
        | Parameters::Eddsa { .. }
        | Parameters::MlDsa { .. }
        | Parameters::Ecdh { .. }
        | Parameters::Hkdf { .. }
        | Parameters::Kbkdf { .. }
        | Parameters::Data { .. }
        | Parameters::Key(_)
        | Parameters::WrapIv(_)
        | Parameters::RsaAes { .. } => return Err(Rv::MECHANISM_PARAM_INVALID),
    };
    Ok((digest, usize::try_from(length).map_err(|_| Rv::MECHANISM_PARAM_INVALID)?))
}

// The key is hashed into the state at each call: two compressions, 0.1 µs, against keeping five states for each key.
fn full(key: &KeyBytes, digest: MechanismType, data: &[u8]) -> Result<Secret, Rv> {
    with_digest!(digest, D => {
        let mut mac = Hmac::<D>::new_from_slice(key.as_ref()).expect("HMAC takes a key of any length");
        mac.update(data);
        Ok(Secret::from(mac.finalize().into_bytes().to_vec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every MAC mechanism with its second implementation.
    fn second(kind: MechanismType) -> aws_lc_rs::hmac::Algorithm {
        match kind {
            MechanismType::SHA_1_HMAC => aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            MechanismType::SHA224_HMAC => aws_lc_rs::hmac::HMAC_SHA224,
            MechanismType::SHA256_HMAC => aws_lc_rs::hmac::HMAC_SHA256,
            MechanismType::SHA384_HMAC => aws_lc_rs::hmac::HMAC_SHA384,
            MechanismType::SHA512_HMAC => aws_lc_rs::hmac::HMAC_SHA512,
            other => panic!("{other} is no HMAC"),
        }
    }

    const PLAIN: [MechanismType; 5] = [
        MechanismType::SHA_1_HMAC,
        MechanismType::SHA224_HMAC,
        MechanismType::SHA256_HMAC,
        MechanismType::SHA384_HMAC,
        MechanismType::SHA512_HMAC,
    ];

    proptest! {
        #[test]
        fn another_library_agrees(key in prop::collection::vec(any::<u8>(), 1..200), data: Vec<u8>, which in 0_usize..5) {
            let mechanism = Mechanism::plain(PLAIN[which]);
            let ours = sign(&KeyBytes::from(key.clone()), &mechanism, &data).unwrap();
            let theirs = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(second(PLAIN[which]), &key), &data);
            prop_assert_eq!(&*ours, theirs.as_ref());
        }
    }

    #[test]
    fn a_general_mac_is_the_front_of_the_whole_one() {
        let key = KeyBytes::from(vec![7; 32]);
        let whole = sign(&key, &Mechanism::plain(MechanismType::SHA256_HMAC), b"data").unwrap();
        for bytes in 1..=32 {
            let kind = MechanismType::SHA256_HMAC_GENERAL;
            let mechanism = Mechanism { kind, parameters: Parameters::MacBytes(bytes) };
            let mac = sign(&key, &mechanism, b"data").unwrap();
            assert_eq!(&*mac, &whole[..bytes as usize]);
            assert_eq!(verify(&key, &mechanism, b"data", &mac), Ok(()));
            assert_eq!(verify(&key, &mechanism, b"datb", &mac), Err(Rv::SIGNATURE_INVALID));
            assert_eq!(verify(&key, &mechanism, b"data", &mac[1..]), Err(Rv::SIGNATURE_LEN_RANGE));
        }
    }
}
