//! What a key is used for, and what the specification says of each use.

use crate::attribute::{AttributeType, ObjectClass};
use crate::mechanism_table::Uses;
use crate::rv::Rv;

/// What a key is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Usage {
    /// `C_Encrypt`.
    Encrypt,
    /// `C_Decrypt`.
    Decrypt,
    /// `C_Sign`.
    Sign,
    /// `C_Verify`.
    Verify,
    /// `C_WrapKey`.
    Wrap,
    /// `C_UnwrapKey`.
    Unwrap,
    /// `C_DeriveKey`.
    Derive,
    /// `C_EncapsulateKey`.
    Encapsulate,
    /// `C_DecapsulateKey`.
    Decapsulate,
    /// `C_EncryptMessage`. The provider splits it into requests that the backend permits as [`Usage::Encrypt`].
    MessageEncrypt,
    /// `C_DecryptMessage`. The provider splits it into requests that the backend permits as [`Usage::Decrypt`].
    MessageDecrypt,
}

/// What the specification says of one use.
struct Row {
    usage: Usage,
    /// The attribute with which a key allows it.
    attribute: AttributeType,
    /// The flag of `CK_MECHANISM_INFO` with which a mechanism serves it.
    flag: Uses,
    /// The object of a key pair that does it.
    class: ObjectClass,
    /// The return codes for a key that does not exist, has a wrong type, or a wrong size.
    codes: &'static Codes,
}

/// The return codes for the key of a use.
struct Codes {
    handle_invalid: Rv,
    type_inconsistent: Rv,
    size_range: Rv,
}

/// The codes of most functions.
const KEY: Codes = Codes {
    handle_invalid: Rv::KEY_HANDLE_INVALID,
    type_inconsistent: Rv::KEY_TYPE_INCONSISTENT,
    size_range: Rv::KEY_SIZE_RANGE,
};

/// The codes of `C_WrapKey`.
const WRAPPING_KEY: Codes = Codes {
    handle_invalid: Rv::WRAPPING_KEY_HANDLE_INVALID,
    type_inconsistent: Rv::WRAPPING_KEY_TYPE_INCONSISTENT,
    size_range: Rv::WRAPPING_KEY_SIZE_RANGE,
};

/// The codes of `C_UnwrapKey`.
const UNWRAPPING_KEY: Codes = Codes {
    handle_invalid: Rv::UNWRAPPING_KEY_HANDLE_INVALID,
    type_inconsistent: Rv::UNWRAPPING_KEY_TYPE_INCONSISTENT,
    size_range: Rv::UNWRAPPING_KEY_SIZE_RANGE,
};

const PUBLIC: ObjectClass = ObjectClass::PUBLIC_KEY;
const PRIVATE: ObjectClass = ObjectClass::PRIVATE_KEY;

const fn row(
    usage: Usage,
    attribute: AttributeType,
    flag: Uses,
    class: ObjectClass,
    codes: &'static Codes,
) -> Row {
    Row { usage, attribute, flag, class, codes }
}

/// One row for each use, in the order of the enum.
#[rustfmt::skip]
const TABLE: [Row; 11] = [
    row(Usage::Encrypt,        AttributeType::ENCRYPT,     Uses::ENCRYPT,         PUBLIC,  &KEY),
    row(Usage::Decrypt,        AttributeType::DECRYPT,     Uses::DECRYPT,         PRIVATE, &KEY),
    row(Usage::Sign,           AttributeType::SIGN,        Uses::SIGN,            PRIVATE, &KEY),
    row(Usage::Verify,         AttributeType::VERIFY,      Uses::VERIFY,          PUBLIC,  &KEY),
    row(Usage::Wrap,           AttributeType::WRAP,        Uses::WRAP,            PUBLIC,  &WRAPPING_KEY),
    row(Usage::Unwrap,         AttributeType::UNWRAP,      Uses::UNWRAP,          PRIVATE, &UNWRAPPING_KEY),
    row(Usage::Derive,         AttributeType::DERIVE,      Uses::DERIVE,          PRIVATE, &KEY),
    row(Usage::Encapsulate,    AttributeType::ENCAPSULATE, Uses::ENCAPSULATE,     PUBLIC,  &KEY),
    row(Usage::Decapsulate,    AttributeType::DECAPSULATE, Uses::DECAPSULATE,     PRIVATE, &KEY),
    row(Usage::MessageEncrypt, AttributeType::ENCRYPT,     Uses::MESSAGE_ENCRYPT, PUBLIC,  &KEY),
    row(Usage::MessageDecrypt, AttributeType::DECRYPT,     Uses::MESSAGE_DECRYPT, PRIVATE, &KEY),
];

impl Usage {
    /// All uses.
    pub const ALL: [Self; TABLE.len()] = {
        let mut all = [Self::Encrypt; TABLE.len()];
        let mut at = 0;
        while at < TABLE.len() {
            all[at] = TABLE[at].usage;
            at += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The attribute with which a key allows this use.
    pub fn attribute(self) -> AttributeType {
        self.row().attribute
    }

    /// The flag with which a mechanism serves this use.
    pub fn flag(self) -> Uses {
        self.row().flag
    }

    /// The object of a key pair that does this: the public or the private key. A secret key does all of it.
    pub fn class_of_pair(self) -> ObjectClass {
        self.row().class
    }

    /// The return code for a key that does not exist.
    pub fn handle_invalid(self) -> Rv {
        self.row().codes.handle_invalid
    }

    /// The return code for a key of another type than the mechanism's.
    pub fn type_inconsistent(self) -> Rv {
        self.row().codes.type_inconsistent
    }

    /// The return code for a key of a size that the mechanism does not accept.
    pub fn size_range(self) -> Rv {
        self.row().codes.size_range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_has_its_own_row() {
        for (at, usage) in Usage::ALL.into_iter().enumerate() {
            assert_eq!(usage as usize, at);
            assert_eq!(usage.row().usage, usage);
        }
    }

    #[test]
    fn each_use_has_a_flag_of_its_own() {
        let flags: std::collections::HashSet<_> = Usage::ALL.iter().map(|usage| usage.flag().0).collect();
        assert_eq!(flags.len(), Usage::ALL.len());
    }
}
