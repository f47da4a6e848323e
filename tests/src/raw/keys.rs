//! Key management functions of a session: create, copy, wrap, unwrap and derive. Also single-part digests.

use cryptoki_sys::CK_OBJECT_HANDLE;
use kms_protocol::Rv;

use super::c_structs::{Mechanism, Template, ulong};
use super::session::{OUTPUT_BYTES_MAX, OutputSize, Session, fill};

impl Session<'_> {
    /// `C_CreateObject`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn create(&self, mut template: Template) -> Result<CK_OBJECT_HANDLE, Rv> {
        let (mut list, mut object) = (template.list(), 0);
        let count = ulong(list.len());
        crate::call!(self.module, C_CreateObject(self.handle, list.as_mut_ptr(), count, &raw mut object))?;
        Ok(object)
    }

    /// `C_CopyObject`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn copy(&self, object: CK_OBJECT_HANDLE, mut template: Template) -> Result<CK_OBJECT_HANDLE, Rv> {
        let (mut list, mut copy) = (template.list(), 0);
        let count = ulong(list.len());
        crate::call!(
            self.module,
            C_CopyObject(self.handle, object, list.as_mut_ptr(), count, &raw mut copy)
        )?;
        Ok(copy)
    }

    /// `C_WrapKey`.
    ///
    /// # Errors
    /// The module's return code.
    ///
    /// # Panics
    /// Never: the list has no null entry.
    pub fn wrap(
        &self,
        mut mechanism: Mechanism,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
    ) -> Result<Vec<u8>, Rv> {
        let mut raw = mechanism.raw();
        let filled = fill(OutputSize::Bytes(OUTPUT_BYTES_MAX), |output, length| {
            crate::call!(self.module, C_WrapKey(self.handle, &raw mut raw, wrapping, key, output, length))
        });
        filled.map(|(bytes, _)| bytes).map_err(|(rv, _)| rv)
    }

    /// `C_UnwrapKey`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn unwrap(
        &self,
        mut mechanism: Mechanism,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: &[u8],
        mut template: Template,
    ) -> Result<CK_OBJECT_HANDLE, Rv> {
        let (mut raw, mut list, mut key) = (mechanism.raw(), template.list(), 0);
        let (bytes, length, count) = (wrapped.as_ptr().cast_mut(), ulong(wrapped.len()), ulong(list.len()));
        crate::call!(
            self.module,
            C_UnwrapKey(
                self.handle,
                &raw mut raw,
                unwrapping,
                bytes,
                length,
                list.as_mut_ptr(),
                count,
                &raw mut key,
            )
        )?;
        Ok(key)
    }

    /// `C_DeriveKey`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn derive(
        &self,
        mut mechanism: Mechanism,
        base: CK_OBJECT_HANDLE,
        mut template: Template,
    ) -> Result<CK_OBJECT_HANDLE, Rv> {
        let (mut raw, mut list, mut key) = (mechanism.raw(), template.list(), 0);
        let count = ulong(list.len());
        crate::call!(
            self.module,
            C_DeriveKey(self.handle, &raw mut raw, base, list.as_mut_ptr(), count, &raw mut key)
        )?;
        Ok(key)
    }

    /// `C_DigestInit` and `C_Digest`.
    ///
    /// # Errors
    /// The module's return code.
    pub fn digest(&self, mechanism: Mechanism, data: &[u8]) -> Result<Vec<u8>, Rv> {
        self.digest_init(mechanism)?;
        self.digest_into(data, OutputSize::Bytes(OUTPUT_BYTES_MAX))
            .map(|(bytes, _)| bytes)
            .map_err(|(rv, _)| rv)
    }
}
