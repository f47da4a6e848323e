//! Random numbers (spec, "Random number generation functions"): the operating system's, so that a forked child never
//! sees its parent's.

use kms_protocol::{Rv, Secret};

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

/// `C_SeedRandom`: the operating system's generator takes no seed.
pub(crate) fn seed(module: &Module, session: SessionHandle) -> Result<(), Rv> {
    module.sessions(|sessions| sessions.session(session).map(drop))?;
    Err(Rv::RANDOM_SEED_NOT_SUPPORTED)
}
