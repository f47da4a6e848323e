//! `CK_MECHANISM` with its parameters, each read as the structure that the mechanism table says.

use std::ffi::c_void;

use cryptoki_sys::{
    CK_AES_CTR_PARAMS, CK_BYTE, CK_GCM_PARAMS, CK_MECHANISM, CK_RSA_PKCS_OAEP_PARAMS, CK_RSA_PKCS_PSS_PARAMS,
    CK_ULONG, CKZ_DATA_SPECIFIED,
};
use kms_protocol::mechanism_table::{self, Parameter};
use kms_protocol::{Mechanism, MechanismType, Mgf, Parameters, Rv, Secret};

use super::input;

/// `CK_GCM_PARAMS` as PKCS#11 2.40 first printed it, without `ulIvBits`; hosts built against that header still live.
#[repr(C)]
#[derive(Clone, Copy)]
struct GcmParamsWithoutBits {
    iv: *mut CK_BYTE,
    iv_length: CK_ULONG,
    aad: *mut CK_BYTE,
    aad_length: CK_ULONG,
    tag_bits: CK_ULONG,
}

/// A mechanism; none for null, which cancels an operation.
///
/// # Safety
/// A pointer that is not null must point at a `CK_MECHANISM` whose parameter is readable for its length, and so must
/// everything that the parameter points at.
pub(crate) unsafe fn mechanism(place: *const CK_MECHANISM) -> Result<Option<Mechanism>, Rv> {
    // SAFETY: the caller's promise is handed on.
    let Some(given) = (unsafe { input::value(place) }) else { return Ok(None) };
    let kind = u32::try_from(given.mechanism).map_err(|_| Rv::MECHANISM_INVALID)?;
    let row = mechanism_table::row_of(MechanismType(kind)).ok_or(Rv::MECHANISM_INVALID)?;
    let parameter = Given { place: given.pParameter, length: given.ulParameterLen };
    // SAFETY: the caller's promise is handed on.
    let parameters = unsafe { parameters(row.parameter, &parameter) }?;
    Ok(Some(Mechanism { kind: row.kind, parameters }))
}

/// A parameter as it came.
struct Given {
    place: *const c_void,
    length: CK_ULONG,
}

impl Given {
    /// The parameter as a structure of exactly its size.
    ///
    /// # Safety
    /// The parameter must be readable for its length, and every bit pattern a value of `T`.
    unsafe fn as_a<T>(&self) -> Result<T, Rv> {
        if usize::try_from(self.length) != Ok(size_of::<T>()) {
            return Err(Rv::MECHANISM_PARAM_INVALID);
        }
        // SAFETY: of the right length; readable is the caller's promise.
        unsafe { input::value(self.place.cast::<T>()) }.ok_or(Rv::MECHANISM_PARAM_INVALID)
    }

    /// # Safety
    /// As for [`Given::as_a`].
    unsafe fn gcm(&self) -> Result<GcmParamsWithoutBits, Rv> {
        if usize::try_from(self.length) == Ok(size_of::<GcmParamsWithoutBits>()) {
            // SAFETY: the caller's promise is handed on.
            return unsafe { self.as_a() };
        }
        // SAFETY: likewise.
        let given: CK_GCM_PARAMS = unsafe { self.as_a() }?;
        // Some fill in the bits alone.
        let iv_length = if given.ulIvLen == 0 { given.ulIvBits.div_ceil(8) } else { given.ulIvLen };
        Ok(GcmParamsWithoutBits {
            iv: given.pIv,
            iv_length,
            aad: given.pAAD,
            aad_length: given.ulAADLen,
            tag_bits: given.ulTagBits,
        })
    }
}

/// # Safety
/// As for [`mechanism`].
unsafe fn parameters(wanted: Parameter, given: &Given) -> Result<Parameters, Rv> {
    let invalid = Rv::MECHANISM_PARAM_INVALID;
    // SAFETY, for each read below: the caller's promise is handed on, and the length is checked first.
    match wanted {
        Parameter::None | Parameter::Pss { optional: true } if given.length == 0 => Ok(Parameters::None),
        Parameter::None => Err(invalid),
        // SAFETY: as above.
        Parameter::Iv => Ok(Parameters::Iv(unsafe { given.as_a() }?)),
        Parameter::Ctr => {
            // SAFETY: as above.
            let counter: CK_AES_CTR_PARAMS = unsafe { given.as_a() }?;
            let bits = u8::try_from(counter.ulCounterBits).map_err(|_| invalid)?;
            Ok(Parameters::Ctr { bits, block: counter.cb })
        }
        Parameter::Gcm => {
            // SAFETY: as above.
            let gcm = unsafe { given.gcm() }?;
            // SAFETY: as above.
            let iv = unsafe { bytes(gcm.iv, gcm.iv_length, kms_protocol::GCM_IV_BYTES_MAX) }?;
            // SAFETY: as above.
            let aad = unsafe { bytes(gcm.aad, gcm.aad_length, kms_protocol::GCM_AAD_BYTES_MAX) }?;
            Ok(Parameters::Gcm { iv, aad, tag_bits: u8::try_from(gcm.tag_bits).map_err(|_| invalid)? })
        }
        Parameter::Pss { .. } => {
            // SAFETY: as above.
            let pss: CK_RSA_PKCS_PSS_PARAMS = unsafe { given.as_a() }?;
            Ok(Parameters::Pss {
                hash: MechanismType(u32::try_from(pss.hashAlg).map_err(|_| invalid)?),
                mgf: Mgf(u32::try_from(pss.mgf).map_err(|_| invalid)?),
                salt_bytes: u32::try_from(pss.sLen).map_err(|_| invalid)?,
            })
        }
        Parameter::Oaep => {
            // SAFETY: as above.
            let oaep: CK_RSA_PKCS_OAEP_PARAMS = unsafe { given.as_a() }?;
            // Without a source there is no label; hosts that have none leave the field zero.
            if oaep.source != CKZ_DATA_SPECIFIED && !(oaep.source == 0 && oaep.ulSourceDataLen == 0) {
                return Err(invalid);
            }
            let most = kms_protocol::OAEP_LABEL_BYTES_MAX;
            // SAFETY: as above.
            let label = unsafe { bytes(oaep.pSourceData.cast(), oaep.ulSourceDataLen, most) }?;
            Ok(Parameters::Oaep {
                hash: MechanismType(u32::try_from(oaep.hashAlg).map_err(|_| invalid)?),
                mgf: Mgf(u32::try_from(oaep.mgf).map_err(|_| invalid)?),
                label,
            })
        }
        Parameter::MacBytes => {
            // SAFETY: as above.
            let length: CK_ULONG = unsafe { given.as_a() }?;
            Ok(Parameters::MacBytes(u32::try_from(length).map_err(|_| invalid)?))
        }
    }
}

/// Bytes that a parameter points at: at most `most`.
///
/// # Safety
/// As for [`input::bytes`].
unsafe fn bytes(place: *const CK_BYTE, length: CK_ULONG, most: usize) -> Result<Secret, Rv> {
    let within = usize::try_from(length).is_ok_and(|length| length <= most);
    if !within {
        return Err(Rv::MECHANISM_PARAM_INVALID);
    }
    // SAFETY: the caller's promise is handed on.
    let bytes = unsafe { input::bytes(place, length) };
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
    fn read<T>(kind: CK_ULONG, parameter: &T, length: usize) -> Result<Parameters, Rv> {
        let given = CK_MECHANISM {
            mechanism: kind,
            pParameter: ptr::from_ref(parameter).cast_mut().cast(),
            ulParameterLen: CK_ULONG::try_from(length).unwrap(),
        };
        // SAFETY: the parameter is there for its length, or the length is refused.
        unsafe { mechanism(&raw const given) }.map(|mechanism| mechanism.unwrap().parameters)
    }

    #[test]
    fn both_layouts_of_gcm_parameters_are_read() {
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
        assert_eq!(read(CKM_AES_GCM, &with, size_of_val(&with)), Ok(expected.clone()));
        assert_eq!(read(CKM_AES_GCM, &without, size_of_val(&without)), Ok(expected));
        let invalid = Err(Rv::MECHANISM_PARAM_INVALID);
        assert_eq!(read(CKM_AES_GCM, &with, 47), invalid);
        assert_eq!(read(CKM_AES_GCM, &CK_GCM_PARAMS { ulAADLen: 1, ..with }, size_of_val(&with)), invalid);
        assert_eq!(
            read(CKM_AES_GCM, &CK_GCM_PARAMS { ulIvLen: CK_ULONG::MAX, ..with }, size_of_val(&with)),
            invalid
        );
    }

    #[test]
    fn lengths_are_those_of_the_structures() {
        assert_eq!(read(CKM_AES_CBC, &[5_u8; 16], 16), Ok(Parameters::Iv([5; 16])));
        assert_eq!(read(CKM_AES_CBC, &[5_u8; 16], 15), Err(Rv::MECHANISM_PARAM_INVALID));
        assert_eq!(read(CKM_RSA_PKCS, &[0_u8; 1], 0), Ok(Parameters::None));
        assert_eq!(read(CKM_RSA_PKCS, &[0_u8; 1], 1), Err(Rv::MECHANISM_PARAM_INVALID));
        assert_eq!(read(0x7fff_ffff, &[0_u8; 1], 0), Err(Rv::MECHANISM_INVALID));
        assert_eq!(read(CK_ULONG::MAX, &[0_u8; 1], 0), Err(Rv::MECHANISM_INVALID));
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
        assert_eq!(read(CKM_RSA_PKCS_OAEP, &oaep, size_of_val(&oaep)), Ok(expected));
        let wrong = CK_RSA_PKCS_OAEP_PARAMS { source: 2, ..oaep };
        assert_eq!(read(CKM_RSA_PKCS_OAEP, &wrong, size_of_val(&oaep)), Err(Rv::MECHANISM_PARAM_INVALID));
    }
}
