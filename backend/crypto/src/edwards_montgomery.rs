//! Edwards curves for signatures and Montgomery curves for agreements: curve 25519 here, curve 448 in `curve448`.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use ed25519_dalek::{Digest, Sha512, Signer, SigningKey, VerifyingKey};
use kms_core::object::{EdwardsMontgomery, KeyBytes};
use kms_protocol::{KeyType, Mechanism, MechanismType, Parameters, Rv, Secret};
use zeroize::Zeroizing;

use super::CryptoError;
use super::curve448::{self, Ed448Key, X448Key};
use super::{der, ed25519ctx};

/// Checks that this build has keys on a curve: those on curve 448 need the feature `pre-release-curves`.
///
/// # Errors
/// [`CryptoError::PreReleaseCurve`].
pub(super) fn check_built_in(curve: EdwardsMontgomery) -> Result<(), CryptoError> {
    match curve {
        EdwardsMontgomery::Ed25519 | EdwardsMontgomery::X25519 => Ok(()),
        EdwardsMontgomery::Ed448 | EdwardsMontgomery::X448 if cfg!(feature = "pre-release-curves") => Ok(()),
        EdwardsMontgomery::Ed448 | EdwardsMontgomery::X448 => Err(CryptoError::PreReleaseCurve(curve)),
    }
}

/// Generates a private key, in PKCS #8.
pub(super) fn generate(curve: EdwardsMontgomery, random: &SystemRandom) -> Option<KeyBytes> {
    let mut secret = Zeroizing::new(vec![0; curve.key_bytes()]);
    random.fill(&mut secret).ok()?;
    private_key(curve, &secret)
}

/// The private key with this secret, in PKCS #8 (RFC 8410: an OCTET STRING in an OCTET STRING). None if it does not
/// have the curve's length.
pub(super) fn private_key(curve: EdwardsMontgomery, secret: &[u8]) -> Option<KeyBytes> {
    if secret.len() != curve.key_bytes() {
        return None;
    }
    der::private_key(curve.oid_der(), &der::octet_string(secret))
}

/// The curve and the secret of a private key in PKCS #8.
pub(super) fn read(kind: KeyType, material: &[u8]) -> Option<(EdwardsMontgomery, &[u8])> {
    let mut curves = EdwardsMontgomery::ALL.into_iter().filter(|curve| curve.key_type() == kind);
    let (curve, inner) =
        curves.find_map(|curve| der::inner_of(material, curve.oid_der()).map(|inner| (curve, inner)))?;
    let secret = der::octets(inner)?;
    (secret.len() == curve.key_bytes()).then_some((curve, secret))
}

/// The public key of a private key.
pub(super) fn public_of(curve: EdwardsMontgomery, secret: &[u8]) -> Option<Vec<u8>> {
    match curve {
        EdwardsMontgomery::Ed25519 => {
            Some(SigningKey::from_bytes(secret.try_into().ok()?).verifying_key().to_bytes().to_vec())
        }
        EdwardsMontgomery::X25519 => {
            let key = PrivateKey::from_private_key(&X25519, secret).ok()?;
            Some(key.compute_public_key().ok()?.as_ref().to_vec())
        }
        EdwardsMontgomery::Ed448 => Some(Ed448Key::open(secret)?.public().to_vec()),
        EdwardsMontgomery::X448 => Some(X448Key::open(secret)?.public().to_vec()),
    }
}

/// Whether a public key is valid: a point of large order on Edwards curves, any bytes of the right length on Montgomery
/// curves.
pub(super) fn is_public(curve: EdwardsMontgomery, key: &[u8]) -> bool {
    match curve {
        EdwardsMontgomery::Ed25519 => <&[u8; 32]>::try_from(key)
            .is_ok_and(|key| VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak())),
        EdwardsMontgomery::Ed448 => curve448::is_public(key),
        EdwardsMontgomery::X25519 | EdwardsMontgomery::X448 => key.len() == curve.key_bytes(),
    }
}

/// A private key on an Edwards curve.
pub(super) enum EdwardsKey {
    Ed25519(Box<SigningKey>),
    Ed448(Box<Ed448Key>),
}

impl EdwardsKey {
    /// Opens a private key from PKCS #8.
    pub(super) fn open(material: &[u8]) -> Option<Self> {
        match read(KeyType::EC_EDWARDS, material)? {
            (EdwardsMontgomery::Ed448, secret) => {
                Ed448Key::open(secret).map(|key| Self::Ed448(Box::new(key)))
            }
            (_, secret) => Some(Self::Ed25519(Box::new(SigningKey::from_bytes(secret.try_into().ok()?)))),
        }
    }

    /// Signs with the scheme that the parameters name: Ed25519, Ed25519ph or Ed25519ctx; Ed448 or Ed448ph.
    pub(super) fn sign(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        let scheme = match (mechanism.kind, &mechanism.parameters) {
            (MechanismType::EDDSA, Parameters::Eddsa { prehashed, context }) => {
                Some((*prehashed, context.as_ref()))
            }
            (MechanismType::EDDSA, Parameters::None) => None,
            (MechanismType::EDDSA, _) => return Err(Rv::MECHANISM_PARAM_INVALID),
            _ => return Err(Rv::MECHANISM_INVALID),
        };
        let key = match self {
            Self::Ed25519(key) => key,
            Self::Ed448(key) => {
                let (prehashed, context) = scheme.unwrap_or_default();
                return key.sign(prehashed, context, data);
            }
        };
        let signature = match scheme {
            None => key.try_sign(data),
            Some((true, context)) => key.sign_prehashed(Sha512::new_with_prefix(data), Some(context)),
            // With an empty context it would not be Ed25519 either, though some callers mean that.
            Some((false, [])) => return Err(Rv::MECHANISM_PARAM_INVALID),
            Some((false, context)) => ed25519ctx::sign(key, context, data),
        };
        Ok(Secret::from(signature.map_err(|_| Rv::FUNCTION_FAILED)?.to_bytes().to_vec()))
    }
}

/// A private key on a Montgomery curve.
pub(super) enum MontgomeryKey {
    X25519(PrivateKey),
    X448(X448Key),
}

impl MontgomeryKey {
    /// Opens a private key from PKCS #8.
    pub(super) fn open(material: &[u8]) -> Option<Self> {
        match read(KeyType::EC_MONTGOMERY, material)? {
            (EdwardsMontgomery::X448, secret) => X448Key::open(secret).map(Self::X448),
            (_, secret) => PrivateKey::from_private_key(&X25519, secret).ok().map(Self::X25519),
        }
    }

    /// The shared secret: 32 or 56 bytes.
    ///
    /// # Errors
    /// `CKR_MECHANISM_PARAM_INVALID` for an invalid public key, or one that gives every partner the same secret.
    pub(super) fn agree(&self, public: &[u8]) -> Result<Zeroizing<Vec<u8>>, Rv> {
        let invalid = Rv::MECHANISM_PARAM_INVALID;
        match self {
            Self::X25519(key) => {
                let public = der::point(public, EdwardsMontgomery::X25519.key_bytes()).ok_or(invalid)?;
                agreement::agree(key, UnparsedPublicKey::new(&X25519, public), invalid, |shared| {
                    Ok(Zeroizing::new(shared.to_vec()))
                })
            }
            Self::X448(key) => {
                let public = der::point(public, EdwardsMontgomery::X448.key_bytes()).ok_or(invalid)?;
                key.agree(public).ok_or(invalid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use ed25519_dalek::Signature;
    use kms_core::object::KeySpec;
    use kms_protocol::{Attribute, AttributeType, ObjectClass, Template};

    use super::*;
    use crate::OpenedKey;

    fn eddsa(prehashed: bool, context: &[u8]) -> Mechanism {
        let parameters = Parameters::Eddsa { prehashed, context: Secret::from(context) };
        Mechanism { kind: MechanismType::EDDSA, parameters }
    }

    #[test]
    fn another_library_verifies_signatures() {
        let material = generate(EdwardsMontgomery::Ed25519, &SystemRandom::new()).unwrap();
        let key = EdwardsKey::open(material.as_ref()).unwrap();
        let public =
            public_of(EdwardsMontgomery::Ed25519, read(KeyType::EC_EDWARDS, material.as_ref()).unwrap().1)
                .unwrap();
        assert!(is_public(EdwardsMontgomery::Ed25519, &public));
        let pure = key.sign(&Mechanism::plain(MechanismType::EDDSA), b"message").unwrap();
        UnparsedPublicKey::new(&ED25519, &public).verify(b"message", &pure).unwrap();
        assert_eq!(key.sign(&eddsa(false, b""), b"message").unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
        let under_context = key.sign(&eddsa(false, b"context"), b"message").unwrap();
        assert_ne!(under_context, pure);
        assert!(UnparsedPublicKey::new(&ED25519, &public).verify(b"message", &under_context).is_err());
    }

    #[test]
    fn prehashed_signatures_are_bound_to_their_context() {
        let material = generate(EdwardsMontgomery::Ed25519, &SystemRandom::new()).unwrap();
        let EdwardsKey::Ed25519(own) = EdwardsKey::open(material.as_ref()).unwrap() else { panic!() };
        let public = own.verifying_key();
        let signature = EdwardsKey::Ed25519(own).sign(&eddsa(true, b"context"), b"message").unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        let digest = || Sha512::new_with_prefix(b"message");
        assert!(public.verify_prehashed(digest(), Some(b"context"), &signature).is_ok());
        assert!(public.verify_prehashed(digest(), Some(b"other"), &signature).is_err());
    }

    #[test]
    fn two_sides_agree() {
        let random = SystemRandom::new();
        for curve in [EdwardsMontgomery::X25519, EdwardsMontgomery::X448] {
            if check_built_in(curve).is_err() {
                continue;
            }
            let bytes = curve.key_bytes();
            let keys = [(); 2].map(|()| generate(curve, &random).unwrap());
            let public = |key: &KeyBytes| {
                public_of(curve, read(KeyType::EC_MONTGOMERY, key.as_ref()).unwrap().1).unwrap()
            };
            let agree =
                |own: &KeyBytes, other: &[u8]| MontgomeryKey::open(own.as_ref()).unwrap().agree(other);
            let shared = agree(&keys[0], &public(&keys[1])).unwrap();
            assert_eq!(shared.len(), bytes);
            assert_eq!(shared, agree(&keys[1], &public(&keys[0])).unwrap());
            assert_eq!(shared, agree(&keys[1], &der::octet_string(&public(&keys[0]))).unwrap());
            for wrong in [vec![0; bytes], vec![9; bytes - 1], vec![9; bytes + 1]] {
                assert_eq!(agree(&keys[0], &wrong).unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
            }
        }
    }

    /// `make test` runs this once with the feature and once without it.
    #[test]
    fn curve_448_is_there_with_its_feature_only() {
        let there = cfg!(feature = "pre-release-curves");
        for curve in EdwardsMontgomery::ALL {
            let expected = there || matches!(curve, EdwardsMontgomery::Ed25519 | EdwardsMontgomery::X25519);
            let random = SystemRandom::new();
            assert_eq!(crate::generate(&KeySpec::EdwardsMontgomery { curve }, &random).is_ok(), expected);
            // A stored key: what a build with the feature made.
            let stored = generate(curve, &random).unwrap();
            let opened = OpenedKey::open(ObjectClass::PRIVATE_KEY, curve.key_type(), &stored);
            assert_eq!(opened.is_ok(), expected, "{curve:?}");
            if let Err(error) = opened {
                assert!(error.to_string().contains("--features pre-release-curves"), "{error}");
            }
            let value = vec![1; curve.key_bytes()];
            let template = Template(vec![
                Attribute::bytes(AttributeType::EC_PARAMS, curve.oid_der()),
                Attribute::bytes(AttributeType::VALUE, value),
            ]);
            let imported = crate::import::edwards_montgomery_of(curve.key_type(), &template);
            let rejected = Err(Rv::CURVE_NOT_SUPPORTED);
            assert_eq!(imported, if expected { Ok(curve) } else { rejected });
            let unwrapped = Zeroizing::new(stored.as_ref().to_vec());
            assert_eq!(
                crate::import::stored(ObjectClass::PRIVATE_KEY, curve.key_type(), unwrapped).is_some(),
                expected,
                "{curve:?}"
            );
        }
    }

    #[test]
    fn a_key_is_of_the_curve_that_its_identifier_names() {
        let random = SystemRandom::new();
        for curve in EdwardsMontgomery::ALL {
            let material = generate(curve, &random).unwrap();
            let (read_curve, secret) = read(curve.key_type(), material.as_ref()).unwrap();
            assert_eq!(read_curve, curve);
            assert!(private_key(curve, &secret[1..]).is_none());
            let other = EdwardsMontgomery::ALL
                .into_iter()
                .find(|other| other.key_type() != curve.key_type())
                .unwrap();
            assert!(read(other.key_type(), material.as_ref()).is_none());
            let named = der::private_key(curve.oid_der(), &der::octet_string(&secret[1..])).unwrap();
            assert!(read(curve.key_type(), named.as_ref()).is_none(), "a secret that is too short");
        }
    }
}
