//! Reads the parameters of key derivation. Some contain nested structures and handles of other keys: each length is
//! checked before it is used, and nothing nests deeper than in the specification.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "reading a structure and then what it points at rests on one promise"
)]

use std::ptr;

use cryptoki_sys::{
    CK_AES_CBC_ENCRYPT_DATA_PARAMS, CK_ECDH1_DERIVE_PARAMS, CK_EXTRACT_PARAMS, CK_HKDF_PARAMS,
    CK_KEY_DERIVATION_STRING_DATA, CK_OBJECT_HANDLE, CK_PRF_DATA_PARAM, CK_SP800_108_BYTE_ARRAY,
    CK_SP800_108_COUNTER, CK_SP800_108_COUNTER_FORMAT, CK_SP800_108_DKM_LENGTH,
    CK_SP800_108_DKM_LENGTH_FORMAT, CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS,
    CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS, CK_SP800_108_FEEDBACK_KDF_PARAMS,
    CK_SP800_108_ITERATION_VARIABLE, CK_SP800_108_KDF_PARAMS, CK_ULONG, CKF_HKDF_SALT_DATA,
    CKF_HKDF_SALT_KEY, CKF_HKDF_SALT_NULL,
};
use kms_protocol::{
    Counter, DERIVATION_BYTES_MAX, ECDH_PUBLIC_BYTES_MAX, Kdf, MechanismType, PRF_DATA_MAX, Parameters,
    PrfData, PrfPart, Rv, Salt, Secret,
};

use super::input;
use super::mechanism::{KeyResolver, RawParameter, bytes, number};

/// `CK_ECDH1_DERIVE_PARAMS`.
///
/// # Safety
/// The parameter must be readable for its length, and so must what it points at. This holds for all functions here.
pub(super) unsafe fn ecdh(raw: &RawParameter) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let ecdh: CK_ECDH1_DERIVE_PARAMS = raw.as_struct()?;
        Ok(Parameters::Ecdh {
            kdf: Kdf(number(ecdh.kdf)?),
            shared: bytes(ecdh.pSharedData, ecdh.ulSharedDataLen, DERIVATION_BYTES_MAX)?,
            public: bytes(ecdh.pPublicData, ecdh.ulPublicDataLen, ECDH_PUBLIC_BYTES_MAX)?,
        })
    }
}

/// `CK_HKDF_PARAMS`.
///
/// # Safety
/// As for [`ecdh`].
pub(super) unsafe fn hkdf(raw: &RawParameter, keys: KeyResolver<'_>) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let hkdf: CK_HKDF_PARAMS = raw.as_struct()?;
        let salt = match hkdf.ulSaltType {
            CKF_HKDF_SALT_NULL => Salt::None,
            CKF_HKDF_SALT_DATA => Salt::Data(bytes(hkdf.pSalt, hkdf.ulSaltLen, DERIVATION_BYTES_MAX)?),
            CKF_HKDF_SALT_KEY => Salt::Key(keys(input::object(hkdf.hSaltKey))?),
            // HKDF-Expand alone has no salt, and callers may leave its type undefined.
            _ if hkdf.bExtract == 0 => Salt::None,
            _ => return Err(Rv::MECHANISM_PARAM_INVALID),
        };
        Ok(Parameters::Hkdf {
            extract: hkdf.bExtract != 0,
            expand: hkdf.bExpand != 0,
            hash: MechanismType(number(hkdf.prfHashMechanism)?),
            salt,
            info: bytes(hkdf.pInfo, hkdf.ulInfoLen, DERIVATION_BYTES_MAX)?,
        })
    }
}

/// `CK_SP800_108_KDF_PARAMS`.
///
/// # Safety
/// As for [`ecdh`].
pub(super) unsafe fn counter(raw: &RawParameter) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let kdf: CK_SP800_108_KDF_PARAMS = raw.as_struct()?;
        reject_additional_keys(kdf.ulAdditionalDerivedKeys)?;
        let data = prf_data(kdf.pDataParams, kdf.ulNumberOfDataParams, false)?;
        Ok(Parameters::Kbkdf { prf: MechanismType(number(kdf.prfType)?), data, iv: Secret::default() })
    }
}

/// `CK_SP800_108_FEEDBACK_KDF_PARAMS`.
///
/// # Safety
/// As for [`ecdh`].
pub(super) unsafe fn feedback(raw: &RawParameter) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let kdf: CK_SP800_108_FEEDBACK_KDF_PARAMS = raw.as_struct()?;
        reject_additional_keys(kdf.ulAdditionalDerivedKeys)?;
        let data = prf_data(kdf.pDataParams, kdf.ulNumberOfDataParams, true)?;
        let iv = bytes(kdf.pIV, kdf.ulIVLen, DERIVATION_BYTES_MAX)?;
        Ok(Parameters::Kbkdf { prf: MechanismType(number(kdf.prfType)?), data, iv })
    }
}

/// Rejects additional derived keys: one request creates one object.
fn reject_additional_keys(additional: CK_ULONG) -> Result<(), Rv> {
    if additional == 0 { Ok(()) } else { Err(Rv::MECHANISM_PARAM_INVALID) }
}

/// # Safety
/// `parts` must be readable for `count` elements, and so must what they point at.
unsafe fn prf_data(parts: *const CK_PRF_DATA_PARAM, count: CK_ULONG, feedback: bool) -> Result<PrfData, Rv> {
    let count = number::<usize>(count)?;
    if count > PRF_DATA_MAX || parts.is_null() {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    }
    // SAFETY: below `count`; readable is the caller's promise.
    let part = |index| unsafe { prf_part(&ptr::read_unaligned(parts.add(index)), feedback) };
    (0..count).map(part).collect::<Result<_, _>>().map(PrfData)
}

/// # Safety
/// What the part points at must be readable.
unsafe fn prf_part(part: &CK_PRF_DATA_PARAM, feedback: bool) -> Result<PrfPart, Rv> {
    let value = RawParameter { pointer: part.pValue, length: part.ulValueLen };
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match part.type_ {
            // In feedback mode it is the previous output block, which has no format.
            CK_SP800_108_ITERATION_VARIABLE if feedback && value.length == 0 => {
                Ok(PrfPart::Iteration(Counter { bits: 0, little_endian: false }))
            }
            CK_SP800_108_ITERATION_VARIABLE if !feedback => counter_format(&value).map(PrfPart::Iteration),
            CK_SP800_108_COUNTER => counter_format(&value).map(PrfPart::Counter),
            CK_SP800_108_DKM_LENGTH => {
                let format: CK_SP800_108_DKM_LENGTH_FORMAT = value.as_struct()?;
                let bits = number(format.ulWidthInBits)?;
                let counter = Counter { bits, little_endian: format.bLittleEndian != 0 };
                match format.dkmLengthMethod {
                    CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS => Ok(PrfPart::Length(counter)),
                    CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS => Ok(PrfPart::Segments(counter)),
                    _ => Err(Rv::MECHANISM_PARAM_INVALID),
                }
            }
            CK_SP800_108_BYTE_ARRAY => {
                bytes(part.pValue.cast(), part.ulValueLen, DERIVATION_BYTES_MAX).map(PrfPart::Bytes)
            }
            _ => Err(Rv::MECHANISM_PARAM_INVALID),
        }
    }
}

/// # Safety
/// The value must be readable for its length.
unsafe fn counter_format(value: &RawParameter) -> Result<Counter, Rv> {
    // SAFETY: the caller's promise is passed on.
    let format: CK_SP800_108_COUNTER_FORMAT = unsafe { value.as_struct() }?;
    Ok(Counter { bits: number(format.ulWidthInBits)?, little_endian: format.bLittleEndian != 0 })
}

/// `CK_KEY_DERIVATION_STRING_DATA`.
///
/// # Safety
/// As for [`ecdh`].
pub(super) unsafe fn string(raw: &RawParameter) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let string: CK_KEY_DERIVATION_STRING_DATA = raw.as_struct()?;
        let data = bytes(string.pData, string.ulLen, DERIVATION_BYTES_MAX)?;
        Ok(Parameters::Data { iv: Secret::default(), data })
    }
}

/// `CK_AES_CBC_ENCRYPT_DATA_PARAMS`.
///
/// # Safety
/// As for [`ecdh`].
pub(super) unsafe fn cbc_data(raw: &RawParameter) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let encrypt: CK_AES_CBC_ENCRYPT_DATA_PARAMS = raw.as_struct()?;
        let data = bytes(encrypt.pData, encrypt.length, DERIVATION_BYTES_MAX)?;
        Ok(Parameters::Data { iv: Secret::from(encrypt.iv.as_slice()), data })
    }
}

/// `CK_OBJECT_HANDLE`: the handle of a second key.
///
/// # Safety
/// As for [`ecdh`].
pub(super) unsafe fn key(raw: &RawParameter, keys: KeyResolver<'_>) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    let handle: CK_OBJECT_HANDLE = unsafe { raw.as_struct() }?;
    keys(input::object(handle)).map(Parameters::Key)
}

/// `CK_EXTRACT_PARAMS`: the first bit that is extracted.
///
/// # Safety
/// As for [`ecdh`].
pub(super) unsafe fn extract(raw: &RawParameter) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    let bit: CK_EXTRACT_PARAMS = unsafe { raw.as_struct() }?;
    Ok(Parameters::Extract { bit: number(bit)? })
}

#[cfg(test)]
mod tests {
    use std::ffi::c_void;

    use kms_protocol::{ObjectId, ObjectRef};

    use super::*;
    use crate::session::ObjectHandle;

    fn raw<T>(value: &T) -> RawParameter {
        let pointer: *const c_void = ptr::from_ref(value).cast();
        RawParameter { pointer, length: CK_ULONG::try_from(size_of::<T>()).unwrap() }
    }

    fn keys(handle: ObjectHandle) -> Result<ObjectRef, Rv> {
        if handle.0 == 7 { Ok(ObjectRef::Token(ObjectId(70))) } else { Err(Rv::KEY_HANDLE_INVALID) }
    }

    #[test]
    fn the_data_of_a_counter_kdf_is_read_and_its_lengths_are_checked() {
        let counter = CK_SP800_108_COUNTER_FORMAT { bLittleEndian: 0, ulWidthInBits: 32 };
        let label = *b"label";
        let part = |type_, pointer: *const c_void, length: usize| CK_PRF_DATA_PARAM {
            type_,
            pValue: pointer.cast_mut(),
            ulValueLen: CK_ULONG::try_from(length).unwrap(),
        };
        let format: *const c_void = ptr::from_ref(&counter).cast();
        let mut parts = [
            part(CK_SP800_108_ITERATION_VARIABLE, format, size_of_val(&counter)),
            part(CK_SP800_108_BYTE_ARRAY, label.as_ptr().cast(), 5),
        ];
        let kdf = CK_SP800_108_KDF_PARAMS {
            prfType: cryptoki_sys::CKM_SHA256_HMAC,
            ulNumberOfDataParams: 2,
            pDataParams: parts.as_mut_ptr(),
            ulAdditionalDerivedKeys: 0,
            pAdditionalDerivedKeys: ptr::null_mut(),
        };
        let written = Counter { bits: 32, little_endian: false };
        let data =
            PrfData(vec![PrfPart::Iteration(written), PrfPart::Bytes(Secret::from(b"label".as_slice()))]);
        let expected = Parameters::Kbkdf { prf: MechanismType::SHA256_HMAC, data, iv: Secret::default() };
        let invalid = Err(Rv::MECHANISM_PARAM_INVALID);
        let several = CK_SP800_108_KDF_PARAMS { ulAdditionalDerivedKeys: 1, ..kdf };
        let too_many = CK_SP800_108_KDF_PARAMS { ulNumberOfDataParams: CK_ULONG::MAX, ..kdf };
        let null = CK_SP800_108_KDF_PARAMS { pDataParams: ptr::null_mut(), ..kdf };
        // SAFETY: everything pointed at is readable, or is rejected before it is read.
        unsafe {
            assert_eq!(super::counter(&raw(&kdf)), Ok(expected));
            assert_eq!(super::counter(&raw(&several)), invalid);
            assert_eq!(super::counter(&raw(&too_many)), invalid);
            assert_eq!(super::counter(&raw(&null)), invalid);
        }
    }

    #[test]
    fn key_handles_are_resolved() {
        let handle: CK_OBJECT_HANDLE = 7;
        let wrong: CK_OBJECT_HANDLE = 8;
        // SAFETY: the handles are readable.
        unsafe {
            let expected = Parameters::Key(ObjectRef::Token(ObjectId(70)));
            assert_eq!(key(&raw(&handle), &keys), Ok(expected));
            assert_eq!(key(&raw(&wrong), &keys), Err(Rv::KEY_HANDLE_INVALID));
        }
    }

    #[test]
    fn lengths_without_data_are_rejected() {
        let ecdh = CK_ECDH1_DERIVE_PARAMS {
            kdf: 1,
            ulSharedDataLen: 0,
            pSharedData: ptr::null_mut(),
            ulPublicDataLen: 65,
            pPublicData: ptr::null_mut(),
        };
        let string = CK_KEY_DERIVATION_STRING_DATA { pData: ptr::null_mut(), ulLen: CK_ULONG::MAX };
        // SAFETY: nothing is read through null.
        unsafe {
            assert_eq!(super::ecdh(&raw(&ecdh)), Err(Rv::MECHANISM_PARAM_INVALID));
            assert_eq!(super::string(&raw(&string)), Err(Rv::MECHANISM_PARAM_INVALID));
        }
    }
}
