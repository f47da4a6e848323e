//! The objects that a key of the API is over PKCS #11: sensitive, unextractable, and for the key's one algorithm alone.
//! An AES key that could also be asked for ECB, say, would give away what GCM hides.

use kms_core::api::{Algorithm, Hash, Problem, Purpose, WrappingAlgorithm};
use kms_core::object::{Caller, Curve, Draft, KeyBytes, KeySpec};
use kms_core::policy;
use kms_crypto::GeneratedKey;
use kms_protocol::{
    Attribute, AttributeType, Mechanism, MechanismType, Mechanisms, ObjectClass, Parameters, Rv, Secret,
    Template, Value,
};

use super::Dispatch;
use super::failure::Failure;

/// A key's objects and its material, before they are stored.
pub(super) struct Fresh {
    /// The objects, that with the secret first.
    pub(super) drafts: Vec<Draft>,
    /// The material.
    pub(super) material: KeyBytes,
}

/// The mechanisms that a key of an algorithm is allowed.
fn mechanisms(algorithm: Algorithm) -> Vec<MechanismType> {
    match algorithm.purpose() {
        Purpose::SymmetricEncryptDecrypt => vec![MechanismType::AES_GCM],
        Purpose::AsymmetricEncryptDecrypt => vec![MechanismType::RSA_PKCS_OAEP],
        Purpose::MessageAuthenticationCode => match algorithm.hash() {
            Some(Hash::Sha384) => vec![MechanismType::SHA384_HMAC, MechanismType::SHA384_HMAC_GENERAL],
            Some(Hash::Sha512) => vec![MechanismType::SHA512_HMAC, MechanismType::SHA512_HMAC_GENERAL],
            Some(Hash::Sha256) | None => vec![MechanismType::SHA256_HMAC, MechanismType::SHA256_HMAC_GENERAL],
        },
        Purpose::AsymmetricSignVerify => {
            let hashed = match algorithm.hash() {
                Some(Hash::Sha384) => MechanismType::ECDSA_SHA384,
                Some(Hash::Sha512) => MechanismType::ECDSA_SHA512,
                Some(Hash::Sha256) | None => MechanismType::ECDSA_SHA256,
            };
            vec![MechanismType::ECDSA, hashed]
        }
    }
}

/// What the objects of both halves have in common.
fn common(label: &str, mechanisms: Vec<MechanismType>, uses: &[(AttributeType, bool)]) -> Vec<Attribute> {
    let mut attributes = vec![
        Attribute::bool(AttributeType::TOKEN, true),
        Attribute::bytes(AttributeType::LABEL, label),
        Attribute {
            kind: AttributeType::ALLOWED_MECHANISMS,
            value: Value::Mechanisms(Mechanisms(mechanisms)),
        },
    ];
    attributes.extend(uses.iter().map(|(kind, allowed)| Attribute::bool(*kind, *allowed)));
    attributes
}

/// The template of the secret or private half.
fn hidden_template(label: &str, algorithm: Algorithm) -> Vec<Attribute> {
    use AttributeType as A;
    let uses: &[_] = match algorithm.purpose() {
        Purpose::SymmetricEncryptDecrypt => &[
            (A::ENCRYPT, true),
            (A::DECRYPT, true),
            (A::SIGN, false),
            (A::VERIFY, false),
            (A::WRAP, false),
            (A::UNWRAP, false),
        ],
        Purpose::MessageAuthenticationCode => &[
            (A::SIGN, true),
            (A::VERIFY, true),
            (A::ENCRYPT, false),
            (A::DECRYPT, false),
            (A::WRAP, false),
            (A::UNWRAP, false),
        ],
        Purpose::AsymmetricEncryptDecrypt => &[(A::DECRYPT, true), (A::SIGN, false), (A::UNWRAP, false)],
        Purpose::AsymmetricSignVerify => &[(A::SIGN, true)],
    };
    let mut attributes = common(label, mechanisms(algorithm), uses);
    attributes.push(Attribute::bool(A::DERIVE, false));
    hide(&mut attributes);
    attributes
}

fn hide(attributes: &mut Vec<Attribute>) {
    attributes.extend([
        Attribute::bool(AttributeType::SENSITIVE, true),
        Attribute::bool(AttributeType::EXTRACTABLE, false),
        Attribute::bool(AttributeType::PRIVATE, true),
    ]);
}

/// The template of the public half.
fn public_template(label: &str, algorithm: Algorithm) -> Vec<Attribute> {
    use AttributeType as A;
    let uses: &[_] = match algorithm.purpose() {
        Purpose::AsymmetricSignVerify => &[(A::VERIFY, true)],
        Purpose::AsymmetricEncryptDecrypt
        | Purpose::SymmetricEncryptDecrypt
        | Purpose::MessageAuthenticationCode => &[(A::ENCRYPT, true), (A::VERIFY, false), (A::WRAP, false)],
    };
    let mut attributes = common(label, mechanisms(algorithm), uses);
    attributes.push(Attribute::bool(A::PRIVATE, false));
    attributes
}

impl Dispatch {
    /// Makes a key of an algorithm.
    pub(super) fn fresh(&self, caller: &Caller, label: &str, algorithm: Algorithm) -> Result<Fresh, Failure> {
        let (spec, hidden) = (algorithm.spec(), hidden_template(label, algorithm));
        self.with_defaults(caller, &spec, hidden, public_template(label, algorithm))
    }

    /// Makes a wrapping key.
    pub(super) fn fresh_wrapping(
        &self,
        caller: &Caller,
        label: &str,
        algorithm: WrappingAlgorithm,
    ) -> Result<Fresh, Failure> {
        use AttributeType as A;
        let by = if algorithm.wraps_by_aes() {
            MechanismType::RSA_AES_KEY_WRAP
        } else {
            MechanismType::RSA_PKCS_OAEP
        };
        let uses = [(A::UNWRAP, true), (A::DECRYPT, false), (A::SIGN, false)];
        let mut hidden = common(label, vec![by], &uses);
        hide(&mut hidden);
        let uses = [(A::WRAP, true), (A::ENCRYPT, false), (A::VERIFY, false), (A::PRIVATE, false)];
        let public = common(label, vec![by], &uses);
        let spec = KeySpec::Rsa { bits: algorithm.bits(), exponent: vec![1, 0, 1] };
        self.with_defaults(caller, &spec, hidden, public)
    }

    fn with_defaults(
        &self,
        caller: &Caller,
        spec: &KeySpec,
        mut hidden: Vec<Attribute>,
        mut public: Vec<Attribute>,
    ) -> Result<Fresh, Failure> {
        let length = |bytes: &u32| Attribute::ulong(AttributeType::VALUE_LEN, u64::from(*bytes));
        let (mechanism, pair) = match spec {
            KeySpec::Aes { bytes } => {
                hidden.push(length(bytes));
                (MechanismType::AES_KEY_GEN, false)
            }
            KeySpec::Generic { bytes } => {
                hidden.push(length(bytes));
                (MechanismType::GENERIC_SECRET_KEY_GEN, false)
            }
            KeySpec::Rsa { bits, .. } => {
                public.push(Attribute::ulong(AttributeType::MODULUS_BITS, u64::from(*bits)));
                (MechanismType::RSA_PKCS_KEY_PAIR_GEN, true)
            }
            KeySpec::Ec { curve } => {
                public.push(Attribute::bytes(AttributeType::EC_PARAMS, curve.oid_der()));
                (MechanismType::EC_KEY_PAIR_GEN, true)
            }
            KeySpec::ChaCha20
            | KeySpec::EdwardsMontgomery { .. }
            | KeySpec::MlKem { .. }
            | KeySpec::MlDsa { .. } => {
                return Err(Rv::MECHANISM_INVALID.into());
            }
        };
        let mechanism = Mechanism::plain(mechanism);
        let mut drafts = if pair {
            let (_, public, private) =
                policy::generate_pair(caller, &mechanism, &Template(public), &Template(hidden))?;
            vec![private, public]
        } else {
            vec![policy::generate(caller, &mechanism, &Template(hidden))?.1]
        };
        let GeneratedKey { material, attributes, public } = kms_crypto::generate(spec, &self.random)?;
        for (draft, came) in drafts.iter_mut().zip([attributes, public]) {
            came.into_iter().for_each(|attribute| draft.attributes.set(attribute));
        }
        Ok(Fresh { drafts, material })
    }

    /// The objects of material that came from outside, once it is known to be that of a key of the algorithm.
    pub(super) fn arrived(
        &self,
        caller: &Caller,
        label: &str,
        algorithm: Algorithm,
        material: KeyBytes,
    ) -> Result<Fresh, Failure> {
        let (class, kind) = (algorithm.class(), algorithm.key_type());
        let attributes =
            kms_crypto::public_attributes(class, kind, &material).map_err(|_| unfit(algorithm))?;
        fits(algorithm, &Template(attributes.clone()))?;
        let mut template = hidden_template(label, algorithm);
        template.push(Attribute::ulong(AttributeType::CLASS, u64::from(class.0)));
        template.push(Attribute::ulong(AttributeType::KEY_TYPE, u64::from(kind.0)));
        let mut hidden = policy::imported(caller, &Template(template))?.draft;
        attributes.into_iter().for_each(|attribute| hidden.attributes.set(attribute));
        let mut drafts = vec![hidden];
        if class == ObjectClass::PRIVATE_KEY {
            let mut template = public_template(label, algorithm);
            template.push(Attribute::ulong(AttributeType::CLASS, u64::from(ObjectClass::PUBLIC_KEY.0)));
            template.push(Attribute::ulong(AttributeType::KEY_TYPE, u64::from(kind.0)));
            let came = kms_crypto::public_key_attributes(kind, &material).ok_or_else(|| unfit(algorithm))?;
            template.extend(came.iter().filter(|attribute| is_given(attribute.kind)).cloned());
            let mut public = policy::create(caller, &Template(template))?.draft;
            came.into_iter().for_each(|attribute| public.attributes.set(attribute));
            drafts.push(public);
        }
        Ok(Fresh { drafts, material })
    }
}

/// What a creator of a public key gives; the rest of its attributes follows from that.
fn is_given(kind: AttributeType) -> bool {
    [
        AttributeType::MODULUS,
        AttributeType::PUBLIC_EXPONENT,
        AttributeType::EC_PARAMS,
        AttributeType::EC_POINT,
    ]
    .contains(&kind)
}

fn unfit(algorithm: Algorithm) -> Problem {
    Problem::malformed(format!("wrappedKey holds no key material for {}", algorithm.name()))
}

/// Whether material is of the size, or on the curve, that an algorithm wants.
fn fits(algorithm: Algorithm, attributes: &Template) -> Result<(), Problem> {
    let (found, wanted) = match algorithm.spec() {
        KeySpec::Aes { bytes } => (length_of(attributes), u64::from(bytes)..=u64::from(bytes)),
        // No less than the digest, and no more than two of its blocks (RFC 2104, "Keys").
        KeySpec::Generic { bytes } => {
            let most = if bytes == 32 { 128 } else { 256 };
            (length_of(attributes), u64::from(bytes)..=most)
        }
        KeySpec::Rsa { bits, .. } => {
            let found = attributes.bytes(AttributeType::MODULUS).map_or(0, |modulus| modulus.len() * 8);
            (u64::try_from(found).unwrap_or(0), u64::from(bits)..=u64::from(bits))
        }
        KeySpec::Ec { curve } => {
            let params = attributes.bytes(AttributeType::EC_PARAMS).unwrap_or_default();
            let found = Curve::ALL.into_iter().find(|known| known.oid_der() == params);
            return if found == Some(curve) {
                Ok(())
            } else {
                let said = format!("wrappedKey holds a key on another curve than {} wants", algorithm.name());
                Err(Problem::malformed(said))
            };
        }
        KeySpec::ChaCha20
        | KeySpec::EdwardsMontgomery { .. }
        | KeySpec::MlKem { .. }
        | KeySpec::MlDsa { .. } => {
            return Err(unfit(algorithm));
        }
    };
    if wanted.contains(&found) {
        return Ok(());
    }
    let unit = if algorithm.purpose() == Purpose::AsymmetricEncryptDecrypt { "bits" } else { "bytes" };
    let (least, most) = (wanted.start(), wanted.end());
    let range = if least == most { format!("{least}") } else { format!("{least} to {most}") };
    let said = format!("wrappedKey holds a key of {found} {unit}; {} wants {range}", algorithm.name());
    Err(Problem::malformed(said))
}

fn length_of(attributes: &Template) -> u64 {
    attributes.ulong(AttributeType::VALUE_LEN).unwrap_or(0)
}

/// The mechanism that opens what a wrapping key of this algorithm wrapped.
pub(super) fn unwrapping(algorithm: WrappingAlgorithm) -> Mechanism {
    let (hash, mgf, label) = (algorithm.hash().mechanism(), algorithm.hash().mgf(), Secret::from(Vec::new()));
    if algorithm.wraps_by_aes() {
        let parameters = Parameters::RsaAes { aes_bits: 256, hash, mgf, label };
        Mechanism { kind: MechanismType::RSA_AES_KEY_WRAP, parameters }
    } else {
        Mechanism { kind: MechanismType::RSA_PKCS_OAEP, parameters: Parameters::Oaep { hash, mgf, label } }
    }
}
