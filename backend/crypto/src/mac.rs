//! MACs: HMAC with a generic secret, CMAC with an AES key.

use hmac::{KeyInit, Mac};
use kms_core::object::KeyBytes;
use kms_protocol::{Mechanism, MechanismType, Parameters, Rv, Secret, mechanism_table};
use subtle::ConstantTimeEq;

use super::aes::Modes;
use super::digest::with_hmac;

/// The key of a MAC.
#[derive(Clone, Copy)]
pub(super) enum MacKey<'a> {
    /// Of an HMAC.
    Bytes(&'a [u8]),
    /// Of a CMAC.
    Aes(&'a dyn Modes),
}

impl<'a> From<&'a KeyBytes> for MacKey<'a> {
    fn from(key: &'a KeyBytes) -> Self {
        Self::Bytes(key.as_ref())
    }
}

/// Which MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Function {
    /// HMAC over this digest.
    Hmac(MechanismType),
    /// CMAC with AES.
    Cmac,
}

/// The MAC of `data`, cut to the length that the mechanism names.
pub(super) fn sign(key: MacKey<'_>, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    let (function, length) = read(mechanism)?;
    let mut mac = full(key, function, data)?;
    mac.bytes_mut().truncate(length);
    Ok(mac)
}

/// Whether `mac` is the MAC of `data`. Takes the same time wherever they differ.
pub(super) fn verify(key: MacKey<'_>, mechanism: &Mechanism, data: &[u8], mac: &[u8]) -> Result<(), Rv> {
    let right = sign(key, mechanism, data)?;
    if right.len() != mac.len() {
        return Err(Rv::SIGNATURE_LEN_RANGE);
    }
    if bool::from(right.ct_eq(mac)) { Ok(()) } else { Err(Rv::SIGNATURE_INVALID) }
}

/// The function a mechanism stands for, if it stands for a MAC.
pub(super) fn function_of(kind: MechanismType) -> Option<Function> {
    let row = mechanism_table::row_of(kind)?;
    match row.digest.filter(|_| row.is_hmac()) {
        Some(digest) => Some(Function::Hmac(digest)),
        None => mechanism_table::mac_bytes(row).map(|_| Function::Cmac),
    }
}

/// What a mechanism computes, and how much of it.
fn read(mechanism: &Mechanism) -> Result<(Function, usize), Rv> {
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

/// The whole MAC.
// The key is hashed into the state at each call: two compressions, 0.1 µs, against keeping five states for each key.
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
            let ours = sign(MacKey::Bytes(&key), &mechanism, &data).unwrap();
            let theirs = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(second(PLAIN[which]), &key), &data);
            prop_assert_eq!(&*ours, theirs.as_ref());
        }
    }

    #[test]
    fn a_general_mac_is_the_front_of_the_whole_one() {
        let key = MacKey::Bytes(&[7; 32]);
        let whole = sign(key, &Mechanism::plain(MechanismType::SHA256_HMAC), b"data").unwrap();
        for bytes in 1..=32 {
            let kind = MechanismType::SHA256_HMAC_GENERAL;
            let mechanism = Mechanism { kind, parameters: Parameters::MacBytes(bytes) };
            let mac = sign(key, &mechanism, b"data").unwrap();
            assert_eq!(&*mac, &whole[..bytes as usize]);
            assert_eq!(verify(key, &mechanism, b"data", &mac), Ok(()));
            assert_eq!(verify(key, &mechanism, b"datb", &mac), Err(Rv::SIGNATURE_INVALID));
            assert_eq!(verify(key, &mechanism, b"data", &mac[1..]), Err(Rv::SIGNATURE_LEN_RANGE));
        }
    }
}
