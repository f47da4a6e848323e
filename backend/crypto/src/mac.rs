//! MACs: HMAC with a generic secret, CMAC with an AES key.

use hmac::{KeyInit, Mac};
use kms_core::object::KeyBytes;
use kms_protocol::{Mechanism, MechanismType, Parameters, Rv, Secret, mechanism_table};
use subtle::ConstantTimeEq;

use super::aes::Modes;
use super::digest::with_hmac;

/// The key of a MAC function.
#[derive(Clone, Copy)]
pub(super) enum MacKey<'a> {
    /// The key of an HMAC.
    Bytes(&'a [u8]),
    /// The key of a CMAC.
    Aes(&'a dyn Modes),
}

impl<'a> From<&'a KeyBytes> for MacKey<'a> {
    fn from(key: &'a KeyBytes) -> Self {
        Self::Bytes(key.as_ref())
    }
}

/// A MAC function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Function {
    /// HMAC over this digest.
    Hmac(MechanismType),
    /// CMAC with AES.
    Cmac,
}

/// Computes the MAC of `data`, truncated to the mechanism's length.
pub(super) fn sign(key: MacKey<'_>, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    let (function, length) = function_and_length(mechanism)?;
    let mut mac = full(key, function, data)?;
    mac.bytes_mut().truncate(length);
    Ok(mac)
}

/// Checks that `mac` is the MAC of `data`, in the same time wherever they differ.
pub(super) fn verify(key: MacKey<'_>, mechanism: &Mechanism, data: &[u8], mac: &[u8]) -> Result<(), Rv> {
    let expected = sign(key, mechanism, data)?;
    if expected.len() != mac.len() {
        return Err(Rv::SIGNATURE_LEN_RANGE);
    }
    if bool::from(expected.ct_eq(mac)) { Ok(()) } else { Err(Rv::SIGNATURE_INVALID) }
}

/// The MAC function of a mechanism, if it has one.
pub(super) fn function_of(kind: MechanismType) -> Option<Function> {
    let row = mechanism_table::row_of(kind)?;
    match row.digest.filter(|_| row.is_hmac()) {
        Some(digest) => Some(Function::Hmac(digest)),
        None => mechanism_table::mac_bytes(row).map(|_| Function::Cmac),
    }
}

/// The MAC function of a mechanism, and the length of its MAC.
fn function_and_length(mechanism: &Mechanism) -> Result<(Function, usize), Rv> {
    let row = mechanism.check()?;
    let function = function_of(mechanism.kind).ok_or(Rv::MECHANISM_INVALID)?;
    let full = mechanism_table::mac_bytes(row).ok_or(Rv::MECHANISM_INVALID)?;
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
        | Parameters::HashMlDsa { .. }
        | Parameters::Ecdh { .. }
        | Parameters::Hkdf { .. }
        | Parameters::Kbkdf { .. }
        | Parameters::Data { .. }
        | Parameters::Key(_)
        | Parameters::WrapIv(_)
        | Parameters::Extract { .. }
        | Parameters::RsaAes { .. } => return Err(Rv::MECHANISM_PARAM_INVALID),
    };
    Ok((function, usize::try_from(length).map_err(|_| Rv::MECHANISM_PARAM_INVALID)?))
}

/// The full MAC.
// The key is hashed into the state in each call: two compressions, 0.1 µs, instead of storing five states for each key.
pub(super) fn full(key: MacKey<'_>, function: Function, data: &[u8]) -> Result<Secret, Rv> {
    match (function, key) {
        (Function::Hmac(digest), MacKey::Bytes(key)) => with_hmac!(digest, M => {
            let mut mac = M::new_from_slice(key).expect("HMAC takes a key of any length");
            mac.update(data);
            Ok(Secret::from(mac.finalize().into_bytes().to_vec()))
        }),
        (Function::Cmac, MacKey::Aes(key)) => Ok(Secret::from(key.cmac(data).to_vec())),
        (Function::Hmac(_), MacKey::Aes(_)) | (Function::Cmac, MacKey::Bytes(_)) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The other implementation of a mechanism.
    fn other_library(kind: MechanismType) -> aws_lc_rs::hmac::Algorithm {
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
            let ours = sign(MacKey::Bytes(&key), &mechanism, &data).unwrap();
            let theirs = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(other_library(PLAIN[which]), &key), &data);
            prop_assert_eq!(&*ours, theirs.as_ref());
        }
    }

    #[test]
    fn a_general_mac_is_a_prefix_of_the_full_one() {
        let key = MacKey::Bytes(&[7; 32]);
        let full_mac = sign(key, &Mechanism::plain(MechanismType::SHA256_HMAC), b"data").unwrap();
        for bytes in 1..=32 {
            let kind = MechanismType::SHA256_HMAC_GENERAL;
            let mechanism = Mechanism { kind, parameters: Parameters::MacBytes(bytes) };
            let mac = sign(key, &mechanism, b"data").unwrap();
            assert_eq!(&*mac, &full_mac[..bytes as usize]);
            assert_eq!(verify(key, &mechanism, b"data", &mac), Ok(()));
            assert_eq!(verify(key, &mechanism, b"datb", &mac), Err(Rv::SIGNATURE_INVALID));
            assert_eq!(verify(key, &mechanism, b"data", &mac[1..]), Err(Rv::SIGNATURE_LEN_RANGE));
        }
    }
}
