//! Key derivation functions: bytes in, the requested number of bytes out.

use hkdf::GenericHkdf;
use kms_protocol::mechanism_table::{digest_bytes, mac_bytes, row_of};
use kms_protocol::{Counter, Kdf, MechanismType, PrfPart, Rv};
use sha2::Digest;
use zeroize::Zeroizing;

use super::digest::{with_any_digest, with_hmac};
use super::mac::{self, Function, MacKey};

/// The maximum length of a derived key, in bytes: more than any key has, and far below the limits of the counters.
const DERIVED_BYTES_MAX: usize = 16 << 10;

/// The order in which a function after an agreement hashes the secret and its counter.
#[derive(Clone, Copy)]
enum Order {
    /// ANSI X9.63, section 5.6.3; SEC 1, "ANSI-X9.63-KDF".
    SecretFirst,
    /// SP 800-56C, "One-step key derivation", which the specification calls SP800.
    CounterFirst,
}

fn digest_of(kdf: Kdf) -> Option<(MechanismType, Order)> {
    Some(match kdf {
        Kdf::SHA1_KDF => (MechanismType::SHA_1, Order::SecretFirst),
        Kdf::SHA224_KDF => (MechanismType::SHA224, Order::SecretFirst),
        Kdf::SHA256_KDF => (MechanismType::SHA256, Order::SecretFirst),
        Kdf::SHA384_KDF => (MechanismType::SHA384, Order::SecretFirst),
        Kdf::SHA512_KDF => (MechanismType::SHA512, Order::SecretFirst),
        Kdf::SHA3_224_KDF => (MechanismType::SHA3_224, Order::SecretFirst),
        Kdf::SHA3_256_KDF => (MechanismType::SHA3_256, Order::SecretFirst),
        Kdf::SHA3_384_KDF => (MechanismType::SHA3_384, Order::SecretFirst),
        Kdf::SHA3_512_KDF => (MechanismType::SHA3_512, Order::SecretFirst),
        Kdf::SHA1_KDF_SP800 => (MechanismType::SHA_1, Order::CounterFirst),
        Kdf::SHA224_KDF_SP800 => (MechanismType::SHA224, Order::CounterFirst),
        Kdf::SHA256_KDF_SP800 => (MechanismType::SHA256, Order::CounterFirst),
        Kdf::SHA384_KDF_SP800 => (MechanismType::SHA384, Order::CounterFirst),
        Kdf::SHA512_KDF_SP800 => (MechanismType::SHA512, Order::CounterFirst),
        Kdf::SHA3_224_KDF_SP800 => (MechanismType::SHA3_224, Order::CounterFirst),
        Kdf::SHA3_256_KDF_SP800 => (MechanismType::SHA3_256, Order::CounterFirst),
        Kdf::SHA3_384_KDF_SP800 => (MechanismType::SHA3_384, Order::CounterFirst),
        Kdf::SHA3_512_KDF_SP800 => (MechanismType::SHA3_512, Order::CounterFirst),
        _ => return None,
    })
}

/// Applies the function that follows a key agreement.
///
/// # Errors
/// `CKR_KEY_SIZE_RANGE` for an unavailable length, `CKR_MECHANISM_PARAM_INVALID` for an unsupported function.
pub(super) fn after_agreement(
    kdf: Kdf,
    secret: &[u8],
    shared: &[u8],
    bytes: Option<usize>,
) -> Result<Zeroizing<Vec<u8>>, Rv> {
    if kdf == Kdf::NULL {
        // Spec, "Elliptic curve Diffie-Hellman": surplus bytes are removed from the leading end.
        let wanted = bytes.unwrap_or(secret.len());
        let at = secret.len().checked_sub(wanted).ok_or(Rv::KEY_SIZE_RANGE)?;
        return Ok(Zeroizing::new(secret[at..].to_vec()));
    }
    let (digest, order) = digest_of(kdf).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
    let wanted = bounded(bytes.ok_or(Rv::TEMPLATE_INCOMPLETE)?)?;
    let mut out = Zeroizing::new(Vec::with_capacity(wanted + 64));
    with_any_digest!(digest, D => {
        for counter in 1_u32.. {
            if out.len() >= wanted {
                break;
            }
            let counter = counter.to_be_bytes();
            let (first, second) = match order {
                Order::SecretFirst => (secret, counter.as_slice()),
                Order::CounterFirst => (counter.as_slice(), secret),
            };
            let hashed = D::new().chain_update(first).chain_update(second).chain_update(shared);
            out.extend_from_slice(&hashed.finalize());
        }
        Ok(())
    })?;
    out.truncate(wanted);
    Ok(out)
}

fn bounded(bytes: usize) -> Result<usize, Rv> {
    if (1..=DERIVED_BYTES_MAX).contains(&bytes) { Ok(bytes) } else { Err(Rv::KEY_SIZE_RANGE) }
}

/// The steps of HKDF (RFC 5869).
#[derive(Clone, Copy, Debug)]
pub(super) enum Hkdf<'a> {
    /// The first step: a key of the digest's length, for any use.
    Extract {
        /// `None` stands for zeros, as many as the digest has bytes.
        salt: Option<&'a [u8]>,
    },
    /// The second step: the base is the result of the first one.
    Expand {
        /// What the key is for.
        info: &'a [u8],
    },
    /// Both steps.
    Both {
        /// As in the first step.
        salt: Option<&'a [u8]>,
        /// As in the second step.
        info: &'a [u8],
    },
}

/// HKDF over a digest. Without a length, the key is as long as the digest.
///
/// # Errors
/// `CKR_KEY_SIZE_RANGE` for an unavailable length, or a base that is too short to be expanded.
pub(super) fn hkdf(
    hash: MechanismType,
    how: Hkdf<'_>,
    base: &[u8],
    bytes: Option<usize>,
) -> Result<Zeroizing<Vec<u8>>, Rv> {
    with_hmac!(hash, M => {
        let (expander, info) = match how {
            Hkdf::Extract { salt } => {
                let (extracted, _) = GenericHkdf::<M>::extract(salt, base);
                // A part of it would be a key extracted from a key.
                return match bytes {
                    Some(bytes) if bytes != extracted.len() => Err(Rv::KEY_SIZE_RANGE),
                    _ => Ok(Zeroizing::new(extracted.to_vec())),
                };
            }
            Hkdf::Expand { info } => (GenericHkdf::<M>::from_prk(base).map_err(|_| Rv::KEY_SIZE_RANGE)?, info),
            Hkdf::Both { salt, info } => (GenericHkdf::<M>::new(salt, base), info),
        };
        // One block of the function, as in extraction: no length is specified for a key without a stated one.
        let wanted = match bytes {
            Some(bytes) => bounded(bytes)?,
            None => digest_bytes(hash).and_then(|bytes| usize::try_from(bytes).ok()).ok_or(Rv::MECHANISM_PARAM_INVALID)?,
        };
        let mut out = Zeroizing::new(vec![0; wanted]);
        expander.expand(info, &mut out).map_err(|_| Rv::KEY_SIZE_RANGE)?;
        Ok(out)
    })
}

/// SP 800-108, in counter mode or, with an initial value, in feedback mode.
///
/// # Errors
/// `CKR_KEY_SIZE_RANGE` for a length that the counter cannot count, `CKR_KEY_TYPE_INCONSISTENT` for a key that the
/// function does not take.
pub(super) fn kbkdf(
    prf: MechanismType,
    key: MacKey<'_>,
    parts: &[PrfPart],
    feedback: Option<&[u8]>,
    bytes: usize,
) -> Result<Zeroizing<Vec<u8>>, Rv> {
    let function = mac::function_of(prf).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
    let key = match (function, key) {
        // HMAC takes an AES key as bytes.
        (Function::Hmac(_), MacKey::Aes(aes)) => MacKey::Bytes(aes.value()),
        (Function::Hmac(_), MacKey::Bytes(_)) | (Function::Cmac, _) => key,
    };
    let wanted = bounded(bytes)?;
    let bits = u64::try_from(wanted).map_err(|_| Rv::KEY_SIZE_RANGE)? * 8;
    let segment = row_of(prf).and_then(mac_bytes).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
    let segment = usize::try_from(segment).map_err(|_| Rv::KEY_SIZE_RANGE)?;
    let segments = u64::try_from(wanted.div_ceil(segment) * segment).map_err(|_| Rv::KEY_SIZE_RANGE)?;
    let mut previous = Zeroizing::new(feedback.unwrap_or_default().to_vec());
    let mut out = Zeroizing::new(Vec::with_capacity(wanted + 64));
    for iteration in 1_u64.. {
        if out.len() >= wanted {
            break;
        }
        let mut input = Zeroizing::new(Vec::new());
        for part in parts {
            match part {
                PrfPart::Iteration(_) if feedback.is_some() => input.extend_from_slice(&previous),
                PrfPart::Iteration(counter) | PrfPart::Counter(counter) => {
                    append_number(&mut input, iteration, *counter)?
                }
                PrfPart::Length(counter) => append_number(&mut input, bits, *counter)?,
                PrfPart::Segments(counter) => append_number(&mut input, segments * 8, *counter)?,
                PrfPart::Bytes(bytes) => input.extend_from_slice(bytes),
            }
        }
        *previous = mac::full(key, function, &input)?.to_vec();
        out.extend_from_slice(&previous);
    }
    out.truncate(wanted);
    Ok(out)
}

/// Appends a number in the counter's width. One that does not fit is an error: truncated, it would repeat another.
fn append_number(input: &mut Vec<u8>, number: u64, counter: Counter) -> Result<(), Rv> {
    let width = usize::from(counter.bits / 8);
    let bytes = number.to_be_bytes();
    let at = bytes.len().checked_sub(width).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
    let (front, back) = bytes.split_at(at);
    if front.iter().any(|byte| *byte != 0) {
        return Err(Rv::KEY_SIZE_RANGE);
    }
    if counter.little_endian {
        input.extend(back.iter().rev());
    } else {
        input.extend_from_slice(back);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
    use kms_protocol::Secret;
    use proptest::prelude::*;

    use super::*;

    const WIDE: Counter = Counter { bits: 32, little_endian: false };

    proptest! {
        #[test]
        fn counter_mode_agrees_with_another_library(
            key in prop::collection::vec(any::<u8>(), 16..80), info: Vec<u8>, bytes in 1_usize..200,
        ) {
            let parts = [PrfPart::Iteration(WIDE), PrfPart::Bytes(Secret::from(info.clone()))];
            let ours = kbkdf(MechanismType::SHA256_HMAC, MacKey::Bytes(&key), &parts, None, bytes).unwrap();
            let algorithm = get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256).unwrap();
            let mut theirs = vec![0; bytes];
            kbkdf_ctr_hmac(algorithm, &key, &info, &mut theirs).unwrap();
            prop_assert_eq!(ours.as_slice(), &theirs[..]);
        }

        #[test]
        fn a_longer_key_begins_with_the_shorter_one(secret: [u8; 32], shared: Vec<u8>, bytes in 1_usize..200) {
            let derive = |bytes| after_agreement(Kdf::SHA256_KDF, &secret, &shared, Some(bytes)).unwrap();
            prop_assert_eq!(&derive(200)[..bytes], &derive(bytes)[..]);
        }
    }

    /// Compared with another library's one-step function (SP 800-56C).
    #[test]
    fn the_functions_of_sp800_hash_the_counter_first() {
        use aws_lc_rs::kdf::{SskdfDigestAlgorithmId, get_sskdf_digest_algorithm, sskdf_digest};
        for (kdf, theirs) in [
            (Kdf::SHA224_KDF_SP800, SskdfDigestAlgorithmId::Sha224),
            (Kdf::SHA256_KDF_SP800, SskdfDigestAlgorithmId::Sha256),
            (Kdf::SHA384_KDF_SP800, SskdfDigestAlgorithmId::Sha384),
            (Kdf::SHA512_KDF_SP800, SskdfDigestAlgorithmId::Sha512),
        ] {
            let mut expected = [0; 150];
            sskdf_digest(get_sskdf_digest_algorithm(theirs).unwrap(), &[7; 66], b"info", &mut expected)
                .unwrap();
            assert_eq!(after_agreement(kdf, &[7; 66], b"info", Some(150)).unwrap().as_slice(), expected);
        }
    }

    #[test]
    fn every_named_function_is_supported() {
        for (kdf, name) in Kdf::NAMED {
            assert_eq!(after_agreement(*kdf, &[7; 32], b"", Some(16)).unwrap().len(), 16, "{name}");
        }
    }

    #[test]
    fn the_length_of_segments_is_that_of_whole_outputs() {
        let key = MacKey::Bytes(&[1; 32]);
        let derive =
            |part| kbkdf(MechanismType::SHA256_HMAC, key, &[PrfPart::Iteration(WIDE), part], None, 40);
        let written = |bits: u32| PrfPart::Bytes(Secret::from(bits.to_be_bytes().as_slice()));
        assert_eq!(derive(PrfPart::Segments(WIDE)), derive(written(2 * 32 * 8)));
        assert_eq!(derive(PrfPart::Length(WIDE)), derive(written(40 * 8)));
    }

    #[test]
    fn feedback_mode_feeds_back() {
        let key = MacKey::Bytes(&[1; 32]);
        let parts = [PrfPart::Iteration(WIDE), PrfPart::Counter(WIDE), PrfPart::Bytes(Secret::from(vec![7]))];
        let two = kbkdf(MechanismType::SHA256_HMAC, key, &parts, Some(&[9; 32]), 64).unwrap();
        let hmac = |input: &[u8]| mac::full(key, Function::Hmac(MechanismType::SHA256), input).unwrap();
        let first = hmac(&[&[9; 32][..], &[0, 0, 0, 1, 7]].concat());
        let second = hmac(&[&first[..], &[0, 0, 0, 2, 7]].concat());
        assert_eq!(two.as_slice(), [&*first, &*second].concat());
    }

    #[test]
    fn numbers_are_encoded_in_their_width_or_rejected() {
        let written = |number, bits, little_endian| {
            let mut input = Vec::new();
            append_number(&mut input, number, Counter { bits, little_endian }).map(|()| input)
        };
        assert_eq!(written(258, 24, false), Ok(vec![0, 1, 2]));
        assert_eq!(written(258, 24, true), Ok(vec![2, 1, 0]));
        assert_eq!(written(256, 8, false), Err(Rv::KEY_SIZE_RANGE));
    }

    #[test]
    fn without_a_function_the_leading_end_is_removed() {
        let derive =
            |bytes| after_agreement(Kdf::NULL, &[1, 2, 3], &[], bytes).map(|derived| derived.to_vec());
        assert_eq!(derive(Some(2)), Ok(vec![2, 3]));
        assert_eq!(derive(None), Ok(vec![1, 2, 3]));
        assert_eq!(derive(Some(4)), Err(Rv::KEY_SIZE_RANGE));
    }

    #[test]
    fn an_extracted_key_is_not_truncated() {
        let extract = |bytes| hkdf(MechanismType::SHA256, Hkdf::Extract { salt: None }, b"base", bytes);
        assert_eq!(extract(None).unwrap().len(), 32);
        assert_eq!(extract(Some(16)).unwrap_err(), Rv::KEY_SIZE_RANGE);
        let prk = extract(Some(32)).unwrap();
        let expand = hkdf(MechanismType::SHA256, Hkdf::Expand { info: b"i" }, &prk, Some(50)).unwrap();
        let both = hkdf(MechanismType::SHA256, Hkdf::Both { salt: None, info: b"i" }, b"base", Some(50));
        assert_eq!(both.unwrap(), expand);
    }
}
