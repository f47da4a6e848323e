//! The padding of RSA-PSS (RFC 8017, "EMSA-PSS") for what the libraries lack: a mask generation function over another
//! digest than the message's, and salts of any length.

use kms_protocol::{MechanismType, Rv, mechanism_table};
use sha2::Digest;

use super::digest::with_any_digest;

/// The parameters of the padding of a PSS signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Padding {
    /// The digest of the message.
    pub(super) hash: MechanismType,
    /// The digest of the mask generation function.
    pub(super) mask: MechanismType,
    /// The salt's length in bytes.
    pub(super) salt_bytes: usize,
}

impl Padding {
    /// The length of the digest that is signed.
    pub(super) fn hash_bytes(&self) -> Result<usize, Rv> {
        let bytes = mechanism_table::digest_bytes(self.hash).ok_or(Rv::MECHANISM_PARAM_INVALID)?;
        usize::try_from(bytes).map_err(|_| Rv::MECHANISM_PARAM_INVALID)
    }

    /// The longest salt that fits beside the digest for a modulus of this size.
    pub(super) fn salt_bytes_max(&self, modulus_bits: usize) -> Result<usize, Rv> {
        let encoded = modulus_bits.saturating_sub(1).div_ceil(8);
        encoded.checked_sub(self.hash_bytes()? + 2).ok_or(Rv::KEY_SIZE_RANGE)
    }
}

/// The encoded message, to which the private key is applied.
///
/// # Errors
/// `CKR_DATA_LEN_RANGE` if `digest` is not one of the padding's hash, `CKR_MECHANISM_PARAM_INVALID` if the salt does
/// not fit.
pub(super) fn encode(
    padding: &Padding,
    modulus_bits: usize,
    digest: &[u8],
    salt: &[u8],
) -> Result<Vec<u8>, Rv> {
    let hash_bytes = padding.hash_bytes()?;
    if digest.len() != hash_bytes {
        return Err(Rv::DATA_LEN_RANGE);
    }
    if salt.len() > padding.salt_bytes_max(modulus_bits)? {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    }
    let encoded_bits = modulus_bits - 1;
    let mut encoded = vec![0; encoded_bits.div_ceil(8)];
    let masked_bytes = encoded.len() - hash_bytes - 1;
    let (block, rest) = encoded.split_at_mut(masked_bytes);

    // H = Hash(eight zeros, the digest, the salt)
    let hashed: Vec<u8> = with_any_digest!(padding.hash, D => {
        Ok(D::new().chain_update([0; 8]).chain_update(digest).chain_update(salt).finalize().to_vec())
    })?;
    rest[..hash_bytes].copy_from_slice(&hashed);
    rest[hash_bytes] = 0xbc;

    // DB = zeros, a one, the salt; masked, and without the bits beyond the modulus
    let salt_at = masked_bytes - salt.len();
    block[salt_at - 1] = 1;
    block[salt_at..].copy_from_slice(salt);
    mask(padding.mask, &hashed, block)?;
    block[0] &= 0xff >> (8 * encoded_bits.div_ceil(8) - encoded_bits);
    Ok(encoded)
}

/// Applies MGF1 (RFC 8017, appendix B.2.1).
fn mask(digest: MechanismType, seed: &[u8], block: &mut [u8]) -> Result<(), Rv> {
    with_any_digest!(digest, D => {
        for (counter, part) in (0_u32..).zip(block.chunks_mut(<D as Digest>::output_size())) {
            let stream = D::new().chain_update(seed).chain_update(counter.to_be_bytes()).finalize();
            for (byte, mask) in part.iter_mut().zip(stream) {
                *byte ^= mask;
            }
        }
        Ok(())
    })
}

/// Reads the salt from an encoded message, as a verifier does.
#[cfg(test)]
pub(super) fn salt_of(padding: &Padding, modulus_bits: usize, encoded: &[u8]) -> Option<Vec<u8>> {
    let hash_bytes = padding.hash_bytes().unwrap();
    let masked_bytes = encoded.len().checked_sub(hash_bytes + 1)?;
    let (block, rest) = encoded.split_at(masked_bytes);
    let mut block = block.to_vec();
    mask(padding.mask, &rest[..hash_bytes], &mut block).unwrap();
    block[0] &= 0xff >> (8 * encoded.len() - (modulus_bits - 1));
    let one_at = block.len().checked_sub(padding.salt_bytes + 1)?;
    (rest[hash_bytes] == 0xbc && block[..one_at].iter().all(|byte| *byte == 0) && block[one_at] == 1)
        .then(|| block[one_at + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_fit_or_are_rejected() {
        let padding = Padding { hash: MechanismType::SHA256, mask: MechanismType::SHA_1, salt_bytes: 0 };
        let longest = padding.salt_bytes_max(2048).unwrap();
        assert_eq!(longest, 256 - 32 - 2);
        assert!(encode(&padding, 2048, &[1; 32], &vec![2; longest]).is_ok());
        assert_eq!(encode(&padding, 2048, &[1; 32], &vec![2; longest + 1]), Err(Rv::MECHANISM_PARAM_INVALID));
        assert_eq!(encode(&padding, 2048, &[1; 31], &[]), Err(Rv::DATA_LEN_RANGE));
    }

    #[test]
    fn the_salt_can_be_read_back() {
        for salt_bytes in [0, 1, 20, 222] {
            let padding = Padding { hash: MechanismType::SHA256, mask: MechanismType::SHA384, salt_bytes };
            let salt = vec![0xa5; salt_bytes];
            let encoded = encode(&padding, 2048, &[3; 32], &salt).unwrap();
            assert_eq!(salt_of(&padding, 2048, &encoded), Some(salt));
            assert!(encoded[0] < 0x80);
        }
    }
}
