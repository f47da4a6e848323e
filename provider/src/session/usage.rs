//! Checks of mechanism and key at `C_*Init`, so that a wrong call fails early and without a round trip. The backend
//! repeats all of them and adds what only it knows. These checks protect nothing, except for public keys, whose
//! operations never leave the application.

use kms_protocol::mechanism_table::{self, RSA_PUBLIC_BITS_MAX, Row, SizeUnit};
use kms_protocol::{
    AttributeType, KeyType, Mechanism, MechanismType, ObjectClass, Parameters, RingPolicy, Rv, Value,
};

use super::objects::ObjectInfo;

pub(crate) use kms_protocol::Usage;

/// Checks whether this key may be used with this mechanism, as far as the provider knows.
///
/// # Errors
/// The return code that the specification has for the first check that fails.
pub(crate) fn check(
    usage: Usage,
    mechanism: &Mechanism,
    key: &ObjectInfo,
    policy: RingPolicy,
) -> Result<&'static Row, Rv> {
    let row = mechanism.check()?;
    admit(usage, row, key, policy)?;
    check_padding(mechanism, key)?;
    Ok(row)
}

/// The same for a mechanism whose parameters follow with each message.
///
/// # Errors
/// As for [`check`].
pub(crate) fn admit(usage: Usage, row: &Row, key: &ObjectInfo, policy: RingPolicy) -> Result<(), Rv> {
    if !row.uses_in(policy).has(usage.flag()) {
        return Err(Rv::MECHANISM_INVALID);
    }
    let class = key.class().filter(|class| is_key(*class)).ok_or(Rv::KEY_HANDLE_INVALID)?;
    if !key.is(usage.attribute()) {
        return Err(Rv::KEY_FUNCTION_NOT_PERMITTED);
    }
    let kind = key.attributes.key_type().ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
    let wanted = if comes_in_pairs(kind) { usage.class_of_pair() } else { ObjectClass::SECRET_KEY };
    if !row.accepts(kind) || class != wanted {
        return Err(Rv::KEY_TYPE_INCONSISTENT);
    }
    if !allows(key, row.kind) {
        return Err(Rv::MECHANISM_INVALID);
    }
    check_size(row, key)
}

fn comes_in_pairs(kind: KeyType) -> bool {
    matches!(
        kind,
        KeyType::RSA
            | KeyType::EC
            | KeyType::EC_EDWARDS
            | KeyType::EC_MONTGOMERY
            | KeyType::ML_KEM
            | KeyType::ML_DSA
    )
}

fn is_key(class: ObjectClass) -> bool {
    matches!(class, ObjectClass::PUBLIC_KEY | ObjectClass::PRIVATE_KEY | ObjectClass::SECRET_KEY)
}

/// Checks `CKA_ALLOWED_MECHANISMS`: an empty or missing list allows everything (spec, "CKA_ALLOWED_MECHANISMS").
fn allows(key: &ObjectInfo, kind: MechanismType) -> bool {
    match key.attributes.value(AttributeType::ALLOWED_MECHANISMS) {
        Some(Value::Mechanisms(allowed)) => allowed.0.is_empty() || allowed.0.contains(&kind),
        Some(Value::Bool(_) | Value::Ulong(_) | Value::Bytes(_) | Value::Template(_)) | None => true,
    }
}

fn check_size(row: &Row, key: &ObjectInfo) -> Result<(), Rv> {
    let bits = match row.key {
        Some(KeyType::RSA) => modulus_bytes(key)? * 8,
        _ => return Ok(()),
    };
    let most = if key.class() == Some(ObjectClass::PUBLIC_KEY) { RSA_PUBLIC_BITS_MAX } else { row.sizes.1 };
    let (least, most) = (row.sizes.0 as usize, most as usize);
    let sized = row.unit != SizeUnit::Bits || (least..=most).contains(&bits);
    if sized { Ok(()) } else { Err(Rv::KEY_SIZE_RANGE) }
}

/// Checks that the padding's parameters fit the modulus and are a combination that provider and backend both compute.
fn check_padding(mechanism: &Mechanism, key: &ObjectInfo) -> Result<(), Rv> {
    let fits = match &mechanism.parameters {
        Parameters::Pss { hash, mgf, salt_bytes } => {
            let hashed = digest_length(*hash)?;
            // emLen >= hLen + sLen + 2 (RFC 8017, "EMSA-PSS"); emLen is the modulus's length for all sizes we have.
            mgf.digest() == Some(*hash) && hashed + *salt_bytes as usize + 2 <= modulus_bytes(key)?
        }
        Parameters::Oaep { hash, .. } | Parameters::RsaAes { hash, .. } => {
            2 * digest_length(*hash)? + 2 <= modulus_bytes(key)?
        }
        // Spec, "EdDSA": Ed448 always has a parameter.
        Parameters::None => mechanism.kind != MechanismType::EDDSA || !is_448(key),
        Parameters::Iv(_) | Parameters::Ctr { .. } => true,
        Parameters::Gcm { .. } | Parameters::MacBytes(_) | Parameters::GcmGenerate { .. } => true,
        // A parameter without prehashing and without a context is Ed448. It is not Ed25519 (RFC 8032, "dom2"), although
        // some callers mean that.
        Parameters::Eddsa { prehashed, context } => *prehashed || !context.is_empty() || is_448(key),
        Parameters::Ccm { .. } | Parameters::Poly1305 { .. } => true,
        Parameters::MlDsa { .. }
        | Parameters::HashMlDsa { .. }
        | Parameters::Ecdh { .. }
        | Parameters::Hkdf { .. }
        | Parameters::Kbkdf { .. } => true,
        Parameters::Data { .. } | Parameters::Key(_) | Parameters::WrapIv(_) => true,
        Parameters::Extract { .. } => true,
    };
    if fits { Ok(()) } else { Err(Rv::MECHANISM_PARAM_INVALID) }
}

/// The length of an RSA key's modulus.
pub(crate) fn modulus_bytes(key: &ObjectInfo) -> Result<usize, Rv> {
    let modulus = key.attributes.bytes(AttributeType::MODULUS).ok_or(Rv::KEY_TYPE_INCONSISTENT)?;
    Ok(modulus.iter().skip_while(|byte| **byte == 0).count())
}

/// The length of a signature on an Edwards curve in bytes, for every scheme (RFC 8032, sections 5.1.6 and 5.2.6).
pub(crate) fn eddsa_bytes(key: &ObjectInfo) -> usize {
    if is_448(key) { 114 } else { 64 }
}

/// Whether a key is on Edwards curve 448 (RFC 8410).
fn is_448(key: &ObjectInfo) -> bool {
    key.attributes.bytes(AttributeType::EC_PARAMS) == Some(&[0x06, 0x03, 0x2b, 0x65, 0x71])
}

/// The length of an ML-DSA signature in bytes (FIPS 204, "Parameter Sets").
pub(crate) fn ml_dsa_bytes(key: &ObjectInfo) -> Result<usize, Rv> {
    match key.attributes.ulong(AttributeType::PARAMETER_SET) {
        Some(1) => Ok(2420),
        Some(2) => Ok(3309),
        Some(3) => Ok(4627),
        _ => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// The length of an encapsulation to a key in bytes (FIPS 203, "Parameter Sets").
///
/// # Errors
/// `CKR_KEY_TYPE_INCONSISTENT` for a key that cannot encapsulate.
pub(crate) fn encapsulated_bytes(key: &ObjectInfo) -> Result<usize, Rv> {
    match (key.attributes.key_type(), key.attributes.ulong(AttributeType::PARAMETER_SET)) {
        (Some(KeyType::ML_KEM), Some(1)) => Ok(768),
        (Some(KeyType::ML_KEM), Some(2)) => Ok(1088),
        (Some(KeyType::ML_KEM), Some(3)) => Ok(1568),
        _ => Err(Rv::KEY_TYPE_INCONSISTENT),
    }
}

/// The length of a digest.
pub(crate) fn digest_length(kind: MechanismType) -> Result<usize, Rv> {
    let bytes = mechanism_table::digest_bytes(kind).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
    Ok(bytes as usize)
}

/// The curves' field lengths in bytes, by the DER of `CKA_EC_PARAMS` (RFC 5480, "Named Curve").
pub(crate) fn field_bytes(params: &[u8]) -> Option<usize> {
    match params {
        [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07] => Some(32),
        [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22] => Some(48),
        [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23] => Some(66),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use kms_protocol::{Attribute, Mechanisms, ObjectId, ObjectRef, SlotId, Template};

    use super::*;

    /// A key with these usages, for tests.
    pub(crate) fn key(class: ObjectClass, kind: KeyType, usages: &[AttributeType]) -> ObjectInfo {
        let mut attributes = Template(vec![
            Attribute::ulong(AttributeType::CLASS, class.0.into()),
            Attribute::ulong(AttributeType::KEY_TYPE, kind.0.into()),
        ]);
        attributes.0.extend(usages.iter().map(|usage| Attribute::bool(*usage, true)));
        match kind {
            KeyType::RSA => attributes.set(Attribute::bytes(AttributeType::MODULUS, vec![0xff; 256])),
            KeyType::EC => {
                let p256 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
                attributes.set(Attribute::bytes(AttributeType::EC_PARAMS, p256));
            }
            _ => {}
        }
        ObjectInfo { slot: SlotId(1), object: ObjectRef::Token(ObjectId(1)), attributes, owner: None }
    }

    #[track_caller]
    fn refused(usage: Usage, mechanism: Mechanism, key: &ObjectInfo, policy: RingPolicy, rv: Rv) {
        assert_eq!(check(usage, &mechanism, key, policy).err(), Some(rv));
    }

    #[test]
    fn a_wrong_key_or_mechanism_is_named_as_the_specification_does() {
        let ecb = || Mechanism::plain(MechanismType::AES_ECB);
        let aes = key(ObjectClass::SECRET_KEY, KeyType::AES, &[AttributeType::ENCRYPT]);
        assert!(check(Usage::Encrypt, &ecb(), &aes, RingPolicy::Strict).is_ok());
        refused(Usage::Decrypt, ecb(), &aes, RingPolicy::Strict, Rv::KEY_FUNCTION_NOT_PERMITTED);
        refused(Usage::Sign, ecb(), &aes, RingPolicy::Strict, Rv::MECHANISM_INVALID);
        let cbc = Mechanism::plain(MechanismType::AES_CBC);
        refused(Usage::Encrypt, cbc, &aes, RingPolicy::Strict, Rv::MECHANISM_PARAM_INVALID);
        let data = key(ObjectClass::DATA, KeyType::AES, &[]);
        refused(Usage::Encrypt, ecb(), &data, RingPolicy::Strict, Rv::KEY_HANDLE_INVALID);
        let rsa = key(ObjectClass::PUBLIC_KEY, KeyType::RSA, &[AttributeType::ENCRYPT]);
        refused(Usage::Encrypt, ecb(), &rsa, RingPolicy::Strict, Rv::KEY_TYPE_INCONSISTENT);
    }

    #[test]
    fn a_strict_ring_does_not_encrypt_with_pkcs_1_v1_5() {
        let rsa = key(ObjectClass::PUBLIC_KEY, KeyType::RSA, &[AttributeType::ENCRYPT]);
        let pkcs = || Mechanism::plain(MechanismType::RSA_PKCS);
        refused(Usage::Encrypt, pkcs(), &rsa, RingPolicy::Strict, Rv::MECHANISM_INVALID);
        assert!(check(Usage::Encrypt, &pkcs(), &rsa, RingPolicy::Compat).is_ok());
    }

    #[test]
    fn a_key_made_for_one_mechanism_does_no_other() {
        let mut aes = key(ObjectClass::SECRET_KEY, KeyType::AES, &[AttributeType::ENCRYPT]);
        let allowed = Value::Mechanisms(Mechanisms(vec![MechanismType::AES_GCM]));
        aes.attributes.0.push(Attribute { kind: AttributeType::ALLOWED_MECHANISMS, value: allowed });
        let ecb = Mechanism::plain(MechanismType::AES_ECB);
        refused(Usage::Encrypt, ecb, &aes, RingPolicy::Compat, Rv::MECHANISM_INVALID);
    }
}
