//! ECDSA with a public key, and the two encodings of its signatures: PKCS #11 concatenates the two numbers, X.509 and
//! the REST API have them in DER (RFC 3279, "ECDSA Signature Algorithm").

use aws_lc_rs::digest::Digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, UnparsedPublicKey,
    VerificationAlgorithm,
};
use kms_core::object::Curve;
use kms_protocol::{AttributeType, Mechanism, MechanismType, Rv, Template, mechanism_table};

use super::{der, ec};

/// A public key on a NIST curve.
pub(super) struct EcPublic {
    curve: Curve,
    point: Vec<u8>,
}

impl EcPublic {
    /// Reads a public key from its attributes.
    pub(super) fn open(template: &Template) -> Option<Self> {
        let params = template.bytes(AttributeType::EC_PARAMS)?;
        let curve = Curve::ALL.into_iter().find(|curve| curve.oid_der() == params)?;
        let point = der::point(template.bytes(AttributeType::EC_POINT)?, 1 + 2 * curve.field_bytes())?;
        Some(Self { curve, point: point.to_vec() })
    }

    /// Verifies a signature over a digest of the length that belongs to the curve.
    ///
    /// # Errors
    /// `CKR_SIGNATURE_LEN_RANGE`, `CKR_SIGNATURE_INVALID`, and `CKR_DATA_LEN_RANGE` for a digest of another length: the
    /// provider verifies those.
    pub(super) fn verify(&self, mechanism: &Mechanism, data: &[u8], signature: &[u8]) -> Result<(), Rv> {
        let row = mechanism_table::row_of(mechanism.kind).ok_or(Rv::MECHANISM_INVALID)?;
        if row.signs.unwrap_or(mechanism.kind) != MechanismType::ECDSA {
            return Err(Rv::MECHANISM_INVALID);
        }
        if signature.len() != 2 * self.curve.field_bytes() {
            return Err(Rv::SIGNATURE_LEN_RANGE);
        }
        let digest =
            Digest::import_less_safe(data, ec::hash_of(self.curve)).map_err(|_| Rv::DATA_LEN_RANGE)?;
        UnparsedPublicKey::new(verification_of(self.curve), &self.point)
            .verify_digest(&digest, signature)
            .map_err(|_| Rv::SIGNATURE_INVALID)
    }
}

fn verification_of(curve: Curve) -> &'static dyn VerificationAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_FIXED,
        Curve::P384 => &ECDSA_P384_SHA384_FIXED,
        Curve::P521 => &ECDSA_P521_SHA512_FIXED,
    }
}

/// Encodes a signature's two numbers in DER. None if it is no signature of this curve's length.
pub fn signature_to_der(curve: Curve, signature: &[u8]) -> Option<Vec<u8>> {
    Some(match curve {
        Curve::P256 => p256::ecdsa::Signature::from_slice(signature).ok()?.to_der().as_bytes().to_vec(),
        Curve::P384 => p384::ecdsa::Signature::from_slice(signature).ok()?.to_der().as_bytes().to_vec(),
        Curve::P521 => p521::ecdsa::Signature::from_slice(signature).ok()?.to_der().as_bytes().to_vec(),
    })
}

/// Decodes a signature from DER. None if it is no such signature.
pub fn signature_from_der(curve: Curve, der: &[u8]) -> Option<Vec<u8>> {
    Some(match curve {
        Curve::P256 => p256::ecdsa::Signature::from_der(der).ok()?.to_bytes().to_vec(),
        Curve::P384 => p384::ecdsa::Signature::from_der(der).ok()?.to_bytes().to_vec(),
        Curve::P521 => p521::ecdsa::Signature::from_der(der).ok()?.to_bytes().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::KeySpec;

    use super::*;
    use crate::generate;

    #[test]
    fn signatures_are_verified_and_converted_between_both_encodings() {
        for curve in Curve::ALL {
            let generated = generate(&KeySpec::Ec { curve }, &SystemRandom::new()).unwrap();
            let pair = ec::EcKey::open(&generated.material).unwrap();
            let public = EcPublic::open(&Template(generated.public)).unwrap();
            let mechanism = Mechanism::plain(MechanismType::ECDSA);
            let digest = vec![7; ec::hash_of(curve).output_len()];
            let signature = pair.sign(&mechanism, &digest).unwrap();
            let der = signature_to_der(curve, &signature).unwrap();
            assert_eq!(signature_from_der(curve, &der).as_deref(), Some(&*signature));
            assert_eq!(public.verify(&mechanism, &digest, &signature), Ok(()));
            let mut other = digest.clone();
            other[0] ^= 1;
            assert_eq!(public.verify(&mechanism, &other, &signature), Err(Rv::SIGNATURE_INVALID));
            assert_eq!(public.verify(&mechanism, &digest, &der), Err(Rv::SIGNATURE_LEN_RANGE));
            assert_eq!(public.verify(&mechanism, &digest[1..], &signature), Err(Rv::DATA_LEN_RANGE));
            for wrong in [&der[..der.len() - 1], &[], &[0x30, 0]] {
                assert_eq!(signature_from_der(curve, wrong), None);
            }
        }
    }
}
