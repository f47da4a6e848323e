//! Encryption and verification with RSA public keys.

use getrandom::SysRng;
use kms_protocol::mechanism_table::Row;
use kms_protocol::{AttributeType, Mechanism, MechanismType, Parameters, Rv, Secret, Template};
use rsa::traits::{PublicKeyParts, SignatureScheme};
use rsa::{BoxedUint, Oaep, Pkcs1v15Encrypt, Pkcs1v15Sign, Pss};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use sha3::{Sha3_224, Sha3_256, Sha3_384, Sha3_512};

/// The largest public exponent, in bits, that the `rsa` crate accepts.
const EXPONENT_BITS_MAX: u32 = 64;

/// Encrypts with an RSA public key.
///
/// # Errors
/// `CKR_DATA_LEN_RANGE` for data that does not fit beside the padding.
pub(crate) fn encrypt(key: &Template, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
    let key = rsa_key(key)?;
    let mut random = SysRng;
    let encrypted = match (mechanism.kind, &mechanism.parameters) {
        (MechanismType::RSA_PKCS, _) => key.encrypt(&mut random, Pkcs1v15Encrypt, data),
        (MechanismType::RSA_PKCS_OAEP, Parameters::Oaep { hash, mgf, label }) => {
            let mgf = mgf.digest().ok_or(Rv::MECHANISM_PARAM_INVALID)?;
            return match *hash {
                MechanismType::SHA_1 => oaep::<Sha1>(&key, mgf, label, data),
                MechanismType::SHA224 => oaep::<Sha224>(&key, mgf, label, data),
                MechanismType::SHA256 => oaep::<Sha256>(&key, mgf, label, data),
                MechanismType::SHA384 => oaep::<Sha384>(&key, mgf, label, data),
                MechanismType::SHA512 => oaep::<Sha512>(&key, mgf, label, data),
                _ => Err(Rv::MECHANISM_PARAM_INVALID),
            };
        }
        (MechanismType::RSA_X_509, _) => return raw(&key, data).ok_or(Rv::DATA_INVALID),
        _ => return Err(Rv::MECHANISM_INVALID),
    };
    encrypted.map(Secret::from).map_err(|error| rv_of(&error))
}

/// The RSA operation without padding; the result is as long as the modulus. None for a number that is not below it.
fn raw(key: &rsa::PublicKey, data: &[u8]) -> Option<Secret> {
    let bits = u32::try_from(key.size() * 8).ok()?;
    let number = BoxedUint::from_be_slice(data, bits).ok()?;
    if number >= **key.n() {
        return None;
    }
    let result = rsa::hazmat::rsa_encrypt(key, &number).ok()?.to_be_bytes();
    let mut padded = vec![0; key.size()];
    let (from, to) = (result.len().saturating_sub(key.size()), key.size().saturating_sub(result.len()));
    padded[to..].copy_from_slice(&result[from..]);
    Some(Secret::from(padded))
}

fn oaep<D>(key: &rsa::PublicKey, mgf: MechanismType, label: &[u8], data: &[u8]) -> Result<Secret, Rv>
where
    D: Digest + sha2::digest::FixedOutputReset,
{
    let mut random = SysRng;
    let encrypted = match mgf {
        MechanismType::SHA_1 => {
            key.encrypt(&mut random, Oaep::<D, Sha1>::new_with_mgf_hash_and_label(label), data)
        }
        MechanismType::SHA224 => {
            key.encrypt(&mut random, Oaep::<D, Sha224>::new_with_mgf_hash_and_label(label), data)
        }
        MechanismType::SHA256 => {
            key.encrypt(&mut random, Oaep::<D, Sha256>::new_with_mgf_hash_and_label(label), data)
        }
        MechanismType::SHA384 => {
            key.encrypt(&mut random, Oaep::<D, Sha384>::new_with_mgf_hash_and_label(label), data)
        }
        MechanismType::SHA512 => {
            key.encrypt(&mut random, Oaep::<D, Sha512>::new_with_mgf_hash_and_label(label), data)
        }
        _ => return Err(Rv::MECHANISM_PARAM_INVALID),
    };
    encrypted.map(Secret::from).map_err(|error| rv_of(&error))
}

/// Verifies a signature. `data` is the digest for a hash-then-sign mechanism.
///
/// # Errors
/// `CKR_SIGNATURE_INVALID`, or what is wrong with the key.
pub(super) fn verify(
    key: &Template,
    row: &Row,
    mechanism: &Mechanism,
    data: &[u8],
    signature: &[u8],
) -> Result<(), Rv> {
    match row.signs.unwrap_or(row.kind) {
        MechanismType::RSA_PKCS => match row.digest {
            Some(digest) => verify_rsa(key, prefixed(digest)?, data, signature),
            None => verify_rsa(key, Pkcs1v15Sign::new_unprefixed(), data, signature),
        },
        MechanismType::RSA_PKCS_PSS => {
            let Parameters::Pss { hash, salt_bytes, .. } = &mechanism.parameters else {
                return Err(Rv::MECHANISM_PARAM_INVALID);
            };
            let (hash, salt) = (*hash, *salt_bytes as usize);
            macro_rules! verify_over {
                ($digest:ident) => {
                    verify_rsa(key, Pss::<$digest>::new_with_salt(salt), data, signature)
                };
            }
            match hash {
                MechanismType::SHA_1 => verify_over!(Sha1),
                MechanismType::SHA224 => verify_over!(Sha224),
                MechanismType::SHA256 => verify_over!(Sha256),
                MechanismType::SHA384 => verify_over!(Sha384),
                MechanismType::SHA512 => verify_over!(Sha512),
                MechanismType::SHA3_224 => verify_over!(Sha3_224),
                MechanismType::SHA3_256 => verify_over!(Sha3_256),
                MechanismType::SHA3_384 => verify_over!(Sha3_384),
                MechanismType::SHA3_512 => verify_over!(Sha3_512),
                _ => Err(Rv::MECHANISM_PARAM_INVALID),
            }
        }
        MechanismType::RSA_X_509 => verify_raw(&rsa_key(key)?, data, signature),
        _ => Err(Rv::MECHANISM_INVALID),
    }
}

fn verify_rsa(key: &Template, scheme: impl SignatureScheme, data: &[u8], signature: &[u8]) -> Result<(), Rv> {
    rsa_key(key)?.verify(scheme, data, signature).map_err(|_| Rv::SIGNATURE_INVALID)
}

/// Verifies a signature of the number itself: leading zeros are ignored (spec, "X.509 (raw) RSA").
fn verify_raw(key: &rsa::PublicKey, data: &[u8], signature: &[u8]) -> Result<(), Rv> {
    let signed = raw(key, signature).ok_or(Rv::SIGNATURE_INVALID)?;
    let significant = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    if significant(&signed) == significant(data) { Ok(()) } else { Err(Rv::SIGNATURE_INVALID) }
}

/// The scheme of PKCS #1 v1.5 with the identifier of the digest before the digest.
fn prefixed(digest: MechanismType) -> Result<Pkcs1v15Sign, Rv> {
    match digest {
        MechanismType::SHA_1 => Ok(Pkcs1v15Sign::new::<Sha1>()),
        MechanismType::SHA224 => Ok(Pkcs1v15Sign::new::<Sha224>()),
        MechanismType::SHA256 => Ok(Pkcs1v15Sign::new::<Sha256>()),
        MechanismType::SHA384 => Ok(Pkcs1v15Sign::new::<Sha384>()),
        MechanismType::SHA512 => Ok(Pkcs1v15Sign::new::<Sha512>()),
        MechanismType::SHA3_224 => Ok(Pkcs1v15Sign::new::<Sha3_224>()),
        MechanismType::SHA3_256 => Ok(Pkcs1v15Sign::new::<Sha3_256>()),
        MechanismType::SHA3_384 => Ok(Pkcs1v15Sign::new::<Sha3_384>()),
        MechanismType::SHA3_512 => Ok(Pkcs1v15Sign::new::<Sha3_512>()),
        _ => Err(Rv::MECHANISM_INVALID),
    }
}

fn rsa_key(key: &Template) -> Result<rsa::PublicKey, Rv> {
    let number = |kind| key.bytes(kind).ok_or(Rv::KEY_TYPE_INCONSISTENT);
    let (modulus, exponent) = (number(AttributeType::MODULUS)?, number(AttributeType::PUBLIC_EXPONENT)?);
    let bits = u32::try_from(modulus.len() * 8).map_err(|_| Rv::KEY_SIZE_RANGE)?;
    let modulus = BoxedUint::from_be_slice(modulus, bits).map_err(|_| Rv::KEY_SIZE_RANGE)?;
    let exponent = BoxedUint::from_be_slice(exponent, EXPONENT_BITS_MAX).map_err(|_| Rv::KEY_SIZE_RANGE)?;
    rsa::PublicKey::new(modulus, exponent).map_err(|_| Rv::KEY_SIZE_RANGE)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the crate's error type is non-exhaustive")]
fn rv_of(error: &rsa::Error) -> Rv {
    match error {
        rsa::Error::MessageTooLong => Rv::DATA_LEN_RANGE,
        rsa::Error::Rng => Rv::RANDOM_NO_RNG,
        rsa::Error::LabelTooLong => Rv::MECHANISM_PARAM_INVALID,
        _ => Rv::FUNCTION_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::{Attribute, Mgf};
    use rsa::rand_core::UnwrapErr;

    use super::super::verify;
    use super::*;

    fn public_key(key: &rsa::PublicKey) -> Template {
        Template(vec![
            Attribute::bytes(AttributeType::MODULUS, key.n().to_be_bytes().to_vec()),
            Attribute::bytes(AttributeType::PUBLIC_EXPONENT, [1, 0, 1]),
        ])
    }

    #[test]
    fn rsa_signatures_of_all_schemes_are_verified_and_wrong_ones_rejected() {
        let private = rsa::PrivateKey::new(&mut UnwrapErr(SysRng), 2048).unwrap();
        let key = public_key(&private.to_public_key());
        let digest = Sha256::digest(b"data");
        let pss = Mechanism {
            kind: MechanismType::RSA_PKCS_PSS,
            parameters: Parameters::Pss { hash: MechanismType::SHA256, mgf: Mgf::SHA256, salt_bytes: 20 },
        };
        let salted = Pss::<Sha256>::new_blinded_with_salt(20);
        let mut random = UnwrapErr(SysRng);
        let signatures = [
            (
                Mechanism::plain(MechanismType::RSA_PKCS),
                private.sign(Pkcs1v15Sign::new_unprefixed(), &digest),
            ),
            (
                Mechanism::plain(MechanismType::SHA256_RSA_PKCS),
                private.sign(Pkcs1v15Sign::new::<Sha256>(), &digest),
            ),
            (pss, private.sign_with_rng(&mut random, salted, &digest)),
        ];
        for (mechanism, signature) in signatures {
            let mut signature = signature.unwrap();
            assert_eq!(verify(&key, &mechanism, &digest, &signature), Ok(()));
            assert_eq!(
                verify(&key, &mechanism, &Sha256::digest(b"other"), &signature),
                Err(Rv::SIGNATURE_INVALID)
            );
            signature[0] ^= 1;
            assert_eq!(verify(&key, &mechanism, &digest, &signature), Err(Rv::SIGNATURE_INVALID));
        }
    }

    #[test]
    fn oaep_takes_two_digests_and_a_label() {
        let private = rsa::PrivateKey::new(&mut UnwrapErr(SysRng), 2048).unwrap();
        let key = public_key(&private.to_public_key());
        let parameters =
            Parameters::Oaep { hash: MechanismType::SHA256, mgf: Mgf::SHA1, label: b"label".to_vec().into() };
        let oaep = Mechanism { kind: MechanismType::RSA_PKCS_OAEP, parameters };
        let encrypted = encrypt(&key, &oaep, b"data").unwrap();
        let scheme = Oaep::<Sha256, Sha1>::new_with_mgf_hash_and_label(b"label".as_slice());
        assert_eq!(private.decrypt(scheme, &encrypted).unwrap(), b"data");
        assert_eq!(encrypt(&key, &oaep, &[0; 191]), Err(Rv::DATA_LEN_RANGE));
    }

    #[test]
    fn raw_rsa_has_no_padding() {
        let private = rsa::PrivateKey::new(&mut UnwrapErr(SysRng), 2048).unwrap();
        let key = public_key(&private.to_public_key());
        let raw = Mechanism::plain(MechanismType::RSA_X_509);
        let signed = [&[0, 1], [0xff; 20].as_slice()].concat();
        // The public key reverses the operation of the private key, and the other way round.
        let encrypted = encrypt(&key, &raw, &signed).unwrap();
        assert_eq!(encrypted.len(), 256);
        let again = encrypt(&key, &raw, &encrypted).unwrap();
        assert_eq!(verify(&key, &raw, &again, &encrypted), Ok(()));
        assert_eq!(verify(&key, &raw, b"other", &encrypted), Err(Rv::SIGNATURE_INVALID));
        assert_eq!(encrypt(&key, &raw, &[0xff; 256]), Err(Rv::DATA_INVALID));
    }
}
