//! C memory built from a fuzzer's bytes: every pointer is valid, or null, or has a length that every reader rejects.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::{CK_BYTE, CK_ULONG};

/// A length that every reader must reject before it reads: twice that of the longest attribute.
const OVERSIZED: CK_ULONG = 1 << 21;

/// Lengths at the limits of the readers.
const LIMITS: [usize; 9] = [136, 137, 255, 256, 257, 4097, (16 << 10) + 1, (64 << 10) + 1, (1 << 20) + 1];

/// Numbers with a meaning for some reader: mechanisms, generators, bits, flags, limits of types.
const SPECIAL_NUMBERS: [CK_ULONG; 24] = [
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

/// The fuzzer's bytes, consumed from the front. When they are used up, all further bytes are zero.
pub(super) struct FuzzInput<'a>(pub(super) &'a [u8]);

impl FuzzInput<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number: small, special, or any.
    pub(super) fn number(&mut self) -> CK_ULONG {
        match self.byte() {
            small @ 0..=127 => small.into(),
            special @ 128..=223 => SPECIAL_NUMBERS[usize::from(special) % SPECIAL_NUMBERS.len()],
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

/// A pointer and the length that the caller passes with it.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    pub(super) pointer: *mut CK_BYTE,
    pub(super) length: CK_ULONG,
}

/// How a buffer is built: with its true length ([`Memory::true_buffer`]) or with any ([`Memory::any_buffer`]).
pub(super) type BuildBuffer = fn(&mut Memory, &mut FuzzInput<'_>) -> Buffer;

/// Owns the memory that is pointed at until the call ends.
#[derive(Default)]
pub(super) struct Memory {
    blocks: Vec<Vec<u8>>,
}

impl Memory {
    /// Copies bytes to an odd address.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> *mut CK_BYTE {
        let mut block = vec![0; bytes.len() + 1];
        block[1..].copy_from_slice(bytes);
        // SAFETY: the block has one byte more than `bytes`.
        let pointer = unsafe { block.as_mut_ptr().add(1) };
        self.blocks.push(block);
        pointer
    }

    /// Copies a structure to an odd address: hosts pack their structures.
    pub(super) fn structure<T>(&mut self, value: T) -> *mut T {
        self.array(vec![value])
    }

    /// Copies an array of structures to an odd address.
    pub(super) fn array<T>(&mut self, values: Vec<T>) -> *mut T {
        let zeros = vec![0; values.len() * size_of::<T>()];
        let pointer = self.bytes(&zeros).cast::<T>();
        for (index, value) in values.into_iter().enumerate() {
            // SAFETY: the block has space for all of them.
            let element = unsafe { pointer.add(index) };
            // SAFETY: likewise.
            unsafe { element.write_unaligned(value) };
        }
        pointer
    }

    /// A buffer with its true length, or null with length zero.
    pub(super) fn true_buffer(&mut self, fuzz: &mut FuzzInput<'_>) -> Buffer {
        let bytes = match fuzz.byte() {
            short @ 0..=199 => fuzz.bytes(usize::from(short) % 67),
            limit @ 200..=215 => vec![0x5a; LIMITS[usize::from(limit) % LIMITS.len()]],
            216.. => return Buffer { pointer: ptr::null_mut(), length: 0 },
        };
        Buffer { length: bytes.len() as CK_ULONG, pointer: self.bytes(&bytes) }
    }

    /// The same, or null with any length, or with a length that every reader rejects.
    pub(super) fn any_buffer(&mut self, fuzz: &mut FuzzInput<'_>) -> Buffer {
        match fuzz.byte() {
            0..=223 => self.true_buffer(fuzz),
            224..=239 => Buffer { pointer: ptr::null_mut(), length: fuzz.number() },
            240.. => Buffer { pointer: self.bytes(&[0]), length: OVERSIZED.saturating_add(fuzz.number()) },
        }
    }

    /// A structure without pointers, for which any bytes are valid; mostly of the right length.
    pub(super) fn plain_structure(&mut self, fuzz: &mut FuzzInput<'_>, length: usize) -> Buffer {
        self.plain_structure_or(fuzz, length, Self::any_buffer)
    }

    /// The same, with the function that builds it when the length is not right.
    pub(super) fn plain_structure_or(
        &mut self,
        fuzz: &mut FuzzInput<'_>,
        length: usize,
        otherwise: BuildBuffer,
    ) -> Buffer {
        if fuzz.byte() < 224 {
            let bytes = fuzz.bytes(length);
            return Buffer { pointer: self.bytes(&bytes), length: length as CK_ULONG };
        }
        otherwise(self, fuzz)
    }

    /// A structure that contains pointers. Its length is right, or one that no structure has; null has any length.
    pub(super) fn pointer_structure<T>(
        &mut self,
        fuzz: &mut FuzzInput<'_>,
        value: T,
    ) -> (*mut c_void, CK_ULONG) {
        let pointer = self.structure(value).cast::<c_void>();
        match fuzz.byte() {
            0..=223 => (pointer, size_of::<T>() as CK_ULONG),
            // No structure here has an odd length.
            224..=239 => (pointer, fuzz.number() | 1),
            240.. => (ptr::null_mut(), fuzz.number()),
        }
    }
}
