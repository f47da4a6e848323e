//! Random numbers (spec, "Random number generation functions"): the operating system's, so that a forked child never
//! sees its parent's.

use std::fs::File;
use std::io::Write;

use kms_protocol::{Rv, Secret};

use super::Given;
use crate::module::Module;
use crate::session::SessionHandle;

/// The most random bytes of one call. Nobody needs more at once, and it bounds what is allocated.
pub(crate) const RANDOM_BYTES_MAX: usize = 1 << 26;

/// `C_GenerateRandom`.
pub(crate) fn generate(module: &Module, session: SessionHandle, length: usize) -> Result<Secret, Rv> {
    module.sessions(|sessions| sessions.session(session).map(drop))?;
    if length > RANDOM_BYTES_MAX {
        return Err(Rv::ARGUMENTS_BAD);
    }
    let mut bytes = Secret::from(vec![0; length]);
    getrandom::fill(bytes.bytes_mut()).map_err(|_| Rv::DEVICE_ERROR)?;
    Ok(bytes)
}

/// Where Linux takes what is to be mixed into its generator: from everybody, and without thinking more of itself for it.
const GENERATOR: &str = "/dev/urandom";

/// `C_SeedRandom`: the seed is mixed into the operating system's generator, where this machine shows it.
pub(crate) fn seed(module: &Module, session: SessionHandle, seed: Given<'_>) -> Result<(), Rv> {
    module.sessions(|sessions| sessions.session(session).map(drop))?;
    let seed = seed?;
    if seed.len() > RANDOM_BYTES_MAX {
        return Err(Rv::ARGUMENTS_BAD);
    }
    let generator = File::options().write(true).open(GENERATOR);
    generator.and_then(|mut generator| generator.write_all(seed)).map_err(|_| Rv::RANDOM_SEED_NOT_SUPPORTED)
}
