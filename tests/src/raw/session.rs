//! A session of a module, with each C function as a method: results instead of codes, vectors instead of pointers.
//!
//! The size of an output buffer is an [`OutputSize`], so that a test can pass a null pointer or a buffer that is too
//! small; each buffer is followed by a canary.

use std::ptr;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_BYTE, CK_FLAGS, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SESSION_INFO,
    CK_SLOT_ID, CK_TOKEN_INFO, CK_ULONG, CK_USER_TYPE, CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_USER,
};
use kms_protocol::Rv;

use super::c_structs::{Mechanism, Template, ulong};
use super::{Module, code};
use crate::USER_PIN;

/// Larger than any output in the tests.
pub(super) const OUTPUT_BYTES_MAX: usize = 1 << 16;

/// The output buffer that is passed to a function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputSize {
    /// A null pointer, which queries the length.
    Query,
    /// A buffer of this many bytes.
    Bytes(usize),
}

/// An open session.
#[derive(Clone, Copy, Debug)]
pub struct Session<'m> {
    /// The module.
    pub module: &'m Module,
    /// The session's handle.
    pub handle: CK_SESSION_HANDLE,
}

type Cipher =
    unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG) -> u64;
type Finish = unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_BYTE, *mut CK_ULONG) -> u64;

impl Module {
    /// The slots: all, or only those with a token.
    ///
    /// # Errors
    /// The module's return code.
    ///
    /// # Panics
    /// When the module reports more slots than fit in memory.
    pub fn slots(&self, with_token: bool) -> Result<Vec<CK_SLOT_ID>, Rv> {
        let mut count = 0;
        crate::call!(self, C_GetSlotList(u8::from(with_token), ptr::null_mut(), &raw mut count))?;
        let mut slots = vec![0; usize::try_from(count).expect("a count fits")];
        crate::call!(self, C_GetSlotList(u8::from(with_token), slots.as_mut_ptr(), &raw mut count))?;
        slots.truncate(usize::try_from(count).expect("a count fits"));
        Ok(slots)
    }

    /// The slot of the token with this label.
    ///
    /// # Panics
    /// When there is none.
    pub fn slot(&self, label: &str) -> CK_SLOT_ID {
        let slots = self.slots(true).expect("slots can be listed");
        let named = |slot: &CK_SLOT_ID| self.token(*slot).is_ok_and(|token| trimmed(&token.label) == label);
        slots.into_iter().find(named).unwrap_or_else(|| panic!("no token {label:?}"))
    }

    /// `C_GetTokenInfo`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn token(&self, slot: CK_SLOT_ID) -> Result<CK_TOKEN_INFO, Rv> {
        let mut info = CK_TOKEN_INFO::default();
        crate::call!(self, C_GetTokenInfo(slot, &raw mut info)).map(|()| info)
    }

    /// `C_OpenSession`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn open(&self, slot: CK_SLOT_ID, flags: CK_FLAGS) -> Result<Session<'_>, Rv> {
        let mut handle = 0;
        crate::call!(self, C_OpenSession(slot, flags, ptr::null_mut(), None, &raw mut handle))?;
        Ok(Session { module: self, handle })
    }

    /// Opens a read-write session on the labelled token and logs its user in.
    ///
    /// # Panics
    /// When that fails.
    pub fn user(&self, label: &str) -> Session<'_> {
        let session =
            self.open(self.slot(label), CKF_SERIAL_SESSION | CKF_RW_SESSION).expect("a session opens");
        session.login(CKU_USER, USER_PIN.as_bytes()).expect("the user logs in");
        session
    }
}

impl Session<'_> {
    /// `C_Login`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn login(&self, user: CK_USER_TYPE, pin: &[u8]) -> Result<(), Rv> {
        crate::call!(self.module, C_Login(self.handle, user, pin.as_ptr().cast_mut(), ulong(pin.len())))
    }

    /// `C_Logout`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn logout(&self) -> Result<(), Rv> {
        crate::call!(self.module, C_Logout(self.handle))
    }

    /// `C_CloseSession`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn close(&self) -> Result<(), Rv> {
        crate::call!(self.module, C_CloseSession(self.handle))
    }

    /// `C_GetSessionInfo`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn info(&self) -> Result<CK_SESSION_INFO, Rv> {
        let mut info = CK_SESSION_INFO::default();
        crate::call!(self.module, C_GetSessionInfo(self.handle, &raw mut info)).map(|()| info)
    }

    /// `C_GenerateKey`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn generate(&self, mut mechanism: Mechanism, mut template: Template) -> Result<CK_OBJECT_HANDLE, Rv> {
        let (mut raw, mut list, mut key) = (mechanism.raw(), template.list(), 0);
        let count = ulong(list.len());
        crate::call!(
            self.module,
            C_GenerateKey(self.handle, &raw mut raw, list.as_mut_ptr(), count, &raw mut key)
        )?;
        Ok(key)
    }

    /// `C_GenerateKeyPair`: the public and the private key.
    ///
    /// # Errors
    /// The module's return code.
    pub fn generate_pair(
        &self,
        mut mechanism: Mechanism,
        mut public: Template,
        mut private: Template,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), Rv> {
        let (mut raw, mut public, mut private) = (mechanism.raw(), public.list(), private.list());
        let (public_count, private_count) = (ulong(public.len()), ulong(private.len()));
        let (mut public_key, mut private_key) = (0, 0);
        crate::call!(
            self.module,
            C_GenerateKeyPair(
                self.handle,
                &raw mut raw,
                public.as_mut_ptr(),
                public_count,
                private.as_mut_ptr(),
                private_count,
                &raw mut public_key,
                &raw mut private_key,
            )
        )?;
        Ok((public_key, private_key))
    }

    /// `C_DestroyObject`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn destroy(&self, object: CK_OBJECT_HANDLE) -> Result<(), Rv> {
        crate::call!(self.module, C_DestroyObject(self.handle, object))
    }

    /// `C_FindObjectsInit`, `C_FindObjects` until there are no more, `C_FindObjectsFinal`.
    ///
    /// # Errors
    /// The module's return code.
    ///
    /// # Panics
    /// When the module reports more objects than fit into the buffer.
    pub fn find(&self, mut template: Template) -> Result<Vec<CK_OBJECT_HANDLE>, Rv> {
        let mut list = template.list();
        let count = ulong(list.len());
        crate::call!(self.module, C_FindObjectsInit(self.handle, list.as_mut_ptr(), count))?;
        let mut found = Vec::new();
        loop {
            let (mut page, mut count) = ([0; 64], 0);
            crate::call!(self.module, C_FindObjects(self.handle, page.as_mut_ptr(), 64, &raw mut count))?;
            if count == 0 {
                break;
            }
            found.extend_from_slice(&page[..usize::try_from(count).expect("a count fits")]);
        }
        crate::call!(self.module, C_FindObjectsFinal(self.handle))?;
        Ok(found)
    }

    /// `C_GetAttributeValue` of one attribute.
    ///
    /// # Errors
    /// The module's return code.
    ///
    /// # Panics
    /// When the module reports a length beyond the buffer.
    pub fn attribute(&self, object: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> Result<Vec<u8>, Rv> {
        let mut value = vec![0_u8; 4096];
        let mut list =
            [CK_ATTRIBUTE { type_: kind, pValue: value.as_mut_ptr().cast(), ulValueLen: ulong(value.len()) }];
        crate::call!(self.module, C_GetAttributeValue(self.handle, object, list.as_mut_ptr(), 1))?;
        value.truncate(usize::try_from(list[0].ulValueLen).expect("a length fits"));
        Ok(value)
    }

    /// `C_SetAttributeValue`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn set(&self, object: CK_OBJECT_HANDLE, mut template: Template) -> Result<(), Rv> {
        let mut list = template.list();
        let count = ulong(list.len());
        crate::call!(self.module, C_SetAttributeValue(self.handle, object, list.as_mut_ptr(), count))
    }

    /// `C_EncryptInit`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn encrypt_init(&self, mut mechanism: Mechanism, key: CK_OBJECT_HANDLE) -> Result<(), Rv> {
        let mut raw = mechanism.raw();
        crate::call!(self.module, C_EncryptInit(self.handle, &raw mut raw, key))
    }

    /// `C_DecryptInit`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn decrypt_init(&self, mut mechanism: Mechanism, key: CK_OBJECT_HANDLE) -> Result<(), Rv> {
        let mut raw = mechanism.raw();
        crate::call!(self.module, C_DecryptInit(self.handle, &raw mut raw, key))
    }

    /// `C_SignInit`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn sign_init(&self, mut mechanism: Mechanism, key: CK_OBJECT_HANDLE) -> Result<(), Rv> {
        let mut raw = mechanism.raw();
        crate::call!(self.module, C_SignInit(self.handle, &raw mut raw, key))
    }

    /// `C_VerifyInit`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn verify_init(&self, mut mechanism: Mechanism, key: CK_OBJECT_HANDLE) -> Result<(), Rv> {
        let mut raw = mechanism.raw();
        crate::call!(self.module, C_VerifyInit(self.handle, &raw mut raw, key))
    }

    /// `C_DigestInit`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn digest_init(&self, mut mechanism: Mechanism) -> Result<(), Rv> {
        let mut raw = mechanism.raw();
        crate::call!(self.module, C_DigestInit(self.handle, &raw mut raw))
    }

    /// `C_Encrypt` with this output size. Returns what was written and the length that the module reports.
    ///
    /// # Errors
    /// The return code, with the length that the module reports.
    pub fn encrypt_into(&self, data: &[u8], size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        self.cipher(self.module.list().C_Encrypt, data, size)
    }

    /// `C_Decrypt` with this output size.
    ///
    /// # Errors
    /// The return code, with the length that the module reports.
    pub fn decrypt_into(&self, data: &[u8], size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        self.cipher(self.module.list().C_Decrypt, data, size)
    }

    /// `C_Sign` with this output size.
    ///
    /// # Errors
    /// The return code, with the length that the module reports.
    pub fn sign_into(&self, data: &[u8], size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        self.cipher(self.module.list().C_Sign, data, size)
    }

    /// `C_Digest` with this output size.
    ///
    /// # Errors
    /// The return code, with the length that the module reports.
    pub fn digest_into(&self, data: &[u8], size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        self.cipher(self.module.list().C_Digest, data, size)
    }

    /// `C_EncryptUpdate` with this output size.
    ///
    /// # Errors
    /// The return code, with the length that the module reports.
    pub fn encrypt_update(&self, data: &[u8], size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        self.cipher(self.module.list().C_EncryptUpdate, data, size)
    }

    /// `C_DecryptUpdate` with this output size.
    ///
    /// # Errors
    /// The return code, with the length that the module reports.
    pub fn decrypt_update(&self, data: &[u8], size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        self.cipher(self.module.list().C_DecryptUpdate, data, size)
    }

    /// `C_EncryptFinal` with this output size.
    ///
    /// # Errors
    /// The return code, with the length that the module reports.
    pub fn encrypt_final(&self, size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        self.finish(self.module.list().C_EncryptFinal, size)
    }

    /// `C_DecryptFinal` with this output size.
    ///
    /// # Errors
    /// The return code, with the length that the module reports.
    pub fn decrypt_final(&self, size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        self.finish(self.module.list().C_DecryptFinal, size)
    }

    /// `C_SignFinal` with this output size.
    ///
    /// # Errors
    /// The return code, with the length that the module reports.
    pub fn sign_final(&self, size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        self.finish(self.module.list().C_SignFinal, size)
    }

    /// `C_SignUpdate`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn sign_update(&self, data: &[u8]) -> Result<(), Rv> {
        crate::call!(self.module, C_SignUpdate(self.handle, data.as_ptr().cast_mut(), ulong(data.len())))
    }

    /// `C_VerifyUpdate`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn verify_update(&self, data: &[u8]) -> Result<(), Rv> {
        let (bytes, length) = (data.as_ptr().cast_mut(), ulong(data.len()));
        crate::call!(self.module, C_VerifyUpdate(self.handle, bytes, length))
    }

    /// `C_VerifyFinal`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn verify_final(&self, signature: &[u8]) -> Result<(), Rv> {
        let (bytes, length) = (signature.as_ptr().cast_mut(), ulong(signature.len()));
        crate::call!(self.module, C_VerifyFinal(self.handle, bytes, length))
    }

    /// `C_Verify`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), Rv> {
        let (data, data_len) = (data.as_ptr().cast_mut(), ulong(data.len()));
        let (signature, signature_len) = (signature.as_ptr().cast_mut(), ulong(signature.len()));
        crate::call!(self.module, C_Verify(self.handle, data, data_len, signature, signature_len))
    }

    /// `C_EncryptInit` and `C_Encrypt`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn encrypt(&self, mechanism: Mechanism, key: CK_OBJECT_HANDLE, data: &[u8]) -> Result<Vec<u8>, Rv> {
        self.encrypt_init(mechanism, key)?;
        self.encrypt_into(data, OutputSize::Bytes(OUTPUT_BYTES_MAX))
            .map(|(bytes, _)| bytes)
            .map_err(|(rv, _)| rv)
    }

    /// `C_DecryptInit` and `C_Decrypt`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn decrypt(&self, mechanism: Mechanism, key: CK_OBJECT_HANDLE, data: &[u8]) -> Result<Vec<u8>, Rv> {
        self.decrypt_init(mechanism, key)?;
        self.decrypt_into(data, OutputSize::Bytes(OUTPUT_BYTES_MAX))
            .map(|(bytes, _)| bytes)
            .map_err(|(rv, _)| rv)
    }

    /// `C_SignInit` and `C_Sign`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn sign(&self, mechanism: Mechanism, key: CK_OBJECT_HANDLE, data: &[u8]) -> Result<Vec<u8>, Rv> {
        self.sign_init(mechanism, key)?;
        self.sign_into(data, OutputSize::Bytes(OUTPUT_BYTES_MAX))
            .map(|(bytes, _)| bytes)
            .map_err(|(rv, _)| rv)
    }

    fn cipher(
        &self,
        function: Option<Cipher>,
        data: &[u8],
        size: OutputSize,
    ) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        let function = function.expect("the list has no null entry");
        let (input, input_len) = (data.as_ptr().cast_mut(), ulong(data.len()));
        fill(size, |output, length| {
            // SAFETY: `data` can be read; `output` is null or has `length` bytes.
            code(unsafe { function(self.handle, input, input_len, output, length) })
        })
    }

    fn finish(&self, function: Option<Finish>, size: OutputSize) -> Result<(Vec<u8>, usize), (Rv, usize)> {
        let function = function.expect("the list has no null entry");
        fill(size, |output, length| {
            // SAFETY: `output` is null or has `length` bytes.
            code(unsafe { function(self.handle, output, length) })
        })
    }
}

/// Calls a function with an output buffer followed by a canary; returns what was written and the reported length.
pub(super) fn fill(
    size: OutputSize,
    run: impl FnOnce(*mut CK_BYTE, *mut CK_ULONG) -> Result<(), Rv>,
) -> Result<(Vec<u8>, usize), (Rv, usize)> {
    const CANARY: [u8; 16] = *b"do not write me!";
    let bytes = match size {
        OutputSize::Query => 0,
        OutputSize::Bytes(bytes) => bytes,
    };
    let mut buffer = [vec![0; bytes], CANARY.to_vec()].concat();
    let mut length = ulong(bytes);
    let output = match size {
        OutputSize::Query => ptr::null_mut(),
        OutputSize::Bytes(_) => buffer.as_mut_ptr(),
    };
    let result = run(output, &raw mut length);
    assert_eq!(buffer[bytes..], CANARY, "the module wrote beyond the buffer");
    let length = usize::try_from(length).expect("a length fits");
    result.map_err(|rv| (rv, length))?;
    buffer.truncate(if size == OutputSize::Query { 0 } else { length });
    Ok((buffer, length))
}

/// A padded field of a C structure as text.
pub(crate) fn trimmed(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim_end_matches(' ').to_owned()
}
