//! The parameter of one message (spec, "Message-based encryption functions"). It is read before the call and written
//! after it: the caller's structure points at buffers for the generated IV and for the tag.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "reading a structure and then what it points at rests on one promise"
)]

use std::ffi::c_void;

use cryptoki_sys::{
    CK_BYTE, CK_GCM_MESSAGE_PARAMS, CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS, CK_ULONG, CKG_GENERATE,
    CKG_GENERATE_RANDOM, CKG_NO_GENERATE,
};
use kms_protocol::{GCM_IV_BYTES_MAX, MechanismType, Rv, Secret};

use super::mechanism::{RawParameter, bytes, number};
use super::output;
use crate::calls::OutputCapacity;
use crate::calls::message::EncryptedMessage;
use crate::session::cipher::Direction;
use crate::session::message::{Nonce, Parameter};
use crate::session::reply::Reply;

/// The tag of ChaCha20-Poly1305, in bits (RFC 8439).
const POLY1305_TAG_BITS: u8 = 128;

/// What a call does with the tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tag {
    /// Nothing: the message is not complete yet.
    Pending,
    /// It writes the tag.
    Written,
    /// It reads the tag and checks it.
    Read,
}

/// The caller's buffers for the IV and the tag.
#[derive(Clone, Copy)]
struct OutputPointers {
    nonce: *mut CK_BYTE,
    tag: *mut CK_BYTE,
}

/// Reads a message's parameter. Its length tells which structure it is.
///
/// # Safety
/// A pointer that is not null must be readable for `length`, and so must what it points at.
pub(crate) unsafe fn read(
    pointer: *const c_void,
    length: CK_ULONG,
    direction: Direction,
    tag: Tag,
) -> Result<Parameter, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe { read_with_pointers(pointer, length, direction, tag) }.map(|(parameter, _)| parameter)
}

/// # Safety
/// As for [`read`].
unsafe fn read_with_pointers(
    pointer: *const c_void,
    length: CK_ULONG,
    direction: Direction,
    tag: Tag,
) -> Result<(Parameter, OutputPointers), Rv> {
    let raw = RawParameter { pointer, length };
    // SAFETY: the caller's promise is passed on.
    unsafe {
        if usize::try_from(length) == Ok(size_of::<CK_GCM_MESSAGE_PARAMS>()) {
            let gcm: CK_GCM_MESSAGE_PARAMS = raw.as_struct()?;
            let nonce = gcm_nonce(&gcm, direction)?;
            let tag_bits: u8 = number(gcm.ulTagBits)?;
            let pointers = OutputPointers { nonce: gcm.pIv, tag: gcm.pTag };
            let tag = tag_of(gcm.pTag, tag_bits, tag)?;
            Ok((Parameter { kind: MechanismType::AES_GCM, nonce, tag_bits, tag }, pointers))
        } else {
            let chacha: CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS = raw.as_struct()?;
            let nonce = Nonce::Provided(bytes(chacha.pNonce, chacha.ulNonceLen, GCM_IV_BYTES_MAX)?);
            let pointers = OutputPointers { nonce: chacha.pNonce, tag: chacha.pTag };
            let (kind, tag_bits) = (MechanismType::CHACHA20_POLY1305, POLY1305_TAG_BITS);
            let tag = tag_of(chacha.pTag, tag_bits, tag)?;
            Ok((Parameter { kind, nonce, tag_bits, tag }, pointers))
        }
    }
}

/// # Safety
/// The IV must be readable for its length.
unsafe fn gcm_nonce(gcm: &CK_GCM_MESSAGE_PARAMS, direction: Direction) -> Result<Nonce, Rv> {
    // SAFETY: the caller's promise is passed on.
    let iv = unsafe { bytes(gcm.pIv, gcm.ulIvLen, GCM_IV_BYTES_MAX) }?;
    match gcm.ivGenerator {
        // For decryption the caller has the IV (spec, "AES-GCM": the generator is ignored).
        _ if direction == Direction::Decrypt => Ok(Nonce::Provided(iv)),
        CKG_NO_GENERATE => Ok(Nonce::Provided(iv)),
        // Not a counter: it would start again in each application that shares the key.
        CKG_GENERATE | CKG_GENERATE_RANDOM => {
            let fixed_bits: u16 = number(gcm.ulIvFixedBits)?;
            let bytes = u16::try_from(iv.len()).map_err(|_| Rv::MECHANISM_PARAM_INVALID)?;
            let fixed_bytes = usize::from(fixed_bits.div_ceil(8));
            let mut fixed = iv.get(..fixed_bytes).ok_or(Rv::MECHANISM_PARAM_INVALID)?.to_vec();
            if let (Some(last), unused_bits @ 1..) = (fixed.last_mut(), (8 - fixed_bits % 8) % 8) {
                *last &= 0xff << unused_bits;
            }
            Ok(Nonce::Generated { bytes, fixed: Secret::from(fixed), fixed_bits })
        }
        _ => Err(Rv::MECHANISM_PARAM_INVALID),
    }
}

/// # Safety
/// A tag that is read must be readable for its length.
unsafe fn tag_of(pointer: *const CK_BYTE, bits: u8, tag: Tag) -> Result<Secret, Rv> {
    match tag {
        Tag::Pending => Ok(Secret::default()),
        Tag::Written if pointer.is_null() => Err(Rv::ARGUMENTS_BAD),
        Tag::Written => Ok(Secret::default()),
        // SAFETY: the caller's promise is passed on.
        Tag::Read => unsafe { bytes(pointer, CK_ULONG::from(bits / 8), usize::from(u8::MAX)) },
    }
}

/// Runs a call that encrypts. Writes the ciphertext to `output` by the two-call convention, then the IV and the tag to
/// the buffers of the parameter.
///
/// # Safety
/// As for [`read`] and [`output::bytes`]; the buffers for IV and tag must be writable for their lengths.
pub(crate) unsafe fn encrypt(
    pointer: *const c_void,
    length: CK_ULONG,
    tag: Tag,
    (data, data_length): (*mut CK_BYTE, *mut CK_ULONG),
    call: impl FnOnce(Result<Parameter, Rv>, OutputCapacity) -> Result<EncryptedMessage, Rv>,
) -> Result<(), Rv> {
    // SAFETY: the caller's promise is passed on.
    let read = unsafe { read_with_pointers(pointer, length, Direction::Encrypt, tag) };
    let pointers = read.as_ref().ok().map(|(_, pointers)| *pointers);
    let mut generated = None;
    let body = |capacity| {
        let EncryptedMessage { reply, nonce, tag } = call(read.map(|(parameter, _)| parameter), capacity)?;
        if let Reply::Bytes(_) = reply {
            generated = Some((nonce, tag));
        }
        Ok(reply)
    };
    // SAFETY: likewise.
    unsafe { output::bytes(data, data_length, body) }?;
    if let (Some(pointers), Some((nonce, tag))) = (pointers, generated) {
        // SAFETY: a generated nonce is as long as the IV that was read, the tag as long as the parameter says.
        unsafe {
            output::copy(&nonce, pointers.nonce);
            output::copy(&tag, pointers.tag);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    fn gcm(iv: &mut [u8], generator: CK_ULONG, fixed_bits: CK_ULONG) -> CK_GCM_MESSAGE_PARAMS {
        CK_GCM_MESSAGE_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: CK_ULONG::try_from(iv.len()).unwrap(),
            ulIvFixedBits: fixed_bits,
            ivGenerator: generator,
            pTag: ptr::null_mut(),
            ulTagBits: 128,
        }
    }

    #[track_caller]
    fn check(raw: &CK_GCM_MESSAGE_PARAMS, direction: Direction, expected: Result<Nonce, Rv>) {
        let length = CK_ULONG::try_from(size_of_val(raw)).unwrap();
        // SAFETY: the parameter and its IV are readable.
        let parameter = unsafe { read(ptr::from_ref(raw).cast(), length, direction, Tag::Pending) };
        assert_eq!(parameter.map(|parameter| parameter.nonce), expected);
    }

    #[test]
    fn an_iv_is_passed_in_or_generated_after_its_fixed_bits() {
        let mut iv = [0xff; 12];
        let provided = Nonce::Provided(Secret::from(vec![0xff; 12]));
        check(&gcm(&mut iv, CKG_NO_GENERATE, 0), Direction::Encrypt, Ok(provided.clone()));
        check(&gcm(&mut iv, CKG_GENERATE_RANDOM, 12), Direction::Decrypt, Ok(provided));
        let generated = Nonce::Generated { bytes: 12, fixed: Secret::from(vec![0xff, 0xf0]), fixed_bits: 12 };
        check(&gcm(&mut iv, CKG_GENERATE_RANDOM, 12), Direction::Encrypt, Ok(generated));
        let free = Nonce::Generated { bytes: 12, fixed: Secret::default(), fixed_bits: 0 };
        check(&gcm(&mut iv, CKG_GENERATE, 0), Direction::Encrypt, Ok(free));
        let invalid = Err(Rv::MECHANISM_PARAM_INVALID);
        check(&gcm(&mut iv, CKG_GENERATE, 97), Direction::Encrypt, invalid.clone());
        check(&gcm(&mut iv, cryptoki_sys::CKG_GENERATE_COUNTER, 0), Direction::Encrypt, invalid);
    }

    #[test]
    fn a_tag_that_is_read_or_written_needs_a_buffer() {
        let mut iv = [0; 12];
        let raw = gcm(&mut iv, CKG_NO_GENERATE, 0);
        let length = CK_ULONG::try_from(size_of_val(&raw)).unwrap();
        let error = |tag| {
            // SAFETY: as above; nothing is read through null.
            unsafe { read(ptr::from_ref(&raw).cast(), length, Direction::Encrypt, tag) }.err()
        };
        assert_eq!(error(Tag::Pending), None);
        assert_eq!(error(Tag::Written), Some(Rv::ARGUMENTS_BAD));
        assert_eq!(error(Tag::Read), Some(Rv::MECHANISM_PARAM_INVALID));
    }
}
