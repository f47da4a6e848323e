//! Digests, computed in the application. Pure: bytes in, bytes out.

use kms_protocol::{MechanismType, Secret};
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use sha3::{Sha3_224, Sha3_256, Sha3_384, Sha3_512};
use shake::digest::{ExtendableOutput, Update, XofReader};
use shake::{Shake128, Shake256};

/// A digest in progress.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha1(Sha1),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
    Sha3_224(Sha3_224),
    Sha3_256(Sha3_256),
    Sha3_384(Sha3_384),
    Sha3_512(Sha3_512),
    Shake128(Shake128),
    Shake256(Shake256),
}

impl Hasher {
    /// The digest of a mechanism, if it has one.
    pub(crate) fn of(kind: MechanismType) -> Option<Self> {
        match kind {
            MechanismType::SHA_1 => Some(Self::Sha1(Sha1::new())),
            MechanismType::SHA224 => Some(Self::Sha224(Sha224::new())),
            MechanismType::SHA256 => Some(Self::Sha256(Sha256::new())),
            MechanismType::SHA384 => Some(Self::Sha384(Sha384::new())),
            MechanismType::SHA512 => Some(Self::Sha512(Sha512::new())),
            MechanismType::SHA3_224 => Some(Self::Sha3_224(Sha3_224::new())),
            MechanismType::SHA3_256 => Some(Self::Sha3_256(Sha3_256::new())),
            MechanismType::SHA3_384 => Some(Self::Sha3_384(Sha3_384::new())),
            MechanismType::SHA3_512 => Some(Self::Sha3_512(Sha3_512::new())),
            MechanismType::HASH_ML_DSA_SHAKE128 => Some(Self::Shake128(Shake128::default())),
            MechanismType::HASH_ML_DSA_SHAKE256 => Some(Self::Shake256(Shake256::default())),
            _ => None,
        }
    }

    /// The length of the digest.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Sha1(_) => 20,
            Self::Sha224(_) => 28,
            Self::Sha256(_) => 32,
            Self::Sha384(_) => 48,
            Self::Sha512(_) => 64,
            Self::Sha3_224(_) => 28,
            Self::Sha3_256(_) => 32,
            Self::Sha3_384(_) => 48,
            Self::Sha3_512(_) => 64,
            Self::Shake128(_) => 32,
            Self::Shake256(_) => 64,
        }
    }

    /// Adds data.
    pub(crate) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha1(hasher) => Update::update(hasher, data),
            Self::Sha224(hasher) => Update::update(hasher, data),
            Self::Sha256(hasher) => Update::update(hasher, data),
            Self::Sha384(hasher) => Update::update(hasher, data),
            Self::Sha512(hasher) => Update::update(hasher, data),
            Self::Sha3_224(hasher) => Update::update(hasher, data),
            Self::Sha3_256(hasher) => Update::update(hasher, data),
            Self::Sha3_384(hasher) => Update::update(hasher, data),
            Self::Sha3_512(hasher) => Update::update(hasher, data),
            Self::Shake128(hasher) => Update::update(hasher, data),
            Self::Shake256(hasher) => Update::update(hasher, data),
        }
    }

    /// The digest of all data.
    pub(crate) fn finish(self) -> Secret {
        let length = self.length();
        let digest = match self {
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Sha224(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha384(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
            Self::Sha3_224(hasher) => hasher.finalize().to_vec(),
            Self::Sha3_256(hasher) => hasher.finalize().to_vec(),
            Self::Sha3_384(hasher) => hasher.finalize().to_vec(),
            Self::Sha3_512(hasher) => hasher.finalize().to_vec(),
            Self::Shake128(hasher) => xof_output(hasher, length),
            Self::Shake256(hasher) => xof_output(hasher, length),
        };
        Secret::from(digest)
    }
}

/// The first bytes of an extendable output: for HashML-DSA twice as many bits as its strength (FIPS 204, section 5.4).
fn xof_output(hasher: impl ExtendableOutput, length: usize) -> Vec<u8> {
    let mut digest = vec![0; length];
    hasher.finalize_xof().read(&mut digest);
    digest
}

/// A digest operation of a session.
pub(crate) struct DigestOperation {
    hasher: Hasher,
    started: bool,
}

impl DigestOperation {
    /// Begins the operation.
    pub(crate) fn begin(hasher: Hasher) -> Self {
        Self { hasher, started: false }
    }

    /// The length of the digest.
    pub(crate) fn length(&self) -> usize {
        self.hasher.length()
    }

    /// Whether data was passed in parts: then `C_Digest` is no longer allowed (spec, "C_Digest").
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Adds a part of the data.
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.started = true;
        self.hasher.update(data);
    }

    /// The digest of all data.
    pub(crate) fn finish(self) -> Secret {
        self.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::mechanism_table::{TABLE, Uses, digest_bytes};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_digest_of_the_table_can_be_computed() {
        for row in TABLE.iter().filter(|row| row.uses.has(Uses::DIGEST)) {
            let hasher = Hasher::of(row.kind).unwrap();
            assert_eq!(Some(hasher.length()), digest_bytes(row.kind).map(|bytes| bytes as usize));
            assert_eq!(hasher.length(), hasher.finish().len());
        }
    }

    #[test]
    fn sha_256_of_abc_is_the_example_of_the_standard() {
        let mut hasher = Hasher::of(MechanismType::SHA256).unwrap();
        hasher.update(b"abc");
        assert_eq!(hasher.finish()[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    proptest! {
        #[test]
        fn parts_give_the_same_digest_as_the_whole(data: Vec<u8>, cut: prop::sample::Index) {
            let at = cut.index(data.len() + 1);
            let mut whole = Hasher::of(MechanismType::SHA384).unwrap();
            whole.update(&data);
            let mut parts = Hasher::of(MechanismType::SHA384).unwrap();
            parts.update(&data[..at]);
            parts.update(&data[at..]);
            prop_assert_eq!(whole.finish(), parts.finish());
        }
    }
}
