//! The master key's home: an HSM behind PKCS#11. It wraps and unwraps keys, and knows nothing else of them.
//!
//! A session of PKCS#11 belongs to one thread, so a few threads own one each (`worker`), and `Hsm` is the handle that
//! all callers share. Every wait has a deadline.

mod config;
mod error;
#[cfg(test)]
mod tests;
mod token;
mod worker;

use std::sync::Arc;

use kms_core::object::{KeyBytes, MasterVersion};
use zeroize::Zeroizing;

use token::Access;
use worker::Workers;

pub use config::{HsmConfig, PinError};
pub use error::{HsmError, Pkcs11Failure};

/// The largest material that is wrapped: an RSA-4096 private key takes 2.4 KiB, the largest of the post-quantum ones 5.
pub const MATERIAL_BYTES_MAX: usize = 16 << 10;

/// The HSM, from anywhere.
#[derive(Clone)]
pub struct Hsm {
    workers: Arc<Workers>,
}

impl Hsm {
    /// Loads the module, finds the token and logs in.
    ///
    /// # Errors
    /// When one of these fails; the error says which, and what to do.
    pub fn open(config: &HsmConfig) -> Result<Self, HsmError> {
        let workers = Workers::start(Access::load(config)?, config.threads)?;
        Ok(Self { workers: Arc::new(workers) })
    }

    /// The versions of the master key in the token, ascending.
    ///
    /// # Errors
    /// When the HSM fails.
    pub fn masters(&self) -> Result<Vec<MasterVersion>, HsmError> {
        self.workers.ask(|token| token.masters())
    }

    /// Makes a version of the master key inside the token: AES-256, sensitive, never extractable.
    ///
    /// # Errors
    /// When there is one, or the HSM fails.
    pub fn create_master(&self, version: MasterVersion) -> Result<(), HsmError> {
        self.workers.ask(move |token| token.create_master(version))
    }

    /// Wraps a key's material; only the same identity opens it again.
    ///
    /// # Errors
    /// When the master key is missing, or the HSM fails.
    pub fn wrap(&self, master: MasterVersion, identity: &[u8], material: &[u8]) -> Result<Vec<u8>, HsmError> {
        let (identity, material) = (identity.to_vec(), Zeroizing::new(material.to_vec()));
        self.workers.ask(move |token| token.wrap(master, &identity, &material))
    }

    /// Unwraps a key's material.
    ///
    /// # Errors
    /// [`HsmError::MaterialInvalid`] when it was not wrapped so, or was changed; others when the HSM fails.
    pub fn unwrap(
        &self,
        master: MasterVersion,
        identity: &[u8],
        wrapped: &[u8],
    ) -> Result<KeyBytes, HsmError> {
        let (identity, wrapped) = (identity.to_vec(), wrapped.to_vec());
        self.workers.ask(move |token| token.unwrap(master, &identity, &wrapped))
    }

    /// How often the HSM was asked since the start, and how often it failed.
    pub fn asked(&self) -> (u64, u64) {
        self.workers.asked()
    }

    /// Whether the HSM and the newest master key work: something is wrapped and unwrapped.
    ///
    /// # Errors
    /// When they do not.
    pub fn alive(&self) -> Result<(), HsmError> {
        self.workers.ask(|token| token.prove())
    }
}
