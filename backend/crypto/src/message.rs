//! Encryption with an IV that is generated here, so that no application repeats one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use kms_core::policy::{Permit, Usage};
use kms_protocol::{Mechanism, MechanismType, Parameters, Rv, Secret};

use super::opened_key::{Kind, OpenedKey};
use super::operations::check_permit;

/// The number of random bits in an IV with which none repeats in 2³² messages (SP 800-38D, "RBG-based Construction").
const RANDOM_BITS_MIN: u16 = 96;

/// The width of a counter.
const COUNTER_BITS: u16 = 64;

/// Encrypts a message. Returns the IV, and the ciphertext followed by the tag.
///
/// # Errors
/// `CKR_MECHANISM_PARAM_INVALID` when the caller's part leaves too few bits for the rest.
pub fn encrypt_message(
    permit: &Permit,
    key: &OpenedKey,
    mechanism: &Mechanism,
    data: &[u8],
    random: &SystemRandom,
) -> Result<(Secret, Secret), Rv> {
    check_permit(permit, Usage::Encrypt, mechanism)?;
    let Kind::Aes(key) = &key.0 else { return Err(Rv::KEY_TYPE_INCONSISTENT) };
    let Parameters::GcmGenerate { iv_bytes, fixed, fixed_bits, aad, tag_bits } = &mechanism.parameters else {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    };
    let iv = generate_iv(*iv_bytes, fixed, *fixed_bits, random)?;
    let parameters = Parameters::Gcm { iv: iv.clone(), aad: aad.clone(), tag_bits: *tag_bits };
    let encrypted = key.encrypt(&Mechanism { kind: MechanismType::AES_GCM, parameters }, data)?;
    Ok((iv, encrypted))
}

/// Generates an IV: the caller's bits, and after them bits that do not repeat.
///
/// If 96 bits are free, they are random. With fewer, they end in a counter of this process, which started at a random
/// number: few processes use a key, and each of them counts a number only once.
fn generate_iv(bytes: u16, fixed: &[u8], fixed_bits: u16, random: &SystemRandom) -> Result<Secret, Rv> {
    let invalid = Rv::MECHANISM_PARAM_INVALID;
    let free = bytes.checked_mul(8).and_then(|bits| bits.checked_sub(fixed_bits)).ok_or(invalid)?;
    if free < COUNTER_BITS || fixed.len() != usize::from(fixed_bits.div_ceil(8)) {
        return Err(invalid);
    }
    let mut iv = vec![0; usize::from(bytes)];
    random.fill(&mut iv).map_err(|_| Rv::FUNCTION_FAILED)?;
    if free < RANDOM_BITS_MIN {
        let counted = iv.last_chunk_mut().ok_or(invalid)?;
        *counted = next_counter(random)?.to_be_bytes();
    }
    let (whole, rest) = (usize::from(fixed_bits / 8), fixed_bits % 8);
    iv[..whole].copy_from_slice(&fixed[..whole]);
    if rest != 0 {
        let fixed_mask = !(0xff_u8 >> rest);
        iv[whole] = (fixed[whole] & fixed_mask) | (iv[whole] & !fixed_mask);
    }
    Ok(Secret::from(iv))
}

fn next_counter(random: &SystemRandom) -> Result<u64, Rv> {
    static NEXT: OnceLock<AtomicU64> = OnceLock::new();
    let counter = match NEXT.get() {
        Some(counter) => counter,
        None => {
            let mut start = [0; 8];
            random.fill(&mut start).map_err(|_| Rv::FUNCTION_FAILED)?;
            NEXT.get_or_init(|| AtomicU64::new(u64::from_be_bytes(start)))
        }
    };
    Ok(counter.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_fixed_bits_are_kept_and_the_rest_is_new() {
        let random = SystemRandom::new();
        for (bytes, fixed, bits) in [
            (12, vec![], 0),
            (12, vec![0xaa, 0xbb, 0xcc, 0xdd], 32),
            (12, vec![0xa0], 3),
            (16, vec![0xff; 4], 32),
        ] {
            let mut seen = HashSet::new();
            for _ in 0..100 {
                let iv = generate_iv(bytes, &fixed, bits, &random).unwrap();
                assert_eq!(iv.len(), usize::from(bytes));
                let whole = usize::from(bits / 8);
                assert_eq!(iv[..whole], fixed[..whole]);
                if bits == 3 {
                    assert_eq!(iv[0] >> 5, 0b101);
                }
                assert!(seen.insert(iv.to_vec()));
            }
        }
        assert_eq!(generate_iv(12, &[0; 5], 40, &random).unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
        assert_eq!(generate_iv(7, &[], 0, &random).unwrap_err(), Rv::MECHANISM_PARAM_INVALID);
    }
}
