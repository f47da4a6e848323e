//! Key agreement, derivation and encapsulation.

use kms_core::object::KeyBytes;
use kms_core::policy::{Permit, Usage};
use kms_protocol::{Mechanism, MechanismType, Parameters, PrfData, Rv, Salt, Secret};
use zeroize::Zeroizing;

use super::kdf::{self, Hkdf};
use super::mac::MacKey;
use super::opened_key::{Kind, OpenedKey};
use super::operations::check_permit;

/// Derives a key. `bytes` is the length, if the template states one or the key's type has one; `second` is the other
/// key, if the mechanism names one.
///
/// # Errors
/// `CKR_TEMPLATE_INCOMPLETE` if a length is required, `CKR_KEY_SIZE_RANGE` if the length is not available,
/// `CKR_KEY_TYPE_INCONSISTENT` if the base key does not support the mechanism, `CKR_MECHANISM_PARAM_INVALID`.
pub fn derive(
    permit: &Permit,
    base: &OpenedKey,
    mechanism: &Mechanism,
    second: Option<&KeyBytes>,
    bytes: Option<usize>,
) -> Result<KeyBytes, Rv> {
    check_permit(permit, Usage::Derive, mechanism)?;
    let derived = match (mechanism.kind, &mechanism.parameters) {
        (
            MechanismType::ECDH1_DERIVE | MechanismType::ECDH1_COFACTOR_DERIVE,
            Parameters::Ecdh { kdf, shared, public },
        ) => kdf::after_agreement(*kdf, &agree(base, public)?, shared, bytes),
        (MechanismType::HKDF_DERIVE, Parameters::Hkdf { extract, expand, hash, salt, info }) => {
            let salt = match salt {
                Salt::None => None,
                Salt::Data(salt) => Some(salt.as_ref()),
                Salt::Key(_) => Some(second.ok_or(Rv::MECHANISM_PARAM_INVALID)?.as_ref()),
            };
            let how = match (extract, expand) {
                (true, true) => Hkdf::Both { salt, info },
                (true, false) => Hkdf::Extract { salt },
                (false, true) => Hkdf::Expand { info },
                (false, false) => return Err(Rv::MECHANISM_PARAM_INVALID),
            };
            kdf::hkdf(*hash, how, value_of(base)?, bytes)
        }
        (MechanismType::SP800_108_COUNTER_KDF, Parameters::Kbkdf { prf, data, .. }) => {
            kbkdf(base, *prf, data, None, bytes)
        }
        (MechanismType::SP800_108_FEEDBACK_KDF, Parameters::Kbkdf { prf, data, iv }) => {
            kbkdf(base, *prf, data, Some(iv), bytes)
        }
        (MechanismType::AES_ECB_ENCRYPT_DATA | MechanismType::AES_CBC_ENCRYPT_DATA, _) => {
            encrypt_data(base, mechanism, bytes)
        }
        (MechanismType::CONCATENATE_BASE_AND_KEY, Parameters::Key(_)) => {
            let second = second.ok_or(Rv::MECHANISM_PARAM_INVALID)?;
            concatenate([value_of(base)?, second.as_ref()], bytes)
        }
        (MechanismType::CONCATENATE_BASE_AND_DATA, Parameters::Data { data, .. }) => {
            concatenate([value_of(base)?, data], bytes)
        }
        (MechanismType::CONCATENATE_DATA_AND_BASE, Parameters::Data { data, .. }) => {
            concatenate([data, value_of(base)?], bytes)
        }
        (MechanismType::XOR_BASE_AND_DATA, Parameters::Data { data, .. }) => {
            let xored = value_of(base)?.iter().zip(data.iter()).map(|(one, other)| one ^ other);
            truncate(Zeroizing::new(xored.collect()), bytes)
        }
        (MechanismType::EXTRACT_KEY_FROM_KEY, Parameters::Extract { bit }) => {
            extract(value_of(base)?, *bit, bytes.ok_or(Rv::TEMPLATE_INCOMPLETE)?)
        }
        _ => Err(Rv::MECHANISM_INVALID),
    };
    derived.map(KeyBytes)
}

fn agree(base: &OpenedKey, public: &[u8]) -> Result<Zeroizing<Vec<u8>>, Rv> {
    match &base.0 {
        Kind::Ec(key) => key.agree(public),
        Kind::Montgomery(key) => key.agree(public),
        Kind::Aes(_) | Kind::Generic(_) | Kind::ChaCha(_) | Kind::Rsa(_) | Kind::Edwards(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
        Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicRsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
    }
}

/// The bytes of a secret key.
fn value_of(base: &OpenedKey) -> Result<&[u8], Rv> {
    match &base.0 {
        Kind::Generic(key) => Ok(key.as_ref()),
        Kind::Aes(key) => Ok(key.value()),
        Kind::ChaCha(_) | Kind::Rsa(_) | Kind::Ec(_) | Kind::Edwards(_) | Kind::Montgomery(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
        Kind::Kem(_) | Kind::Dsa(_) | Kind::PublicRsa(_) | Kind::PublicEc(_) | Kind::PublicKem(_) => {
            Err(Rv::KEY_TYPE_INCONSISTENT)
        }
    }
}

fn kbkdf(
    base: &OpenedKey,
    prf: MechanismType,
    data: &PrfData,
    feedback: Option<&[u8]>,
    bytes: Option<usize>,
) -> Result<Zeroizing<Vec<u8>>, Rv> {
    let key =
        if let Kind::Aes(key) = &base.0 { MacKey::Aes(key.as_ref()) } else { MacKey::Bytes(value_of(base)?) };
    kdf::kbkdf(prf, key, &data.0, feedback, bytes.ok_or(Rv::TEMPLATE_INCOMPLETE)?)
}

/// The first bytes of the encrypted data (spec, "Key derivation by data encryption").
fn encrypt_data(
    base: &OpenedKey,
    mechanism: &Mechanism,
    bytes: Option<usize>,
) -> Result<Zeroizing<Vec<u8>>, Rv> {
    let Kind::Aes(key) = &base.0 else { return Err(Rv::KEY_TYPE_INCONSISTENT) };
    let Parameters::Data { iv, data } = &mechanism.parameters else {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    };
    let cipher = if mechanism.kind == MechanismType::AES_ECB_ENCRYPT_DATA {
        Mechanism::plain(MechanismType::AES_ECB)
    } else {
        let iv = iv.as_ref().try_into().map_err(|_| Rv::MECHANISM_PARAM_INVALID)?;
        Mechanism { kind: MechanismType::AES_CBC, parameters: Parameters::Iv(iv) }
    };
    // The data is the parameter: an error in its length is an error in the parameter.
    let of_data = |rv| match rv {
        Rv::DATA_LEN_RANGE | Rv::KEY_SIZE_RANGE => Rv::MECHANISM_PARAM_INVALID,
        other => other,
    };
    let encrypted = key.encrypt(&cipher, data).map_err(of_data)?;
    truncate(Zeroizing::new(encrypted.to_vec()), bytes).map_err(of_data)
}

fn concatenate(parts: [&[u8]; 2], bytes: Option<usize>) -> Result<Zeroizing<Vec<u8>>, Rv> {
    truncate(Zeroizing::new(parts.concat()), bytes)
}

/// Extracts bytes from a bit on, continuing with the first bit after the last (spec, "Extraction of one key from
/// another key").
fn extract(base: &[u8], bit: u32, bytes: usize) -> Result<Zeroizing<Vec<u8>>, Rv> {
    let bit = usize::try_from(bit).map_err(|_| Rv::MECHANISM_PARAM_INVALID)?;
    if bit >= base.len() * 8 {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    }
    if bytes > base.len() {
        return Err(Rv::KEY_SIZE_RANGE);
    }
    let (first, shift) = (bit / 8, bit % 8);
    let byte = |at: usize| base[(first + at) % base.len()];
    let extracted = (0..bytes).map(|at| {
        let both = u16::from_be_bytes([byte(at), byte(at + 1)]) << shift;
        both.to_be_bytes()[0]
    });
    Ok(Zeroizing::new(extracted.collect()))
}

fn truncate(mut derived: Zeroizing<Vec<u8>>, bytes: Option<usize>) -> Result<Zeroizing<Vec<u8>>, Rv> {
    let wanted = bytes.unwrap_or(derived.len());
    if wanted > derived.len() {
        return Err(Rv::KEY_SIZE_RANGE);
    }
    derived.truncate(wanted);
    Ok(derived)
}

/// Generates a secret for the holder of the private key. Returns its encapsulation and the secret.
///
/// # Errors
/// `CKR_KEY_TYPE_INCONSISTENT` if the public key does not support the mechanism.
pub fn encapsulate(
    permit: &Permit,
    public: &OpenedKey,
    mechanism: &Mechanism,
) -> Result<(Secret, KeyBytes), Rv> {
    check_permit(permit, Usage::Encapsulate, mechanism)?;
    let Kind::PublicKem(public) = &public.0 else { return Err(Rv::KEY_TYPE_INCONSISTENT) };
    public.encapsulate(mechanism)
}

/// Returns the encapsulated secret. An invalid ciphertext gives a secret that no other party has.
///
/// # Errors
/// `CKR_WRAPPED_KEY_LEN_RANGE`, or `CKR_KEY_TYPE_INCONSISTENT` if the private key does not support the mechanism.
pub fn decapsulate(
    permit: &Permit,
    private: &OpenedKey,
    mechanism: &Mechanism,
    ciphertext: &[u8],
) -> Result<KeyBytes, Rv> {
    check_permit(permit, Usage::Decapsulate, mechanism)?;
    let Kind::Kem(private) = &private.0 else { return Err(Rv::KEY_TYPE_INCONSISTENT) };
    private.decapsulate(mechanism, ciphertext)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use kms_core::object::{Curve, EdwardsMontgomery, KeySpec, MlKemSet};
    use kms_protocol::{
        Attribute, AttributeType, Counter, Kdf, KeyType, ObjectClass, ObjectId, ObjectRef, PrfPart, Template,
    };

    use super::super::{GeneratedKey, generate, test_support};
    use super::*;

    const SECRET: ObjectClass = ObjectClass::SECRET_KEY;
    const PRIVATE: ObjectClass = ObjectClass::PRIVATE_KEY;

    fn run(
        base: (ObjectClass, KeyType, &KeyBytes, &[Attribute]),
        mechanism: &Mechanism,
        second: Option<&KeyBytes>,
        bytes: Option<usize>,
    ) -> Result<Vec<u8>, Rv> {
        let (class, kind, material, attributes) = base;
        let permit =
            test_support::permit(Usage::Derive, mechanism, &test_support::object(class, kind, attributes));
        let key = OpenedKey::open(class, kind, material).unwrap();
        derive(&permit, &key, mechanism, second, bytes).map(|derived| derived.as_ref().to_vec())
    }

    fn secret(kind: KeyType, bytes: &[u8]) -> (KeyBytes, Vec<Attribute>) {
        let material = KeyBytes::from(bytes.to_vec());
        let attributes = super::super::public_attributes(SECRET, kind, &material).unwrap();
        (material, attributes)
    }

    fn pair(kind: KeyType, spec: &KeySpec) -> (KeyType, GeneratedKey) {
        (kind, generate(spec, &SystemRandom::new()).unwrap())
    }

    #[test]
    fn both_sides_of_an_agreement_derive_the_same() {
        for [(kind, one), (_, two)] in [
            [(); 2].map(|()| pair(KeyType::EC, &KeySpec::Ec { curve: Curve::P384 })),
            [(); 2].map(|()| {
                pair(KeyType::EC_MONTGOMERY, &KeySpec::EdwardsMontgomery { curve: EdwardsMontgomery::X25519 })
            }),
        ] {
            let side = |own: &GeneratedKey, other: &GeneratedKey, kdf, bytes| {
                let public = Template(other.public.clone()).bytes(AttributeType::EC_POINT).unwrap().to_vec();
                let shared = if kdf == Kdf::NULL { Secret::default() } else { Secret::from(vec![1, 2]) };
                let parameters = Parameters::Ecdh { kdf, shared, public: Secret::from(public) };
                let mechanism = Mechanism { kind: MechanismType::ECDH1_DERIVE, parameters };
                run((PRIVATE, kind, &own.material, &own.attributes), &mechanism, None, bytes)
            };
            let null = side(&one, &two, Kdf::NULL, None).unwrap();
            assert_eq!(side(&two, &one, Kdf::NULL, None).unwrap(), null);
            assert_eq!(side(&one, &two, Kdf::NULL, Some(16)).unwrap(), null[null.len() - 16..]);
            for kdf in [Kdf::SHA1_KDF, Kdf::SHA224_KDF, Kdf::SHA256_KDF, Kdf::SHA384_KDF, Kdf::SHA512_KDF] {
                let derived = side(&one, &two, kdf, Some(100)).unwrap();
                assert_eq!(side(&two, &one, kdf, Some(100)).unwrap(), derived);
                assert_eq!(side(&one, &two, kdf, None), Err(Rv::TEMPLATE_INCOMPLETE));
            }
        }
    }

    #[test]
    fn salts_are_none_data_or_another_key() {
        let (base, attributes) = secret(KeyType::GENERIC_SECRET, b"base key of some bytes");
        let derive = |salt, second: Option<&KeyBytes>| {
            let info = Secret::from(b"info".as_slice());
            let hash = MechanismType::SHA3_256;
            let parameters = Parameters::Hkdf { extract: true, expand: true, hash, salt, info };
            let mechanism = Mechanism { kind: MechanismType::HKDF_DERIVE, parameters };
            run((SECRET, KeyType::GENERIC_SECRET, &base, &attributes), &mechanism, second, Some(40))
        };
        let salt = KeyBytes::from(vec![8; 16]);
        let by_data = derive(Salt::Data(Secret::from(vec![8; 16])), None).unwrap();
        let reference = || Salt::Key(ObjectRef::Token(ObjectId(1)));
        assert_eq!(derive(reference(), Some(&salt)).unwrap(), by_data);
        assert_eq!(derive(reference(), None), Err(Rv::MECHANISM_PARAM_INVALID));
        assert_ne!(derive(Salt::None, None).unwrap(), by_data);
    }

    #[test]
    fn the_pseudorandom_function_takes_its_kind_of_key() {
        let iteration = PrfPart::Iteration(Counter { bits: 16, little_endian: false });
        let derive = |kind, prf, bytes| {
            let (base, attributes) = secret(kind, &[6; 32]);
            let data = PrfData(vec![iteration.clone(), PrfPart::Bytes(Secret::from(vec![1]))]);
            let parameters = Parameters::Kbkdf { prf, data, iv: Secret::default() };
            let mechanism = Mechanism { kind: MechanismType::SP800_108_COUNTER_KDF, parameters };
            run((SECRET, kind, &base, &attributes), &mechanism, None, bytes)
        };
        let aes = derive(KeyType::AES, MechanismType::AES_CMAC, Some(40)).unwrap();
        assert_eq!(aes.len(), 40);
        let rejected = derive(KeyType::GENERIC_SECRET, MechanismType::AES_CMAC, Some(40));
        assert_eq!(rejected, Err(Rv::KEY_TYPE_INCONSISTENT));
        let by_hmac = |kind| derive(kind, MechanismType::SHA512_HMAC, Some(100)).unwrap();
        assert_eq!(by_hmac(KeyType::AES), by_hmac(KeyType::GENERIC_SECRET));
        assert_eq!(derive(KeyType::AES, MechanismType::AES_CMAC, None), Err(Rv::TEMPLATE_INCOMPLETE));
    }

    #[test]
    fn the_derived_key_is_the_encrypted_data() {
        let (base, attributes) = secret(KeyType::AES, &[6; 16]);
        let mut derived = Vec::new();
        for (kind, iv) in [
            (MechanismType::AES_ECB_ENCRYPT_DATA, vec![]),
            (MechanismType::AES_CBC_ENCRYPT_DATA, vec![0; 16]),
        ] {
            let data = |length| Parameters::Data {
                iv: Secret::from(iv.clone()),
                data: Secret::from(vec![1; length]),
            };
            let run = |length, bytes| {
                let mechanism = Mechanism { kind, parameters: data(length) };
                run((SECRET, KeyType::AES, &base, &attributes), &mechanism, None, bytes)
            };
            assert_eq!(run(32, None).unwrap()[..24], run(32, Some(24)).unwrap());
            assert_eq!(run(16, Some(24)), Err(Rv::MECHANISM_PARAM_INVALID));
            assert_eq!(run(17, None), Err(Rv::MECHANISM_PARAM_INVALID));
            derived.push(run(32, None).unwrap());
        }
        assert_eq!(derived[0][..16], derived[1][..16]);
        assert_ne!(derived[0][16..], derived[1][16..]);
    }

    #[test]
    fn concatenation_joins_the_base_with_the_other_part() {
        let (base, attributes) = secret(KeyType::GENERIC_SECRET, b"base");
        let data = || Parameters::Data { iv: Secret::default(), data: Secret::from(b"data".as_slice()) };
        let key = KeyBytes::from(b"key".to_vec());
        for (kind, parameters, expected) in [
            (MechanismType::CONCATENATE_BASE_AND_DATA, data(), &b"basedata"[..]),
            (MechanismType::CONCATENATE_DATA_AND_BASE, data(), b"database"),
            (
                MechanismType::CONCATENATE_BASE_AND_KEY,
                Parameters::Key(ObjectRef::Token(ObjectId(1))),
                b"basekey",
            ),
        ] {
            let mechanism = Mechanism { kind, parameters };
            let of = (SECRET, KeyType::GENERIC_SECRET, &base, attributes.as_slice());
            assert_eq!(run(of, &mechanism, Some(&key), None).unwrap(), expected);
            assert_eq!(run(of, &mechanism, Some(&key), Some(99)), Err(Rv::KEY_SIZE_RANGE));
        }
    }

    #[test]
    fn keys_are_xored_with_data_or_extracted_from_others() {
        let (base, attributes) = secret(KeyType::GENERIC_SECRET, &[0x32, 0x9f, 0x84, 0xa9]);
        let run = |mechanism: &Mechanism, bytes| {
            run((SECRET, KeyType::GENERIC_SECRET, &base, attributes.as_slice()), mechanism, None, bytes)
        };
        let data = Parameters::Data { iv: Secret::default(), data: Secret::from(&[0xff, 0, 1][..]) };
        let mix = Mechanism { kind: MechanismType::XOR_BASE_AND_DATA, parameters: data };
        assert_eq!(run(&mix, None).unwrap(), [0xcd, 0x9f, 0x85]);
        assert_eq!(run(&mix, Some(1)).unwrap(), [0xcd]);
        assert_eq!(run(&mix, Some(4)), Err(Rv::KEY_SIZE_RANGE));
        let extract_at = |bit| Mechanism {
            kind: MechanismType::EXTRACT_KEY_FROM_KEY,
            parameters: Parameters::Extract { bit },
        };
        // The specification's example.
        assert_eq!(run(&extract_at(21), Some(2)).unwrap(), [0x95, 0x26]);
        assert_eq!(run(&extract_at(0), Some(4)).unwrap(), [0x32, 0x9f, 0x84, 0xa9]);
        assert_eq!(run(&extract_at(8), Some(4)).unwrap(), [0x9f, 0x84, 0xa9, 0x32]);
        assert_eq!(run(&extract_at(31), Some(1)).unwrap(), [0x99]);
        assert_eq!(run(&extract_at(32), Some(1)), Err(Rv::MECHANISM_PARAM_INVALID));
        assert_eq!(run(&extract_at(0), Some(5)), Err(Rv::KEY_SIZE_RANGE));
        assert_eq!(run(&extract_at(0), None), Err(Rv::TEMPLATE_INCOMPLETE));
    }

    #[test]
    fn a_secret_is_encapsulated_for_the_private_key() {
        let (kind, generated) = pair(KeyType::ML_KEM, &KeySpec::MlKem { set: MlKemSet::Kem768 });
        let kem = Mechanism::plain(MechanismType::ML_KEM);
        let public = OpenedKey::public(kind, &Template(generated.public.clone())).unwrap();
        let object = test_support::object(ObjectClass::PUBLIC_KEY, kind, &generated.public);
        let permit = test_support::permit(Usage::Encapsulate, &kem, &object);
        let (ciphertext, secret) = encapsulate(&permit, &public, &kem).unwrap();
        let private = OpenedKey::open(PRIVATE, kind, &generated.material).unwrap();
        let object = test_support::object(PRIVATE, kind, &generated.attributes);
        let opens = test_support::permit(Usage::Decapsulate, &kem, &object);
        assert_eq!(decapsulate(&opens, &private, &kem, &ciphertext).unwrap().as_ref(), secret.as_ref());
        assert_eq!(
            decapsulate(&permit, &private, &kem, &ciphertext).unwrap_err(),
            Rv::KEY_FUNCTION_NOT_PERMITTED
        );
    }
}
