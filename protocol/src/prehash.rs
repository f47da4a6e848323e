//! The bytes that HashML-DSA signs in place of a message (FIPS 204, section 5.4). They are built here because the
//! provider verifies what the backend signs: both must build the same.

use crate::mechanism::{CONTEXT_BYTES_MAX, Mechanism, Parameters};
use crate::mechanism_names::MechanismType;
use crate::mechanism_table::{digest_bytes, row_of};

/// The identifiers of `id-sha256` and the other digests without the last arc, DER (NIST's Computer Security Objects
/// Register).
const HASH_OID_PREFIX: [u8; 10] = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// The last arc of a digest's object identifier.
fn last_arc(hash: MechanismType) -> Option<u8> {
    match hash {
        MechanismType::SHA256 => Some(1),
        MechanismType::SHA384 => Some(2),
        MechanismType::SHA512 => Some(3),
        MechanismType::SHA224 => Some(4),
        MechanismType::SHA3_224 => Some(7),
        MechanismType::SHA3_256 => Some(8),
        MechanismType::SHA3_384 => Some(9),
        MechanismType::SHA3_512 => Some(10),
        MechanismType::HASH_ML_DSA_SHAKE128 => Some(11),
        MechanismType::HASH_ML_DSA_SHAKE256 => Some(12),
        _ => None,
    }
}

/// The length of the message's digest, if HashML-DSA supports it. SHAKE has no digest mechanism in PKCS #11, so the
/// mechanism that hashes with it and signs stands for it.
pub fn prehash_bytes(hash: MechanismType) -> Option<usize> {
    last_arc(hash)?;
    match hash {
        MechanismType::HASH_ML_DSA_SHAKE128 => Some(32),
        MechanismType::HASH_ML_DSA_SHAKE256 => Some(64),
        _ => digest_bytes(hash).and_then(|bytes| usize::try_from(bytes).ok()),
    }
}

/// The digest, hedge and context of a HashML-DSA mechanism.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prehash<'a> {
    /// The digest of the message.
    pub hash: MechanismType,
    /// Whether the signature may, must or must not be randomised, as in [`Parameters::MlDsa`].
    pub hedge: u8,
    /// The context, at most 255 bytes.
    pub context: &'a [u8],
}

impl<'a> Prehash<'a> {
    /// Reads a mechanism that names its digest by its own name or in its parameter. None for other mechanisms.
    pub fn of(mechanism: &'a Mechanism) -> Option<Self> {
        let row = row_of(mechanism.kind)?;
        if row.signs.unwrap_or(row.kind) != MechanismType::HASH_ML_DSA {
            return None;
        }
        match (row.digest, &mechanism.parameters) {
            (Some(hash), Parameters::None) => Some(Self { hash, hedge: 0, context: &[] }),
            (Some(hash), Parameters::MlDsa { hedge, context }) => Some(Self { hash, hedge: *hedge, context }),
            (None, Parameters::HashMlDsa { hedge, context, hash }) => {
                Some(Self { hash: *hash, hedge: *hedge, context })
            }
            _ => None,
        }
    }

    /// The message of `ML-DSA.Sign_internal` and `ML-DSA.Verify_internal` (FIPS 204, algorithms 4 and 5). None if the
    /// digest has another length or is not supported, or the context is too long.
    pub fn message(&self, digest: &[u8]) -> Option<Vec<u8>> {
        if prehash_bytes(self.hash)? != digest.len() || self.context.len() > CONTEXT_BYTES_MAX {
            return None;
        }
        let length = u8::try_from(self.context.len()).ok()?;
        Some([&[1, length], self.context, &HASH_OID_PREFIX, &[last_arc(self.hash)?], digest].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_its_digest_and_context() {
        let prehash = Prehash { hash: MechanismType::SHA512, hedge: 0, context: b"ctx" };
        let message = prehash.message(&[7; 64]).unwrap();
        let front = [1, 3, b'c', b't', b'x', 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];
        assert_eq!(message[..16], front);
        assert_eq!(message[16..], [7; 64]);
        assert_eq!(prehash.message(&[7; 63]), None);
        assert_eq!(Prehash { context: &[0; 256], ..prehash }.message(&[7; 64]), None);
        assert_eq!(Prehash { hash: MechanismType::SHA_1, ..prehash }.message(&[7; 20]), None);
    }

    #[test]
    fn the_digest_is_in_the_name_or_in_the_parameter() {
        let named = Mechanism::plain(MechanismType::HASH_ML_DSA_SHAKE256);
        let hash = MechanismType::HASH_ML_DSA_SHAKE256;
        assert_eq!(Prehash::of(&named), Some(Prehash { hash, hedge: 0, context: &[] }));
        assert_eq!(prehash_bytes(hash), Some(64));
        let parameters =
            Parameters::HashMlDsa { hedge: 2, context: b"c".as_slice().into(), hash: MechanismType::SHA384 };
        let parameterised = Mechanism { kind: MechanismType::HASH_ML_DSA, parameters };
        let expected = Prehash { hash: MechanismType::SHA384, hedge: 2, context: b"c" };
        assert_eq!(Prehash::of(&parameterised), Some(expected));
        assert!(parameterised.check().is_ok());
        assert_eq!(Prehash::of(&Mechanism::plain(MechanismType::ML_DSA)), None);
        assert_eq!(Prehash::of(&Mechanism::plain(MechanismType::HASH_ML_DSA)), None);
        assert!(Mechanism::plain(MechanismType::HASH_ML_DSA).check().is_err());
    }
}
