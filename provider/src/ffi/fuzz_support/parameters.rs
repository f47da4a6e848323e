//! The parameter of each mechanism as the C structure that it is, filled by a fuzzer.

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

use super::memory::{Choices, Claim, Memory};

/// A parameter and its length.
pub(super) type Laid = (*mut c_void, CK_ULONG);

/// Lays out the parameter that a mechanism takes.
pub(super) fn lay(wanted: Parameter, choices: &mut Choices<'_>, memory: &mut Memory) -> Laid {
    match wanted {
        Parameter::None => whole(memory.claim(choices)),
        Parameter::Iv => whole(memory.flat(choices, 16)),
        Parameter::Ctr => whole(memory.flat(choices, size_of::<CK_AES_CTR_PARAMS>())),
        Parameter::Pss => whole(memory.flat(choices, size_of::<CK_RSA_PKCS_PSS_PARAMS>())),
        Parameter::MacBytes | Parameter::Key | Parameter::Extract => {
            whole(memory.flat(choices, size_of::<CK_ULONG>()))
        }
        Parameter::WrapIv { bytes } => whole(memory.flat(choices, bytes)),
        Parameter::Gcm => gcm(choices, memory),
        Parameter::Ccm => ccm(choices, memory),
        Parameter::Poly1305 => {
            let (nonce, aad) = (memory.claim(choices), memory.claim(choices));
            let sealed = CK_SALSA20_CHACHA20_POLY1305_PARAMS {
                pNonce: nonce.place,
                ulNonceLen: nonce.length,
                pAAD: aad.place,
                ulAADLen: aad.length,
            };
            memory.pointing(choices, sealed)
        }
        Parameter::Oaep => {
            let oaep = oaep(choices, memory);
            memory.pointing(choices, oaep)
        }
        Parameter::RsaAes => {
            let oaep = oaep(choices, memory);
            let inner = if choices.byte() < 240 { memory.structure(oaep) } else { ptr::null_mut() };
            let wrap = CK_RSA_AES_KEY_WRAP_PARAMS { ulAESKeyBits: choices.number(), pOAEPParams: inner };
            memory.pointing(choices, wrap)
        }
        Parameter::Eddsa => {
            let context = memory.claim(choices);
            let eddsa = CK_EDDSA_PARAMS {
                phFlag: choices.byte(),
                ulContextDataLen: context.length,
                pContextData: context.place,
            };
            memory.pointing(choices, eddsa)
        }
        Parameter::MlDsa => {
            let context = memory.claim(choices);
            let sign = CK_SIGN_ADDITIONAL_CONTEXT {
                hedgeVariant: choices.number(),
                pContext: context.place,
                ulContextLen: context.length,
            };
            memory.pointing(choices, sign)
        }
        Parameter::HashMlDsa => {
            let context = memory.claim(choices);
            let sign = CK_HASH_SIGN_ADDITIONAL_CONTEXT {
                hedgeVariant: choices.number(),
                pContext: context.place,
                ulContextLen: context.length,
                hash: choices.number(),
            };
            memory.pointing(choices, sign)
        }
        Parameter::Ecdh => ecdh(choices, memory),
        Parameter::Hkdf => hkdf(choices, memory),
        Parameter::Kbkdf { feedback } => kbkdf(feedback, choices, memory),
        Parameter::Data { iv_bytes: 0 } => {
            let data = memory.claim(choices);
            memory.pointing(choices, CK_KEY_DERIVATION_STRING_DATA { pData: data.place, ulLen: data.length })
        }
        Parameter::Data { .. } => {
            let (data, mut iv) = (memory.claim(choices), [0; 16]);
            iv.fill_with(|| choices.byte());
            let data = CK_AES_CBC_ENCRYPT_DATA_PARAMS { iv, pData: data.place, length: data.length };
            memory.pointing(choices, data)
        }
    }
}

/// Lays out the parameter of one message. The tag's place has room for every tag whose length fits in its field.
pub(super) fn message(choices: &mut Choices<'_>, memory: &mut Memory) -> Laid {
    let nonce = memory.claim(choices);
    let tag = if choices.byte() < 240 { memory.bytes(&[0x7a; 32]) } else { ptr::null_mut() };
    if choices.byte() < 192 {
        let gcm = CK_GCM_MESSAGE_PARAMS {
            pIv: nonce.place,
            ulIvLen: nonce.length,
            ulIvFixedBits: choices.number(),
            ivGenerator: choices.number(),
            pTag: tag,
            ulTagBits: choices.number(),
        };
        memory.pointing(choices, gcm)
    } else {
        let sealed = CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS {
            pNonce: nonce.place,
            ulNonceLen: nonce.length,
            pTag: tag,
        };
        memory.pointing(choices, sealed)
    }
}

fn whole(claim: Claim) -> Laid {
    (claim.place.cast(), claim.length)
}

fn gcm(choices: &mut Choices<'_>, memory: &mut Memory) -> Laid {
    let (iv, aad) = (memory.claim(choices), memory.claim(choices));
    match choices.byte() % 3 {
        0 => {
            let wrap = CK_GCM_WRAP_PARAMS {
                pIv: iv.place,
                ulIvLen: iv.length,
                ulIvFixedBits: choices.number(),
                ivGenerator: choices.number(),
                pAAD: aad.place,
                ulAADLen: aad.length,
                ulTagBits: choices.number(),
            };
            memory.pointing(choices, wrap)
        }
        1 => {
            // The layout without `ulIvBits`, which is five words.
            let fields = [
                iv.place,
                ptr::without_provenance_mut(address(iv.length)),
                aad.place,
                ptr::without_provenance_mut(address(aad.length)),
                ptr::without_provenance_mut(address(choices.number())),
            ];
            memory.pointing(choices, fields)
        }
        _ => {
            let bits_alone = choices.byte() > 223 && iv.length < 1 << 20;
            let gcm = CK_GCM_PARAMS {
                pIv: iv.place,
                ulIvLen: if bits_alone { 0 } else { iv.length },
                // With a length beside them the bits are not looked at.
                ulIvBits: if bits_alone || iv.length == 0 { iv.length * 8 } else { choices.number() },
                pAAD: aad.place,
                ulAADLen: aad.length,
                ulTagBits: choices.number(),
            };
            memory.pointing(choices, gcm)
        }
    }
}

fn address(number: CK_ULONG) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn ccm(choices: &mut Choices<'_>, memory: &mut Memory) -> Laid {
    let (nonce, aad) = (memory.claim(choices), memory.claim(choices));
    if choices.byte() < 192 {
        let ccm = CK_CCM_PARAMS {
            ulDataLen: choices.number(),
            pNonce: nonce.place,
            ulNonceLen: nonce.length,
            pAAD: aad.place,
            ulAADLen: aad.length,
            ulMACLen: choices.number(),
        };
        return memory.pointing(choices, ccm);
    }
    let wrap = CK_CCM_WRAP_PARAMS {
        ulDataLen: choices.number(),
        pNonce: nonce.place,
        ulNonceLen: nonce.length,
        ulNonceFixedBits: choices.number(),
        nonceGenerator: choices.number(),
        pAAD: aad.place,
        ulAADLen: aad.length,
        ulMACLen: choices.number(),
    };
    memory.pointing(choices, wrap)
}

fn oaep(choices: &mut Choices<'_>, memory: &mut Memory) -> CK_RSA_PKCS_OAEP_PARAMS {
    let label = memory.claim(choices);
    CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: choices.number(),
        mgf: choices.number(),
        source: choices.number(),
        pSourceData: label.place.cast(),
        ulSourceDataLen: label.length,
    }
}

fn ecdh(choices: &mut Choices<'_>, memory: &mut Memory) -> Laid {
    let (shared, public) = (memory.claim(choices), memory.claim(choices));
    let ecdh = CK_ECDH1_DERIVE_PARAMS {
        kdf: choices.number(),
        ulSharedDataLen: shared.length,
        pSharedData: shared.place,
        ulPublicDataLen: public.length,
        pPublicData: public.place,
    };
    memory.pointing(choices, ecdh)
}

fn hkdf(choices: &mut Choices<'_>, memory: &mut Memory) -> Laid {
    let (salt, info) = (memory.claim(choices), memory.claim(choices));
    let hkdf = CK_HKDF_PARAMS {
        bExtract: choices.byte(),
        bExpand: choices.byte(),
        prfHashMechanism: choices.number(),
        ulSaltType: choices.number(),
        pSalt: salt.place,
        ulSaltLen: salt.length,
        hSaltKey: choices.number(),
        pInfo: info.place,
        ulInfoLen: info.length,
    };
    memory.pointing(choices, hkdf)
}

fn kbkdf(feedback: bool, choices: &mut Choices<'_>, memory: &mut Memory) -> Laid {
    let parts = (0..usize::from(choices.byte()) % (PRF_DATA_MAX + 2)).map(|_| {
        // All formats are as long as two words or three, and have no pointers.
        let length = [0, 16, 24][usize::from(choices.byte()) % 3];
        let value = memory.flat(choices, length);
        CK_PRF_DATA_PARAM { type_: choices.number(), pValue: value.place.cast(), ulValueLen: value.length }
    });
    let parts: Vec<_> = parts.collect();
    let count = parts.len() as CK_ULONG;
    let (place, count) = match choices.byte() {
        0..=223 => (memory.array(parts), count),
        224..=239 => (ptr::null_mut(), choices.number()),
        240.. => (memory.array(parts), choices.number().saturating_add(PRF_DATA_MAX as CK_ULONG + 1)),
    };
    let iv = memory.claim(choices);
    let more = if choices.byte() < 240 { 0 } else { choices.number() };
    if feedback {
        let kdf = CK_SP800_108_FEEDBACK_KDF_PARAMS {
            prfType: choices.number(),
            ulNumberOfDataParams: count,
            pDataParams: place,
            ulIVLen: iv.length,
            pIV: iv.place,
            ulAdditionalDerivedKeys: more,
            pAdditionalDerivedKeys: ptr::null_mut(),
        };
        return memory.pointing(choices, kdf);
    }
    let kdf = CK_SP800_108_KDF_PARAMS {
        prfType: choices.number(),
        ulNumberOfDataParams: count,
        pDataParams: place,
        ulAdditionalDerivedKeys: more,
        pAdditionalDerivedKeys: ptr::null_mut(),
    };
    memory.pointing(choices, kdf)
}
