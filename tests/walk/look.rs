//! Everything that an object can be asked, in calls that also fail: what they leave in the caller's memory is searched.

use std::ptr;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CKA_CHECK_VALUE, CKA_COEFFICIENT, CKA_EC_POINT,
    CKA_ID, CKA_LABEL, CKA_MODULUS, CKA_PRIME_1, CKA_PRIVATE_EXPONENT, CKA_PUBLIC_KEY_INFO, CKA_UNIQUE_ID,
    CKA_UNWRAP_TEMPLATE, CKA_VALUE, CKA_VALUE_LEN,
};
use kms_tests::call;

use crate::steps::{Found, Walk};

/// Attributes that have bytes, those most that must not be told.
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
    pub(crate) fn look(&mut self) -> Result<(), Found> {
        let held = self.any();
        let count = 1 + self.chance.below(5);
        let kinds: Vec<_> = (0..count).map(|_| self.chance.of_these(&KINDS)).collect();
        self.attributes(held.handle, &kinds)?;
        let mut size = 0;
        self.told(call!(
            self.session.module,
            C_GetObjectSize(self.session.handle, held.handle, &raw mut size)
        ));
        Ok(())
    }

    /// One call for these, with rooms of any size, the wrong ones too.
    fn attributes(&mut self, handle: CK_OBJECT_HANDLE, kinds: &[CK_ATTRIBUTE_TYPE]) -> Result<(), Found> {
        let mut rooms: Vec<Vec<u8>> =
            kinds.iter().map(|_| vec![0; self.chance.of_these(&[0, 8, 16, 31, 32, 64, 512])]).collect();
        let mut list: Vec<_> = kinds
            .iter()
            .zip(&mut rooms)
            .map(|(kind, room)| CK_ATTRIBUTE {
                type_: *kind,
                // A template within would be written as attributes, whose values these bytes do not name.
                pValue: if *kind == CKA_UNWRAP_TEMPLATE { ptr::null_mut() } else { room.as_mut_ptr().cast() },
                ulValueLen: room.len() as u64,
            })
            .collect();
        let (session, count) = (self.session.handle, list.len() as u64);
        let asked =
            call!(self.session.module, C_GetAttributeValue(session, handle, list.as_mut_ptr(), count));
        self.told(asked);
        for room in &rooms {
            self.out("C_GetAttributeValue", room)?;
        }
        Ok(())
    }
}
