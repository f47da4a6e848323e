//! Reads `CK_MECHANISM` with its parameter, as the structure that the mechanism table names. The parameters of key
//! derivation are read in `derivation`.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "reading a structure and then what it points at rests on one promise"
)]

use std::ffi::c_void;

use cryptoki_sys::{
    CK_AES_CTR_PARAMS, CK_BYTE, CK_CCM_PARAMS, CK_CCM_WRAP_PARAMS, CK_EDDSA_PARAMS, CK_GCM_MESSAGE_PARAMS,
    CK_GCM_PARAMS, CK_GCM_WRAP_PARAMS, CK_HASH_SIGN_ADDITIONAL_CONTEXT, CK_MECHANISM,
    CK_RSA_AES_KEY_WRAP_PARAMS, CK_RSA_PKCS_OAEP_PARAMS, CK_RSA_PKCS_PSS_PARAMS,
    CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS, CK_SALSA20_CHACHA20_POLY1305_PARAMS, CK_SIGN_ADDITIONAL_CONTEXT,
    CK_ULONG, CKG_NO_GENERATE, CKZ_DATA_SPECIFIED,
};
use kms_protocol::mechanism_table::{self, Parameter, Uses};
use kms_protocol::{
    CONTEXT_BYTES_MAX, GCM_AAD_BYTES_MAX, GCM_IV_BYTES_MAX, Mechanism, MechanismType, Mgf,
    OAEP_LABEL_BYTES_MAX, ObjectRef, Parameters, Rv, Secret,
};

use super::{derivation, input};
use crate::session::ObjectHandle;

/// `CK_GCM_PARAMS` as PKCS#11 2.40 first printed it, without `ulIvBits`; hosts built against that header are in use.
#[repr(C)]
#[derive(Clone, Copy)]
struct GcmParamsWithoutBits {
    iv: *mut CK_BYTE,
    iv_length: CK_ULONG,
    aad: *mut CK_BYTE,
    aad_length: CK_ULONG,
    tag_bits: CK_ULONG,
}

/// Converts the handle of a key inside a parameter to its reference in requests.
pub(crate) type KeyResolver<'a> = &'a dyn Fn(ObjectHandle) -> Result<ObjectRef, Rv>;

/// Reads a mechanism whose parameter contains no key handle; none for null, which cancels an operation.
///
/// # Safety
/// A pointer that is not null must point at a `CK_MECHANISM` whose parameter is readable for its length, and so must
/// everything that the parameter points at.
pub(crate) unsafe fn read(pointer: *const CK_MECHANISM) -> Result<Option<Mechanism>, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe { read_with_keys(pointer, &|_| Err(Rv::MECHANISM_PARAM_INVALID)) }
}

/// Reads a mechanism; none for null.
///
/// # Safety
/// As for [`read`].
pub(crate) unsafe fn read_with_keys(
    pointer: *const CK_MECHANISM,
    keys: KeyResolver<'_>,
) -> Result<Option<Mechanism>, Rv> {
    // SAFETY: the caller's promise is passed on.
    let Some(mechanism) = (unsafe { input::value(pointer) }) else { return Ok(None) };
    let row = row_of(&mechanism)?;
    let parameter = RawParameter { pointer: mechanism.pParameter, length: mechanism.ulParameterLen };
    // SAFETY: the caller's promise is passed on.
    let parameters = unsafe { parameters(row.parameter, &parameter, keys) }?;
    Ok(Some(Mechanism { kind: row.kind, parameters }))
}

/// Reads the type of a mechanism, for the message functions: their parameters come with each message (spec,
/// "C_MessageEncryptInit").
///
/// # Safety
/// A pointer that is not null must point at a `CK_MECHANISM`.
pub(crate) unsafe fn read_type(pointer: *const CK_MECHANISM) -> Result<Option<MechanismType>, Rv> {
    // SAFETY: the caller's promise is passed on.
    let Some(mechanism) = (unsafe { input::value(pointer) }) else { return Ok(None) };
    let row = row_of(&mechanism)?;
    // Hosts pass no parameter here, or that of the first message. It is not read, but other lengths are rejected.
    let known_lengths = [
        0,
        size_of::<CK_GCM_MESSAGE_PARAMS>(),
        size_of::<CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS>(),
        size_of::<CK_GCM_PARAMS>(),
    ];
    let known = usize::try_from(mechanism.ulParameterLen).is_ok_and(|length| known_lengths.contains(&length));
    if row.uses.has(Uses::MESSAGE) && !known {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    }
    Ok(Some(row.kind))
}

fn row_of(mechanism: &CK_MECHANISM) -> Result<&'static mechanism_table::Row, Rv> {
    let kind = u32::try_from(mechanism.mechanism).map_err(|_| Rv::MECHANISM_INVALID)?;
    mechanism_table::row_of(MechanismType(kind)).ok_or(Rv::MECHANISM_INVALID)
}

/// A parameter as the caller passed it.
pub(super) struct RawParameter {
    pub(super) pointer: *const c_void,
    pub(super) length: CK_ULONG,
}

impl RawParameter {
    /// The parameter as a structure of exactly its size.
    ///
    /// # Safety
    /// The parameter must be readable for its length, and every bit pattern a value of `T`.
    pub(super) unsafe fn as_struct<T>(&self) -> Result<T, Rv> {
        if !self.has_size_of::<T>() {
            return Err(Rv::MECHANISM_PARAM_INVALID);
        }
        // SAFETY: the length is right; readable is the caller's promise.
        unsafe { input::value(self.pointer.cast::<T>()) }.ok_or(Rv::MECHANISM_PARAM_INVALID)
    }

    fn has_size_of<T>(&self) -> bool {
        usize::try_from(self.length) == Ok(size_of::<T>())
    }
}

/// # Safety
/// As for [`read`].
unsafe fn parameters(wanted: Parameter, raw: &RawParameter, keys: KeyResolver<'_>) -> Result<Parameters, Rv> {
    if raw.length == 0 && wanted.is_optional() {
        return Ok(Parameters::None);
    }
    // SAFETY: the caller's promise is passed on; each reader checks the length before it reads.
    unsafe {
        match wanted {
            Parameter::None => Err(Rv::MECHANISM_PARAM_INVALID),
            Parameter::Iv => Ok(Parameters::Iv(raw.as_struct()?)),
            Parameter::Ctr => {
                let counter: CK_AES_CTR_PARAMS = raw.as_struct()?;
                Ok(Parameters::Ctr { bits: number(counter.ulCounterBits)?, block: counter.cb })
            }
            Parameter::Gcm => gcm(raw),
            Parameter::Ccm => ccm(raw),
            Parameter::Poly1305 => {
                let sealed: CK_SALSA20_CHACHA20_POLY1305_PARAMS = raw.as_struct()?;
                Ok(Parameters::Poly1305 {
                    nonce: bytes(sealed.pNonce, sealed.ulNonceLen, GCM_IV_BYTES_MAX)?,
                    aad: bytes(sealed.pAAD, sealed.ulAADLen, GCM_AAD_BYTES_MAX)?,
                })
            }
            Parameter::Pss => {
                let pss: CK_RSA_PKCS_PSS_PARAMS = raw.as_struct()?;
                let (hash, mgf) = (MechanismType(number(pss.hashAlg)?), Mgf(number(pss.mgf)?));
                Ok(Parameters::Pss { hash, mgf, salt_bytes: number(pss.sLen)? })
            }
            Parameter::Oaep => {
                let (hash, mgf, label) = oaep(raw)?;
                Ok(Parameters::Oaep { hash, mgf, label })
            }
            Parameter::RsaAes => rsa_aes(raw),
            Parameter::MacBytes => {
                let length: CK_ULONG = raw.as_struct()?;
                Ok(Parameters::MacBytes(number(length)?))
            }
            Parameter::Eddsa => {
                let eddsa: CK_EDDSA_PARAMS = raw.as_struct()?;
                let context = bytes(eddsa.pContextData, eddsa.ulContextDataLen, CONTEXT_BYTES_MAX)?;
                Ok(Parameters::Eddsa { prehashed: eddsa.phFlag != 0, context })
            }
            Parameter::MlDsa => {
                let sign: CK_SIGN_ADDITIONAL_CONTEXT = raw.as_struct()?;
                let context = bytes(sign.pContext, sign.ulContextLen, CONTEXT_BYTES_MAX)?;
                Ok(Parameters::MlDsa { hedge: number(sign.hedgeVariant)?, context })
            }
            Parameter::HashMlDsa => {
                let sign: CK_HASH_SIGN_ADDITIONAL_CONTEXT = raw.as_struct()?;
                let context = bytes(sign.pContext, sign.ulContextLen, CONTEXT_BYTES_MAX)?;
                let (hedge, hash) = (number(sign.hedgeVariant)?, MechanismType(number(sign.hash)?));
                Ok(Parameters::HashMlDsa { hedge, context, hash })
            }
            Parameter::WrapIv { bytes: max_length } => {
                Ok(Parameters::WrapIv(bytes(raw.pointer.cast(), raw.length, max_length)?))
            }
            Parameter::Ecdh => derivation::ecdh(raw),
            Parameter::Hkdf => derivation::hkdf(raw, keys),
            Parameter::Kbkdf { feedback: false } => derivation::counter(raw),
            Parameter::Kbkdf { feedback: true } => derivation::feedback(raw),
            Parameter::Data { iv_bytes: 0 } => derivation::string(raw),
            Parameter::Data { .. } => derivation::cbc_data(raw),
            Parameter::Key => derivation::key(raw, keys),
            Parameter::Extract => derivation::extract(raw),
        }
    }
}

/// The parameter of AES-GCM in any of its three layouts, which differ in length.
///
/// # Safety
/// As for [`read`].
unsafe fn gcm(raw: &RawParameter) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let read = if raw.has_size_of::<GcmParamsWithoutBits>() {
            raw.as_struct()?
        } else if raw.has_size_of::<CK_GCM_WRAP_PARAMS>() {
            let wrap: CK_GCM_WRAP_PARAMS = raw.as_struct()?;
            // C_WrapKey cannot return a generated IV.
            if wrap.ivGenerator != CKG_NO_GENERATE {
                return Err(Rv::MECHANISM_PARAM_INVALID);
            }
            GcmParamsWithoutBits {
                iv: wrap.pIv,
                iv_length: wrap.ulIvLen,
                aad: wrap.pAAD,
                aad_length: wrap.ulAADLen,
                tag_bits: wrap.ulTagBits,
            }
        } else {
            let with: CK_GCM_PARAMS = raw.as_struct()?;
            GcmParamsWithoutBits {
                iv: with.pIv,
                // Some hosts set only `ulIvBits`.
                iv_length: if with.ulIvLen == 0 { with.ulIvBits.div_ceil(8) } else { with.ulIvLen },
                aad: with.pAAD,
                aad_length: with.ulAADLen,
                tag_bits: with.ulTagBits,
            }
        };
        let iv = bytes(read.iv, read.iv_length, GCM_IV_BYTES_MAX)?;
        let aad = bytes(read.aad, read.aad_length, GCM_AAD_BYTES_MAX)?;
        Ok(Parameters::Gcm { iv, aad, tag_bits: number(read.tag_bits)? })
    }
}

/// # Safety
/// As for [`read`].
unsafe fn ccm(raw: &RawParameter) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let read = if raw.has_size_of::<CK_CCM_WRAP_PARAMS>() {
            let wrap: CK_CCM_WRAP_PARAMS = raw.as_struct()?;
            if wrap.nonceGenerator != CKG_NO_GENERATE {
                return Err(Rv::MECHANISM_PARAM_INVALID);
            }
            CK_CCM_PARAMS {
                ulDataLen: wrap.ulDataLen,
                pNonce: wrap.pNonce,
                ulNonceLen: wrap.ulNonceLen,
                pAAD: wrap.pAAD,
                ulAADLen: wrap.ulAADLen,
                ulMACLen: wrap.ulMACLen,
            }
        } else {
            raw.as_struct()?
        };
        Ok(Parameters::Ccm {
            data_bytes: number(read.ulDataLen)?,
            nonce: bytes(read.pNonce, read.ulNonceLen, GCM_IV_BYTES_MAX)?,
            aad: bytes(read.pAAD, read.ulAADLen, GCM_AAD_BYTES_MAX)?,
            mac_bytes: number(read.ulMACLen)?,
        })
    }
}

/// # Safety
/// As for [`read`].
unsafe fn oaep(raw: &RawParameter) -> Result<(MechanismType, Mgf, Secret), Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let oaep: CK_RSA_PKCS_OAEP_PARAMS = raw.as_struct()?;
        // Without a source there is no label; hosts that have no label leave the field zero.
        if oaep.source != CKZ_DATA_SPECIFIED && !(oaep.source == 0 && oaep.ulSourceDataLen == 0) {
            return Err(Rv::MECHANISM_PARAM_INVALID);
        }
        let label = bytes(oaep.pSourceData.cast(), oaep.ulSourceDataLen, OAEP_LABEL_BYTES_MAX)?;
        Ok((MechanismType(number(oaep.hashAlg)?), Mgf(number(oaep.mgf)?), label))
    }
}

/// # Safety
/// As for [`read`].
unsafe fn rsa_aes(raw: &RawParameter) -> Result<Parameters, Rv> {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        let wrap: CK_RSA_AES_KEY_WRAP_PARAMS = raw.as_struct()?;
        let inner = RawParameter {
            pointer: wrap.pOAEPParams.cast(),
            length: size_of::<CK_RSA_PKCS_OAEP_PARAMS>() as CK_ULONG,
        };
        let (hash, mgf, label) = oaep(&inner)?;
        Ok(Parameters::RsaAes { aes_bits: number(wrap.ulAESKeyBits)?, hash, mgf, label })
    }
}

/// Converts a number to the type of the parameter.
pub(super) fn number<T: TryFrom<CK_ULONG>>(value: CK_ULONG) -> Result<T, Rv> {
    T::try_from(value).map_err(|_| Rv::MECHANISM_PARAM_INVALID)
}

/// The bytes that a parameter points at, at most `max_length`.
///
/// # Safety
/// As for [`input::bytes`].
pub(super) unsafe fn bytes(
    pointer: *const CK_BYTE,
    length: CK_ULONG,
    max_length: usize,
) -> Result<Secret, Rv> {
    let in_range = usize::try_from(length).is_ok_and(|length| length <= max_length);
    if !in_range {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    }
    // SAFETY: the caller's promise is passed on.
    let bytes = unsafe { input::bytes(pointer, length) };
    bytes.map(Secret::from).map_err(|_| Rv::MECHANISM_PARAM_INVALID)
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use cryptoki_sys::{
        CKG_MGF1_SHA256, CKM_AES_CBC, CKM_AES_GCM, CKM_RSA_PKCS, CKM_RSA_PKCS_OAEP, CKM_SHA256,
    };

    use super::*;

    #[track_caller]
    fn parameters_of<T>(kind: CK_ULONG, parameter: &T, length: usize) -> Result<Parameters, Rv> {
        let raw = CK_MECHANISM {
            mechanism: kind,
            pParameter: ptr::from_ref(parameter).cast_mut().cast(),
            ulParameterLen: CK_ULONG::try_from(length).unwrap(),
        };
        // SAFETY: the parameter is readable for its length, or the length is rejected.
        unsafe { read(&raw const raw) }.map(|mechanism| mechanism.unwrap().parameters)
    }

    #[test]
    fn gcm_parameters_are_read_with_and_without_iv_bits() {
        let mut iv = [1; 12];
        let with = CK_GCM_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: 12,
            ulIvBits: 96,
            pAAD: ptr::null_mut(),
            ulAADLen: 0,
            ulTagBits: 128,
        };
        let without = GcmParamsWithoutBits {
            iv: iv.as_mut_ptr(),
            iv_length: 12,
            aad: ptr::null_mut(),
            aad_length: 0,
            tag_bits: 128,
        };
        let expected = Parameters::Gcm { iv: vec![1; 12].into(), aad: Secret::default(), tag_bits: 128 };
        assert_eq!(parameters_of(CKM_AES_GCM, &with, size_of_val(&with)), Ok(expected.clone()));
        assert_eq!(parameters_of(CKM_AES_GCM, &without, size_of_val(&without)), Ok(expected));
        let invalid = Err(Rv::MECHANISM_PARAM_INVALID);
        assert_eq!(parameters_of(CKM_AES_GCM, &with, 47), invalid);
        assert_eq!(
            parameters_of(CKM_AES_GCM, &CK_GCM_PARAMS { ulAADLen: 1, ..with }, size_of_val(&with)),
            invalid
        );
        assert_eq!(
            parameters_of(CKM_AES_GCM, &CK_GCM_PARAMS { ulIvLen: CK_ULONG::MAX, ..with }, size_of_val(&with)),
            invalid
        );
    }

    #[test]
    fn lengths_must_be_those_of_the_structures() {
        assert_eq!(parameters_of(CKM_AES_CBC, &[5_u8; 16], 16), Ok(Parameters::Iv([5; 16])));
        assert_eq!(parameters_of(CKM_AES_CBC, &[5_u8; 16], 15), Err(Rv::MECHANISM_PARAM_INVALID));
        assert_eq!(parameters_of(CKM_RSA_PKCS, &[0_u8; 1], 0), Ok(Parameters::None));
        assert_eq!(parameters_of(CKM_RSA_PKCS, &[0_u8; 1], 1), Err(Rv::MECHANISM_PARAM_INVALID));
        assert_eq!(parameters_of(0x7fff_ffff, &[0_u8; 1], 0), Err(Rv::MECHANISM_INVALID));
        assert_eq!(parameters_of(CK_ULONG::MAX, &[0_u8; 1], 0), Err(Rv::MECHANISM_INVALID));
    }

    #[test]
    fn oaep_without_a_source_has_no_label() {
        let oaep = CK_RSA_PKCS_OAEP_PARAMS {
            hashAlg: CKM_SHA256,
            mgf: CKG_MGF1_SHA256,
            source: 0,
            pSourceData: ptr::null_mut(),
            ulSourceDataLen: 0,
        };
        let label = Secret::default();
        let expected = Parameters::Oaep { hash: MechanismType::SHA256, mgf: Mgf::SHA256, label };
        assert_eq!(parameters_of(CKM_RSA_PKCS_OAEP, &oaep, size_of_val(&oaep)), Ok(expected));
        let wrong = CK_RSA_PKCS_OAEP_PARAMS { source: 2, ..oaep };
        assert_eq!(
            parameters_of(CKM_RSA_PKCS_OAEP, &wrong, size_of_val(&oaep)),
            Err(Rv::MECHANISM_PARAM_INVALID)
        );
    }
}
