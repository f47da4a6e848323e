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
    values: Vec<(CK_ATTRIBUTE_TYPE, Value)>,
}

#[derive(Clone, Debug)]
enum Value {
    Bytes(Vec<u8>),
    /// A template within, and its C array once it is made: three words for each attribute.
    Nested(Template, Vec<[CK_ULONG; 3]>),
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
        self.values.push((kind, Value::Bytes(value.to_vec())));
        self
    }

    /// One more, a template such as `CKA_UNWRAP_TEMPLATE`.
    #[must_use]
    pub fn nested(mut self, kind: CK_ATTRIBUTE_TYPE, value: Self) -> Self {
        self.values.push((kind, Value::Nested(value, Vec::new())));
        self
    }

    /// These and those of another.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.values.extend(more.values);
        self
    }

    /// The C array; it points into `self`.
    pub fn list(&mut self) -> Vec<CK_ATTRIBUTE> {
        let attribute = |(kind, value): &mut (CK_ATTRIBUTE_TYPE, Value)| {
            let (place, bytes): (*mut c_void, usize) = match value {
                Value::Bytes(bytes) => (bytes.as_mut_ptr().cast(), bytes.len()),
                Value::Nested(template, list) => {
                    let words = |inner: CK_ATTRIBUTE| {
                        [inner.type_, ulong(inner.pValue.expose_provenance()), inner.ulValueLen]
                    };
                    *list = template.list().into_iter().map(words).collect();
                    (list.as_mut_ptr().cast(), size_of_val(&**list))
                }
            };
            CK_ATTRIBUTE { type_: *kind, pValue: place, ulValueLen: ulong(bytes) }
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
    Fields { fields: Vec<Field>, made: Vec<Vec<CK_ULONG>> },
}

/// A field of a parameter structure, or two.
#[derive(Clone, Debug)]
pub enum Field {
    /// A number.
    Number(CK_ULONG),
    /// A pointer to bytes, and behind it their length.
    Bytes(Vec<u8>),
    /// The length of bytes, and behind it a pointer to them.
    Counted(Vec<u8>),
    /// A pointer to a structure.
    Structure(Vec<Field>),
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

    /// With a structure whose fields are each as wide as a pointer, as most parameters are.
    pub fn fields(kind: CK_MECHANISM_TYPE, fields: Vec<Field>) -> Self {
        Self { kind, parameter: Parameter::Fields { fields, made: Vec::new() } }
    }

    /// `CKM_RSA_PKCS_OAEP` with one hash for both of its uses.
    pub fn oaep(hash: CK_MECHANISM_TYPE, mgf: CK_ULONG, label: &[u8]) -> Self {
        Self::fields(cryptoki_sys::CKM_RSA_PKCS_OAEP, oaep_fields(hash, mgf, label))
    }

    /// `CKM_RSA_AES_KEY_WRAP` with OAEP as [`Mechanism::oaep`] has it.
    pub fn rsa_aes(aes_bits: CK_ULONG, hash: CK_MECHANISM_TYPE, mgf: CK_ULONG) -> Self {
        let fields = vec![Field::Number(aes_bits), Field::Structure(oaep_fields(hash, mgf, b""))];
        Self::fields(cryptoki_sys::CKM_RSA_AES_KEY_WRAP, fields)
    }

    /// `CKM_AES_CCM` of so many bytes of plaintext.
    pub fn ccm(data_bytes: usize, nonce: &[u8], aad: &[u8], mac_bytes: CK_ULONG) -> Self {
        let (nonce, aad) = (Field::Bytes(nonce.to_vec()), Field::Bytes(aad.to_vec()));
        let fields = vec![Field::Number(ulong(data_bytes)), nonce, aad, Field::Number(mac_bytes)];
        Self::fields(cryptoki_sys::CKM_AES_CCM, fields)
    }

    /// `CKM_ECDH1_DERIVE` without a function behind the agreement.
    pub fn ecdh(public: &[u8]) -> Self {
        let kdf = Field::Number(cryptoki_sys::CKD_NULL);
        let fields = vec![kdf, Field::Counted(Vec::new()), Field::Counted(public.to_vec())];
        Self::fields(cryptoki_sys::CKM_ECDH1_DERIVE, fields)
    }

    /// `CKM_CHACHA20_POLY1305`.
    pub fn chacha(nonce: &[u8], aad: &[u8]) -> Self {
        let fields = vec![Field::Bytes(nonce.to_vec()), Field::Bytes(aad.to_vec())];
        Self::fields(cryptoki_sys::CKM_CHACHA20_POLY1305, fields)
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
            Parameter::Fields { fields, made } => {
                made.clear();
                lay(fields, made);
                let outer = made.last_mut().expect("the outer structure comes last");
                (outer.as_mut_ptr().cast(), size_of_val(&**outer))
            }
        };
        CK_MECHANISM { mechanism: self.kind, pParameter: pointer, ulParameterLen: ulong(length) }
    }
}

fn oaep_fields(hash: CK_MECHANISM_TYPE, mgf: CK_ULONG, label: &[u8]) -> Vec<Field> {
    let source = Field::Number(cryptoki_sys::CKZ_DATA_SPECIFIED);
    vec![Field::Number(hash), Field::Number(mgf), source, Field::Bytes(label.to_vec())]
}

/// Lays a structure out behind those within it, and gives its address.
fn lay(fields: &mut [Field], made: &mut Vec<Vec<CK_ULONG>>) -> CK_ULONG {
    let mut words = Vec::new();
    for field in fields {
        match field {
            Field::Number(number) => words.push(*number),
            Field::Bytes(bytes) if bytes.is_empty() => words.extend([0, 0]),
            Field::Bytes(bytes) => {
                words.extend([ulong(bytes.as_mut_ptr().expose_provenance()), ulong(bytes.len())]);
            }
            Field::Counted(bytes) if bytes.is_empty() => words.extend([0, 0]),
            Field::Counted(bytes) => {
                words.extend([ulong(bytes.len()), ulong(bytes.as_mut_ptr().expose_provenance())]);
            }
            Field::Structure(inner) => words.push(lay(inner, made)),
        }
    }
    let address = ulong(words.as_mut_ptr().expose_provenance());
    made.push(words);
    address
}
