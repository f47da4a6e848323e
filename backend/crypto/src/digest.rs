//! The types that compute digests and HMACs, selected by mechanism; and the prefixes of PKCS #1 v1.5.

use kms_protocol::MechanismType;

/// Runs `$body` with `$digest` as the type that computes the digest `$kind`.
macro_rules! with_digest {
    ($kind:expr, $digest:ident => $body:expr) => {
        match $kind {
            kms_protocol::MechanismType::SHA_1 => {
                type $digest = sha1::Sha1;
                $body
            }
            kms_protocol::MechanismType::SHA224 => {
                type $digest = sha2::Sha224;
                $body
            }
            kms_protocol::MechanismType::SHA256 => {
                type $digest = sha2::Sha256;
                $body
            }
            kms_protocol::MechanismType::SHA384 => {
                type $digest = sha2::Sha384;
                $body
            }
            kms_protocol::MechanismType::SHA512 => {
                type $digest = sha2::Sha512;
                $body
            }
            _ => Err(kms_protocol::Rv::MECHANISM_PARAM_INVALID),
        }
    };
}
pub(super) use with_digest;

/// The same with SHA-3, for compositions, which need no type for each pair of digests.
macro_rules! with_any_digest {
    ($kind:expr, $digest:ident => $body:expr) => {
        match $kind {
            kms_protocol::MechanismType::SHA3_224 => {
                type $digest = sha3::Sha3_224;
                $body
            }
            kms_protocol::MechanismType::SHA3_256 => {
                type $digest = sha3::Sha3_256;
                $body
            }
            kms_protocol::MechanismType::SHA3_384 => {
                type $digest = sha3::Sha3_384;
                $body
            }
            kms_protocol::MechanismType::SHA3_512 => {
                type $digest = sha3::Sha3_512;
                $body
            }
            other => $crate::digest::with_digest!(other, $digest => $body),
        }
    };
}
pub(super) use with_any_digest;

/// Runs `$body` with `$mac` as the type that computes the HMAC over the digest `$kind`.
macro_rules! with_hmac {
    ($kind:expr, $mac:ident => $body:expr) => {
        match $kind {
            kms_protocol::MechanismType::SHA_1 => {
                type $mac = hmac::Hmac<sha1::Sha1>;
                $body
            }
            kms_protocol::MechanismType::SHA224 => {
                type $mac = hmac::Hmac<sha2::Sha224>;
                $body
            }
            kms_protocol::MechanismType::SHA256 => {
                type $mac = hmac::Hmac<sha2::Sha256>;
                $body
            }
            kms_protocol::MechanismType::SHA384 => {
                type $mac = hmac::Hmac<sha2::Sha384>;
                $body
            }
            kms_protocol::MechanismType::SHA512 => {
                type $mac = hmac::Hmac<sha2::Sha512>;
                $body
            }
            kms_protocol::MechanismType::SHA3_224 => {
                type $mac = hmac::SimpleHmac<sha3::Sha3_224>;
                $body
            }
            kms_protocol::MechanismType::SHA3_256 => {
                type $mac = hmac::SimpleHmac<sha3::Sha3_256>;
                $body
            }
            kms_protocol::MechanismType::SHA3_384 => {
                type $mac = hmac::SimpleHmac<sha3::Sha3_384>;
                $body
            }
            kms_protocol::MechanismType::SHA3_512 => {
                type $mac = hmac::SimpleHmac<sha3::Sha3_512>;
                $body
            }
            _ => Err(kms_protocol::Rv::MECHANISM_PARAM_INVALID),
        }
    };
}
pub(super) use with_hmac;

/// The prefix before a digest in a PKCS #1 v1.5 signature (RFC 8017, "EMSA-PKCS1-v1_5", note 1; for SHA-3, RFC 9688
/// has the identifiers).
pub(super) fn digest_info_prefix(digest: MechanismType) -> Option<&'static [u8]> {
    match digest {
        MechanismType::SHA_1 => {
            Some(&[0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14])
        }
        MechanismType::SHA224 => Some(&[
            0x30, 0x2d, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x04, 0x05,
            0x00, 0x04, 0x1c,
        ]),
        MechanismType::SHA256 => Some(&[
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
            0x00, 0x04, 0x20,
        ]),
        MechanismType::SHA384 => Some(&[
            0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
            0x00, 0x04, 0x30,
        ]),
        MechanismType::SHA512 => Some(&[
            0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05,
            0x00, 0x04, 0x40,
        ]),
        MechanismType::SHA3_224 => Some(&[
            0x30, 0x2d, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x07, 0x05,
            0x00, 0x04, 0x1c,
        ]),
        MechanismType::SHA3_256 => Some(&[
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x08, 0x05,
            0x00, 0x04, 0x20,
        ]),
        MechanismType::SHA3_384 => Some(&[
            0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x09, 0x05,
            0x00, 0x04, 0x30,
        ]),
        MechanismType::SHA3_512 => Some(&[
            0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x0a, 0x05,
            0x00, 0x04, 0x40,
        ]),
        _ => None,
    }
}
