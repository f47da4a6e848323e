//! Encryption and decryption, in one part or many (docs/decisions/0007). The backend stores nothing between two
//! requests, so the state of the operation is here: the IV or counter of the next chunk, and data that does not fill a
//! block. Pure: returns the next request and takes its response.

mod mode;

use std::sync::Arc;

use kms_protocol::{AttributeType, Mechanism, ObjectClass, RingPolicy, Rv, Secret};

use super::objects::ObjectInfo;
use super::reply::OutputLength;
use super::usage::{self, Usage};
use mode::{ChunkSize, Mode};

/// The block length of AES, in bytes.
pub(crate) const BLOCK: usize = 16;

/// The most data of one call, in bytes: its whole output is in memory before it is returned.
const CALL_BYTES_MAX: usize = 256 << 20;

/// Encryption or decryption.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
}

/// Whether more data may follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// Yes: `C_EncryptUpdate`.
    Intermediate,
    /// No: `C_EncryptFinal`, and `C_Encrypt`, which passes all data at once.
    Final,
}

/// One request of an operation.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Chunk {
    /// The mechanism that processes this chunk.
    pub(crate) mechanism: Mechanism,
    /// Its data.
    pub(crate) data: Secret,
}

/// An encryption or decryption in progress.
pub(crate) struct CipherOperation {
    /// The key.
    pub(crate) key: Arc<ObjectInfo>,
    /// Whether the key still needs a context-specific login before it is used (`CKA_ALWAYS_AUTHENTICATE`).
    pub(crate) needs_context_login: bool,
    /// The proof of that login, which the use needs. A private key is used once in an operation.
    pub(crate) proof: Option<Secret>,
    direction: Direction,
    mechanism: Mechanism,
    mode: Mode,
    buffered: Secret,
    started: bool,
    ended: bool,
    /// An output that did not fit in the caller's buffer.
    pending_output: Option<Secret>,
}

impl CipherOperation {
    /// `C_EncryptInit`, `C_DecryptInit`.
    ///
    /// # Errors
    /// When mechanism and key do not go together.
    pub(crate) fn begin(
        direction: Direction,
        key: Arc<ObjectInfo>,
        mechanism: Mechanism,
        policy: RingPolicy,
    ) -> Result<Self, Rv> {
        let usage = match direction {
            Direction::Encrypt => Usage::Encrypt,
            Direction::Decrypt => Usage::Decrypt,
        };
        usage::check(usage, &mechanism, &key, policy)?;
        let mode = Mode::of(&mechanism, &key)?;
        let needs_context_login = key.is(AttributeType::ALWAYS_AUTHENTICATE);
        Ok(Self {
            key,
            needs_context_login,
            proof: None,
            direction,
            mechanism,
            mode,
            buffered: Secret::default(),
            started: false,
            ended: false,
            pending_output: None,
        })
    }

    /// The direction.
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether the operation needs no backend: the key is public.
    pub(crate) fn is_local(&self) -> bool {
        self.key.class() == Some(ObjectClass::PUBLIC_KEY)
    }

    /// Whether data was passed in parts: then `C_Encrypt` is no longer allowed (spec, "C_Encrypt").
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// The length of the output of an intermediate part of `more` bytes.
    pub(crate) fn part_length(&self, more: usize) -> usize {
        let total = self.buffered.len().saturating_add(more);
        if self.mode.is_buffered() { 0 } else { self.mode.whole_blocks(self.direction, total) }
    }

    /// The length of the output when the operation ends with `more` bytes of data.
    pub(crate) fn rest_length(&self, more: usize) -> OutputLength {
        if let Some(output) = &self.pending_output {
            return OutputLength::Exact(output.len());
        }
        self.mode.final_output_length(self.direction, self.buffered.len().saturating_add(more))
    }

    /// The next request, with data from the front of `rest`; none when the part is done.
    ///
    /// # Errors
    /// `CKR_DATA_LEN_RANGE` or `CKR_ENCRYPTED_DATA_LEN_RANGE` when the mode does not take data of this length.
    pub(crate) fn next(&mut self, rest: &mut &[u8], part: Part) -> Result<Option<Chunk>, Rv> {
        self.started = true;
        let total = self.buffered.len() + rest.len();
        let size = match part {
            Part::Intermediate => self.mode.intermediate_chunk(self.direction, total),
            Part::Final if self.ended => return Ok(None),
            Part::Final => self.mode.final_chunk(self.direction, total),
        };
        let (take, last) = match size.ok_or(self.wrong_length())? {
            ChunkSize::None => {
                self.buffered.bytes_mut().extend_from_slice(rest);
                *rest = &[];
                return Ok(None);
            }
            ChunkSize::Intermediate(take) => (take, false),
            ChunkSize::Final(take) => (take, true),
        };
        let from_rest = take.saturating_sub(self.buffered.len());
        let mut data = std::mem::take(&mut self.buffered);
        data.bytes_mut().extend_from_slice(&rest[..from_rest]);
        *rest = &rest[from_rest..];
        self.ended = last;
        let mechanism = self.mode.advance(self.direction, &self.mechanism, &data, last);
        Ok(Some(Chunk { mechanism: mechanism.ok_or(self.wrong_length())?, data }))
    }

    /// Takes the output of a chunk: the next one may be chained to it.
    pub(crate) fn chain(&mut self, output: &[u8]) {
        self.mode.chain(self.direction, output);
    }

    /// Stores an output that did not fit in the caller's buffer.
    pub(crate) fn store_pending_output(&mut self, output: Secret) {
        self.pending_output = Some(output);
    }

    /// Takes the stored output, if there is one.
    pub(crate) fn take_pending_output(&mut self) -> Option<Secret> {
        self.pending_output.take()
    }

    /// Whether one call may pass this many bytes.
    ///
    /// # Errors
    /// `CKR_DATA_LEN_RANGE` or `CKR_ENCRYPTED_DATA_LEN_RANGE`.
    pub(crate) fn check_input_length(&self, bytes: usize) -> Result<(), Rv> {
        if bytes <= CALL_BYTES_MAX { Ok(()) } else { Err(self.wrong_length()) }
    }

    fn wrong_length(&self) -> Rv {
        match self.direction {
            Direction::Encrypt => Rv::DATA_LEN_RANGE,
            Direction::Decrypt => Rv::ENCRYPTED_DATA_LEN_RANGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::{DATA_BYTES_MAX, KeyType, MechanismType, Parameters};
    use proptest::prelude::*;

    use super::super::usage::tests::key;
    use super::*;

    const IV: [u8; BLOCK] = [9; BLOCK];

    fn cipher(direction: Direction, kind: MechanismType, parameters: Parameters) -> CipherOperation {
        let usages = [AttributeType::ENCRYPT, AttributeType::DECRYPT];
        let key = Arc::new(key(ObjectClass::SECRET_KEY, KeyType::AES, &usages));
        CipherOperation::begin(direction, key, Mechanism { kind, parameters }, RingPolicy::Strict).unwrap()
    }

    /// A fake backend: "encrypts" by adding one to each byte, and pads as CBC_PAD does.
    fn process(direction: Direction, chunk: &Chunk) -> Vec<u8> {
        let mut data = chunk.data.to_vec();
        let padded = chunk.mechanism.kind == MechanismType::AES_CBC_PAD;
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

    /// Runs one part, checks that the length of its output was predicted, and returns the output.
    fn run(cipher: &mut CipherOperation, data: &[u8], part: Part) -> Result<Vec<u8>, Rv> {
        let predicted = match part {
            Part::Intermediate => OutputLength::Exact(cipher.part_length(data.len())),
            Part::Final => cipher.rest_length(data.len()),
        };
        let (mut rest, mut output) = (data, Vec::new());
        while let Some(chunk) = cipher.next(&mut rest, part)? {
            assert!(chunk.data.len() <= DATA_BYTES_MAX + BLOCK);
            let processed = process(cipher.direction, &chunk);
            cipher.chain(&processed);
            output.extend(processed);
        }
        match predicted {
            OutputLength::Exact(length) => assert_eq!(output.len(), length),
            OutputLength::AtMost(length) => assert!(output.len() <= length),
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
        fn parts_give_the_same_output_as_one_part(
            (kind, parameters) in modes(),
            data in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(0..60_usize, 0..8),
        ) {
            let whole = run(&mut cipher(Direction::Encrypt, kind, parameters.clone()), &data, Part::Final).unwrap();
            for (direction, input, expected) in
                [(Direction::Encrypt, &data, &whole), (Direction::Decrypt, &whole, &data)]
            {
                let mut cipher = cipher(direction, kind, parameters.clone());
                let (mut output, mut rest) = (Vec::new(), input.as_slice());
                for cut in &cuts {
                    let (part, after) = rest.split_at((*cut).min(rest.len()));
                    output.extend(run(&mut cipher, part, Part::Intermediate).unwrap());
                    rest = after;
                }
                output.extend(run(&mut cipher, rest, Part::Final).unwrap());
                prop_assert_eq!(&output, expected);
            }
        }
    }

    #[test]
    fn intermediate_chunks_of_padded_data_are_unpadded_and_chained() {
        let mut cipher = cipher(Direction::Encrypt, MechanismType::AES_CBC_PAD, Parameters::Iv(IV));
        let mut rest = [1; 20].as_slice();
        let first = cipher.next(&mut rest, Part::Intermediate).unwrap().unwrap();
        assert_eq!(first.mechanism.kind, MechanismType::AES_CBC);
        assert_eq!(first.mechanism.parameters, Parameters::Iv(IV));
        cipher.chain(&[7; BLOCK]);
        assert_eq!(cipher.next(&mut rest, Part::Intermediate), Ok(None));
        let last = cipher.next(&mut [].as_slice(), Part::Final).unwrap().unwrap();
        assert_eq!(last.mechanism.kind, MechanismType::AES_CBC_PAD);
        assert_eq!(last.mechanism.parameters, Parameters::Iv([7; BLOCK]));
        assert_eq!(last.data.len(), 4);
        assert_eq!(cipher.next(&mut [].as_slice(), Part::Final), Ok(None));
    }

    #[test]
    fn a_partial_block_is_rejected_at_the_end() {
        let mut encrypt = cipher(Direction::Encrypt, MechanismType::AES_ECB, Parameters::None);
        assert_eq!(run(&mut encrypt, &[0; 17], Part::Intermediate).map(|output| output.len()), Ok(16));
        assert_eq!(encrypt.next(&mut [].as_slice(), Part::Final), Err(Rv::DATA_LEN_RANGE));
        let mut decrypt = cipher(Direction::Decrypt, MechanismType::AES_CBC_PAD, Parameters::Iv(IV));
        assert_eq!(decrypt.next(&mut [].as_slice(), Part::Final), Err(Rv::ENCRYPTED_DATA_LEN_RANGE));
    }

    #[test]
    fn large_data_is_split_into_chunks_of_the_largest_size() {
        let mut cipher = cipher(Direction::Encrypt, MechanismType::AES_CBC_PAD, Parameters::Iv(IV));
        let data = vec![3; 2 * DATA_BYTES_MAX + 5];
        assert_eq!(
            run(&mut cipher, &data, Part::Final).map(|output| output.len()),
            Ok(2 * DATA_BYTES_MAX + 16)
        );
    }

    #[test]
    fn the_input_of_a_call_is_limited_for_every_mechanism() {
        let cipher = |direction| {
            let parameters = Parameters::Ctr { bits: 128, block: [0; BLOCK] };
            cipher(direction, MechanismType::AES_CTR, parameters)
        };
        assert_eq!(cipher(Direction::Encrypt).check_input_length(CALL_BYTES_MAX), Ok(()));
        assert_eq!(
            cipher(Direction::Encrypt).check_input_length(CALL_BYTES_MAX + 1),
            Err(Rv::DATA_LEN_RANGE)
        );
        assert_eq!(
            cipher(Direction::Decrypt).check_input_length(usize::MAX),
            Err(Rv::ENCRYPTED_DATA_LEN_RANGE)
        );
    }

    #[test]
    fn gcm_has_no_output_before_the_end_and_a_limit() {
        let gcm = || Parameters::Gcm { iv: vec![1; 12].into(), aad: Secret::default(), tag_bits: 128 };
        let mut cipher = cipher(Direction::Encrypt, MechanismType::AES_GCM, gcm());
        assert_eq!(run(&mut cipher, &[0; 100], Part::Intermediate), Ok(vec![]));
        assert_eq!(cipher.rest_length(0), OutputLength::Exact(116));
        let mut more = vec![0; DATA_BYTES_MAX];
        assert_eq!(cipher.next(&mut more.as_slice(), Part::Intermediate), Err(Rv::DATA_LEN_RANGE));
        more.truncate(DATA_BYTES_MAX - 100);
        assert_eq!(cipher.next(&mut more.as_slice(), Part::Intermediate), Ok(None));
    }

    #[test]
    fn a_counter_that_has_wrapped_around_is_not_used_again() {
        let parameters = Parameters::Ctr { bits: 1, block: [0; BLOCK] };
        let mut cipher = cipher(Direction::Encrypt, MechanismType::AES_CTR, parameters);
        assert!(cipher.next(&mut [0; 32].as_slice(), Part::Intermediate).unwrap().is_some());
        assert_eq!(cipher.next(&mut [0; 16].as_slice(), Part::Intermediate), Err(Rv::DATA_LEN_RANGE));
    }
}
