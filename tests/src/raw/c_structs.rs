//! C structures for templates and mechanisms, whose memory Rust values own.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::{
    CK_AES_CTR_PARAMS, CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_GCM_PARAMS, CK_MECHANISM, CK_MECHANISM_TYPE,
    CK_RSA_PKCS_PSS_PARAMS, CK_ULONG,
};

/// Converts a length to `CK_ULONG`.
///
/// # Panics
/// Never: `CK_ULONG` is as wide as a pointer here.
pub(super) fn ulong(length: usize) -> CK_ULONG {
    CK_ULONG::try_from(length).expect("CK_ULONG is as wide as usize")
}

/// A template: attributes with their values.
#[derive(Clone, Debug, Default)]
pub struct Template {
    values: Vec<(CK_ATTRIBUTE_TYPE, Value)>,
}

#[derive(Clone, Debug)]
enum Value {
    Bytes(Vec<u8>),
    /// A nested template, and its C array once it is built: three machine words per attribute.
    Nested(Template, Vec<[CK_ULONG; 3]>),
}

impl Template {
    /// An empty template.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a boolean attribute.
    #[must_use]
    pub fn bool(self, kind: CK_ATTRIBUTE_TYPE, value: bool) -> Self {
        self.bytes(kind, &[u8::from(value)])
    }

    /// Adds a number.
    #[must_use]
    pub fn ulong(self, kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a byte string.
    #[must_use]
    pub fn bytes(mut self, kind: CK_ATTRIBUTE_TYPE, value: &[u8]) -> Self {
        self.values.push((kind, Value::Bytes(value.to_vec())));
        self
    }

    /// Adds a nested template such as `CKA_UNWRAP_TEMPLATE`.
    #[must_use]
    pub fn nested(mut self, kind: CK_ATTRIBUTE_TYPE, value: Self) -> Self {
        self.values.push((kind, Value::Nested(value, Vec::new())));
        self
    }

    /// Adds all attributes of another template.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.values.extend(more.values);
        self
    }

    /// The C array; it points into `self`.
    pub fn list(&mut self) -> Vec<CK_ATTRIBUTE> {
        let attribute = |(kind, value): &mut (CK_ATTRIBUTE_TYPE, Value)| {
            let (pointer, bytes): (*mut c_void, usize) = match value {
                Value::Bytes(bytes) => (bytes.as_mut_ptr().cast(), bytes.len()),
                Value::Nested(template, list) => {
                    let words = |inner: CK_ATTRIBUTE| {
                        [inner.type_, ulong(inner.pValue.expose_provenance()), inner.ulValueLen]
                    };
                    *list = template.list().into_iter().map(words).collect();
                    (list.as_mut_ptr().cast(), size_of_val(&**list))
                }
            };
            CK_ATTRIBUTE { type_: *kind, pValue: pointer, ulValueLen: ulong(bytes) }
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
    Gcm { iv: Vec<u8>, aad: Vec<u8>, tag_bits: CK_ULONG, built: Box<CK_GCM_PARAMS> },
    Fields { fields: Vec<Field>, built: Vec<Vec<CK_ULONG>> },
}

/// One or two fields of a mechanism's parameter structure.
#[derive(Clone, Debug)]
pub enum Field {
    /// A number.
    Number(CK_ULONG),
    /// A pointer to bytes, followed by their length.
    Bytes(Vec<u8>),
    /// The length of bytes, followed by a pointer to them.
    Counted(Vec<u8>),
    /// A pointer to a structure.
    Structure(Vec<Field>),
}

impl Mechanism {
    /// A mechanism without a parameter.
    pub fn plain(kind: CK_MECHANISM_TYPE) -> Self {
        Self { kind, parameter: Parameter::None }
    }

    /// A mechanism with a byte string, such as an IV, as its parameter.
    pub fn with(kind: CK_MECHANISM_TYPE, parameter: &[u8]) -> Self {
        Self { kind, parameter: Parameter::Bytes(parameter.to_vec()) }
    }

    /// A MAC mechanism whose parameter is the output length (`…_GENERAL`).
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
        let built = Box::new(CK_GCM_PARAMS::default());
        let parameter = Parameter::Gcm { iv: iv.to_vec(), aad: aad.to_vec(), tag_bits, built };
        Self { kind: cryptoki_sys::CKM_AES_GCM, parameter }
    }

    /// A mechanism whose parameter structure has only fields of pointer width, as most have.
    pub fn fields(kind: CK_MECHANISM_TYPE, fields: Vec<Field>) -> Self {
        Self { kind, parameter: Parameter::Fields { fields, built: Vec::new() } }
    }

    /// `CKM_RSA_PKCS_OAEP` with one hash for both of its uses.
    pub fn oaep(hash: CK_MECHANISM_TYPE, mgf: CK_ULONG, label: &[u8]) -> Self {
        Self::fields(cryptoki_sys::CKM_RSA_PKCS_OAEP, oaep_fields(hash, mgf, label))
    }

    /// `CKM_RSA_AES_KEY_WRAP` with the OAEP parameters of [`Mechanism::oaep`].
    pub fn rsa_aes(aes_bits: CK_ULONG, hash: CK_MECHANISM_TYPE, mgf: CK_ULONG) -> Self {
        let fields = vec![Field::Number(aes_bits), Field::Structure(oaep_fields(hash, mgf, b""))];
        Self::fields(cryptoki_sys::CKM_RSA_AES_KEY_WRAP, fields)
    }

    /// `CKM_AES_CCM` for a plaintext of `data_bytes`.
    pub fn ccm(data_bytes: usize, nonce: &[u8], aad: &[u8], mac_bytes: CK_ULONG) -> Self {
        let (nonce, aad) = (Field::Bytes(nonce.to_vec()), Field::Bytes(aad.to_vec()));
        let fields = vec![Field::Number(ulong(data_bytes)), nonce, aad, Field::Number(mac_bytes)];
        Self::fields(cryptoki_sys::CKM_AES_CCM, fields)
    }

    /// `CKM_ECDH1_DERIVE` without a key derivation function (`CKD_NULL`).
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
            Parameter::Ctr(built) => (ptr::from_mut(&mut **built).cast(), size_of::<CK_AES_CTR_PARAMS>()),
            Parameter::Pss(built) => {
                (ptr::from_mut(&mut **built).cast(), size_of::<CK_RSA_PKCS_PSS_PARAMS>())
            }
            Parameter::Gcm { iv, aad, tag_bits, built } => {
                **built = CK_GCM_PARAMS {
                    pIv: iv.as_mut_ptr(),
                    ulIvLen: ulong(iv.len()),
                    ulIvBits: ulong(iv.len() * 8),
                    pAAD: if aad.is_empty() { ptr::null_mut() } else { aad.as_mut_ptr() },
                    ulAADLen: ulong(aad.len()),
                    ulTagBits: *tag_bits,
                };
                (ptr::from_mut(&mut **built).cast(), size_of::<CK_GCM_PARAMS>())
            }
            Parameter::Fields { fields, built } => {
                built.clear();
                build(fields, built);
                let outer = built.last_mut().expect("the outer structure comes last");
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

/// Builds a structure after the structures nested in it, and returns its address.
fn build(fields: &mut [Field], built: &mut Vec<Vec<CK_ULONG>>) -> CK_ULONG {
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
            Field::Structure(inner) => words.push(build(inner, built)),
        }
    }
    let address = ulong(words.as_mut_ptr().expose_provenance());
    built.push(words);
    address
}
