//! Modes of operation: how much data a chunk takes, how long the output is, and the state that chains chunks.

use kms_protocol::{DATA_BYTES_MAX, Mechanism, MechanismType, Parameters, Rv};

use super::super::objects::ObjectInfo;
use super::super::reply::OutputLength;
use super::super::usage;
use super::{BLOCK, Direction};

/// The tag of ChaCha20-Poly1305, in bytes (RFC 8439).
const POLY1305_TAG_BYTES: usize = 16;

/// A mode of operation, with the state after the chunks so far.
pub(super) enum Mode {
    /// AES-ECB: blocks are independent.
    Ecb,
    /// AES-CBC: the IV of a chunk is the last block of ciphertext before it.
    Cbc { iv: [u8; BLOCK] },
    /// AES-CBC with padding: likewise; only the final chunk is padded.
    CbcPad { iv: [u8; BLOCK] },
    /// AES-CTR: a chunk begins with the counter after the chunk before; `exhausted` when that would wrap around.
    Ctr { bits: u8, block: [u8; BLOCK], exhausted: bool },
    /// AEAD: all data is buffered until the end, because no output may leave before the tag is computed or checked.
    /// AES-CCM fixes the length of the data in advance (`data_bytes`).
    Aead { tag_bytes: usize, data_bytes: Option<usize> },
    /// RSA: one block of the modulus's length, for at most `plaintext_max` bytes of plaintext.
    Rsa { modulus: usize, plaintext_max: usize },
}

/// How much of the available data the next chunk takes.
pub(super) enum ChunkSize {
    /// Nothing: the data is buffered.
    None,
    /// This many bytes, and more chunks follow.
    Intermediate(usize),
    /// All data, and the operation ends.
    Final(usize),
}

impl Mode {
    /// The mode of a mechanism with a key.
    pub(super) fn of(mechanism: &Mechanism, key: &ObjectInfo) -> Result<Self, Rv> {
        match (mechanism.kind, &mechanism.parameters) {
            (MechanismType::AES_ECB, _) => Ok(Self::Ecb),
            (MechanismType::AES_CBC, Parameters::Iv(iv)) => Ok(Self::Cbc { iv: *iv }),
            (MechanismType::AES_CBC_PAD, Parameters::Iv(iv)) => Ok(Self::CbcPad { iv: *iv }),
            (MechanismType::AES_CTR, Parameters::Ctr { bits, block }) => {
                Ok(Self::Ctr { bits: *bits, block: *block, exhausted: false })
            }
            (MechanismType::AES_GCM, Parameters::Gcm { tag_bits, .. }) => {
                Ok(Self::Aead { tag_bytes: usize::from(*tag_bits) / 8, data_bytes: None })
            }
            (MechanismType::AES_CCM, Parameters::Ccm { data_bytes, mac_bytes, .. }) => {
                Ok(Self::Aead { tag_bytes: usize::from(*mac_bytes), data_bytes: Some(*data_bytes as usize) })
            }
            (MechanismType::CHACHA20_POLY1305, Parameters::Poly1305 { .. }) => {
                Ok(Self::Aead { tag_bytes: POLY1305_TAG_BYTES, data_bytes: None })
            }
            (MechanismType::RSA_X_509, _) => {
                let modulus = usage::modulus_bytes(key)?;
                Ok(Self::Rsa { modulus, plaintext_max: modulus })
            }
            (MechanismType::RSA_PKCS, _) => {
                let modulus = usage::modulus_bytes(key)?;
                Ok(Self::Rsa { modulus, plaintext_max: modulus.saturating_sub(11) })
            }
            (MechanismType::RSA_PKCS_OAEP, Parameters::Oaep { hash, .. }) => {
                let (modulus, hash) = (usage::modulus_bytes(key)?, usage::digest_length(*hash)?);
                Ok(Self::Rsa { modulus, plaintext_max: modulus.saturating_sub(2 * hash + 2) })
            }
            _ => Err(Rv::MECHANISM_INVALID),
        }
    }

    /// Whether all data is buffered until the end.
    pub(super) fn is_buffered(&self) -> bool {
        match self {
            Self::Aead { .. } | Self::Rsa { .. } => true,
            Self::Ecb | Self::Cbc { .. } | Self::CbcPad { .. } | Self::Ctr { .. } => false,
        }
    }

    /// The most data that may be buffered until the end.
    pub(super) fn buffer_max(&self, direction: Direction) -> usize {
        match (self, direction) {
            (Self::Rsa { plaintext_max, .. }, Direction::Encrypt) => *plaintext_max,
            (Self::Rsa { modulus, .. }, Direction::Decrypt) => *modulus,
            (Self::Aead { tag_bytes, .. }, Direction::Decrypt) => DATA_BYTES_MAX + tag_bytes,
            (Self::Aead { .. }, Direction::Encrypt) => DATA_BYTES_MAX,
            (Self::Ecb | Self::Cbc { .. } | Self::CbcPad { .. } | Self::Ctr { .. }, _) => BLOCK,
        }
    }

    /// The blocks, in bytes, that may be processed before the end of the data is known. The last block of a padded
    /// ciphertext is held back: it may be the one with the padding.
    pub(super) fn whole_blocks(&self, direction: Direction, total: usize) -> usize {
        match (self, direction) {
            (Self::CbcPad { .. }, Direction::Decrypt) => total.saturating_sub(1) / BLOCK * BLOCK,
            _ => total / BLOCK * BLOCK,
        }
    }

    /// The length of the output of the `total` last bytes of the data.
    pub(super) fn final_output_length(&self, direction: Direction, total: usize) -> OutputLength {
        match (self, direction) {
            (Self::Ecb | Self::Cbc { .. } | Self::Ctr { .. }, _) => OutputLength::Exact(total),
            (Self::CbcPad { .. }, Direction::Encrypt) => OutputLength::Exact((total / BLOCK + 1) * BLOCK),
            (Self::CbcPad { .. }, Direction::Decrypt) => OutputLength::AtMost(total),
            (Self::Aead { tag_bytes, .. }, Direction::Encrypt) => OutputLength::Exact(total + tag_bytes),
            (Self::Aead { tag_bytes, .. }, Direction::Decrypt) => {
                OutputLength::Exact(total.saturating_sub(*tag_bytes))
            }
            (Self::Rsa { modulus, .. }, Direction::Encrypt) => OutputLength::Exact(*modulus),
            (Self::Rsa { plaintext_max, .. }, Direction::Decrypt) => OutputLength::AtMost(*plaintext_max),
        }
    }

    /// The size of the next chunk while more data may follow; none when too much data is buffered.
    pub(super) fn intermediate_chunk(&self, direction: Direction, total: usize) -> Option<ChunkSize> {
        if self.is_buffered() {
            return (total <= self.buffer_max(direction)).then_some(ChunkSize::None);
        }
        match self.whole_blocks(direction, total).min(DATA_BYTES_MAX) {
            0 => Some(ChunkSize::None),
            size => Some(ChunkSize::Intermediate(size)),
        }
    }

    /// The size of the next chunk after the end of the data; none when the mode does not take data of this length.
    pub(super) fn final_chunk(&self, direction: Direction, total: usize) -> Option<ChunkSize> {
        let (legal, empty) = match (self, direction) {
            (Self::Ecb | Self::Cbc { .. }, _) => (total.is_multiple_of(BLOCK), ChunkSize::None),
            (Self::CbcPad { .. }, Direction::Decrypt) => {
                (total > 0 && total.is_multiple_of(BLOCK), ChunkSize::None)
            }
            (Self::CbcPad { .. }, Direction::Encrypt) => (true, ChunkSize::Final(0)),
            (Self::Ctr { .. }, _) => (true, ChunkSize::None),
            (Self::Aead { tag_bytes, data_bytes }, direction) => {
                let data = match direction {
                    Direction::Encrypt => Some(total),
                    Direction::Decrypt => total.checked_sub(*tag_bytes),
                };
                let legal = data.is_some_and(|data| data_bytes.is_none_or(|expected| data == expected));
                (legal && total <= self.buffer_max(direction), ChunkSize::Final(0))
            }
            (Self::Rsa { modulus, .. }, Direction::Decrypt) => (total == *modulus, ChunkSize::None),
            (Self::Rsa { .. }, Direction::Encrypt) => {
                (total <= self.buffer_max(direction), ChunkSize::Final(0))
            }
        };
        match total {
            _ if !legal => None,
            0 => Some(empty),
            total if self.is_buffered() || total <= DATA_BYTES_MAX => Some(ChunkSize::Final(total)),
            _ => Some(ChunkSize::Intermediate(DATA_BYTES_MAX)),
        }
    }

    /// The mechanism of the chunk with this data, and the state after it; none when the counter is exhausted.
    pub(super) fn advance(
        &mut self,
        direction: Direction,
        mechanism: &Mechanism,
        data: &[u8],
        last: bool,
    ) -> Option<Mechanism> {
        match self {
            Self::Ecb | Self::Aead { .. } | Self::Rsa { .. } => Some(mechanism.clone()),
            Self::Cbc { iv } | Self::CbcPad { iv } => {
                let padded = last && mechanism.kind == MechanismType::AES_CBC_PAD;
                let kind = if padded { MechanismType::AES_CBC_PAD } else { MechanismType::AES_CBC };
                let mechanism = Mechanism { kind, parameters: Parameters::Iv(*iv) };
                if direction == Direction::Decrypt
                    && let Some(block) = data.last_chunk()
                {
                    *iv = *block;
                }
                Some(mechanism)
            }
            Self::Ctr { exhausted: true, .. } => None,
            Self::Ctr { bits, block, exhausted } => {
                let parameters = Parameters::Ctr { bits: *bits, block: *block };
                (*block, *exhausted) = advance_counter(*block, *bits, data.len().div_ceil(BLOCK));
                Some(Mechanism { kind: MechanismType::AES_CTR, parameters })
            }
        }
    }

    /// Takes the output of a chunk: the last block of ciphertext is the IV of the next chunk.
    pub(super) fn chain(&mut self, direction: Direction, output: &[u8]) {
        match (self, direction) {
            (Self::Cbc { iv } | Self::CbcPad { iv }, Direction::Encrypt) => {
                if let Some(block) = output.last_chunk() {
                    *iv = *block;
                }
            }
            (Self::Cbc { .. } | Self::CbcPad { .. }, Direction::Decrypt) => {}
            (Self::Ecb | Self::Ctr { .. } | Self::Aead { .. } | Self::Rsa { .. }, _) => {}
        }
    }
}

/// The counter after `blocks` blocks, and whether it has wrapped around: the key stream would repeat.
fn advance_counter(block: [u8; BLOCK], bits: u8, blocks: usize) -> ([u8; BLOCK], bool) {
    let value = u128::from_be_bytes(block);
    let mask = u128::MAX.checked_shr(128 - u32::from(bits)).unwrap_or(0);
    let (low, blocks) = (value & mask, blocks as u128);
    let next = (value & !mask) | (low.wrapping_add(blocks) & mask);
    (next.to_be_bytes(), blocks > mask - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_does_not_carry_into_the_nonce() {
        let mut block = [0xff; BLOCK];
        assert_eq!(advance_counter(block, 128, 1), ([0; BLOCK], true));
        block[15] = 0xfe;
        let (next, exhausted) = advance_counter(block, 8, 1);
        assert_eq!((next, exhausted), ([0xff; BLOCK], false));
        let (next, exhausted) = advance_counter(next, 8, 1);
        assert_eq!((next[14], next[15], exhausted), (0xff, 0, true));
    }
}
