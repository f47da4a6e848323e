//! C memory made out of a fuzzer's bytes: every pointer is valid, or null, or said to be longer than any reader takes.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::{CK_BYTE, CK_ULONG};

/// A length that every reader must refuse before it reads: twice what an attribute may have.
const BEYOND: CK_ULONG = 1 << 21;

/// Lengths at the bounds of the readers, and one to each side.
const BOUNDS: [usize; 9] = [136, 137, 255, 256, 257, 4097, (16 << 10) + 1, (64 << 10) + 1, (1 << 20) + 1];

/// Numbers that mean something somewhere: mechanisms, generators, bits, flags, ends of types.
const NUMBERS: [CK_ULONG; 24] = [
    0x220,
    0x250,
    0x251,
    0x255,
    0x260,
    0x270,
    0x2b0,
    0x1087,
    12,
    16,
    96,
    104,
    128,
    192,
    255,
    256,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    1 << 63,
    CK_ULONG::MAX - 1,
    CK_ULONG::MAX,
];

/// What the fuzzer chose, read from the front. When it is used up, everything else is zero.
pub(super) struct Choices<'a>(pub(super) &'a [u8]);

impl Choices<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// A number: small, telling, or any.
    pub(super) fn number(&mut self) -> CK_ULONG {
        match self.byte() {
            small @ 0..=127 => small.into(),
            telling @ 128..=223 => NUMBERS[usize::from(telling) % NUMBERS.len()],
            224.. => {
                let mut bytes = [0; size_of::<CK_ULONG>()];
                bytes.fill_with(|| self.byte());
                CK_ULONG::from_ne_bytes(bytes)
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

/// Bytes of C's, with the length that the caller says they have.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) place: *mut CK_BYTE,
    pub(super) length: CK_ULONG,
}

/// How a value is laid out: with a length that is true, or with any.
pub(super) type Value = fn(&mut Memory, &mut Choices<'_>) -> Claim;

/// Keeps what is pointed at until the call is over.
#[derive(Default)]
pub(super) struct Memory {
    blocks: Vec<Vec<u8>>,
}

impl Memory {
    /// Bytes of the caller's, at an odd address.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> *mut CK_BYTE {
        let mut block = vec![0; bytes.len() + 1];
        block[1..].copy_from_slice(bytes);
        // SAFETY: the block has one byte more than `bytes`.
        let place = unsafe { block.as_mut_ptr().add(1) };
        self.blocks.push(block);
        place
    }

    /// A structure of the caller's, at an odd address: hosts pack theirs.
    pub(super) fn structure<T>(&mut self, value: T) -> *mut T {
        self.array(vec![value])
    }

    /// Structures one behind the other.
    pub(super) fn array<T>(&mut self, values: Vec<T>) -> *mut T {
        let room = vec![0; values.len() * size_of::<T>()];
        let place = self.bytes(&room).cast::<T>();
        for (index, value) in values.into_iter().enumerate() {
            // SAFETY: the block has room for all of them.
            let element = unsafe { place.add(index) };
            // SAFETY: likewise.
            unsafe { element.write_unaligned(value) };
        }
        place
    }

    /// Bytes whose length is what is said.
    pub(super) fn honest(&mut self, choices: &mut Choices<'_>) -> Claim {
        let bytes = match choices.byte() {
            short @ 0..=199 => choices.bytes(usize::from(short) % 67),
            bound @ 200..=215 => vec![0x5a; BOUNDS[usize::from(bound) % BOUNDS.len()]],
            216.. => return Claim { place: ptr::null_mut(), length: 0 },
        };
        Claim { length: bytes.len() as CK_ULONG, place: self.bytes(&bytes) }
    }

    /// The same, or null with any length, or too long for any reader.
    pub(super) fn claim(&mut self, choices: &mut Choices<'_>) -> Claim {
        match choices.byte() {
            0..=223 => self.honest(choices),
            224..=239 => Claim { place: ptr::null_mut(), length: choices.number() },
            240.. => Claim { place: self.bytes(&[0]), length: BEYOND.saturating_add(choices.number()) },
        }
    }

    /// A structure without pointers, which any bytes are: mostly of its length.
    pub(super) fn flat(&mut self, choices: &mut Choices<'_>, length: usize) -> Claim {
        self.flat_or(choices, length, Self::claim)
    }

    /// The same, and what it is when it is not of its length.
    pub(super) fn flat_or(&mut self, choices: &mut Choices<'_>, length: usize, otherwise: Value) -> Claim {
        if choices.byte() < 224 {
            let bytes = choices.bytes(length);
            return Claim { place: self.bytes(&bytes), length: length as CK_ULONG };
        }
        otherwise(self, choices)
    }

    /// A structure with pointers in it. Its length is right, or one that is no structure's; null has any.
    pub(super) fn pointing<T>(&mut self, choices: &mut Choices<'_>, value: T) -> (*mut c_void, CK_ULONG) {
        let place = self.structure(value).cast::<c_void>();
        match choices.byte() {
            0..=223 => (place, size_of::<T>() as CK_ULONG),
            // No structure here has an odd length.
            224..=239 => (place, choices.number() | 1),
            240.. => (ptr::null_mut(), choices.number()),
        }
    }
}
