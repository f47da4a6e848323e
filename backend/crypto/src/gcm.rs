//! AES-GCM (SP 800-38D) for the IVs and tags for which `aes-gcm` has no type.
//!
//! Its types fix the lengths of IV and tag at compile time; PKCS #11 gives them in each call. So GCM with IVs other
//! than 12 bytes, and decryption with tags below 16 bytes, are composed here from the same GHASH and counter mode.

use aes::Block;
use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, InnerIvInit, StreamCipher};
use ctr::{Ctr32BE, CtrCore};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// The length of a full tag, in bytes.
pub(super) const TAG_BYTES: usize = 16;

/// The length of the IV that needs no hashing, in bytes.
pub(super) const IV_BYTES: usize = 12;

/// The hash under a block cipher's hash key: computed once for each key.
pub(super) fn hash_of<C>(cipher: &C) -> GHash
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let mut key = Block::default();
    cipher.encrypt_block(&mut key);
    let hash = GHash::new(&key);
    key.zeroize();
    hash
}

/// Encrypts `data` in place and returns the full tag.
pub(super) fn encrypt<C>(cipher: &C, hash: &GHash, iv: &[u8], aad: &[u8], data: &mut [u8]) -> [u8; TAG_BYTES]
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let (mut stream, mask) = start(cipher, hash, iv);
    stream.apply_keystream(data);
    tag(hash, aad, data, &mask)
}

/// Checks the tag, which may be short, and only then decrypts `data` in place. False if the tag is wrong.
pub(super) fn decrypt<C>(
    cipher: &C,
    hash: &GHash,
    iv: &[u8],
    aad: &[u8],
    data: &mut [u8],
    given: &[u8],
) -> bool
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let (mut stream, mask) = start(cipher, hash, iv);
    let expected = tag(hash, aad, data, &mask);
    let Some(expected) = expected.get(..given.len()) else { return false };
    if !bool::from(expected.ct_eq(given)) {
        return false;
    }
    stream.apply_keystream(data);
    true
}

/// The key stream after the block that masks the tag, and that block.
fn start<'a, C>(cipher: &'a C, hash: &GHash, iv: &[u8]) -> (Ctr32BE<&'a C>, [u8; TAG_BYTES])
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let mut first = Block::default();
    if iv.len() == IV_BYTES {
        first[..IV_BYTES].copy_from_slice(iv);
        first[15] = 1;
    } else {
        let mut hash = hash.clone();
        hash.update_padded(iv);
        hash.update(&[lengths(0, iv.len())]);
        first = hash.finalize();
    }
    let mut stream = Ctr32BE::from_core(CtrCore::inner_iv_init(cipher, &first));
    let mut mask = [0; TAG_BYTES];
    stream.apply_keystream(&mut mask);
    (stream, mask)
}

fn tag(hash: &GHash, aad: &[u8], encrypted: &[u8], mask: &[u8; TAG_BYTES]) -> [u8; TAG_BYTES] {
    let mut hash = hash.clone();
    hash.update_padded(aad);
    hash.update_padded(encrypted);
    hash.update(&[lengths(aad.len(), encrypted.len())]);
    let hashed = hash.finalize();
    std::array::from_fn(|at| hashed[at] ^ mask[at])
}

/// The last block that is hashed: both lengths in bits.
fn lengths(aad: usize, data: usize) -> Array<u8, U16> {
    let bits = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8).to_be_bytes();
    let mut block = Array::default();
    block[..8].copy_from_slice(&bits(aad));
    block[8..].copy_from_slice(&bits(data));
    block
}

#[cfg(test)]
mod tests {
    use aes::Aes256;
    use aes_gcm::aead::AeadInOut;
    use aes_gcm::{Aes256Gcm, KeyInit};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_composition_agrees_with_the_library(
            key: [u8; 32], iv: [u8; 12], aad: Vec<u8>, data: Vec<u8>,
        ) {
            let cipher = Aes256::new(&key.into());
            let mut ours = data.clone();
            let our_tag = encrypt(&cipher, &hash_of(&cipher), &iv, &aad, &mut ours);
            let mut theirs = data;
            let library = Aes256Gcm::new(&key.into());
            let their_tag = library.encrypt_inout_detached(&iv.into(), &aad, theirs.as_mut_slice().into()).unwrap();
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(&our_tag, &their_tag[..]);
        }

        #[test]
        fn any_iv_and_tag_round_trip(
            key: [u8; 32], iv in prop::collection::vec(any::<u8>(), 1..257), aad: Vec<u8>, data: Vec<u8>,
            length in prop::sample::select(vec![4_usize, 8, 12, 13, 14, 15, 16]), flip in any::<prop::sample::Index>(),
        ) {
            let cipher = Aes256::new(&key.into());
            let hash = hash_of(&cipher);
            let mut bytes = data.clone();
            let tag = encrypt(&cipher, &hash, &iv, &aad, &mut bytes);
            let encrypted = bytes.clone();
            let mut wrong = tag[..length].to_vec();
            wrong[flip.index(length)] ^= 0x20;
            prop_assert!(!decrypt(&cipher, &hash, &iv, &aad, &mut bytes, &wrong));
            prop_assert_eq!(&bytes, &encrypted, "nothing is decrypted before the tag is verified");
            prop_assert!(decrypt(&cipher, &hash, &iv, &aad, &mut bytes, &tag[..length]));
            prop_assert_eq!(bytes, data);
        }
    }
}
