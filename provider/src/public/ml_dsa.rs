//! Signatures of ML-DSA and HashML-DSA.

use kms_protocol::{AttributeType, Mechanism, Parameters, Prehash, Rv, Template};

/// ML-DSA (FIPS 204).
///
/// # Errors
/// `CKR_SIGNATURE_INVALID`, or `CKR_KEY_TYPE_INCONSISTENT` for a key of another length.
pub(super) fn verify_ml_dsa(
    key: &Template,
    parameters: &Parameters,
    data: &[u8],
    signature: &[u8],
) -> Result<(), Rv> {
    let context: &[u8] = if let Parameters::MlDsa { context, .. } = parameters { context } else { &[] };
    verify(key, &SignedMessage::Plain { data, context }, signature)
}

/// HashML-DSA (FIPS 204, section 5.4) over the digest of a message.
///
/// # Errors
/// As for [`verify_ml_dsa`], and `CKR_DATA_LEN_RANGE` for data that has not the length of the digest.
pub(super) fn verify_hash_ml_dsa(
    key: &Template,
    mechanism: &Mechanism,
    digest: &[u8],
    signature: &[u8],
) -> Result<(), Rv> {
    let prehash = Prehash::of(mechanism).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
    let message = prehash.message(digest).ok_or(Rv::DATA_LEN_RANGE)?;
    verify(key, &SignedMessage::Prehashed(message), signature)
}

/// The signed message.
enum SignedMessage<'a> {
    /// A message with a context.
    Plain { data: &'a [u8], context: &'a [u8] },
    /// The encoding of the digest of a message.
    Prehashed(Vec<u8>),
}

fn verify(key: &Template, signed: &SignedMessage<'_>, signature: &[u8]) -> Result<(), Rv> {
    let value = key.bytes(AttributeType::VALUE).ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
    let valid = match key.ulong(AttributeType::PARAMETER_SET) {
        Some(1) => is_valid::<ml_dsa::MlDsa44>(value, signed, signature),
        Some(2) => is_valid::<ml_dsa::MlDsa65>(value, signed, signature),
        Some(3) => is_valid::<ml_dsa::MlDsa87>(value, signed, signature),
        _ => None,
    };
    match valid {
        Some(true) => Ok(()),
        Some(false) => Err(Rv::SIGNATURE_INVALID),
        None => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// Whether a signature is valid; none for a key of another length.
fn is_valid<P: ml_dsa::MlDsaParams>(
    key: &[u8],
    signed: &SignedMessage<'_>,
    signature: &[u8],
) -> Option<bool> {
    let encoded = ml_dsa::EncodedVerifyingKey::<P>::try_from(key).ok()?;
    let key = ml_dsa::VerifyingKey::<P>::decode(&encoded);
    let Ok(signature) = ml_dsa::Signature::<P>::try_from(signature) else { return Some(false) };
    Some(match signed {
        SignedMessage::Plain { data, context } => key.verify_with_context(data, context, &signature),
        SignedMessage::Prehashed(message) => key.verify_internal(message, &signature),
    })
}

#[cfg(test)]
mod tests {
    use kms_protocol::{Attribute, MechanismType, Secret};

    use super::super::verify;
    use super::*;

    #[test]
    fn ml_dsa_is_verified_with_its_context() {
        let private = ml_dsa::ExpandedSigningKey::<ml_dsa::MlDsa65>::from_seed(&[7; 32].into());
        let signature = private.sign_deterministic(b"data", b"context").unwrap().encode().to_vec();
        let key = Template(vec![
            Attribute::ulong(AttributeType::PARAMETER_SET, 2),
            Attribute::bytes(AttributeType::VALUE, private.verifying_key().encode().to_vec()),
        ]);
        let with = |context: &[u8]| Mechanism {
            kind: MechanismType::ML_DSA,
            parameters: Parameters::MlDsa { hedge: 0, context: Secret::from(context) },
        };
        assert_eq!(verify(&key, &with(b"context"), b"data", &signature), Ok(()));
        assert_eq!(verify(&key, &with(b""), b"data", &signature), Err(Rv::SIGNATURE_INVALID));
        assert_eq!(verify(&key, &with(b"context"), b"data", &signature[1..]), Err(Rv::SIGNATURE_INVALID));
        let short = Template(vec![key.0[0].clone(), Attribute::bytes(AttributeType::VALUE, [0; 9])]);
        assert_eq!(verify(&short, &with(b""), b"data", &signature), Err(Rv::KEY_TYPE_INCONSISTENT));
    }
}
