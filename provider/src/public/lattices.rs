//! Signatures of lattices: ML-DSA.

use kms_protocol::{AttributeType, Parameters, Rv, Template};

/// ML-DSA (FIPS 204).
pub(super) fn verify_ml_dsa(
    key: &Template,
    parameters: &Parameters,
    data: &[u8],
    signature: &[u8],
) -> Result<(), Rv> {
    let context: &[u8] = if let Parameters::MlDsa { context, .. } = parameters { context } else { &[] };
    let value = key.bytes(AttributeType::VALUE).ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
    let valid = match key.ulong(AttributeType::PARAMETER_SET) {
        Some(1) => ml_dsa_holds::<ml_dsa::MlDsa44>(value, data, context, signature),
        Some(2) => ml_dsa_holds::<ml_dsa::MlDsa65>(value, data, context, signature),
        Some(3) => ml_dsa_holds::<ml_dsa::MlDsa87>(value, data, context, signature),
        _ => None,
    };
    match valid {
        Some(true) => Ok(()),
        Some(false) => Err(Rv::SIGNATURE_INVALID),
        None => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// Whether a signature holds; none for a key of another length.
fn ml_dsa_holds<P: ml_dsa::MlDsaParams>(
    key: &[u8],
    data: &[u8],
    context: &[u8],
    signature: &[u8],
) -> Option<bool> {
    let encoded = ml_dsa::EncodedVerifyingKey::<P>::try_from(key).ok()?;
    let key = ml_dsa::VerifyingKey::<P>::decode(&encoded);
    let signature = ml_dsa::Signature::<P>::try_from(signature);
    Some(signature.is_ok_and(|signature| key.verify_with_context(data, context, &signature)))
}

#[cfg(test)]
mod tests {
    use kms_protocol::{Attribute, Mechanism, MechanismType, Secret};

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
