//! Signatures and MACs in progress, to be made or to be verified: the same but for the end. Hash-then-sign mechanisms
//! hash here, so any length of data is one request of a digest's length; the others hold their data to the end.

use std::sync::Arc;

use kms_protocol::mechanism_table::{self, Parameter, Row};
use kms_protocol::{
    AttributeType, DATA_BYTES_MAX, KeyType, Mechanism, MechanismType, ObjectClass, Parameters, RingPolicy,
    Rv, Secret, prehash_bytes,
};

use super::digest::Hasher;
use super::objects::Known;
use super::usage::{self, Usage};

/// What becomes of the data.
enum Input {
    /// It is hashed as it comes.
    Hashed(Hasher),
    /// It is kept, up to `most` bytes.
    Held { data: Secret, most: usize },
}

/// A signature in progress.
pub(crate) struct Signing {
    /// The key.
    pub(crate) key: Arc<Known>,
    /// Whether the key wants a login of its own before each use (`CKA_ALWAYS_AUTHENTICATE`).
    pub(crate) awaits_login: bool,
    mechanism: Mechanism,
    input: Input,
    length: usize,
    started: bool,
    promised: Option<Secret>,
}

/// What is to be signed, or compared with a signature.
pub(crate) struct Signed {
    /// With what.
    pub(crate) key: Arc<Known>,
    /// How.
    pub(crate) mechanism: Mechanism,
    /// The digest of a hash-then-sign mechanism, otherwise the data.
    pub(crate) data: Secret,
}

impl Signing {
    /// `C_SignInit`, `C_VerifyInit`.
    ///
    /// # Errors
    /// When mechanism and key do not go together.
    pub(crate) fn begin(
        usage: Usage,
        key: Arc<Known>,
        mechanism: Mechanism,
        policy: RingPolicy,
    ) -> Result<Self, Rv> {
        let row = usage::check(usage, &mechanism, &key, policy)?;
        let length = length_of(row, &mechanism, &key)?;
        let hasher = row.signs.and(row.digest).and_then(Hasher::of);
        let input = match hasher {
            Some(hasher) => Input::Hashed(hasher),
            None => Input::Held { data: Secret::default(), most: most_of(row, &mechanism, length)? },
        };
        let awaits_login = key.is(AttributeType::ALWAYS_AUTHENTICATE);
        Ok(Self { key, awaits_login, mechanism, input, length, started: false, promised: None })
    }

    /// `C_VerifySignatureInit`: the signature comes before the data.
    ///
    /// # Errors
    /// `CKR_SIGNATURE_LEN_RANGE` for one that cannot be right.
    pub(crate) fn promise(mut self, signature: &[u8]) -> Result<Self, Rv> {
        if signature.len() != self.length {
            return Err(Rv::SIGNATURE_LEN_RANGE);
        }
        self.promised = Some(Secret::from(signature));
        Ok(self)
    }

    /// The signature that came before the data, if it did.
    pub(crate) fn promised(&self) -> Option<&Secret> {
        self.promised.as_ref()
    }

    /// The signature's length.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Whether it is verified without a backend: the key is public.
    pub(crate) fn is_local(&self) -> bool {
        self.key.class() == Some(ObjectClass::PUBLIC_KEY)
    }

    /// Whether data came in parts: then there is no `C_Sign` any more (spec, "C_Sign").
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Whether data may come in parts. HashML-DSA over a digest is a single call (spec, "HashML-DSA signature generation").
    pub(crate) fn takes_parts(&self) -> bool {
        self.mechanism.kind != MechanismType::HASH_ML_DSA
    }

    /// Takes in a part.
    ///
    /// # Errors
    /// `CKR_DATA_LEN_RANGE` beyond what the mechanism signs.
    pub(crate) fn feed(&mut self, part: &[u8]) -> Result<(), Rv> {
        self.started = true;
        match &mut self.input {
            Input::Hashed(hasher) => hasher.feed(part),
            Input::Held { data, most } if part.len() > *most - data.len() => return Err(Rv::DATA_LEN_RANGE),
            Input::Held { data, .. } => data.bytes_mut().extend_from_slice(part),
        }
        Ok(())
    }

    /// All data has come.
    ///
    /// # Errors
    /// `CKR_DATA_LEN_RANGE` when the mechanism signs digests, and this is not one.
    pub(crate) fn finish(self) -> Result<Signed, Rv> {
        let data = match self.input {
            Input::Hashed(hasher) => hasher.finish(),
            Input::Held { data, most } => {
                // These sign a digest, nothing shorter (spec, "PKCS #1 RSA PSS", "HashML-DSA signature generation").
                let signs_digest =
                    matches!(self.mechanism.kind, MechanismType::RSA_PKCS_PSS | MechanismType::HASH_ML_DSA);
                if signs_digest && data.len() != most {
                    return Err(Rv::DATA_LEN_RANGE);
                }
                data
            }
        };
        Ok(Signed { key: self.key, mechanism: self.mechanism, data })
    }
}

fn length_of(row: &Row, mechanism: &Mechanism, key: &Known) -> Result<usize, Rv> {
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

/// The most data a mechanism that does not hash signs.
fn most_of(row: &Row, mechanism: &Mechanism, length: usize) -> Result<usize, Rv> {
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

    fn rsa(mechanism: Mechanism) -> Signing {
        let key = Arc::new(key(ObjectClass::PRIVATE_KEY, KeyType::RSA, &[AttributeType::SIGN]));
        Signing::begin(Usage::Sign, key, mechanism, RingPolicy::Strict).unwrap()
    }

    #[test]
    fn hash_then_sign_asks_for_the_digest_whatever_the_length() {
        let mut signing = rsa(Mechanism::plain(MechanismType::SHA256_RSA_PKCS));
        assert_eq!(signing.length(), 256);
        signing.feed(&vec![0; 3 * DATA_BYTES_MAX]).unwrap();
        let signed = signing.finish().unwrap();
        assert_eq!(signed.data.len(), 32);
        assert_eq!(signed.mechanism.kind, MechanismType::SHA256_RSA_PKCS);
    }

    #[test]
    fn raw_pkcs_1_signs_what_leaves_room_for_its_padding() {
        let mut signing = rsa(Mechanism::plain(MechanismType::RSA_PKCS));
        signing.feed(&[0; 200]).unwrap();
        assert_eq!(signing.feed(&[0; 46]), Err(Rv::DATA_LEN_RANGE));
        signing.feed(&[0; 45]).unwrap();
        assert_eq!(signing.finish().map(|signed| signed.data.len()), Ok(245));
    }

    #[test]
    fn pss_signs_digests_only() {
        let parameters = Parameters::Pss { hash: MechanismType::SHA256, mgf: Mgf::SHA256, salt_bytes: 32 };
        let pss = || Mechanism { kind: MechanismType::RSA_PKCS_PSS, parameters: parameters.clone() };
        let mut signing = rsa(pss());
        signing.feed(&[0; 31]).unwrap();
        assert_eq!(signing.finish().err(), Some(Rv::DATA_LEN_RANGE));
        let mut signing = rsa(pss());
        signing.feed(&[0; 32]).unwrap();
        assert!(signing.finish().is_ok());
    }

    #[test]
    fn lengths_are_known_before_anything_is_signed() {
        let ec = Arc::new(key(ObjectClass::PRIVATE_KEY, KeyType::EC, &[AttributeType::SIGN]));
        let ecdsa = Mechanism::plain(MechanismType::ECDSA);
        let signing = Signing::begin(Usage::Sign, ec, ecdsa, RingPolicy::Strict).unwrap();
        assert_eq!(signing.length(), 64);
        let secret = Arc::new(key(ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET, &[AttributeType::SIGN]));
        let short =
            Mechanism { kind: MechanismType::SHA256_HMAC_GENERAL, parameters: Parameters::MacBytes(10) };
        let signing = Signing::begin(Usage::Sign, secret, short, RingPolicy::Strict).unwrap();
        assert_eq!(signing.length(), 10);
    }
}
