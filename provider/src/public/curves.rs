//! Signatures on curves: ECDSA and EdDSA.

use kms_protocol::{AttributeType, Parameters, Rv, Template};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use sha2::{Digest, Sha512};

#[cfg(feature = "pre-release-curves")]
use super::ed448;
use super::ed25519ctx;
use crate::session::usage::field_bytes;

/// Ed25519, Ed25519ph and Ed25519ctx; with the feature `pre-release-curves` also Ed448 and Ed448ph.
pub(super) fn verify_eddsa(
    key: &Template,
    parameters: &Parameters,
    data: &[u8],
    signature: &[u8],
) -> Result<(), Rv> {
    let point = point_of(key)?;
    #[cfg(feature = "pre-release-curves")]
    if let Ok(point) = point.try_into() {
        return ed448::verify(point, parameters, data, signature);
    }
    let point: &[u8; 32] = point.try_into().map_err(|_| Rv::KEY_TYPE_INCONSISTENT)?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(point).map_err(|_| Rv::KEY_TYPE_INCONSISTENT)?;
    let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| Rv::SIGNATURE_LEN_RANGE)?;
    let verified = if let Parameters::Eddsa { prehashed, context } = parameters {
        if !prehashed {
            let valid = ed25519ctx::is_valid(&key, context, data, &signature);
            return if valid { Ok(()) } else { Err(Rv::SIGNATURE_INVALID) };
        }
        key.verify_prehashed(Sha512::new_with_prefix(data), Some(context), &signature)
    } else {
        key.verify(data, &signature)
    };
    verified.map_err(|_| Rv::SIGNATURE_INVALID)
}

/// ECDSA. It takes the leftmost bits of data of any length, as many as the curve's order has.
pub(super) fn verify_ecdsa(key: &Template, data: &[u8], signature: &[u8]) -> Result<(), Rv> {
    macro_rules! verify_on {
        ($curve:ident) => {{
            let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(point_of(key)?);
            let key = key.map_err(|_| Rv::KEY_TYPE_INCONSISTENT)?;
            let signature =
                $curve::ecdsa::Signature::from_slice(signature).map_err(|_| Rv::SIGNATURE_INVALID)?;
            key.verify_prehash(data, &signature).map_err(|_| Rv::SIGNATURE_INVALID)
        }};
    }
    match field_bytes(key.bytes(AttributeType::EC_PARAMS).unwrap_or_default()) {
        Some(32) => verify_on!(p256),
        Some(48) => verify_on!(p384),
        Some(66) => verify_on!(p521),
        _ => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// `CKA_EC_POINT` is a DER octet string around the point (spec, "Elliptic curve public key objects").
fn point_of(key: &Template) -> Result<&[u8], Rv> {
    let wrapped = key.bytes(AttributeType::EC_POINT).ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
    match wrapped {
        [0x04, 0x81, length, point @ ..] if usize::from(*length) == point.len() => Ok(point),
        [0x04, length, point @ ..] if usize::from(*length) == point.len() => Ok(point),
        _ => Ok(wrapped),
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::{Attribute, Mechanism, MechanismType, Secret};
    use p256::ecdsa::signature::hazmat::PrehashSigner;
    use sha1::Sha1;

    use super::super::verify;
    use super::*;

    #[test]
    fn ed25519_is_verified_with_and_without_prehash() {
        use ed25519_dalek::Signer;
        let private = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let point = private.verifying_key().to_bytes();
        let key =
            Template(vec![Attribute::bytes(AttributeType::EC_POINT, [&[0x04, 32], &point[..]].concat())]);
        let eddsa = |prehashed, context: &[u8]| Mechanism {
            kind: MechanismType::EDDSA,
            parameters: Parameters::Eddsa { prehashed, context: Secret::from(context) },
        };
        let pure = private.sign(b"data").to_bytes();
        assert_eq!(verify(&key, &Mechanism::plain(MechanismType::EDDSA), b"data", &pure), Ok(()));
        let plain = Mechanism::plain(MechanismType::EDDSA);
        assert_eq!(verify(&key, &plain, b"other", &pure), Err(Rv::SIGNATURE_INVALID));
        assert_eq!(verify(&key, &eddsa(false, b""), b"data", &pure), Err(Rv::SIGNATURE_INVALID));
        assert_eq!(verify(&key, &eddsa(false, b"x"), b"data", &pure), Err(Rv::SIGNATURE_INVALID));
        let hashed = private.sign_prehashed(Sha512::new_with_prefix(b"data"), Some(b"x")).unwrap().to_bytes();
        assert_eq!(verify(&key, &eddsa(true, b"x"), b"data", &hashed), Ok(()));
        assert_eq!(verify(&key, &eddsa(true, b"y"), b"data", &hashed), Err(Rv::SIGNATURE_INVALID));
    }

    #[test]
    fn ecdsa_takes_digests_of_any_length_and_both_forms_of_the_point() {
        let private = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let point = private.verifying_key().to_sec1_point(false).as_bytes().to_vec();
        let params = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let ecdsa = Mechanism::plain(MechanismType::ECDSA);
        for digest in [Sha1::digest(b"data").to_vec(), Sha512::digest(b"data").to_vec()] {
            let signature: p256::ecdsa::Signature = private.sign_prehash(&digest).unwrap();
            for point in [point.clone(), [&[0x04, 65], point.as_slice()].concat()] {
                let key = Template(vec![
                    Attribute::bytes(AttributeType::EC_PARAMS, params),
                    Attribute::bytes(AttributeType::EC_POINT, point),
                ]);
                assert_eq!(verify(&key, &ecdsa, &digest, &signature.to_bytes()), Ok(()));
                assert_eq!(verify(&key, &ecdsa, b"other", &signature.to_bytes()), Err(Rv::SIGNATURE_INVALID));
            }
        }
    }
}
