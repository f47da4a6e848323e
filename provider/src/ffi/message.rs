//! The parameters of one message (spec, "Message-based encryption functions"). They are read before the call and
//! written after it: the vector that was made, and the tag, have their places in the caller's structure.
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

use super::mechanism::{Given, bytes, number};
use super::output;
use crate::calls::Offered;
use crate::calls::message::Sealed;
use crate::session::cipher::Direction;
use crate::session::message::{Nonce, Parameter};
use crate::session::reply::Reply;

/// The tag of ChaCha20-Poly1305, in bits (RFC 8439).
const POLY1305_TAG_BITS: u8 = 128;

/// What becomes of the tag in a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tag {
    /// The message goes on: its tag is not there yet.
    Later,
    /// It is written.
    Made,
    /// It is read.
    Checked,
}

/// Where the caller wants what a call makes beside its output.
#[derive(Clone, Copy)]
struct Places {
    nonce: *mut CK_BYTE,
    tag: *mut CK_BYTE,
}

/// A message's parameter. Its length says which structure it is.
///
/// # Safety
/// A pointer that is not null must be readable for `length`, and so must what it points at.
pub(crate) unsafe fn parameter(
    place: *const c_void,
    length: CK_ULONG,
    direction: Direction,
    tag: Tag,
) -> Result<Parameter, Rv> {
    // SAFETY: the caller's promise is handed on.
    unsafe { read(place, length, direction, tag) }.map(|(parameter, _)| parameter)
}

/// # Safety
/// As for [`parameter`].
unsafe fn read(
    place: *const c_void,
    length: CK_ULONG,
    direction: Direction,
    tag: Tag,
) -> Result<(Parameter, Places), Rv> {
    let given = Given { place, length };
    // SAFETY: the caller's promise is handed on.
    unsafe {
        if usize::try_from(length) == Ok(size_of::<CK_GCM_MESSAGE_PARAMS>()) {
            let gcm: CK_GCM_MESSAGE_PARAMS = given.as_a()?;
            let nonce = gcm_nonce(&gcm, direction)?;
            let tag_bits: u8 = number(gcm.ulTagBits)?;
            let places = Places { nonce: gcm.pIv, tag: gcm.pTag };
            let tag = tag_of(gcm.pTag, tag_bits, tag)?;
            Ok((Parameter { kind: MechanismType::AES_GCM, nonce, tag_bits, tag }, places))
        } else {
            let sealed: CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS = given.as_a()?;
            let nonce = Nonce::Given(bytes(sealed.pNonce, sealed.ulNonceLen, GCM_IV_BYTES_MAX)?);
            let places = Places { nonce: sealed.pNonce, tag: sealed.pTag };
            let (kind, tag_bits) = (MechanismType::CHACHA20_POLY1305, POLY1305_TAG_BITS);
            let tag = tag_of(sealed.pTag, tag_bits, tag)?;
            Ok((Parameter { kind, nonce, tag_bits, tag }, places))
        }
    }
}

/// # Safety
/// The vector must be readable for its length.
unsafe fn gcm_nonce(gcm: &CK_GCM_MESSAGE_PARAMS, direction: Direction) -> Result<Nonce, Rv> {
    // SAFETY: the caller's promise is handed on.
    let iv = unsafe { bytes(gcm.pIv, gcm.ulIvLen, GCM_IV_BYTES_MAX) }?;
    match gcm.ivGenerator {
        // Who decrypts has the vector (spec, "AES-GCM": the generator is ignored).
        _ if direction == Direction::Decrypt => Ok(Nonce::Given(iv)),
        CKG_NO_GENERATE => Ok(Nonce::Given(iv)),
        // A counter would start anew in each application that shares the key.
        CKG_GENERATE | CKG_GENERATE_RANDOM => {
            let fixed_bits: u16 = number(gcm.ulIvFixedBits)?;
            let bytes = u16::try_from(iv.len()).map_err(|_| Rv::MECHANISM_PARAM_INVALID)?;
            let whole = usize::from(fixed_bits.div_ceil(8));
            let mut fixed = iv.get(..whole).ok_or(Rv::MECHANISM_PARAM_INVALID)?.to_vec();
            if let (Some(last), spare @ 1..) = (fixed.last_mut(), (8 - fixed_bits % 8) % 8) {
                *last &= 0xff << spare;
            }
            Ok(Nonce::Made { bytes, fixed: Secret::from(fixed), fixed_bits })
        }
        _ => Err(Rv::MECHANISM_PARAM_INVALID),
    }
}

/// # Safety
/// A tag that is to be checked must be readable.
unsafe fn tag_of(place: *const CK_BYTE, bits: u8, tag: Tag) -> Result<Secret, Rv> {
    match tag {
        Tag::Later => Ok(Secret::default()),
        Tag::Made if place.is_null() => Err(Rv::ARGUMENTS_BAD),
        Tag::Made => Ok(Secret::default()),
        // SAFETY: the caller's promise is handed on.
        Tag::Checked => unsafe { bytes(place, CK_ULONG::from(bits / 8), usize::from(u8::MAX)) },
    }
}

/// Answers a call that encrypts: the output by the two-call rule, and then vector and tag in their places.
///
/// # Safety
/// As for [`parameter`] and [`output::bytes`]; the places for vector and tag must be writable for their lengths.
pub(crate) unsafe fn sealed(
    place: *const c_void,
    length: CK_ULONG,
    tag: Tag,
    data: *mut CK_BYTE,
    data_length: *mut CK_ULONG,
    call: impl FnOnce(Result<Parameter, Rv>, Offered) -> Result<Sealed, Rv>,
) -> Result<(), Rv> {
    // SAFETY: the caller's promise is handed on.
    let read = unsafe { read(place, length, Direction::Encrypt, tag) };
    let places = read.as_ref().ok().map(|(_, places)| *places);
    let mut beside = None;
    let body = |room| {
        let Sealed { reply, nonce, tag } = call(read.map(|(parameter, _)| parameter), room)?;
        if let Reply::Bytes(_) = reply {
            beside = Some((nonce, tag));
        }
        Ok(reply)
    };
    // SAFETY: likewise.
    unsafe { output::bytes(data, data_length, body) }?;
    if let (Some(places), Some((nonce, tag))) = (places, beside) {
        // SAFETY: a nonce that was made is as long as the vector that was read, the tag as long as was asked for.
        unsafe {
            output::copy(&nonce, places.nonce);
            output::copy(&tag, places.tag);
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
    fn check(given: &CK_GCM_MESSAGE_PARAMS, direction: Direction, expected: Result<Nonce, Rv>) {
        let length = CK_ULONG::try_from(size_of_val(given)).unwrap();
        // SAFETY: the parameter is there, and its vector.
        let read = unsafe { parameter(ptr::from_ref(given).cast(), length, direction, Tag::Later) };
        assert_eq!(read.map(|parameter| parameter.nonce), expected);
    }

    #[test]
    fn a_vector_is_given_or_made_and_its_fixed_bits_alone_count() {
        let mut iv = [0xff; 12];
        let given = Nonce::Given(Secret::from(vec![0xff; 12]));
        check(&gcm(&mut iv, CKG_NO_GENERATE, 0), Direction::Encrypt, Ok(given.clone()));
        check(&gcm(&mut iv, CKG_GENERATE_RANDOM, 12), Direction::Decrypt, Ok(given));
        let made = Nonce::Made { bytes: 12, fixed: Secret::from(vec![0xff, 0xf0]), fixed_bits: 12 };
        check(&gcm(&mut iv, CKG_GENERATE_RANDOM, 12), Direction::Encrypt, Ok(made));
        let free = Nonce::Made { bytes: 12, fixed: Secret::default(), fixed_bits: 0 };
        check(&gcm(&mut iv, CKG_GENERATE, 0), Direction::Encrypt, Ok(free));
        let invalid = Err(Rv::MECHANISM_PARAM_INVALID);
        check(&gcm(&mut iv, CKG_GENERATE, 97), Direction::Encrypt, invalid.clone());
        check(&gcm(&mut iv, cryptoki_sys::CKG_GENERATE_COUNTER, 0), Direction::Encrypt, invalid);
    }

    #[test]
    fn a_tag_that_is_to_be_checked_or_made_has_a_place() {
        let mut iv = [0; 12];
        let given = gcm(&mut iv, CKG_NO_GENERATE, 0);
        let length = CK_ULONG::try_from(size_of_val(&given)).unwrap();
        let read = |tag| {
            // SAFETY: as above; nothing is read through null.
            unsafe { parameter(ptr::from_ref(&given).cast(), length, Direction::Encrypt, tag) }.err()
        };
        assert_eq!(read(Tag::Later), None);
        assert_eq!(read(Tag::Made), Some(Rv::ARGUMENTS_BAD));
        assert_eq!(read(Tag::Checked), Some(Rv::MECHANISM_PARAM_INVALID));
    }
}
