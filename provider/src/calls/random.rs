//! Random numbers (spec, "Random number generation functions"), from the operating system, so that a forked child never
//! repeats those of its parent.

use std::fs::File;
use std::io::Write;

use kms_protocol::{Rv, Secret};

use super::InputBytes;
use crate::module::Module;
use crate::session::SessionHandle;

/// The most random bytes of one call; it limits the allocation.
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

/// The device that mixes written data into the generator of Linux: any process may write, and no entropy is credited.
const GENERATOR: &str = "/dev/urandom";

/// `C_SeedRandom`: the seed is mixed into the operating system's generator, if the device exists here.
pub(crate) fn seed(module: &Module, session: SessionHandle, seed: InputBytes<'_>) -> Result<(), Rv> {
    module.sessions(|sessions| sessions.session(session).map(drop))?;
    let seed = seed?;
    if seed.len() > RANDOM_BYTES_MAX {
        return Err(Rv::ARGUMENTS_BAD);
    }
    let generator = File::options().write(true).open(GENERATOR);
    generator.and_then(|mut generator| generator.write_all(seed)).map_err(|_| Rv::RANDOM_SEED_NOT_SUPPORTED)
}
