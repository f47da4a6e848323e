//! The PKCS#11 objects of a key of the API: sensitive, unextractable, and for the key's one algorithm only. An AES key
//! that also allowed ECB, for example, would reveal what GCM protects.

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
use crate::fairness::Tenant;

/// The objects and material of a key or version, before they are stored.
pub(super) struct KeyDraft {
    /// The objects; the secret or private key is the first.
    pub(super) drafts: Vec<Draft>,
    /// The material.
    pub(super) material: KeyBytes,
}

/// Returns the allowed mechanisms of an algorithm.
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

/// Returns the attributes that both objects of a pair have.
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

/// Returns the template of the secret or private key.
fn secret_template(label: &str, algorithm: Algorithm) -> Vec<Attribute> {
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
    protect(&mut attributes);
    attributes
}

fn protect(attributes: &mut Vec<Attribute>) {
    attributes.extend([
        Attribute::bool(AttributeType::SENSITIVE, true),
        Attribute::bool(AttributeType::EXTRACTABLE, false),
        Attribute::bool(AttributeType::PRIVATE, true),
    ]);
}

/// Returns the template of the public key.
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
    /// Generates a key of an algorithm.
    pub(super) fn generate_draft(
        &self,
        caller: &Caller,
        label: &str,
        algorithm: Algorithm,
    ) -> Result<KeyDraft, Failure> {
        let (spec, secret) = (algorithm.spec(), secret_template(label, algorithm));
        self.generate_from_templates(caller, &spec, secret, public_template(label, algorithm))
    }

    /// Generates a wrapping key.
    pub(super) fn generate_wrapping_draft(
        &self,
        caller: &Caller,
        label: &str,
        algorithm: WrappingAlgorithm,
    ) -> Result<KeyDraft, Failure> {
        use AttributeType as A;
        let mechanism = if algorithm.wraps_by_aes() {
            MechanismType::RSA_AES_KEY_WRAP
        } else {
            MechanismType::RSA_PKCS_OAEP
        };
        let uses = [(A::UNWRAP, true), (A::DECRYPT, false), (A::SIGN, false)];
        let mut secret = common(label, vec![mechanism], &uses);
        protect(&mut secret);
        let uses = [(A::WRAP, true), (A::ENCRYPT, false), (A::VERIFY, false), (A::PRIVATE, false)];
        let public = common(label, vec![mechanism], &uses);
        let spec = KeySpec::Rsa { bits: algorithm.bits(), exponent: vec![1, 0, 1] };
        self.generate_from_templates(caller, &spec, secret, public)
    }

    /// Generates a key from the templates of its objects, which policy completes.
    fn generate_from_templates(
        &self,
        caller: &Caller,
        spec: &KeySpec,
        mut secret: Vec<Attribute>,
        mut public: Vec<Attribute>,
    ) -> Result<KeyDraft, Failure> {
        let length = |bytes: &u32| Attribute::ulong(AttributeType::VALUE_LEN, u64::from(*bytes));
        let (mechanism, pair) = match spec {
            KeySpec::Aes { bytes } => {
                secret.push(length(bytes));
                (MechanismType::AES_KEY_GEN, false)
            }
            KeySpec::Generic { bytes } => {
                secret.push(length(bytes));
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
                policy::generate_pair(caller, &mechanism, &Template(public), &Template(secret))?;
            vec![private, public]
        } else {
            vec![policy::generate(caller, &mechanism, &Template(secret))?.1]
        };
        let tenant = Tenant { uid: None, ring: caller.login.as_ref().map_or([0; 16], |login| login.ring.0) };
        let GeneratedKey { material, attributes, public } = self.generate_key(tenant, spec)?;
        for (draft, generated) in drafts.iter_mut().zip([attributes, public]) {
            generated.into_iter().for_each(|attribute| draft.attributes.set(attribute));
        }
        Ok(KeyDraft { drafts, material })
    }

    /// Returns the objects of imported material, after checking that the material fits the algorithm.
    pub(super) fn import_draft(
        &self,
        caller: &Caller,
        label: &str,
        algorithm: Algorithm,
        material: KeyBytes,
    ) -> Result<KeyDraft, Failure> {
        let (class, kind) = (algorithm.class(), algorithm.key_type());
        let attributes =
            kms_crypto::public_attributes(class, kind, &material).map_err(|_| wrong_material(algorithm))?;
        check_fits(algorithm, &Template(attributes.clone()))?;
        policy::check_imported_value(caller.policy, class, kind, &attributes).map_err(|_| {
            Problem::malformed("the RSA public exponent is below 65537, which a strict ring does not accept")
        })?;
        let mut template = secret_template(label, algorithm);
        template.push(Attribute::ulong(AttributeType::CLASS, u64::from(class.0)));
        template.push(Attribute::ulong(AttributeType::KEY_TYPE, u64::from(kind.0)));
        let mut secret = policy::import_wrapped(caller, &Template(template))?.draft;
        attributes.into_iter().for_each(|attribute| secret.attributes.set(attribute));
        let mut drafts = vec![secret];
        if class == ObjectClass::PRIVATE_KEY {
            let mut template = public_template(label, algorithm);
            template.push(Attribute::ulong(AttributeType::CLASS, u64::from(ObjectClass::PUBLIC_KEY.0)));
            template.push(Attribute::ulong(AttributeType::KEY_TYPE, u64::from(kind.0)));
            let derived = kms_crypto::public_key_attributes(kind, &material)
                .ok_or_else(|| wrong_material(algorithm))?;
            template.extend(derived.iter().filter(|attribute| is_input(attribute.kind)).cloned());
            let mut public = policy::create(caller, &Template(template))?.draft;
            derived.into_iter().for_each(|attribute| public.attributes.set(attribute));
            drafts.push(public);
        }
        Ok(KeyDraft { drafts, material })
    }
}

/// Whether a template for a public key states the attribute; the other attributes follow from these.
fn is_input(kind: AttributeType) -> bool {
    [
        AttributeType::MODULUS,
        AttributeType::PUBLIC_EXPONENT,
        AttributeType::EC_PARAMS,
        AttributeType::EC_POINT,
    ]
    .contains(&kind)
}

fn wrong_material(algorithm: Algorithm) -> Problem {
    Problem::malformed(format!("wrappedKey holds no key material for {}", algorithm.name()))
}

/// Checks that material has the size, or is on the curve, that an algorithm requires.
fn check_fits(algorithm: Algorithm, attributes: &Template) -> Result<(), Problem> {
    let (actual, required) = match algorithm.spec() {
        KeySpec::Aes { bytes } => (length_of(attributes), u64::from(bytes)..=u64::from(bytes)),
        // At least as long as the digest, and at most two of its blocks (RFC 2104, "Keys").
        KeySpec::Generic { bytes } => {
            let most = if bytes == 32 { 128 } else { 256 };
            (length_of(attributes), u64::from(bytes)..=most)
        }
        KeySpec::Rsa { bits, .. } => {
            let modulus_bits =
                attributes.bytes(AttributeType::MODULUS).map_or(0, |modulus| modulus.len() * 8);
            (u64::try_from(modulus_bits).unwrap_or(0), u64::from(bits)..=u64::from(bits))
        }
        KeySpec::Ec { curve } => {
            let params = attributes.bytes(AttributeType::EC_PARAMS).unwrap_or_default();
            let actual = Curve::ALL.into_iter().find(|known| known.oid_der() == params);
            return if actual == Some(curve) {
                Ok(())
            } else {
                let message =
                    format!("wrappedKey holds a key on another curve than {} requires", algorithm.name());
                Err(Problem::malformed(message))
            };
        }
        KeySpec::ChaCha20
        | KeySpec::EdwardsMontgomery { .. }
        | KeySpec::MlKem { .. }
        | KeySpec::MlDsa { .. } => {
            return Err(wrong_material(algorithm));
        }
    };
    if required.contains(&actual) {
        return Ok(());
    }
    let unit = if algorithm.purpose() == Purpose::AsymmetricEncryptDecrypt { "bits" } else { "bytes" };
    let (least, most) = (required.start(), required.end());
    let range = if least == most { format!("{least}") } else { format!("{least} to {most}") };
    let message = format!("wrappedKey holds a key of {actual} {unit}; {} requires {range}", algorithm.name());
    Err(Problem::malformed(message))
}

fn length_of(attributes: &Template) -> u64 {
    attributes.ulong(AttributeType::VALUE_LEN).unwrap_or(0)
}

/// Returns the mechanism that unwraps material under a wrapping key of this algorithm.
pub(super) fn unwrapping(algorithm: WrappingAlgorithm) -> Mechanism {
    let (hash, mgf, label) = (algorithm.hash().mechanism(), algorithm.hash().mgf(), Secret::from(Vec::new()));
    if algorithm.wraps_by_aes() {
        let parameters = Parameters::RsaAes { aes_bits: 256, hash, mgf, label };
        Mechanism { kind: MechanismType::RSA_AES_KEY_WRAP, parameters }
    } else {
        Mechanism { kind: MechanismType::RSA_PKCS_OAEP, parameters: Parameters::Oaep { hash, mgf, label } }
    }
}
