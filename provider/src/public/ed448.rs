//! Verifies Ed448 and Ed448ph (RFC 8032, section 5.2) with `ed448-goldilocks`, a pre-release (`docs/decisions/0034`),
//! in builds with the feature `pre-release-curves` only.

use ed448_goldilocks::shake::Shake256;
use ed448_goldilocks::shake::digest::Update;
use ed448_goldilocks::{CompressedEdwardsY, PreHasherXof, Signature, VerifyingKey};
use kms_protocol::{Parameters, Rv};

/// The length of a point.
pub(super) const POINT_BYTES: usize = 57;

/// Verifies a signature. Without a parameter it is Ed448 with the empty context.
///
/// # Errors
/// `CKR_SIGNATURE_INVALID`, `CKR_SIGNATURE_LEN_RANGE`, or `CKR_KEY_TYPE_INCONSISTENT` for an invalid key.
pub(super) fn verify(
    point: &[u8; POINT_BYTES],
    parameters: &Parameters,
    data: &[u8],
    signature: &[u8],
) -> Result<(), Rv> {
    let key = VerifyingKey::from_bytes(point).map_err(|_| Rv::KEY_TYPE_INCONSISTENT)?;
    let signature = Signature::from_slice(signature).map_err(|_| Rv::SIGNATURE_LEN_RANGE)?;
    if !is_canonical(signature.r_bytes()) {
        return Err(Rv::SIGNATURE_INVALID);
    }
    let verified = if let Parameters::Eddsa { prehashed, context } = parameters {
        if *prehashed {
            let prehash = PreHasherXof::from(Shake256::default().chain(data));
            key.verify_prehashed(&signature, Some(context), prehash)
        } else {
            key.verify_ctx(&signature, context, data)
        }
    } else {
        key.verify_raw(&signature, data)
    };
    verified.map_err(|_| Rv::SIGNATURE_INVALID)
}

/// Whether the encoding of a point is canonical. The library ignores bits that must be zero, and accepts numbers beyond
/// the field (RFC 8032, section 5.2.3; Wycheproof has such signatures).
fn is_canonical(point: &[u8; POINT_BYTES]) -> bool {
    let read = CompressedEdwardsY(*point).decompress_unchecked();
    Option::from(read.map(|affine| affine.compress().to_bytes())) == Some(*point)
}

#[cfg(test)]
mod tests {
    use ed448_goldilocks::SigningKey;

    use super::*;

    #[test]
    fn points_with_extra_bits_are_rejected() {
        let key = SigningKey::try_from([7; POINT_BYTES].as_slice()).unwrap();
        let point = key.verifying_key().to_bytes();
        let signature = key.sign_raw(b"data").to_bytes();
        let check = |signature: &[u8]| verify(&point, &Parameters::None, b"data", signature);
        assert_eq!(check(&signature), Ok(()));
        assert_eq!(check(&signature[1..]), Err(Rv::SIGNATURE_LEN_RANGE));
        for bit in 0..7 {
            let mut other = point;
            other[POINT_BYTES - 1] ^= 1 << bit;
            assert!(is_canonical(&point) && !is_canonical(&other));
            let mut other = signature;
            other[POINT_BYTES - 1] ^= 1 << bit;
            assert_eq!(check(&other), Err(Rv::SIGNATURE_INVALID));
        }
    }
}
