//! Reads attributes, in calls that may fail: whatever they write into the caller's memory is searched.

use std::ptr;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CKA_CHECK_VALUE, CKA_COEFFICIENT, CKA_EC_POINT,
    CKA_ID, CKA_LABEL, CKA_MODULUS, CKA_PRIME_1, CKA_PRIVATE_EXPONENT, CKA_PUBLIC_KEY_INFO, CKA_UNIQUE_ID,
    CKA_UNWRAP_TEMPLATE, CKA_VALUE, CKA_VALUE_LEN,
};
use kms_tests::call;

use crate::walk::{Violation, Walk};

/// Attributes that are byte strings, mostly ones that must not be disclosed.
const KINDS: [CK_ATTRIBUTE_TYPE; 14] = [
    CKA_VALUE,
    CKA_VALUE,
    CKA_PRIVATE_EXPONENT,
    CKA_PRIME_1,
    CKA_COEFFICIENT,
    CKA_CHECK_VALUE,
    CKA_VALUE_LEN,
    CKA_ID,
    CKA_LABEL,
    CKA_UNIQUE_ID,
    CKA_MODULUS,
    CKA_EC_POINT,
    CKA_PUBLIC_KEY_INFO,
    CKA_UNWRAP_TEMPLATE,
];

impl Walk<'_> {
    pub(crate) fn read_attributes(&mut self) -> Result<(), Violation> {
        let object = self.any_object();
        let count = 1 + self.rng.below(5);
        let kinds: Vec<_> = (0..count).map(|_| self.rng.choose(&KINDS)).collect();
        self.read_with_buffers(object.handle, &kinds)?;
        let mut size = 0;
        self.record(call!(
            self.session.module,
            C_GetObjectSize(self.session.handle, object.handle, &raw mut size)
        ));
        Ok(())
    }

    /// One call for these attributes, with buffers of random sizes, also ones that are too small.
    fn read_with_buffers(
        &mut self,
        handle: CK_OBJECT_HANDLE,
        kinds: &[CK_ATTRIBUTE_TYPE],
    ) -> Result<(), Violation> {
        let mut buffers: Vec<Vec<u8>> =
            kinds.iter().map(|_| vec![0; self.rng.choose(&[0, 8, 16, 31, 32, 64, 512])]).collect();
        let mut list: Vec<_> = kinds
            .iter()
            .zip(&mut buffers)
            .map(|(kind, buffer)| CK_ATTRIBUTE {
                type_: *kind,
                // A nested template would be written as an array of attributes whose value pointers are not valid.
                pValue: if *kind == CKA_UNWRAP_TEMPLATE {
                    ptr::null_mut()
                } else {
                    buffer.as_mut_ptr().cast()
                },
                ulValueLen: buffer.len() as u64,
            })
            .collect();
        let (session, count) = (self.session.handle, list.len() as u64);
        let result =
            call!(self.session.module, C_GetAttributeValue(session, handle, list.as_mut_ptr(), count));
        self.record(result);
        for buffer in &buffers {
            self.check_output("C_GetAttributeValue", buffer)?;
        }
        Ok(())
    }
}
