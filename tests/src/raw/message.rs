//! Message encryption with AES-GCM (PKCS#11 3.0). The functions are not in the 2.40 list, so they are looked up by
//! name.

use std::ffi::{CString, c_void};

use cryptoki_sys::{
    CK_BYTE, CK_GCM_MESSAGE_PARAMS, CK_GENERATOR_FUNCTION, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV,
    CK_SESSION_HANDLE, CK_ULONG, CKM_AES_GCM,
};
use kms_protocol::Rv;

use super::c_structs::ulong;
use super::session::Session;
use super::{Module, code};

type Begin = unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE) -> CK_RV;
type End = unsafe extern "C" fn(CK_SESSION_HANDLE) -> CK_RV;
type Message = unsafe extern "C" fn(
    CK_SESSION_HANDLE,
    *mut c_void,
    CK_ULONG,
    *mut CK_BYTE,
    CK_ULONG,
    *mut CK_BYTE,
    CK_ULONG,
    *mut CK_BYTE,
    *mut CK_ULONG,
) -> CK_RV;

/// Whether messages are encrypted or decrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Encrypt.
    Encrypt,
    /// Decrypt.
    Decrypt,
}

/// The message functions of a module.
#[derive(Clone, Copy, Debug)]
pub struct Messages {
    begin: [Begin; 2],
    message: [Message; 2],
    end: [End; 2],
}

impl Module {
    /// The message functions; `None` if the module has none, as SoftHSM.
    pub fn messages(&self) -> Option<Messages> {
        Some(Messages {
            begin: [self.function("C_MessageEncryptInit")?, self.function("C_MessageDecryptInit")?],
            message: [self.function("C_EncryptMessage")?, self.function("C_DecryptMessage")?],
            end: [self.function("C_MessageEncryptFinal")?, self.function("C_MessageDecryptFinal")?],
        })
    }

    fn function<F: Copy>(&self, name: &str) -> Option<F> {
        let name = CString::new(name).ok()?;
        // SAFETY: callers request each function with the type that the specification gives it.
        let found = unsafe { self.library.get::<F>(name.to_bytes_with_nul()) };
        found.ok().map(|function| *function)
    }
}

impl Messages {
    /// `C_MessageEncryptInit` or `C_MessageDecryptInit` with AES-GCM.
    ///
    /// # Errors
    /// The module's return code.
    pub fn begin(
        &self,
        direction: Direction,
        session: &Session<'_>,
        key: CK_OBJECT_HANDLE,
    ) -> Result<(), Rv> {
        let mut mechanism = CK_MECHANISM { mechanism: CKM_AES_GCM, ..CK_MECHANISM::default() };
        let begin = self.begin[direction as usize];
        // SAFETY: the mechanism is valid and has no parameter.
        code(unsafe { begin(session.handle, &raw mut mechanism, key) })
    }

    /// Encrypts or decrypts one message into `output`, which is as long. The tag is written on encryption and checked
    /// on decryption; with a generator, the generated IV is written to `iv`.
    ///
    /// # Errors
    /// The module's return code.
    ///
    /// # Panics
    /// When `output` is shorter than `data`.
    pub fn message(
        &self,
        direction: Direction,
        session: &Session<'_>,
        (iv, generator): (&mut [u8], CK_GENERATOR_FUNCTION),
        tag: &mut [u8; 16],
        data: &[u8],
        output: &mut [u8],
    ) -> Result<(), Rv> {
        assert!(output.len() >= data.len(), "the output is at least as long as the message");
        let mut parameter = CK_GCM_MESSAGE_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: ulong(iv.len()),
            ulIvFixedBits: 0,
            ivGenerator: generator,
            pTag: tag.as_mut_ptr(),
            ulTagBits: 128,
        };
        let (pointer, size) = ((&raw mut parameter).cast(), ulong(size_of_val(&parameter)));
        let (input, length, none) = (data.as_ptr().cast_mut(), ulong(data.len()), std::ptr::null_mut());
        let (out, mut out_length) = (output.as_mut_ptr(), ulong(output.len()));
        let message = self.message[direction as usize];
        // SAFETY: the parameter and what it points to are valid; `output` is `out_length` bytes long.
        code(unsafe {
            message(session.handle, pointer, size, none, 0, input, length, out, &raw mut out_length)
        })
    }

    /// `C_MessageEncryptFinal` or `C_MessageDecryptFinal`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn end(&self, direction: Direction, session: &Session<'_>) -> Result<(), Rv> {
        let end = self.end[direction as usize];
        // SAFETY: no pointer is passed.
        code(unsafe { end(session.handle) })
    }
}
