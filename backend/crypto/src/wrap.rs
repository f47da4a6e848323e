//! Wrapping and unwrapping keys: a secret key as its value, a private key as PKCS #8.
//!
//! Every error in a wrapped key except its length has one code and, as far as the libraries allow, the timing of a
//! valid key: a caller who may unwrap anything must not learn about the padding from the responses.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use kms_core::object::KeyBytes;
use kms_core::policy::{Permit, Usage};
use kms_protocol::{KeyType, Mechanism, MechanismType, ObjectClass, Parameters, Rv, Secret};
use zeroize::Zeroizing;

use super::keywrap::{self, Padding};
use super::opened_key::{Kind, OpenedKey};
use super::operations::check_permit;
use super::{aes, import, public, rsa};

/// The minimum GCM tag of a wrapped key (SP 800-38D, "Requirements and Guidelines for Using Short Tags").
const TAG_BITS_MIN: u8 = 96;

/// Wraps a key.
///
/// # Errors
/// `CKR_KEY_NOT_WRAPPABLE` for a key without a secret, `CKR_KEY_SIZE_RANGE` if the mechanism does not take its length,
/// `CKR_WRAPPING_KEY_TYPE_INCONSISTENT` if the wrapping key does not support the mechanism.
pub fn wrap(
    permit: &Permit,
    wrapping: &OpenedKey,
    mechanism: &Mechanism,
    class: ObjectClass,
    kind: KeyType,
    material: &KeyBytes,
    random: &SystemRandom,
) -> Result<Secret, Rv> {
    check_permit(permit, Usage::Wrap, mechanism)?;
    if !import::is_known(class, kind) {
        return Err(Rv::KEY_NOT_WRAPPABLE);
    }
    let key = material.as_ref();
    match &wrapping.0 {
        Kind::Aes(wrapping) => wrap_aes(wrapping.as_ref(), mechanism, key),
        Kind::PublicRsa(wrapping) => match (mechanism.kind, &mechanism.parameters) {
            (MechanismType::RSA_PKCS, Parameters::None) => public::encrypt_pkcs1(wrapping, key, random),
            (MechanismType::RSA_PKCS_OAEP, Parameters::Oaep { hash, mgf, label }) => {
                public::encrypt_oaep(wrapping, (*hash, *mgf, label), key, random)
            }
            (MechanismType::RSA_AES_KEY_WRAP, Parameters::RsaAes { aes_bits, hash, mgf, label }) => {
                let intermediate = intermediate_key(*aes_bits, random)?;
                let rsa_part =
                    public::encrypt_oaep(wrapping, (*hash, *mgf, label), intermediate.as_ref(), random)?;
                let intermediate = aes::open(&intermediate).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
                let aes_part = intermediate.wrap(Padding::Zeros, key)?;
                Ok(Secret::from([&*rsa_part, &*aes_part].concat()))
            }
            _ => Err(Rv::MECHANISM_INVALID),
        },
        Kind::Rsa(_) | Kind::Ec(_) | Kind::Generic(_) | Kind::ChaCha(_) | Kind::Edwards(_) => {
            Err(Rv::WRAPPING_KEY_TYPE_INCONSISTENT)
        }
        Kind::Montgomery(_) | Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => {
            Err(Rv::WRAPPING_KEY_TYPE_INCONSISTENT)
        }
    }
}

fn wrap_aes(wrapping: &dyn aes::Modes, mechanism: &Mechanism, key: &[u8]) -> Result<Secret, Rv> {
    if let Some(padding) = keywrap::padding_of(mechanism.kind, &mechanism.parameters)? {
        return wrapping.wrap(padding, key);
    }
    check_cipher(mechanism)?;
    wrapping.encrypt(mechanism, key).map_err(|rv| match rv {
        Rv::DATA_LEN_RANGE => Rv::KEY_SIZE_RANGE,
        other => other,
    })
}

/// Checks that a cipher wraps keys.
///
/// # Errors
/// `CKR_MECHANISM_PARAM_INVALID` for a tag that can be guessed: the result would be accepted as a key.
fn check_cipher(mechanism: &Mechanism) -> Result<(), Rv> {
    match (mechanism.kind, &mechanism.parameters) {
        (MechanismType::AES_CBC | MechanismType::AES_CBC_PAD, _) => Ok(()),
        (MechanismType::AES_GCM, Parameters::Gcm { tag_bits, .. }) if *tag_bits >= TAG_BITS_MIN => Ok(()),
        (MechanismType::AES_GCM, _) => Err(Rv::MECHANISM_PARAM_INVALID),
        _ => Err(Rv::MECHANISM_INVALID),
    }
}

/// Generates the intermediate AES key of RSA_AES_KEY_WRAP.
fn intermediate_key(bits: u16, random: &SystemRandom) -> Result<KeyBytes, Rv> {
    let mut key = Zeroizing::new(vec![0; usize::from(bits / 8)]);
    random.fill(&mut key).map_err(|_| Rv::FUNCTION_FAILED)?;
    Ok(KeyBytes(key))
}

/// Unwraps a key, and converts it to the stored form.
///
/// # Errors
/// `CKR_WRAPPED_KEY_LEN_RANGE` for a wrong length, `CKR_WRAPPED_KEY_INVALID` for any other error in it,
/// `CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT` if the unwrapping key does not support the mechanism.
pub fn unwrap(
    permit: &Permit,
    unwrapping: &OpenedKey,
    mechanism: &Mechanism,
    wrapped: &[u8],
    class: ObjectClass,
    kind: KeyType,
) -> Result<KeyBytes, Rv> {
    check_permit(permit, Usage::Unwrap, mechanism)?;
    let bytes = match &unwrapping.0 {
        Kind::Aes(unwrapping) => unwrap_aes(unwrapping.as_ref(), mechanism, wrapped),
        Kind::Rsa(unwrapping) => unwrap_rsa(unwrapping, mechanism, wrapped),
        Kind::Ec(_) | Kind::Generic(_) | Kind::ChaCha(_) | Kind::Edwards(_) | Kind::Montgomery(_) => {
            Err(Rv::UNWRAPPING_KEY_TYPE_INCONSISTENT)
        }
        Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicRsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => {
            Err(Rv::UNWRAPPING_KEY_TYPE_INCONSISTENT)
        }
    };
    let mut bytes = bytes.map_err(|rv| match rv {
        Rv::ENCRYPTED_DATA_LEN_RANGE => Rv::WRAPPED_KEY_LEN_RANGE,
        Rv::ENCRYPTED_DATA_INVALID => Rv::WRAPPED_KEY_INVALID,
        other => other,
    })?;
    let bytes = Zeroizing::new(std::mem::take(bytes.bytes_mut()));
    import::stored(class, kind, bytes).ok_or(Rv::WRAPPED_KEY_INVALID)
}

fn unwrap_aes(unwrapping: &dyn aes::Modes, mechanism: &Mechanism, wrapped: &[u8]) -> Result<Secret, Rv> {
    if let Some(padding) = keywrap::padding_of(mechanism.kind, &mechanism.parameters)? {
        return unwrapping.unwrap(padding, wrapped);
    }
    check_cipher(mechanism)?;
    unwrapping.decrypt(mechanism, wrapped)
}

fn unwrap_rsa(unwrapping: &rsa::RsaKey, mechanism: &Mechanism, wrapped: &[u8]) -> Result<Secret, Rv> {
    let Parameters::RsaAes { aes_bits, hash, mgf, label } = &mechanism.parameters else {
        return unwrapping.decrypt(mechanism, wrapped);
    };
    let (rsa_part, aes_part) =
        wrapped.split_at_checked(unwrapping.size()).ok_or(Rv::WRAPPED_KEY_LEN_RANGE)?;
    if aes_part.len() < 16 || !aes_part.len().is_multiple_of(8) {
        return Err(Rv::WRAPPED_KEY_LEN_RANGE);
    }
    let oaep = Parameters::Oaep { hash: *hash, mgf: *mgf, label: label.clone() };
    let oaep = Mechanism { kind: MechanismType::RSA_PKCS_OAEP, parameters: oaep };
    let intermediate = unwrapping.decrypt(&oaep, rsa_part);
    // If the RSA part is wrong, a key that opens nothing is used instead, so that both parts fail at the same place.
    let valid = intermediate.as_ref().is_ok_and(|key| key.len() == usize::from(aes_bits / 8));
    let intermediate = match intermediate {
        Ok(key) if valid => KeyBytes::from(key.to_vec()),
        Ok(_) | Err(Rv::ENCRYPTED_DATA_INVALID) => KeyBytes::from(vec![0; usize::from(aes_bits / 8)]),
        Err(rv) => return Err(rv),
    };
    let intermediate = aes::open(&intermediate).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
    // The specification has padding (KWP). KW is accepted as well: each of the two rejects the output of the other.
    let key = intermediate
        .unwrap(Padding::Zeros, aes_part)
        .or_else(|_| intermediate.unwrap(Padding::None, aes_part));
    // Otherwise a caller who knows that zeros replace the key of a wrong RSA part could wrap under them.
    if valid { key } else { Err(Rv::WRAPPED_KEY_INVALID) }
}

#[cfg(test)]
mod tests {
    use kms_core::object::{Curve, EdwardsMontgomery, KeySpec, MlDsaSet, MlKemSet};
    use kms_protocol::{Attribute, Mgf};

    use super::super::{GeneratedKey, generate, test_support};
    use super::*;
    use crate::test_support::is_built_in;

    const SECRET: ObjectClass = ObjectClass::SECRET_KEY;
    const PRIVATE: ObjectClass = ObjectClass::PRIVATE_KEY;

    /// One key of each kind that can be wrapped.
    fn keys() -> Vec<(ObjectClass, KeyType, GeneratedKey)> {
        let random = SystemRandom::new();
        [
            (SECRET, KeyType::AES, KeySpec::Aes { bytes: 16 }),
            (SECRET, KeyType::AES, KeySpec::Aes { bytes: 32 }),
            (SECRET, KeyType::CHACHA20, KeySpec::ChaCha20),
            (SECRET, KeyType::GENERIC_SECRET, KeySpec::Generic { bytes: 21 }),
            (PRIVATE, KeyType::RSA, KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] }),
            (PRIVATE, KeyType::EC, KeySpec::Ec { curve: Curve::P256 }),
            (PRIVATE, KeyType::EC_EDWARDS, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::Ed25519 }),
            (
                PRIVATE,
                KeyType::EC_MONTGOMERY,
                KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::X25519 },
            ),
            (PRIVATE, KeyType::EC_EDWARDS, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::Ed448 }),
            (PRIVATE, KeyType::EC_MONTGOMERY, KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::X448 }),
            (PRIVATE, KeyType::ML_KEM, KeySpec::MlKem { set: MlKemSet::Kem1024 }),
            (PRIVATE, KeyType::ML_DSA, KeySpec::MlDsa { set: MlDsaSet::Dsa44 }),
        ]
        .into_iter()
        .filter(|(_, _, spec)| is_built_in(spec))
        .map(|(class, kind, spec)| (class, kind, generate(&spec, &random).unwrap()))
        .collect()
    }

    /// A wrapping key: opened to wrap and to unwrap, with class and attributes for policy.
    struct Wrapping {
        wraps: (OpenedKey, ObjectClass, Vec<Attribute>),
        unwraps: (OpenedKey, ObjectClass, Vec<Attribute>),
        kind: KeyType,
    }

    fn aes_key() -> Wrapping {
        let generated = generate(&KeySpec::Aes { bytes: 32 }, &SystemRandom::new()).unwrap();
        let open = || {
            (
                OpenedKey::open(SECRET, KeyType::AES, &generated.material).unwrap(),
                SECRET,
                generated.attributes.clone(),
            )
        };
        Wrapping { wraps: open(), unwraps: open(), kind: KeyType::AES }
    }

    fn rsa_key() -> Wrapping {
        let spec = KeySpec::Rsa { bits: 2048, exponent: vec![1, 0, 1] };
        let generated = generate(&spec, &SystemRandom::new()).unwrap();
        let public =
            OpenedKey::public(KeyType::RSA, &kms_protocol::Template(generated.public.clone())).unwrap();
        let private = OpenedKey::open(PRIVATE, KeyType::RSA, &generated.material).unwrap();
        Wrapping {
            wraps: (public, ObjectClass::PUBLIC_KEY, generated.public),
            unwraps: (private, PRIVATE, generated.attributes),
            kind: KeyType::RSA,
        }
    }

    impl Wrapping {
        fn wrap(
            &self,
            mechanism: &Mechanism,
            key: &(ObjectClass, KeyType, GeneratedKey),
        ) -> Result<Secret, Rv> {
            let (wrapping, class, attributes) = &self.wraps;
            let object = test_support::object(*class, self.kind, attributes);
            let permit = test_support::permit(Usage::Wrap, mechanism, &object);
            wrap(&permit, wrapping, mechanism, key.0, key.1, &key.2.material, &SystemRandom::new())
        }

        fn unwrap(
            &self,
            mechanism: &Mechanism,
            wrapped: &[u8],
            class: ObjectClass,
            kind: KeyType,
        ) -> Result<KeyBytes, Rv> {
            let (unwrapping, own, attributes) = &self.unwraps;
            let object = test_support::object(*own, self.kind, attributes);
            let permit = test_support::permit(Usage::Unwrap, mechanism, &object);
            unwrap(&permit, unwrapping, mechanism, wrapped, class, kind)
        }
    }

    fn oaep(kind: MechanismType) -> Mechanism {
        let (hash, mgf, label) = (MechanismType::SHA256, Mgf::SHA256, Secret::from(b"label".as_slice()));
        let parameters = if kind == MechanismType::RSA_AES_KEY_WRAP {
            Parameters::RsaAes { aes_bits: 256, hash, mgf, label }
        } else {
            Parameters::Oaep { hash, mgf, label }
        };
        Mechanism { kind, parameters }
    }

    fn gcm() -> Mechanism {
        let (iv, aad) = (Secret::from(vec![3; 12]), Secret::default());
        Mechanism { kind: MechanismType::AES_GCM, parameters: Parameters::Gcm { iv, aad, tag_bits: 128 } }
    }

    #[test]
    fn every_key_round_trips_with_every_mechanism_that_takes_it() {
        let (aes, rsa) = (aes_key(), rsa_key());
        let iv = Parameters::Iv([5; 16]);
        let padded = Mechanism { kind: MechanismType::AES_CBC_PAD, parameters: iv.clone() };
        let bare = Mechanism { kind: MechanismType::AES_CBC, parameters: iv };
        let keys = keys();
        for (wrapping, mechanism, takes_all) in [
            (&aes, Mechanism::plain(MechanismType::AES_KEY_WRAP_KWP), true),
            (&aes, Mechanism::plain(MechanismType::AES_KEY_WRAP_PAD), true),
            (&aes, Mechanism::plain(MechanismType::AES_KEY_WRAP), false),
            (&aes, gcm(), true),
            (&aes, padded, true),
            (&aes, bare, false),
            (&rsa, oaep(MechanismType::RSA_AES_KEY_WRAP), true),
            (&rsa, oaep(MechanismType::RSA_PKCS_OAEP), false),
            (&rsa, Mechanism::plain(MechanismType::RSA_PKCS), false),
        ] {
            let mut round_trips = 0;
            for key in &keys {
                let name = format!("{} under {}", key.1, mechanism.kind);
                match wrapping.wrap(&mechanism, key) {
                    Ok(wrapped) => {
                        let unwrapped = wrapping.unwrap(&mechanism, &wrapped, key.0, key.1);
                        assert_eq!(unwrapped.expect(&name).as_ref(), key.2.material.as_ref(), "{name}");
                        round_trips += 1;
                    }
                    Err(rv) => assert!(!takes_all && rv == Rv::KEY_SIZE_RANGE, "{name}: {rv}"),
                }
            }
            assert!(round_trips >= 2, "{}", mechanism.kind);
        }
    }

    #[test]
    fn errors_in_a_wrapped_key_have_one_code() {
        let (aes, rsa) = (aes_key(), rsa_key());
        let key = &keys()[1];
        for (wrapping, mechanism) in [
            (&aes, Mechanism::plain(MechanismType::AES_KEY_WRAP)),
            (&aes, Mechanism::plain(MechanismType::AES_KEY_WRAP_KWP)),
            (&aes, gcm()),
            (&rsa, oaep(MechanismType::RSA_PKCS_OAEP)),
            (&rsa, oaep(MechanismType::RSA_AES_KEY_WRAP)),
        ] {
            let wrapped = wrapping.wrap(&mechanism, key).unwrap();
            for at in [0, 7, wrapped.len() / 2, wrapped.len() - 1] {
                let mut wrong = wrapped.to_vec();
                wrong[at] ^= 0x10;
                // The first byte of an RSA ciphertext may make it larger than the modulus: no length error either.
                let error = wrapping.unwrap(&mechanism, &wrong, SECRET, KeyType::AES).unwrap_err();
                assert_eq!(error, Rv::WRAPPED_KEY_INVALID, "{} at {at}", mechanism.kind);
            }
            let other = wrapping.unwrap(&mechanism, &wrapped, PRIVATE, KeyType::EC).unwrap_err();
            assert_eq!(other, Rv::WRAPPED_KEY_INVALID, "{}", mechanism.kind);
            let cut = wrapping.unwrap(&mechanism, &wrapped[..7], SECRET, KeyType::AES).unwrap_err();
            assert_eq!(cut, Rv::WRAPPED_KEY_LEN_RANGE, "{}", mechanism.kind);
        }
    }

    #[test]
    fn public_keys_and_unknown_types_are_not_wrapped() {
        let (aes, generated) =
            (aes_key(), generate(&KeySpec::Aes { bytes: 16 }, &SystemRandom::new()).unwrap());
        let mechanism = Mechanism::plain(MechanismType::AES_KEY_WRAP);
        let key = (ObjectClass::PUBLIC_KEY, KeyType::RSA, generated);
        assert_eq!(aes.wrap(&mechanism, &key).unwrap_err(), Rv::KEY_NOT_WRAPPABLE);
        let key = (SECRET, KeyType::RSA, key.2);
        assert_eq!(aes.wrap(&mechanism, &key).unwrap_err(), Rv::KEY_NOT_WRAPPABLE);
    }
}
