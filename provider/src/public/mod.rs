//! Operations with public keys inside the application: verification of signatures, RSA encryption. They need no secret,
//! so a round trip would gain nothing. Attributes and bytes in, bytes or a result out; knows no session and no backend.

mod curves;
mod ed25519ctx;
#[cfg(feature = "pre-release-curves")]
mod ed448;
mod ml_dsa;
mod rsa;

use kms_protocol::{Mechanism, MechanismType, Rv, Template, mechanism_table};

pub(crate) use self::rsa::encrypt;

/// Verifies a signature. `data` is the digest for a hash-then-sign mechanism.
///
/// # Errors
/// `CKR_SIGNATURE_INVALID`, or what is wrong with the key.
pub(crate) fn verify(key: &Template, mechanism: &Mechanism, data: &[u8], signature: &[u8]) -> Result<(), Rv> {
    let row = mechanism_table::row_of(mechanism.kind).ok_or(Rv::MECHANISM_INVALID)?;
    match row.signs.unwrap_or(row.kind) {
        MechanismType::RSA_PKCS | MechanismType::RSA_PKCS_PSS | MechanismType::RSA_X_509 => {
            rsa::verify(key, row, mechanism, data, signature)
        }
        MechanismType::ECDSA => curves::verify_ecdsa(key, data, signature),
        MechanismType::EDDSA => curves::verify_eddsa(key, &mechanism.parameters, data, signature),
        MechanismType::ML_DSA => ml_dsa::verify_ml_dsa(key, &mechanism.parameters, data, signature),
        MechanismType::HASH_ML_DSA => ml_dsa::verify_hash_ml_dsa(key, mechanism, data, signature),
        _ => Err(Rv::MECHANISM_INVALID),
    }
}
