//! Templates and mechanisms as C memory, owned by Rust values.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::{
    CK_AES_CTR_PARAMS, CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_GCM_PARAMS, CK_MECHANISM, CK_MECHANISM_TYPE,
    CK_RSA_PKCS_PSS_PARAMS, CK_ULONG,
};

/// A length as C writes it.
///
/// # Panics
/// Never: `CK_ULONG` is as wide as a pointer here.
pub(super) fn ulong(length: usize) -> CK_ULONG {
    CK_ULONG::try_from(length).expect("CK_ULONG is as wide as usize")
}

/// Attributes with their values.
#[derive(Clone, Debug, Default)]
pub struct Template {
    values: Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>,
}

impl Template {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more, true or false.
    #[must_use]
    pub fn bool(self, kind: CK_ATTRIBUTE_TYPE, value: bool) -> Self {
        self.bytes(kind, &[u8::from(value)])
    }

    /// One more, a number.
    #[must_use]
    pub fn ulong(self, kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// One more, bytes.
    #[must_use]
    pub fn bytes(mut self, kind: CK_ATTRIBUTE_TYPE, value: &[u8]) -> Self {
        self.values.push((kind, value.to_vec()));
        self
    }

    /// The C array; it points into `self`.
    pub fn list(&mut self) -> Vec<CK_ATTRIBUTE> {
        let attribute = |(kind, value): &mut (CK_ATTRIBUTE_TYPE, Vec<u8>)| CK_ATTRIBUTE {
            type_: *kind,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: ulong(value.len()),
        };
        self.values.iter_mut().map(attribute).collect()
    }
}

/// A mechanism with its parameter.
#[derive(Clone, Debug)]
pub struct Mechanism {
    kind: CK_MECHANISM_TYPE,
    parameter: Parameter,
}

#[derive(Clone, Debug)]
enum Parameter {
    None,
    Bytes(Vec<u8>),
    Ctr(Box<CK_AES_CTR_PARAMS>),
    Pss(Box<CK_RSA_PKCS_PSS_PARAMS>),
    Gcm { iv: Vec<u8>, aad: Vec<u8>, tag_bits: CK_ULONG, made: Box<CK_GCM_PARAMS> },
}

impl Mechanism {
    /// Without parameter.
    pub fn plain(kind: CK_MECHANISM_TYPE) -> Self {
        Self { kind, parameter: Parameter::None }
    }

    /// With bytes, such as an IV.
    pub fn with(kind: CK_MECHANISM_TYPE, parameter: &[u8]) -> Self {
        Self { kind, parameter: Parameter::Bytes(parameter.to_vec()) }
    }

    /// An HMAC cut to a length.
    pub fn general(kind: CK_MECHANISM_TYPE, mac_bytes: CK_ULONG) -> Self {
        Self::with(kind, &mac_bytes.to_ne_bytes())
    }

    /// `CKM_AES_CTR`.
    pub fn ctr(counter_bits: CK_ULONG, block: [u8; 16]) -> Self {
        let parameters = CK_AES_CTR_PARAMS { ulCounterBits: counter_bits, cb: block };
        Self { kind: cryptoki_sys::CKM_AES_CTR, parameter: Parameter::Ctr(Box::new(parameters)) }
    }

    /// A PSS mechanism.
    pub fn pss(
        kind: CK_MECHANISM_TYPE,
        hash: CK_MECHANISM_TYPE,
        mgf: CK_ULONG,
        salt_bytes: CK_ULONG,
    ) -> Self {
        let parameters = CK_RSA_PKCS_PSS_PARAMS { hashAlg: hash, mgf, sLen: salt_bytes };
        Self { kind, parameter: Parameter::Pss(Box::new(parameters)) }
    }

    /// `CKM_AES_GCM`.
    pub fn gcm(iv: &[u8], aad: &[u8], tag_bits: CK_ULONG) -> Self {
        let made = Box::new(CK_GCM_PARAMS::default());
        let parameter = Parameter::Gcm { iv: iv.to_vec(), aad: aad.to_vec(), tag_bits, made };
        Self { kind: cryptoki_sys::CKM_AES_GCM, parameter }
    }

    /// The C structure; it points into `self`.
    pub fn raw(&mut self) -> CK_MECHANISM {
        let (pointer, length): (*mut c_void, usize) = match &mut self.parameter {
            Parameter::None => (ptr::null_mut(), 0),
            Parameter::Bytes(bytes) => (bytes.as_mut_ptr().cast(), bytes.len()),
            Parameter::Ctr(made) => (ptr::from_mut(&mut **made).cast(), size_of::<CK_AES_CTR_PARAMS>()),
            Parameter::Pss(made) => (ptr::from_mut(&mut **made).cast(), size_of::<CK_RSA_PKCS_PSS_PARAMS>()),
            Parameter::Gcm { iv, aad, tag_bits, made } => {
                **made = CK_GCM_PARAMS {
                    pIv: iv.as_mut_ptr(),
                    ulIvLen: ulong(iv.len()),
                    ulIvBits: ulong(iv.len() * 8),
                    pAAD: if aad.is_empty() { ptr::null_mut() } else { aad.as_mut_ptr() },
                    ulAADLen: ulong(aad.len()),
                    ulTagBits: *tag_bits,
                };
                (ptr::from_mut(&mut **made).cast(), size_of::<CK_GCM_PARAMS>())
            }
        };
        CK_MECHANISM { mechanism: self.kind, pParameter: pointer, ulParameterLen: ulong(length) }
    }
}
