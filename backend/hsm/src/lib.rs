//! The HSM that holds the master key, behind PKCS#11. It wraps and unwraps keys, and does nothing else with them.
//!
//! A PKCS#11 session belongs to one thread, so a few threads own one session each (`worker`), and [`Hsm`] is the handle
//! that all callers share. Every wait has a deadline.

mod config;
mod counter;
mod error;
mod hsm;
mod token;
mod worker;

// The public interface is:

pub use config::{HsmConfig, PinError};
pub use error::{HsmError, Pkcs11Failure};
pub use hsm::{Hsm, MATERIAL_BYTES_MAX};

#[cfg(test)]
mod tests;
