//! AES: ECB, CBC, CBC with PKCS #7 padding, CTR, GCM, CCM, CMAC and key wrap. The key schedule is computed once, when
//! the key is opened.

use std::sync::Arc;

use aes::cipher::array::Array;
use aes::cipher::consts::{U12, U16};
use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncClosure, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt,
    BlockSizeUser, InnerIvInit, KeyInit, StreamCipher,
};
use aes::{Aes128, Aes192, Aes256, Block};
use aes_gcm::AesGcm;
use aes_gcm::aead::AeadInOut;
use aes_kw::InnerInit;
use cmac::{Cmac, Mac as _};
use ctr::{Ctr128BE, CtrCore};
use ghash::GHash;
use kms_core::object::KeyBytes;
use kms_protocol::{Mechanism, MechanismType, Parameters, Rv, Secret};
use subtle::{Choice, ConstantTimeEq, ConstantTimeLess};
use zeroize::Zeroizing;

use super::keywrap::Padding;
use super::{ccm, gcm, keywrap};

/// The length of a block, in bytes.
const BLOCK: usize = 16;

/// The maximum length of a key, in bytes.
const KEY_BYTES_MAX: usize = 32;

/// The memory of an opened AES key: a key schedule of 15 round keys in both directions, the value, and the hash keys.
pub(super) const OPENED_BYTES: usize = 2048;

/// An AES key of any length, prepared for all modes.
pub(super) trait Modes: Send + Sync {
    /// Encrypts with the mechanism's mode.
    fn encrypt(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv>;
    /// Decrypts with the mechanism's mode.
    fn decrypt(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv>;
    /// Wraps a key.
    fn wrap(&self, padding: Padding, key: &[u8]) -> Result<Secret, Rv>;
    /// Unwraps a key.
    fn unwrap(&self, padding: Padding, wrapped: &[u8]) -> Result<Secret, Rv>;
    /// The full CMAC.
    fn cmac(&self, data: &[u8]) -> [u8; BLOCK];
    /// The key's value, for derivations that take any secret.
    fn value(&self) -> &[u8];
}

/// Prepares an AES key. None if no AES key has this length.
pub(super) fn open(material: &KeyBytes) -> Option<Box<dyn Modes>> {
    let bytes = material.as_ref();
    match bytes.len() {
        16 => Some(Box::new(AesKey::new(Aes128::new_from_slice(bytes).ok()?, bytes))),
        24 => Some(Box::new(AesKey::new(Aes192::new_from_slice(bytes).ok()?, bytes))),
        32 => Some(Box::new(AesKey::new(Aes256::new_from_slice(bytes).ok()?, bytes))),
        _ => None,
    }
}

/// The key check value of an AES key: the first bytes of an encrypted block of zeros (spec, "Secret key objects").
pub(super) fn check_value(material: &KeyBytes) -> Option<[u8; 3]> {
    // Only the cipher is prepared: the tables of the other modes take longer than generating the key.
    fn first_bytes<C: KeyInit + BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(
        bytes: &[u8],
    ) -> Option<[u8; 3]> {
        let mut zeros = Block::default();
        C::new_from_slice(bytes).ok()?.encrypt_block(&mut zeros);
        zeros.first_chunk().copied()
    }
    let bytes = material.as_ref();
    match bytes.len() {
        16 => first_bytes::<Aes128>(bytes),
        24 => first_bytes::<Aes192>(bytes),
        32 => first_bytes::<Aes256>(bytes),
        _ => None,
    }
}

/// A block cipher whose key schedule GCM shares with the other modes, so that there is one of it.
#[derive(Clone)]
struct Shared<C>(Arc<C>);

impl<C: BlockSizeUser> BlockSizeUser for Shared<C> {
    type BlockSize = C::BlockSize;
}

impl<C: BlockCipherEncrypt> BlockCipherEncrypt for Shared<C> {
    fn encrypt_with_backend(&self, work: impl BlockCipherEncClosure<BlockSize = Self::BlockSize>) {
        self.0.encrypt_with_backend(work);
    }
}

struct AesKey<C> {
    cipher: Arc<C>,
    gcm: AesGcm<Shared<C>, U12>,
    hash: GHash,
    value: Zeroizing<[u8; KEY_BYTES_MAX]>,
    value_bytes: usize,
}

/// What the modes require of a block cipher.
trait Cipher: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16> + Send + Sync {}

impl Cipher for Aes128 {}
impl Cipher for Aes192 {}
impl Cipher for Aes256 {}

impl<C: Cipher> AesKey<C> {
    /// `bytes` is the key, at most [`KEY_BYTES_MAX`] long.
    fn new(cipher: C, bytes: &[u8]) -> Self {
        let mut value = Zeroizing::new([0; KEY_BYTES_MAX]);
        value[..bytes.len()].copy_from_slice(bytes);
        let cipher = Arc::new(cipher);
        let gcm = AesGcm::from(Shared(Arc::clone(&cipher)));
        Self { gcm, hash: gcm::hash_of(&*cipher), cipher, value, value_bytes: bytes.len() }
    }

    fn encrypt_gcm(&self, iv: &[u8], aad: &[u8], tag_bytes: usize, data: &[u8]) -> Result<Secret, Rv> {
        // One allocation for ciphertext and tag: this path is benchmarked.
        let mut out = Vec::with_capacity(data.len() + gcm::TAG_BYTES);
        out.extend_from_slice(data);
        let mut out = Secret::from(out);
        let bytes = out.bytes_mut();
        let tag: [u8; gcm::TAG_BYTES] = match <&Array<u8, U12>>::try_from(iv) {
            Ok(iv) => {
                let tag = self.gcm.encrypt_inout_detached(iv, aad, bytes.as_mut_slice().into());
                tag.map_err(|_| Rv::DATA_LEN_RANGE)?.into()
            }
            Err(_) => gcm::encrypt(&*self.cipher, &self.hash, iv, aad, bytes),
        };
        bytes.extend_from_slice(tag.get(..tag_bytes).ok_or(Rv::MECHANISM_PARAM_INVALID)?);
        Ok(out)
    }

    fn decrypt_gcm(&self, iv: &[u8], aad: &[u8], tag_bytes: usize, data: &[u8]) -> Result<Secret, Rv> {
        let at = data.len().checked_sub(tag_bytes).ok_or(Rv::ENCRYPTED_DATA_LEN_RANGE)?;
        let (data, tag) = data.split_at(at);
        let mut out = Secret::from(data);
        let bytes = out.bytes_mut();
        let valid = match (<&Array<u8, U12>>::try_from(iv), <&Array<u8, U16>>::try_from(tag)) {
            (Ok(iv), Ok(tag)) => {
                self.gcm.decrypt_inout_detached(iv, aad, bytes.as_mut_slice().into(), tag).is_ok()
            }
            _ => gcm::decrypt(&*self.cipher, &self.hash, iv, aad, bytes, tag),
        };
        if valid { Ok(out) } else { Err(Rv::ENCRYPTED_DATA_INVALID) }
    }

    fn encrypt_cbc(&self, iv: &[u8; BLOCK], data: &mut [u8]) -> Result<(), Rv> {
        let blocks = blocks_of(data).ok_or(Rv::DATA_LEN_RANGE)?;
        cbc::Encryptor::inner_iv_init(&*self.cipher, iv.into()).encrypt_blocks(blocks);
        Ok(())
    }

    fn decrypt_cbc(&self, iv: &[u8; BLOCK], data: &mut [u8]) -> Result<(), Rv> {
        let blocks = blocks_of(data).ok_or(Rv::ENCRYPTED_DATA_LEN_RANGE)?;
        cbc::Decryptor::inner_iv_init(&*self.cipher, iv.into()).decrypt_blocks(blocks);
        Ok(())
    }

    /// Counter mode with a counter in the `bits` low bits (SP 800-38A, appendix B.1): it wraps, the other bits stay.
    ///
    /// Until the counter wraps, no carry leaves it, so the key stream is that of a counter of 128 bits; there are at
    /// most two such runs, because no counter block may occur twice.
    fn apply_ctr(&self, bits: u8, first: &[u8; BLOCK], data: &mut [u8]) -> Result<(), Rv> {
        let mask = 1_u128.checked_shl(u32::from(bits)).map_or(u128::MAX, |end| end - 1);
        let first = u128::from_be_bytes(*first);
        let blocks = data.len().div_ceil(BLOCK) as u128;
        if blocks > mask.saturating_add(1) {
            return Err(Rv::DATA_LEN_RANGE);
        }
        let before_wrap = (mask - (first & mask)).saturating_add(1).saturating_mul(BLOCK as u128);
        let split = usize::try_from(before_wrap).unwrap_or(usize::MAX).min(data.len());
        let (head, tail) = data.split_at_mut(split);
        for (block, part) in [(first, head), (first & !mask, tail)] {
            let core = CtrCore::inner_iv_init(&*self.cipher, &block.to_be_bytes().into());
            Ctr128BE::from_core(core).apply_keystream(part);
        }
        Ok(())
    }
}

impl<C: Cipher> Modes for AesKey<C> {
    fn encrypt(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        match (mechanism.kind, &mechanism.parameters) {
            (MechanismType::AES_GCM, Parameters::Gcm { iv, aad, tag_bits }) => {
                self.encrypt_gcm(iv, aad, usize::from(tag_bits / 8), data)
            }
            (MechanismType::AES_ECB, Parameters::None) => {
                let mut out = Secret::from(data);
                self.cipher.encrypt_blocks(blocks_of(out.bytes_mut()).ok_or(Rv::DATA_LEN_RANGE)?);
                Ok(out)
            }
            (MechanismType::AES_CBC, Parameters::Iv(iv)) => {
                let mut out = Secret::from(data);
                self.encrypt_cbc(iv, out.bytes_mut())?;
                Ok(out)
            }
            (MechanismType::AES_CBC_PAD, Parameters::Iv(iv)) => {
                let mut out = pad(data);
                self.encrypt_cbc(iv, out.bytes_mut())?;
                Ok(out)
            }
            (MechanismType::AES_CTR, Parameters::Ctr { bits, block }) => {
                let mut out = Secret::from(data);
                self.apply_ctr(*bits, block, out.bytes_mut())?;
                Ok(out)
            }
            (MechanismType::AES_CCM, Parameters::Ccm { data_bytes, nonce, aad, mac_bytes }) => {
                if u32::try_from(data.len()) != Ok(*data_bytes) {
                    return Err(Rv::DATA_LEN_RANGE);
                }
                let mut out = Secret::from(data);
                let mac = ccm::encrypt(&*self.cipher, nonce, aad, out.bytes_mut(), usize::from(*mac_bytes));
                out.bytes_mut().extend_from_slice(&mac);
                Ok(out)
            }
            // An IV is generated for messages only; a caller of C_Encrypt would not receive it.
            (MechanismType::AES_GCM, _) => Err(Rv::MECHANISM_PARAM_INVALID),
            _ => Err(Rv::MECHANISM_INVALID),
        }
    }

    fn decrypt(&self, mechanism: &Mechanism, data: &[u8]) -> Result<Secret, Rv> {
        match (mechanism.kind, &mechanism.parameters) {
            (MechanismType::AES_GCM, Parameters::Gcm { iv, aad, tag_bits }) => {
                self.decrypt_gcm(iv, aad, usize::from(tag_bits / 8), data)
            }
            (MechanismType::AES_ECB, Parameters::None) => {
                let mut out = Secret::from(data);
                self.cipher.decrypt_blocks(blocks_of(out.bytes_mut()).ok_or(Rv::ENCRYPTED_DATA_LEN_RANGE)?);
                Ok(out)
            }
            (MechanismType::AES_CBC, Parameters::Iv(iv)) => {
                let mut out = Secret::from(data);
                self.decrypt_cbc(iv, out.bytes_mut())?;
                Ok(out)
            }
            (MechanismType::AES_CBC_PAD, Parameters::Iv(iv)) => {
                if data.is_empty() {
                    return Err(Rv::ENCRYPTED_DATA_LEN_RANGE);
                }
                let mut out = Secret::from(data);
                self.decrypt_cbc(iv, out.bytes_mut())?;
                unpad(out)
            }
            (MechanismType::AES_CTR, Parameters::Ctr { bits, block }) => {
                let mut out = Secret::from(data);
                self.apply_ctr(*bits, block, out.bytes_mut()).map_err(|_| Rv::ENCRYPTED_DATA_LEN_RANGE)?;
                Ok(out)
            }
            (MechanismType::AES_CCM, Parameters::Ccm { data_bytes, nonce, aad, mac_bytes }) => {
                let at =
                    data.len().checked_sub(usize::from(*mac_bytes)).ok_or(Rv::ENCRYPTED_DATA_LEN_RANGE)?;
                if u32::try_from(at) != Ok(*data_bytes) {
                    return Err(Rv::ENCRYPTED_DATA_LEN_RANGE);
                }
                let (data, mac) = data.split_at(at);
                let mut out = Secret::from(data);
                let valid = ccm::decrypt(&*self.cipher, nonce, aad, out.bytes_mut(), mac);
                if valid { Ok(out) } else { Err(Rv::ENCRYPTED_DATA_INVALID) }
            }
            (MechanismType::AES_GCM, _) => Err(Rv::MECHANISM_PARAM_INVALID),
            _ => Err(Rv::MECHANISM_INVALID),
        }
    }

    fn wrap(&self, padding: Padding, key: &[u8]) -> Result<Secret, Rv> {
        keywrap::wrap(&*self.cipher, padding, key)
    }

    fn unwrap(&self, padding: Padding, wrapped: &[u8]) -> Result<Secret, Rv> {
        keywrap::unwrap(&*self.cipher, padding, wrapped)
    }

    fn cmac(&self, data: &[u8]) -> [u8; BLOCK] {
        let mut mac = Cmac::inner_init(&*self.cipher);
        mac.update(data);
        mac.finalize().into_bytes().into()
    }

    fn value(&self) -> &[u8] {
        &self.value[..self.value_bytes]
    }
}

/// Data as blocks, if it is a whole number of blocks.
fn blocks_of(data: &mut [u8]) -> Option<&mut [Block]> {
    let (blocks, rest) = Array::slice_as_chunks_mut(data);
    rest.is_empty().then_some(blocks)
}

/// Adds the padding of PKCS #7: n bytes of the value n, 1 to 16 of them.
fn pad(data: &[u8]) -> Secret {
    let missing = BLOCK - data.len() % BLOCK;
    let mut out = Vec::with_capacity(data.len() + missing);
    out.extend_from_slice(data);
    out.resize(data.len() + missing, u8::try_from(missing).expect("at most a block is missing"));
    Secret::from(out)
}

/// Removes the padding, with one error and one timing for every wrong padding: a caller who may request decryptions but
/// not see their results could otherwise learn the plaintext from the responses (Vaudenay).
fn unpad(mut out: Secret) -> Result<Secret, Rv> {
    let bytes = out.bytes_mut();
    let last: &[u8; BLOCK] = bytes.last_chunk().ok_or(Rv::ENCRYPTED_DATA_LEN_RANGE)?;
    let count = last[BLOCK - 1];
    let mut valid = !count.ct_eq(&0) & count.ct_lt(&17);
    for (distance, byte) in (0_u8..).zip(last.iter().rev()) {
        let in_padding: Choice = distance.ct_lt(&count);
        valid &= !in_padding | byte.ct_eq(&count);
    }
    if !bool::from(valid) {
        return Err(Rv::ENCRYPTED_DATA_INVALID);
    }
    bytes.truncate(bytes.len() - usize::from(count));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(length: usize) -> Box<dyn Modes> {
        open(&KeyBytes::from((0..).take(length).collect::<Vec<u8>>())).unwrap()
    }

    fn ctr(bits: u8, block: [u8; 16]) -> Mechanism {
        Mechanism { kind: MechanismType::AES_CTR, parameters: Parameters::Ctr { bits, block } }
    }

    fn cbc(kind: MechanismType) -> Mechanism {
        Mechanism { kind, parameters: Parameters::Iv([9; 16]) }
    }

    /// Counter mode as the standard defines it: one block at a time.
    fn ctr_by_blocks(key: &dyn Modes, bits: u8, block: [u8; 16], data: &[u8]) -> Vec<u8> {
        let mask = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
        let mut counter = u128::from_be_bytes(block);
        let mut out = Vec::new();
        for part in data.chunks(16) {
            let stream =
                key.encrypt(&Mechanism::plain(MechanismType::AES_ECB), &counter.to_be_bytes()).unwrap();
            out.extend(part.iter().zip(stream.iter()).map(|(byte, mask)| byte ^ mask));
            counter = (counter & !mask) | (counter.wrapping_add(1) & mask);
        }
        out
    }

    proptest! {
        #[test]
        fn a_counter_of_any_width_wraps_in_its_width(
            bits in 1_u8..=128, block: [u8; 16], length in 0_usize..300, near_end: bool,
        ) {
            let key = key(32);
            let mask = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
            let block = if near_end { (u128::from_be_bytes(block) | (mask & !3)).to_be_bytes() } else { block };
            let data = vec![0x5a; length];
            let ours = key.encrypt(&ctr(bits, block), &data);
            if (length.div_ceil(16) as u128).saturating_sub(1) > mask {
                prop_assert_eq!(ours.unwrap_err(), Rv::DATA_LEN_RANGE);
            } else {
                let ours = ours.unwrap();
                prop_assert_eq!(&*ours, ctr_by_blocks(&*key, bits, block, &data));
                prop_assert_eq!(&*key.decrypt(&ctr(bits, block), &ours).unwrap(), &data[..]);
            }
        }

        #[test]
        fn encrypted_data_is_decrypted(
            length in prop::sample::select(vec![16_usize, 24, 32]), data: Vec<u8>, iv: [u8; 16],
        ) {
            let key = key(length);
            let pad = Mechanism { kind: MechanismType::AES_CBC_PAD, parameters: Parameters::Iv(iv) };
            let encrypted = key.encrypt(&pad, &data).unwrap();
            prop_assert_eq!(encrypted.len(), (data.len() / 16 + 1) * 16);
            prop_assert_eq!(&*key.decrypt(&pad, &encrypted).unwrap(), &data[..]);
            let whole = &data[..data.len() / 16 * 16];
            for mechanism in [Mechanism::plain(MechanismType::AES_ECB), cbc(MechanismType::AES_CBC)] {
                let encrypted = key.encrypt(&mechanism, whole).unwrap();
                prop_assert_eq!(&*key.decrypt(&mechanism, &encrypted).unwrap(), whole);
            }
        }

        #[test]
        fn padding_is_valid_or_rejected(last: [u8; 16], count in 0_u8..20) {
            let mut block = last;
            for byte in block.iter_mut().rev().take(usize::from(count)) {
                *byte = count;
            }
            let n = usize::from(block[15]);
            let valid = (1..=16).contains(&n) && block[16 - n..].iter().all(|byte| usize::from(*byte) == n);
            match unpad(Secret::from(block.as_slice())) {
                Ok(rest) => {
                    prop_assert!(valid);
                    prop_assert_eq!(&*rest, &block[..16 - n]);
                }
                Err(rv) => {
                    prop_assert!(!valid);
                    prop_assert_eq!(rv, Rv::ENCRYPTED_DATA_INVALID);
                }
            }
        }
    }

    #[test]
    fn aws_lc_encrypts_the_same() {
        use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
        use aws_lc_rs::iv::FixedLength;
        let bytes: Vec<u8> = (0..32).collect();
        let mut theirs = vec![0x33; 64];
        let unbound = UnboundCipherKey::new(&AES_256, &bytes).unwrap();
        let context = EncryptionContext::Iv128(FixedLength::from([9; 16]));
        EncryptingKey::cbc(unbound).unwrap().less_safe_encrypt(&mut theirs, context).unwrap();
        assert_eq!(&*key(32).encrypt(&cbc(MechanismType::AES_CBC), &[0x33; 64]).unwrap(), &theirs[..]);
    }

    #[test]
    fn incomplete_blocks_are_rejected() {
        let key = key(16);
        for mechanism in [Mechanism::plain(MechanismType::AES_ECB), cbc(MechanismType::AES_CBC)] {
            assert_eq!(key.encrypt(&mechanism, &[0; 17]).unwrap_err(), Rv::DATA_LEN_RANGE);
            assert_eq!(key.decrypt(&mechanism, &[0; 17]).unwrap_err(), Rv::ENCRYPTED_DATA_LEN_RANGE);
        }
        let pad = cbc(MechanismType::AES_CBC_PAD);
        assert_eq!(key.decrypt(&pad, &[]).unwrap_err(), Rv::ENCRYPTED_DATA_LEN_RANGE);
        assert_eq!(key.decrypt(&pad, &[0; 15]).unwrap_err(), Rv::ENCRYPTED_DATA_LEN_RANGE);
    }

    #[test]
    fn a_counter_may_use_up_all_its_values_but_no_more() {
        let key = key(16);
        assert!(key.encrypt(&ctr(1, [0xff; 16]), &[0; 32]).is_ok());
        assert_eq!(key.encrypt(&ctr(1, [0xff; 16]), &[0; 33]).unwrap_err(), Rv::DATA_LEN_RANGE);
    }

    #[test]
    fn the_check_value_begins_an_encrypted_zero_block() {
        // FIPS 197's key of 128 zero bits encrypts the zero block to 66 e9 4b d4 ….
        assert_eq!(check_value(&KeyBytes::from(vec![0; 16])), Some([0x66, 0xe9, 0x4b]));
    }
}
