//! Builds the parameter of each mechanism, as its C structure, from a fuzzer's bytes.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::{
    CK_AES_CBC_ENCRYPT_DATA_PARAMS, CK_AES_CTR_PARAMS, CK_CCM_PARAMS, CK_CCM_WRAP_PARAMS,
    CK_ECDH1_DERIVE_PARAMS, CK_EDDSA_PARAMS, CK_GCM_MESSAGE_PARAMS, CK_GCM_PARAMS, CK_GCM_WRAP_PARAMS,
    CK_HASH_SIGN_ADDITIONAL_CONTEXT, CK_HKDF_PARAMS, CK_KEY_DERIVATION_STRING_DATA, CK_PRF_DATA_PARAM,
    CK_RSA_AES_KEY_WRAP_PARAMS, CK_RSA_PKCS_OAEP_PARAMS, CK_RSA_PKCS_PSS_PARAMS,
    CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS, CK_SALSA20_CHACHA20_POLY1305_PARAMS, CK_SIGN_ADDITIONAL_CONTEXT,
    CK_SP800_108_FEEDBACK_KDF_PARAMS, CK_SP800_108_KDF_PARAMS, CK_ULONG,
};
use kms_protocol::PRF_DATA_MAX;
use kms_protocol::mechanism_table::Parameter;

use super::c_memory::{Buffer, FuzzInput, Memory};

/// A pointer to a parameter, and its length.
pub(super) type RawParameter = (*mut c_void, CK_ULONG);

/// Builds the parameter that a mechanism takes.
pub(super) fn build(wanted: Parameter, fuzz: &mut FuzzInput<'_>, memory: &mut Memory) -> RawParameter {
    match wanted {
        Parameter::None => parameter_of(memory.any_buffer(fuzz)),
        Parameter::Iv => parameter_of(memory.plain_structure(fuzz, 16)),
        Parameter::Ctr => parameter_of(memory.plain_structure(fuzz, size_of::<CK_AES_CTR_PARAMS>())),
        Parameter::Pss => parameter_of(memory.plain_structure(fuzz, size_of::<CK_RSA_PKCS_PSS_PARAMS>())),
        Parameter::MacBytes | Parameter::Key | Parameter::Extract => {
            parameter_of(memory.plain_structure(fuzz, size_of::<CK_ULONG>()))
        }
        Parameter::WrapIv { bytes } => parameter_of(memory.plain_structure(fuzz, bytes)),
        Parameter::Gcm => gcm(fuzz, memory),
        Parameter::Ccm => ccm(fuzz, memory),
        Parameter::Poly1305 => {
            let (nonce, aad) = (memory.any_buffer(fuzz), memory.any_buffer(fuzz));
            let sealed = CK_SALSA20_CHACHA20_POLY1305_PARAMS {
                pNonce: nonce.pointer,
                ulNonceLen: nonce.length,
                pAAD: aad.pointer,
                ulAADLen: aad.length,
            };
            memory.pointer_structure(fuzz, sealed)
        }
        Parameter::Oaep => {
            let oaep = oaep(fuzz, memory);
            memory.pointer_structure(fuzz, oaep)
        }
        Parameter::RsaAes => {
            let oaep = oaep(fuzz, memory);
            let inner = if fuzz.byte() < 240 { memory.structure(oaep) } else { ptr::null_mut() };
            let wrap = CK_RSA_AES_KEY_WRAP_PARAMS { ulAESKeyBits: fuzz.number(), pOAEPParams: inner };
            memory.pointer_structure(fuzz, wrap)
        }
        Parameter::Eddsa => {
            let context = memory.any_buffer(fuzz);
            let eddsa = CK_EDDSA_PARAMS {
                phFlag: fuzz.byte(),
                ulContextDataLen: context.length,
                pContextData: context.pointer,
            };
            memory.pointer_structure(fuzz, eddsa)
        }
        Parameter::MlDsa => {
            let context = memory.any_buffer(fuzz);
            let sign = CK_SIGN_ADDITIONAL_CONTEXT {
                hedgeVariant: fuzz.number(),
                pContext: context.pointer,
                ulContextLen: context.length,
            };
            memory.pointer_structure(fuzz, sign)
        }
        Parameter::HashMlDsa => {
            let context = memory.any_buffer(fuzz);
            let sign = CK_HASH_SIGN_ADDITIONAL_CONTEXT {
                hedgeVariant: fuzz.number(),
                pContext: context.pointer,
                ulContextLen: context.length,
                hash: fuzz.number(),
            };
            memory.pointer_structure(fuzz, sign)
        }
        Parameter::Ecdh => ecdh(fuzz, memory),
        Parameter::Hkdf => hkdf(fuzz, memory),
        Parameter::Kbkdf { feedback } => kbkdf(feedback, fuzz, memory),
        Parameter::Data { iv_bytes: 0 } => {
            let data = memory.any_buffer(fuzz);
            memory.pointer_structure(
                fuzz,
                CK_KEY_DERIVATION_STRING_DATA { pData: data.pointer, ulLen: data.length },
            )
        }
        Parameter::Data { .. } => {
            let (data, mut iv) = (memory.any_buffer(fuzz), [0; 16]);
            iv.fill_with(|| fuzz.byte());
            let data = CK_AES_CBC_ENCRYPT_DATA_PARAMS { iv, pData: data.pointer, length: data.length };
            memory.pointer_structure(fuzz, data)
        }
    }
}

/// Builds the parameter of one message. The tag's buffer has space for every tag whose length fits in its field.
pub(super) fn message(fuzz: &mut FuzzInput<'_>, memory: &mut Memory) -> RawParameter {
    let nonce = memory.any_buffer(fuzz);
    let tag = if fuzz.byte() < 240 { memory.bytes(&[0x7a; 32]) } else { ptr::null_mut() };
    if fuzz.byte() < 192 {
        let gcm = CK_GCM_MESSAGE_PARAMS {
            pIv: nonce.pointer,
            ulIvLen: nonce.length,
            ulIvFixedBits: fuzz.number(),
            ivGenerator: fuzz.number(),
            pTag: tag,
            ulTagBits: fuzz.number(),
        };
        memory.pointer_structure(fuzz, gcm)
    } else {
        let sealed = CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS {
            pNonce: nonce.pointer,
            ulNonceLen: nonce.length,
            pTag: tag,
        };
        memory.pointer_structure(fuzz, sealed)
    }
}

fn parameter_of(buffer: Buffer) -> RawParameter {
    (buffer.pointer.cast(), buffer.length)
}

fn gcm(fuzz: &mut FuzzInput<'_>, memory: &mut Memory) -> RawParameter {
    let (iv, aad) = (memory.any_buffer(fuzz), memory.any_buffer(fuzz));
    match fuzz.byte() % 3 {
        0 => {
            let wrap = CK_GCM_WRAP_PARAMS {
                pIv: iv.pointer,
                ulIvLen: iv.length,
                ulIvFixedBits: fuzz.number(),
                ivGenerator: fuzz.number(),
                pAAD: aad.pointer,
                ulAADLen: aad.length,
                ulTagBits: fuzz.number(),
            };
            memory.pointer_structure(fuzz, wrap)
        }
        1 => {
            // The layout without `ulIvBits`, which has five words.
            let fields = [
                iv.pointer,
                ptr::without_provenance_mut(address(iv.length)),
                aad.pointer,
                ptr::without_provenance_mut(address(aad.length)),
                ptr::without_provenance_mut(address(fuzz.number())),
            ];
            memory.pointer_structure(fuzz, fields)
        }
        _ => {
            let bits_alone = fuzz.byte() > 223 && iv.length < 1 << 20;
            let gcm = CK_GCM_PARAMS {
                pIv: iv.pointer,
                ulIvLen: if bits_alone { 0 } else { iv.length },
                // The bits are ignored if there is a length.
                ulIvBits: if bits_alone || iv.length == 0 { iv.length * 8 } else { fuzz.number() },
                pAAD: aad.pointer,
                ulAADLen: aad.length,
                ulTagBits: fuzz.number(),
            };
            memory.pointer_structure(fuzz, gcm)
        }
    }
}

fn address(number: CK_ULONG) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn ccm(fuzz: &mut FuzzInput<'_>, memory: &mut Memory) -> RawParameter {
    let (nonce, aad) = (memory.any_buffer(fuzz), memory.any_buffer(fuzz));
    if fuzz.byte() < 192 {
        let ccm = CK_CCM_PARAMS {
            ulDataLen: fuzz.number(),
            pNonce: nonce.pointer,
            ulNonceLen: nonce.length,
            pAAD: aad.pointer,
            ulAADLen: aad.length,
            ulMACLen: fuzz.number(),
        };
        return memory.pointer_structure(fuzz, ccm);
    }
    let wrap = CK_CCM_WRAP_PARAMS {
        ulDataLen: fuzz.number(),
        pNonce: nonce.pointer,
        ulNonceLen: nonce.length,
        ulNonceFixedBits: fuzz.number(),
        nonceGenerator: fuzz.number(),
        pAAD: aad.pointer,
        ulAADLen: aad.length,
        ulMACLen: fuzz.number(),
    };
    memory.pointer_structure(fuzz, wrap)
}

fn oaep(fuzz: &mut FuzzInput<'_>, memory: &mut Memory) -> CK_RSA_PKCS_OAEP_PARAMS {
    let label = memory.any_buffer(fuzz);
    CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: fuzz.number(),
        mgf: fuzz.number(),
        source: fuzz.number(),
        pSourceData: label.pointer.cast(),
        ulSourceDataLen: label.length,
    }
}

fn ecdh(fuzz: &mut FuzzInput<'_>, memory: &mut Memory) -> RawParameter {
    let (shared, public) = (memory.any_buffer(fuzz), memory.any_buffer(fuzz));
    let ecdh = CK_ECDH1_DERIVE_PARAMS {
        kdf: fuzz.number(),
        ulSharedDataLen: shared.length,
        pSharedData: shared.pointer,
        ulPublicDataLen: public.length,
        pPublicData: public.pointer,
    };
    memory.pointer_structure(fuzz, ecdh)
}

fn hkdf(fuzz: &mut FuzzInput<'_>, memory: &mut Memory) -> RawParameter {
    let (salt, info) = (memory.any_buffer(fuzz), memory.any_buffer(fuzz));
    let hkdf = CK_HKDF_PARAMS {
        bExtract: fuzz.byte(),
        bExpand: fuzz.byte(),
        prfHashMechanism: fuzz.number(),
        ulSaltType: fuzz.number(),
        pSalt: salt.pointer,
        ulSaltLen: salt.length,
        hSaltKey: fuzz.number(),
        pInfo: info.pointer,
        ulInfoLen: info.length,
    };
    memory.pointer_structure(fuzz, hkdf)
}

fn kbkdf(feedback: bool, fuzz: &mut FuzzInput<'_>, memory: &mut Memory) -> RawParameter {
    let parts = (0..usize::from(fuzz.byte()) % (PRF_DATA_MAX + 2)).map(|_| {
        // All formats have two or three words and no pointers.
        let length = [0, 16, 24][usize::from(fuzz.byte()) % 3];
        let value = memory.plain_structure(fuzz, length);
        CK_PRF_DATA_PARAM { type_: fuzz.number(), pValue: value.pointer.cast(), ulValueLen: value.length }
    });
    let parts: Vec<_> = parts.collect();
    let count = parts.len() as CK_ULONG;
    let (pointer, count) = match fuzz.byte() {
        0..=223 => (memory.array(parts), count),
        224..=239 => (ptr::null_mut(), fuzz.number()),
        240.. => (memory.array(parts), fuzz.number().saturating_add(PRF_DATA_MAX as CK_ULONG + 1)),
    };
    let iv = memory.any_buffer(fuzz);
    let more = if fuzz.byte() < 240 { 0 } else { fuzz.number() };
    if feedback {
        let kdf = CK_SP800_108_FEEDBACK_KDF_PARAMS {
            prfType: fuzz.number(),
            ulNumberOfDataParams: count,
            pDataParams: pointer,
            ulIVLen: iv.length,
            pIV: iv.pointer,
            ulAdditionalDerivedKeys: more,
            pAdditionalDerivedKeys: ptr::null_mut(),
        };
        return memory.pointer_structure(fuzz, kdf);
    }
    let kdf = CK_SP800_108_KDF_PARAMS {
        prfType: fuzz.number(),
        ulNumberOfDataParams: count,
        pDataParams: pointer,
        ulAdditionalDerivedKeys: more,
        pAdditionalDerivedKeys: ptr::null_mut(),
    };
    memory.pointer_structure(fuzz, kdf)
}
