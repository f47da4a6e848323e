//! aws-lc's random numbers for the libraries that take a generator: blinding and salts.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rsa::rand_core::{TryCryptoRng, TryRng};

/// The generator of aws-lc, with the traits that RustCrypto's crates require. It has no state of its own.
pub(super) struct Random<'a>(pub(super) &'a SystemRandom);

impl TryRng for Random<'_> {
    type Error = Unspecified;

    fn try_next_u32(&mut self) -> Result<u32, Unspecified> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Unspecified> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Unspecified> {
        self.0.fill(bytes)
    }
}

impl TryCryptoRng for Random<'_> {}
