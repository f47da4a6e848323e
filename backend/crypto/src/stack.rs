//! Wiping of the stack: values that are moved, and what compilers put aside, stay there in dead frames until other calls
//! overwrite them, which an idle thread does not do. Nothing wipes those copies, however carefully the originals are.

use std::hint::black_box;

/// What a request uses of the stack below the function that handles it, in bytes, with some reserve (measured: 28 KiB in a
/// build without optimisation, for a key of a session). It takes less than a microsecond to overwrite.
const REQUEST_BYTES: usize = 48 << 10;

/// What the expansion of a post-quantum key uses of the stack, in bytes: its matrices are there.
const EXPANSION_BYTES: usize = 256 << 10;

/// Overwrites the part of the stack that earlier calls of the caller have used. To be called where a request's frames end.
pub fn wipe_stack() {
    overwrite::<REQUEST_BYTES>();
}

/// Like [`wipe_stack`], for calls that use much more.
pub(super) fn wipe_deep_stack() {
    overwrite::<EXPANSION_BYTES>();
}

/// Its frame lies where those of earlier calls were. `black_box` may do anything with the array, as far as the compiler
/// knows, so the zeros are written; `tests/faults/memory.rs` looks whether they were.
#[inline(never)]
fn overwrite<const BYTES: usize>() {
    black_box(&mut [0_u8; BYTES]);
}
