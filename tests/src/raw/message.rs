//! Messages under AES-GCM (PKCS#11 3.0). They are in no 2.40 list, so they are looked up by their names.

use std::ffi::{CString, c_void};

use cryptoki_sys::{
    CK_BYTE, CK_GCM_MESSAGE_PARAMS, CK_GENERATOR_FUNCTION, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV,
    CK_SESSION_HANDLE, CK_ULONG, CKM_AES_GCM,
};
use kms_protocol::Rv;

use super::session::Session;
use super::words::ulong;
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

/// What happens to a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// It is encrypted.
    Encrypt,
    /// It is decrypted.
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
    /// The message functions; none where the module has none, as SoftHSM.
    pub fn messages(&self) -> Option<Messages> {
        Some(Messages {
            begin: [self.function("C_MessageEncryptInit")?, self.function("C_MessageDecryptInit")?],
            message: [self.function("C_EncryptMessage")?, self.function("C_DecryptMessage")?],
            end: [self.function("C_MessageEncryptFinal")?, self.function("C_MessageDecryptFinal")?],
        })
    }

    fn function<F: Copy>(&self, name: &str) -> Option<F> {
        let name = CString::new(name).ok()?;
        // SAFETY: the specification gives each function that is asked for here the type it is asked for as.
        let found = unsafe { self.library.get::<F>(name.to_bytes_with_nul()) };
        found.ok().map(|function| *function)
    }
}

impl Messages {
    /// `C_MessageEncryptInit` or `C_MessageDecryptInit` with AES-GCM.
    ///
    /// # Errors
    /// What the module says.
    pub fn begin(&self, way: Way, session: &Session<'_>, key: CK_OBJECT_HANDLE) -> Result<(), Rv> {
        let mut mechanism = CK_MECHANISM { mechanism: CKM_AES_GCM, ..CK_MECHANISM::default() };
        let begin = self.begin[way as usize];
        // SAFETY: the mechanism is there, without a parameter.
        code(unsafe { begin(session.handle, &raw mut mechanism, key) })
    }

    /// One message into `output`, which is as long; the tag is made, or checked. A generator writes its vector to `iv`.
    ///
    /// # Errors
    /// What the module says.
    ///
    /// # Panics
    /// When `output` is shorter than `data`.
    pub fn message(
        &self,
        way: Way,
        session: &Session<'_>,
        (iv, generator): (&mut [u8], CK_GENERATOR_FUNCTION),
        tag: &mut [u8; 16],
        data: &[u8],
        output: &mut [u8],
    ) -> Result<(), Rv> {
        assert!(output.len() >= data.len(), "there is room for the message");
        let mut parameter = CK_GCM_MESSAGE_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: ulong(iv.len()),
            ulIvFixedBits: 0,
            ivGenerator: generator,
            pTag: tag.as_mut_ptr(),
            ulTagBits: 128,
        };
        let (place, size) = ((&raw mut parameter).cast(), ulong(size_of_val(&parameter)));
        let (input, length, none) = (data.as_ptr().cast_mut(), ulong(data.len()), std::ptr::null_mut());
        let (out, mut room) = (output.as_mut_ptr(), ulong(output.len()));
        let message = self.message[way as usize];
        // SAFETY: the parameter and what it points at are there; `output` has the room that `room` says.
        code(unsafe { message(session.handle, place, size, none, 0, input, length, out, &raw mut room) })
    }

    /// `C_MessageEncryptFinal` or `C_MessageDecryptFinal`.
    ///
    /// # Errors
    /// What the module says.
    pub fn end(&self, way: Way, session: &Session<'_>) -> Result<(), Rv> {
        let end = self.end[way as usize];
        // SAFETY: no pointer is passed.
        code(unsafe { end(session.handle) })
    }
}
