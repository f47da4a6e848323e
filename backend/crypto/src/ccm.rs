//! AES-CCM (SP 800-38C): counter mode and CBC-MAC under one key, composed because the library's types fix the lengths
//! of nonce and MAC at compile time, and PKCS #11 gives them in each call.

use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, BlockModeEncrypt, BlockSizeUser, InnerIvInit, StreamCipher};
use ctr::{Ctr128BE, CtrCore};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The length of a block, in bytes.
const BLOCK: usize = 16;

/// The maximum length of AAD whose length is encoded in two bytes.
const SHORT_AAD_BYTES_MAX: usize = 0xfeff;

/// Encrypts `data` in place and returns the MAC, `mac_bytes` long.
///
/// The lengths of nonce, data and MAC must be those that `Mechanism::check` accepts.
pub(super) fn encrypt<C>(cipher: &C, nonce: &[u8], aad: &[u8], data: &mut [u8], mac_bytes: usize) -> Vec<u8>
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let mut mac = cbc_mac(cipher, nonce, aad, data, mac_bytes);
    let mut stream = start(cipher, nonce);
    stream.apply_keystream(&mut mac);
    stream.apply_keystream(data);
    mac[..mac_bytes].to_vec()
}

/// Decrypts `data` in place. If the MAC is wrong, wipes it and returns false: CCM's MAC is over the plaintext.
pub(super) fn decrypt<C>(cipher: &C, nonce: &[u8], aad: &[u8], data: &mut [u8], given: &[u8]) -> bool
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let mut mask = [0; BLOCK];
    let mut stream = start(cipher, nonce);
    stream.apply_keystream(&mut mask);
    stream.apply_keystream(data);
    let mut mac = cbc_mac(cipher, nonce, aad, data, given.len());
    mac.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    let valid = bool::from(mac[..given.len()].ct_eq(given));
    if !valid {
        data.fill(0);
    }
    valid
}

/// The key stream: the first block masks the MAC, the rest the data.
fn start<'a, C>(cipher: &'a C, nonce: &[u8]) -> Ctr128BE<&'a C>
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let mut first = Array::default();
    first[0] = length_bytes(nonce) - 1;
    first[1..=nonce.len()].copy_from_slice(nonce);
    Ctr128BE::from_core(CtrCore::inner_iv_init(cipher, &first))
}

/// The size of the length field in the first block, in bytes: what the nonce leaves free.
fn length_bytes(nonce: &[u8]) -> u8 {
    u8::try_from(BLOCK - 1 - nonce.len()).expect("a nonce has 7 to 13 bytes")
}

/// The full MAC before it is masked (SP 800-38C, appendix A.2).
fn cbc_mac<C>(cipher: &C, nonce: &[u8], aad: &[u8], data: &[u8], mac_bytes: usize) -> [u8; BLOCK]
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let mut input = Zeroizing::new(Vec::with_capacity(data.len() + aad.len() + 4 * BLOCK));
    let mac_code = u8::try_from((mac_bytes - 2) / 2).expect("a MAC has 4 to 16 bytes");
    input.push(u8::from(!aad.is_empty()) << 6 | mac_code << 3 | (length_bytes(nonce) - 1));
    input.extend_from_slice(nonce);
    let length = u64::try_from(data.len()).expect("data is bounded by a frame").to_be_bytes();
    input.extend_from_slice(&length[length.len() - usize::from(length_bytes(nonce))..]);
    if !aad.is_empty() {
        match u16::try_from(aad.len()) {
            Ok(short) if aad.len() <= SHORT_AAD_BYTES_MAX => input.extend_from_slice(&short.to_be_bytes()),
            _ => {
                let long = u32::try_from(aad.len()).expect("additional data is bounded by a frame");
                input.extend_from_slice(&[0xff, 0xfe]);
                input.extend_from_slice(&long.to_be_bytes());
            }
        }
        input.extend_from_slice(aad);
        let padded = input.len().next_multiple_of(BLOCK);
        input.resize(padded, 0);
    }
    input.extend_from_slice(data);
    let padded = input.len().next_multiple_of(BLOCK);
    input.resize(padded, 0);
    let (blocks, _) = Array::<u8, U16>::slice_as_chunks_mut(&mut input);
    cbc::Encryptor::inner_iv_init(cipher, &Array::default()).encrypt_blocks(blocks);
    blocks.last().copied().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use aes::Aes256;
    use aes::cipher::KeyInit;
    use ccm::Ccm;
    use ccm::aead::AeadInOut;
    use ccm::consts::{U4, U7, U12, U13};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_composition_agrees_with_the_library(
            key: [u8; 32], nonce: [u8; 13], aad: Vec<u8>, data: Vec<u8>, flip in any::<prop::sample::Index>(),
        ) {
            let cipher = Aes256::new(&key.into());
            macro_rules! check {
                ($mac:ident, $nonce:ident, $mac_bytes:expr, $nonce_bytes:expr) => {{
                    let nonce = &nonce[..$nonce_bytes];
                    let mut ours = data.clone();
                    let our_mac = encrypt(&cipher, nonce, &aad, &mut ours, $mac_bytes);
                    let mut theirs = data.clone();
                    let library = Ccm::<Aes256, $mac, $nonce>::new(&key.into());
                    let their_mac = library
                        .encrypt_inout_detached(nonce.try_into().unwrap(), &aad, theirs.as_mut_slice().into())
                        .unwrap();
                    prop_assert_eq!(&ours, &theirs);
                    prop_assert_eq!(&our_mac[..], &their_mac[..]);
                    prop_assert!(decrypt(&cipher, nonce, &aad, &mut ours, &our_mac));
                    prop_assert_eq!(&ours, &data);
                    let mut wrong = our_mac;
                    wrong[flip.index($mac_bytes)] ^= 4;
                    prop_assert!(!decrypt(&cipher, nonce, &aad, &mut theirs, &wrong));
                    prop_assert!(theirs.iter().all(|byte| *byte == 0));
                }};
            }
            check!(U16, U12, 16, 12);
            check!(U4, U7, 4, 7);
            check!(U16, U13, 16, 13);
        }
    }

    #[test]
    fn long_aad_is_encoded_as_in_the_library() {
        let (key, nonce) = ([7; 32], [9; 12]);
        let aad = vec![3; SHORT_AAD_BYTES_MAX + 1];
        let mut data = [5; 20];
        let mac = encrypt(&Aes256::new(&key.into()), &nonce, &aad, &mut data, 16);
        let mut theirs = [5; 20];
        let library = Ccm::<Aes256, U16, U12>::new(&key.into());
        let their_mac =
            library.encrypt_inout_detached(&nonce.into(), &aad, theirs.as_mut_slice().into()).unwrap();
        assert_eq!((&data, &mac[..]), (&theirs, &their_mac[..]));
    }
}
