//! Signatures and MACs in progress, for signing and for verification, which differ only at the end. Hash-then-sign
//! mechanisms hash here, so the request contains a digest for any length of data; the others buffer their data.

use std::sync::Arc;

use kms_protocol::mechanism_table::{self, Parameter, Row};
use kms_protocol::{
    AttributeType, DATA_BYTES_MAX, KeyType, Mechanism, MechanismType, ObjectClass, Parameters, RingPolicy,
    Rv, Secret, prehash_bytes,
};

use super::digest::Hasher;
use super::objects::ObjectInfo;
use super::usage::{self, Usage};

/// What the operation does with its data.
enum Input {
    /// It is hashed.
    Hashed(Hasher),
    /// It is buffered, up to `max_length` bytes.
    Buffered { data: Secret, max_length: usize },
}

/// A signature or a verification in progress.
pub(crate) struct SignatureOperation {
    /// The key.
    pub(crate) key: Arc<ObjectInfo>,
    /// Whether the key still needs a context-specific login before it is used (`CKA_ALWAYS_AUTHENTICATE`).
    pub(crate) needs_context_login: bool,
    /// The proof of that login, which the use needs.
    pub(crate) proof: Option<Secret>,
    mechanism: Mechanism,
    input: Input,
    length: usize,
    started: bool,
    expected_signature: Option<Secret>,
}

/// The input of the signature or of the verification.
pub(crate) struct SigningInput {
    /// The key.
    pub(crate) key: Arc<ObjectInfo>,
    /// The mechanism.
    pub(crate) mechanism: Mechanism,
    /// The digest of a hash-then-sign mechanism, otherwise the data.
    pub(crate) data: Secret,
}

impl SignatureOperation {
    /// `C_SignInit`, `C_VerifyInit`.
    ///
    /// # Errors
    /// When mechanism and key do not go together.
    pub(crate) fn begin(
        usage: Usage,
        key: Arc<ObjectInfo>,
        mechanism: Mechanism,
        policy: RingPolicy,
    ) -> Result<Self, Rv> {
        let row = usage::check(usage, &mechanism, &key, policy)?;
        let length = signature_length(row, &mechanism, &key)?;
        let hasher = row.signs.and(row.digest).and_then(Hasher::of);
        let input = match hasher {
            Some(hasher) => Input::Hashed(hasher),
            None => {
                Input::Buffered { data: Secret::default(), max_length: max_length(row, &mechanism, length)? }
            }
        };
        let needs_context_login = key.is(AttributeType::ALWAYS_AUTHENTICATE);
        Ok(Self {
            key,
            needs_context_login,
            proof: None,
            mechanism,
            input,
            length,
            started: false,
            expected_signature: None,
        })
    }

    /// `C_VerifySignatureInit`: the signature is passed before the data.
    ///
    /// # Errors
    /// `CKR_SIGNATURE_LEN_RANGE` for a signature of the wrong length.
    pub(crate) fn with_expected_signature(mut self, signature: &[u8]) -> Result<Self, Rv> {
        if signature.len() != self.length {
            return Err(Rv::SIGNATURE_LEN_RANGE);
        }
        self.expected_signature = Some(Secret::from(signature));
        Ok(self)
    }

    /// The signature, if it was passed before the data.
    pub(crate) fn expected_signature(&self) -> Option<&Secret> {
        self.expected_signature.as_ref()
    }

    /// The signature's length.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Whether the verification needs no backend: the key is public.
    pub(crate) fn is_local(&self) -> bool {
        self.key.class() == Some(ObjectClass::PUBLIC_KEY)
    }

    /// Whether data was passed in parts: then `C_Sign` is no longer allowed (spec, "C_Sign").
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Whether data may be passed in parts. HashML-DSA over a digest takes a single call (spec, "HashML-DSA signature
    /// generation").
    pub(crate) fn takes_parts(&self) -> bool {
        self.mechanism.kind != MechanismType::HASH_ML_DSA
    }

    /// Adds a part of the data.
    ///
    /// # Errors
    /// `CKR_DATA_LEN_RANGE` for more data than the mechanism signs.
    pub(crate) fn update(&mut self, part: &[u8]) -> Result<(), Rv> {
        self.started = true;
        match &mut self.input {
            Input::Hashed(hasher) => hasher.update(part),
            Input::Buffered { data, max_length } if part.len() > *max_length - data.len() => {
                return Err(Rv::DATA_LEN_RANGE);
            }
            Input::Buffered { data, .. } => data.bytes_mut().extend_from_slice(part),
        }
        Ok(())
    }

    /// Ends the data.
    ///
    /// # Errors
    /// `CKR_DATA_LEN_RANGE` when the mechanism signs digests and the data has not the length of one.
    pub(crate) fn finish(self) -> Result<SigningInput, Rv> {
        let data = match self.input {
            Input::Hashed(hasher) => hasher.finish(),
            Input::Buffered { data, max_length } => {
                // These sign a digest and nothing shorter (spec, "PKCS #1 RSA PSS", "HashML-DSA signature generation").
                let signs_digest =
                    matches!(self.mechanism.kind, MechanismType::RSA_PKCS_PSS | MechanismType::HASH_ML_DSA);
                if signs_digest && data.len() != max_length {
                    return Err(Rv::DATA_LEN_RANGE);
                }
                data
            }
        };
        Ok(SigningInput { key: self.key, mechanism: self.mechanism, data })
    }
}

fn signature_length(row: &Row, mechanism: &Mechanism, key: &ObjectInfo) -> Result<usize, Rv> {
    match row.key {
        Some(KeyType::RSA) => usage::modulus_bytes(key),
        Some(KeyType::EC) => {
            let params = key.attributes.bytes(AttributeType::EC_PARAMS).unwrap_or_default();
            Ok(2 * usage::field_bytes(params).ok_or(Rv::KEY_TYPE_INCONSISTENT)?)
        }
        Some(KeyType::EC_EDWARDS) => Ok(usage::eddsa_bytes(key)),
        Some(KeyType::ML_DSA) => usage::ml_dsa_bytes(key),
        _ => {
            if let Parameters::MacBytes(bytes) = mechanism.parameters {
                return Ok(bytes as usize);
            }
            Ok(mechanism_table::mac_bytes(row).ok_or(Rv::MECHANISM_INVALID)? as usize)
        }
    }
}

/// The most data that a mechanism signs without hashing it.
fn max_length(row: &Row, mechanism: &Mechanism, length: usize) -> Result<usize, Rv> {
    match (row.kind, &mechanism.parameters) {
        (MechanismType::RSA_PKCS, _) => Ok(length.saturating_sub(11)),
        (MechanismType::RSA_X_509, _) => Ok(length),
        (_, Parameters::Pss { hash, .. }) => usage::digest_length(*hash),
        (_, Parameters::HashMlDsa { hash, .. }) => prehash_bytes(*hash).ok_or(Rv::MECHANISM_PARAM_INVALID),
        _ if row.parameter == Parameter::Pss => Err(Rv::MECHANISM_PARAM_INVALID),
        _ => Ok(DATA_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::Mgf;

    use super::super::usage::tests::key;
    use super::*;

    fn rsa(mechanism: Mechanism) -> SignatureOperation {
        let key = Arc::new(key(ObjectClass::PRIVATE_KEY, KeyType::RSA, &[AttributeType::SIGN]));
        SignatureOperation::begin(Usage::Sign, key, mechanism, RingPolicy::Strict).unwrap()
    }

    #[test]
    fn hash_then_sign_requests_contain_a_digest_for_any_length() {
        let mut signing = rsa(Mechanism::plain(MechanismType::SHA256_RSA_PKCS));
        assert_eq!(signing.length(), 256);
        signing.update(&vec![0; 3 * DATA_BYTES_MAX]).unwrap();
        let input = signing.finish().unwrap();
        assert_eq!(input.data.len(), 32);
        assert_eq!(input.mechanism.kind, MechanismType::SHA256_RSA_PKCS);
    }

    #[test]
    fn raw_pkcs_1_limits_the_data_by_its_padding() {
        let mut signing = rsa(Mechanism::plain(MechanismType::RSA_PKCS));
        signing.update(&[0; 200]).unwrap();
        assert_eq!(signing.update(&[0; 46]), Err(Rv::DATA_LEN_RANGE));
        signing.update(&[0; 45]).unwrap();
        assert_eq!(signing.finish().map(|input| input.data.len()), Ok(245));
    }

    #[test]
    fn pss_signs_digests_only() {
        let parameters = Parameters::Pss { hash: MechanismType::SHA256, mgf: Mgf::SHA256, salt_bytes: 32 };
        let pss = || Mechanism { kind: MechanismType::RSA_PKCS_PSS, parameters: parameters.clone() };
        let mut signing = rsa(pss());
        signing.update(&[0; 31]).unwrap();
        assert_eq!(signing.finish().err(), Some(Rv::DATA_LEN_RANGE));
        let mut signing = rsa(pss());
        signing.update(&[0; 32]).unwrap();
        assert!(signing.finish().is_ok());
    }

    #[test]
    fn the_signature_length_is_known_before_signing() {
        let ec = Arc::new(key(ObjectClass::PRIVATE_KEY, KeyType::EC, &[AttributeType::SIGN]));
        let ecdsa = Mechanism::plain(MechanismType::ECDSA);
        let signing = SignatureOperation::begin(Usage::Sign, ec, ecdsa, RingPolicy::Strict).unwrap();
        assert_eq!(signing.length(), 64);
        let secret = Arc::new(key(ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET, &[AttributeType::SIGN]));
        let short =
            Mechanism { kind: MechanismType::SHA256_HMAC_GENERAL, parameters: Parameters::MacBytes(10) };
        let signing = SignatureOperation::begin(Usage::Sign, secret, short, RingPolicy::Strict).unwrap();
        assert_eq!(signing.length(), 10);
    }
}
