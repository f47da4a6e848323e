//! Encryption and decryption, in one part or many (docs/decisions/0007). The backend keeps nothing between two
//! requests, so what chains them is kept here: the IV or counter that the piece before left, and the bytes that do
//! not fill a block. Pure: says what to ask next and takes in what was answered.

use std::sync::Arc;

use kms_protocol::{
    AttributeType, DATA_BYTES_MAX, Mechanism, MechanismType, ObjectClass, Parameters, RingPolicy, Rv, Secret,
};

use super::objects::Known;
use super::reply::Length;
use super::usage::{self, Usage};

pub(crate) const BLOCK: usize = 16;

/// The most data of one call, in bytes: what comes of it is held whole until it is handed over.
const CALL_BYTES_MAX: usize = 256 << 20;

/// The tag of ChaCha20-Poly1305 (RFC 8439).
const POLY1305_TAG_BYTES: usize = 16;

/// SlotFilter way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
}

/// Whether more data may come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// `C_EncryptUpdate`: yes.
    Inner,
    /// `C_EncryptFinal`, and `C_Encrypt`, which is all parts at once: no.
    Last,
}

/// How the mode of operation goes on from piece to piece.
enum Mode {
    /// Blocks on their own.
    Ecb,
    /// Each piece begins with the last block of ciphertext before it.
    Cbc { iv: [u8; BLOCK] },
    /// Likewise; the last piece alone is padded.
    CbcPad { iv: [u8; BLOCK] },
    /// Each piece begins with the counter after the piece before; `spent` when that would come round.
    Ctr { bits: u8, block: [u8; BLOCK], spent: bool },
    /// Held back until the end: nothing comes out before the tag is made or checked. CCM is told how much `exactly`.
    Sealed { tag: usize, exactly: Option<usize> },
    /// One block of the modulus's length, with room for so much plaintext.
    Rsa { modulus: usize, most: usize },
}

/// One request of an operation.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Piece {
    /// How this piece is computed.
    pub(crate) mechanism: Mechanism,
    /// Its data.
    pub(crate) data: Secret,
}

/// An encryption or decryption in progress.
pub(crate) struct Cipher {
    /// The key.
    pub(crate) key: Arc<Known>,
    /// Whether the key wants a login of its own before each use (`CKA_ALWAYS_AUTHENTICATE`).
    pub(crate) awaits_login: bool,
    direction: Direction,
    mechanism: Mechanism,
    mode: Mode,
    held: Secret,
    started: bool,
    ended: bool,
    kept: Option<Secret>,
}

impl Cipher {
    /// `C_EncryptInit`, `C_DecryptInit`.
    ///
    /// # Errors
    /// When mechanism and key do not go together.
    pub(crate) fn begin(
        direction: Direction,
        key: Arc<Known>,
        mechanism: Mechanism,
        policy: RingPolicy,
    ) -> Result<Self, Rv> {
        let usage = match direction {
            Direction::Encrypt => Usage::Encrypt,
            Direction::Decrypt => Usage::Decrypt,
        };
        usage::check(usage, &mechanism, &key, policy)?;
        let mode = mode_of(&mechanism, &key)?;
        let awaits_login = key.is(AttributeType::ALWAYS_AUTHENTICATE);
        let (held, kept) = (Secret::default(), None);
        Ok(Self { key, awaits_login, direction, mechanism, mode, held, started: false, ended: false, kept })
    }

    /// SlotFilter way it goes.
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether the operation needs no backend: the key is public.
    pub(crate) fn is_local(&self) -> bool {
        self.key.class() == Some(ObjectClass::PUBLIC_KEY)
    }

    /// Whether data came in parts: then there is no `C_Encrypt` any more (spec, "C_Encrypt").
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// How much comes out at once when `more` bytes of data come in as a part.
    pub(crate) fn part_length(&self, more: usize) -> usize {
        if self.is_buffered() { 0 } else { self.whole_blocks(self.held.len().saturating_add(more)) }
    }

    /// How much comes out when the operation ends with `more` bytes of data.
    pub(crate) fn rest_length(&self, more: usize) -> Length {
        if let Some(kept) = &self.kept {
            return Length::Exact(kept.len());
        }
        let total = self.held.len().saturating_add(more);
        match (&self.mode, self.direction) {
            (Mode::Ecb | Mode::Cbc { .. } | Mode::Ctr { .. }, _) => Length::Exact(total),
            (Mode::CbcPad { .. }, Direction::Encrypt) => Length::Exact((total / BLOCK + 1) * BLOCK),
            (Mode::CbcPad { .. }, Direction::Decrypt) => Length::AtMost(total),
            (Mode::Sealed { tag, .. }, Direction::Encrypt) => Length::Exact(total + tag),
            (Mode::Sealed { tag, .. }, Direction::Decrypt) => Length::Exact(total.saturating_sub(*tag)),
            (Mode::Rsa { modulus, .. }, Direction::Encrypt) => Length::Exact(*modulus),
            (Mode::Rsa { most, .. }, Direction::Decrypt) => Length::AtMost(*most),
        }
    }

    /// The next request, taking from the front of `rest`; none when the part is done.
    ///
    /// # Errors
    /// `CKR_DATA_LEN_RANGE` or `CKR_ENCRYPTED_DATA_LEN_RANGE` when the mode cannot take so much, or so little.
    pub(crate) fn next(&mut self, rest: &mut &[u8], part: Part) -> Result<Option<Piece>, Rv> {
        self.started = true;
        let total = self.held.len() + rest.len();
        let last = match part {
            Part::Inner => self.inner(total)?,
            Part::Last if self.ended => return Ok(None),
            Part::Last => self.last(total)?,
        };
        let take = match last {
            Take::Nothing => {
                self.held.bytes_mut().extend_from_slice(rest);
                *rest = &[];
                return Ok(None);
            }
            Take::Inner(take) | Take::Last(take) => take,
        };
        let from_rest = take.saturating_sub(self.held.len());
        let mut data = std::mem::take(&mut self.held);
        data.bytes_mut().extend_from_slice(&rest[..from_rest]);
        *rest = &rest[from_rest..];
        let mechanism = self.advance(&data, matches!(last, Take::Last(_)))?;
        Ok(Some(Piece { mechanism, data }))
    }

    /// Takes in what a piece gave: the next one may chain on it.
    pub(crate) fn took(&mut self, output: &[u8]) {
        match (&mut self.mode, self.direction) {
            (Mode::Cbc { iv } | Mode::CbcPad { iv }, Direction::Encrypt) => {
                if let Some(block) = output.last_chunk() {
                    *iv = *block;
                }
            }
            (Mode::Cbc { .. } | Mode::CbcPad { .. }, Direction::Decrypt) => {}
            (Mode::Ecb | Mode::Ctr { .. } | Mode::Sealed { .. } | Mode::Rsa { .. }, _) => {}
        }
    }

    /// Keeps an output for which the caller has no room yet.
    pub(crate) fn keep(&mut self, output: Secret) {
        self.kept = Some(output);
    }

    /// The output kept, if there is one.
    pub(crate) fn kept(&mut self) -> Option<Secret> {
        self.kept.take()
    }

    /// Whether one call may bring so much.
    ///
    /// # Errors
    /// The code for too much data.
    pub(crate) fn check_call(&self, bytes: usize) -> Result<(), Rv> {
        if bytes <= CALL_BYTES_MAX { Ok(()) } else { Err(self.wrong_length()) }
    }

    fn is_buffered(&self) -> bool {
        match self.mode {
            Mode::Sealed { .. } | Mode::Rsa { .. } => true,
            Mode::Ecb | Mode::Cbc { .. } | Mode::CbcPad { .. } | Mode::Ctr { .. } => false,
        }
    }

    /// The blocks that may go before the end is known. The last block of a padded ciphertext is held back: it may be
    /// the one with the padding.
    fn whole_blocks(&self, total: usize) -> usize {
        match (&self.mode, self.direction) {
            (Mode::CbcPad { .. }, Direction::Decrypt) => total.saturating_sub(1) / BLOCK * BLOCK,
            _ => total / BLOCK * BLOCK,
        }
    }

    fn inner(&self, total: usize) -> Result<Take, Rv> {
        if self.is_buffered() {
            return if total <= self.buffer_max() { Ok(Take::Nothing) } else { Err(self.wrong_length()) };
        }
        match self.whole_blocks(total).min(DATA_BYTES_MAX) {
            0 => Ok(Take::Nothing),
            take => Ok(Take::Inner(take)),
        }
    }

    fn last(&self, total: usize) -> Result<Take, Rv> {
        let (legal, empty) = match (&self.mode, self.direction) {
            (Mode::Ecb | Mode::Cbc { .. }, _) => (total.is_multiple_of(BLOCK), Take::Nothing),
            (Mode::CbcPad { .. }, Direction::Decrypt) => {
                (total > 0 && total.is_multiple_of(BLOCK), Take::Nothing)
            }
            (Mode::CbcPad { .. }, Direction::Encrypt) => (true, Take::Last(0)),
            (Mode::Ctr { .. }, _) => (true, Take::Nothing),
            (Mode::Sealed { tag, exactly }, direction) => {
                let data = match direction {
                    Direction::Encrypt => Some(total),
                    Direction::Decrypt => total.checked_sub(*tag),
                };
                let legal = data.is_some_and(|data| exactly.is_none_or(|exactly| data == exactly));
                (legal && total <= self.buffer_max(), Take::Last(0))
            }
            (Mode::Rsa { modulus, .. }, Direction::Decrypt) => (total == *modulus, Take::Nothing),
            (Mode::Rsa { .. }, Direction::Encrypt) => (total <= self.buffer_max(), Take::Last(0)),
        };
        match total {
            _ if !legal => Err(self.wrong_length()),
            0 => Ok(empty),
            total if self.is_buffered() || total <= DATA_BYTES_MAX => Ok(Take::Last(total)),
            _ => Ok(Take::Inner(DATA_BYTES_MAX)),
        }
    }

    /// The mechanism of a piece with this data, and the state after it.
    fn advance(&mut self, data: &[u8], last: bool) -> Result<Mechanism, Rv> {
        self.ended = last;
        let wrong_length = self.wrong_length();
        match &mut self.mode {
            Mode::Ecb | Mode::Sealed { .. } | Mode::Rsa { .. } => Ok(self.mechanism.clone()),
            Mode::Cbc { iv } | Mode::CbcPad { iv } => {
                let padded = last && self.mechanism.kind == MechanismType::AES_CBC_PAD;
                let kind = if padded { MechanismType::AES_CBC_PAD } else { MechanismType::AES_CBC };
                let mechanism = Mechanism { kind, parameters: Parameters::Iv(*iv) };
                if self.direction == Direction::Decrypt
                    && let Some(block) = data.last_chunk()
                {
                    *iv = *block;
                }
                Ok(mechanism)
            }
            Mode::Ctr { spent: true, .. } => Err(wrong_length),
            Mode::Ctr { bits, block, spent } => {
                let parameters = Parameters::Ctr { bits: *bits, block: *block };
                (*block, *spent) = counted(*block, *bits, data.len().div_ceil(BLOCK));
                Ok(Mechanism { kind: MechanismType::AES_CTR, parameters })
            }
        }
    }

    /// The most data that may be held until the end.
    fn buffer_max(&self) -> usize {
        match (&self.mode, self.direction) {
            (Mode::Rsa { most, .. }, Direction::Encrypt) => *most,
            (Mode::Rsa { modulus, .. }, Direction::Decrypt) => *modulus,
            (Mode::Sealed { tag, .. }, Direction::Decrypt) => DATA_BYTES_MAX + tag,
            (Mode::Sealed { .. }, Direction::Encrypt) => DATA_BYTES_MAX,
            (Mode::Ecb | Mode::Cbc { .. } | Mode::CbcPad { .. } | Mode::Ctr { .. }, _) => BLOCK,
        }
    }

    fn wrong_length(&self) -> Rv {
        match self.direction {
            Direction::Encrypt => Rv::DATA_LEN_RANGE,
            Direction::Decrypt => Rv::ENCRYPTED_DATA_LEN_RANGE,
        }
    }
}

/// How much of the data at hand the next piece takes.
enum Take {
    /// Nothing: what there is waits.
    Nothing,
    /// So much, and more follows.
    Inner(usize),
    /// All of it, and the operation ends.
    Last(usize),
}

fn mode_of(mechanism: &Mechanism, key: &Known) -> Result<Mode, Rv> {
    match (mechanism.kind, &mechanism.parameters) {
        (MechanismType::AES_ECB, _) => Ok(Mode::Ecb),
        (MechanismType::AES_CBC, Parameters::Iv(iv)) => Ok(Mode::Cbc { iv: *iv }),
        (MechanismType::AES_CBC_PAD, Parameters::Iv(iv)) => Ok(Mode::CbcPad { iv: *iv }),
        (MechanismType::AES_CTR, Parameters::Ctr { bits, block }) => {
            Ok(Mode::Ctr { bits: *bits, block: *block, spent: false })
        }
        (MechanismType::AES_GCM, Parameters::Gcm { tag_bits, .. }) => {
            Ok(Mode::Sealed { tag: usize::from(*tag_bits) / 8, exactly: None })
        }
        (MechanismType::AES_CCM, Parameters::Ccm { data_bytes, mac_bytes, .. }) => {
            Ok(Mode::Sealed { tag: usize::from(*mac_bytes), exactly: Some(*data_bytes as usize) })
        }
        (MechanismType::CHACHA20_POLY1305, Parameters::Poly1305 { .. }) => {
            Ok(Mode::Sealed { tag: POLY1305_TAG_BYTES, exactly: None })
        }
        (MechanismType::RSA_X_509, _) => {
            let modulus = usage::modulus_bytes(key)?;
            Ok(Mode::Rsa { modulus, most: modulus })
        }
        (MechanismType::RSA_PKCS, _) => {
            let modulus = usage::modulus_bytes(key)?;
            Ok(Mode::Rsa { modulus, most: modulus.saturating_sub(11) })
        }
        (MechanismType::RSA_PKCS_OAEP, Parameters::Oaep { hash, .. }) => {
            let (modulus, hash) = (usage::modulus_bytes(key)?, usage::digest_length(*hash)?);
            Ok(Mode::Rsa { modulus, most: modulus.saturating_sub(2 * hash + 2) })
        }
        _ => Err(Rv::MECHANISM_INVALID),
    }
}

/// The counter after so many blocks, and whether it has come round: going on would use the same key stream twice.
fn counted(block: [u8; BLOCK], bits: u8, blocks: usize) -> ([u8; BLOCK], bool) {
    let value = u128::from_be_bytes(block);
    let mask = u128::MAX.checked_shr(128 - u32::from(bits)).unwrap_or(0);
    let (low, blocks) = (value & mask, blocks as u128);
    let next = (value & !mask) | (low.wrapping_add(blocks) & mask);
    (next.to_be_bytes(), blocks > mask - low)
}

#[cfg(test)]
mod tests {
    use kms_protocol::KeyType;
    use proptest::prelude::*;

    use super::super::usage::tests::key;
    use super::*;

    const IV: [u8; BLOCK] = [9; BLOCK];

    fn cipher(direction: Direction, kind: MechanismType, parameters: Parameters) -> Cipher {
        let usages = [AttributeType::ENCRYPT, AttributeType::DECRYPT];
        let key = Arc::new(key(ObjectClass::SECRET_KEY, KeyType::AES, &usages));
        Cipher::begin(direction, key, Mechanism { kind, parameters }, RingPolicy::Strict).unwrap()
    }

    /// A stand-in for the backend: "encrypts" by adding one to each byte, and pads as CBC_PAD does.
    fn answer(direction: Direction, piece: &Piece) -> Vec<u8> {
        let mut data = piece.data.to_vec();
        let padded = piece.mechanism.kind == MechanismType::AES_CBC_PAD;
        match direction {
            Direction::Encrypt => {
                if padded {
                    let pad = BLOCK - data.len() % BLOCK;
                    data.extend(std::iter::repeat_n(u8::try_from(pad).unwrap(), pad));
                }
                data.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
            }
            Direction::Decrypt => {
                data.iter_mut().for_each(|byte| *byte = byte.wrapping_sub(1));
                if padded {
                    data.truncate(data.len() - usize::from(*data.last().unwrap()));
                }
            }
        }
        data
    }

    /// Runs one part, checks that its length was foretold, and gives what came out.
    fn run(cipher: &mut Cipher, data: &[u8], part: Part) -> Result<Vec<u8>, Rv> {
        let foretold = match part {
            Part::Inner => Length::Exact(cipher.part_length(data.len())),
            Part::Last => cipher.rest_length(data.len()),
        };
        let (mut rest, mut output) = (data, Vec::new());
        while let Some(piece) = cipher.next(&mut rest, part)? {
            assert!(piece.data.len() <= DATA_BYTES_MAX + BLOCK);
            let answer = answer(cipher.direction, &piece);
            cipher.took(&answer);
            output.extend(answer);
        }
        match foretold {
            Length::Exact(length) => assert_eq!(output.len(), length),
            Length::AtMost(most) => assert!(output.len() <= most),
        }
        Ok(output)
    }

    fn modes() -> impl Strategy<Value = (MechanismType, Parameters)> {
        prop_oneof![
            Just((MechanismType::AES_CBC_PAD, Parameters::Iv(IV))),
            Just((MechanismType::AES_CTR, Parameters::Ctr { bits: 64, block: IV })),
        ]
    }

    proptest! {
        #[test]
        fn parts_make_what_the_whole_makes(
            (kind, parameters) in modes(),
            data in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(0..60_usize, 0..8),
        ) {
            let whole = run(&mut cipher(Direction::Encrypt, kind, parameters.clone()), &data, Part::Last).unwrap();
            for (direction, input, expected) in
                [(Direction::Encrypt, &data, &whole), (Direction::Decrypt, &whole, &data)]
            {
                let mut cipher = cipher(direction, kind, parameters.clone());
                let (mut output, mut rest) = (Vec::new(), input.as_slice());
                for cut in &cuts {
                    let (part, after) = rest.split_at((*cut).min(rest.len()));
                    output.extend(run(&mut cipher, part, Part::Inner).unwrap());
                    rest = after;
                }
                output.extend(run(&mut cipher, rest, Part::Last).unwrap());
                prop_assert_eq!(&output, expected);
            }
        }
    }

    #[test]
    fn inner_pieces_of_padded_data_go_unpadded_and_chain() {
        let mut cipher = cipher(Direction::Encrypt, MechanismType::AES_CBC_PAD, Parameters::Iv(IV));
        let mut rest = [1; 20].as_slice();
        let first = cipher.next(&mut rest, Part::Inner).unwrap().unwrap();
        assert_eq!(first.mechanism.kind, MechanismType::AES_CBC);
        assert_eq!(first.mechanism.parameters, Parameters::Iv(IV));
        cipher.took(&[7; BLOCK]);
        assert_eq!(cipher.next(&mut rest, Part::Inner), Ok(None));
        let last = cipher.next(&mut [].as_slice(), Part::Last).unwrap().unwrap();
        assert_eq!(last.mechanism.kind, MechanismType::AES_CBC_PAD);
        assert_eq!(last.mechanism.parameters, Parameters::Iv([7; BLOCK]));
        assert_eq!(last.data.len(), 4);
        assert_eq!(cipher.next(&mut [].as_slice(), Part::Last), Ok(None));
    }

    #[test]
    fn half_a_block_is_refused_at_the_end() {
        let mut encrypt = cipher(Direction::Encrypt, MechanismType::AES_ECB, Parameters::None);
        assert_eq!(run(&mut encrypt, &[0; 17], Part::Inner).map(|output| output.len()), Ok(16));
        assert_eq!(encrypt.next(&mut [].as_slice(), Part::Last), Err(Rv::DATA_LEN_RANGE));
        let mut decrypt = cipher(Direction::Decrypt, MechanismType::AES_CBC_PAD, Parameters::Iv(IV));
        assert_eq!(decrypt.next(&mut [].as_slice(), Part::Last), Err(Rv::ENCRYPTED_DATA_LEN_RANGE));
    }

    #[test]
    fn large_data_goes_in_pieces_of_the_largest_size() {
        let mut cipher = cipher(Direction::Encrypt, MechanismType::AES_CBC_PAD, Parameters::Iv(IV));
        let data = vec![3; 2 * DATA_BYTES_MAX + 5];
        assert_eq!(
            run(&mut cipher, &data, Part::Last).map(|output| output.len()),
            Ok(2 * DATA_BYTES_MAX + 16)
        );
    }

    #[test]
    fn a_call_has_a_limit_whatever_the_mechanism() {
        let cipher = |direction| {
            let parameters = Parameters::Ctr { bits: 128, block: [0; BLOCK] };
            cipher(direction, MechanismType::AES_CTR, parameters)
        };
        assert_eq!(cipher(Direction::Encrypt).check_call(CALL_BYTES_MAX), Ok(()));
        assert_eq!(cipher(Direction::Encrypt).check_call(CALL_BYTES_MAX + 1), Err(Rv::DATA_LEN_RANGE));
        assert_eq!(cipher(Direction::Decrypt).check_call(usize::MAX), Err(Rv::ENCRYPTED_DATA_LEN_RANGE));
    }

    #[test]
    fn gcm_gives_nothing_before_the_end_and_has_a_limit() {
        let gcm = || Parameters::Gcm { iv: vec![1; 12].into(), aad: Secret::default(), tag_bits: 128 };
        let mut cipher = cipher(Direction::Encrypt, MechanismType::AES_GCM, gcm());
        assert_eq!(run(&mut cipher, &[0; 100], Part::Inner), Ok(vec![]));
        assert_eq!(cipher.rest_length(0), Length::Exact(116));
        let mut more = vec![0; DATA_BYTES_MAX];
        assert_eq!(cipher.next(&mut more.as_slice(), Part::Inner), Err(Rv::DATA_LEN_RANGE));
        more.truncate(DATA_BYTES_MAX - 100);
        assert_eq!(cipher.next(&mut more.as_slice(), Part::Inner), Ok(None));
    }

    #[test]
    fn a_counter_that_has_come_round_is_not_used_again() {
        let parameters = Parameters::Ctr { bits: 1, block: [0; BLOCK] };
        let mut cipher = cipher(Direction::Encrypt, MechanismType::AES_CTR, parameters);
        assert!(cipher.next(&mut [0; 32].as_slice(), Part::Inner).unwrap().is_some());
        assert_eq!(cipher.next(&mut [0; 16].as_slice(), Part::Inner), Err(Rv::DATA_LEN_RANGE));
    }

    #[test]
    fn a_counter_leaves_the_nonce_before_it_alone() {
        let mut block = [0xff; BLOCK];
        assert_eq!(counted(block, 128, 1), ([0; BLOCK], true));
        block[15] = 0xfe;
        let (next, spent) = counted(block, 8, 1);
        assert_eq!((next, spent), ([0xff; BLOCK], false));
        let (next, spent) = counted(next, 8, 1);
        assert_eq!((next[14], next[15], spent), (0xff, 0, true));
    }
}
