//! The handle to the HSM that all callers share.

use std::sync::Arc;

use kms_core::object::{KeyBytes, MasterVersion};
use zeroize::Zeroizing;

use crate::config::HsmConfig;
use crate::error::HsmError;
use crate::token::{Access, Token};
use crate::worker::Workers;

/// The maximum size of wrapped material: an RSA-4096 private key takes 2.4 KiB, the largest post-quantum key 5.
pub const MATERIAL_BYTES_MAX: usize = 16 << 10;

/// A handle to the HSM, which can be cloned and shared between threads.
#[derive(Clone)]
pub struct Hsm {
    workers: Arc<Workers>,
}

impl Hsm {
    /// Loads the module, finds the token and logs in.
    ///
    /// # Errors
    /// When one of these fails; the error states which, and what to do.
    pub fn open(config: &HsmConfig) -> Result<Self, HsmError> {
        let workers = Workers::start(Access::load(config)?, config.threads)?;
        Ok(Self { workers: Arc::new(workers) })
    }

    /// The versions of the master key in the token, ascending.
    ///
    /// # Errors
    /// When the HSM fails.
    pub fn masters(&self) -> Result<Vec<MasterVersion>, HsmError> {
        self.workers.call(|token| token.masters())
    }

    /// Generates a version of the master key inside the token: AES-256, sensitive, never extractable.
    ///
    /// # Errors
    /// When the version exists, or the HSM fails.
    pub fn create_master(&self, version: MasterVersion) -> Result<(), HsmError> {
        self.workers.call(move |token| token.create_master(version))
    }

    /// Wraps a key's material; it can be unwrapped with the same identity only.
    ///
    /// # Errors
    /// When the master key is missing, or the HSM fails.
    pub fn wrap(&self, master: MasterVersion, identity: &[u8], material: &[u8]) -> Result<Vec<u8>, HsmError> {
        let (identity, material) = (identity.to_vec(), Zeroizing::new(material.to_vec()));
        self.workers.call(move |token| token.wrap(master, &identity, &material))
    }

    /// Unwraps a key's material.
    ///
    /// # Errors
    /// [`HsmError::MaterialInvalid`] when it was not wrapped with these, or was changed; others when the HSM fails.
    pub fn unwrap(
        &self,
        master: MasterVersion,
        identity: &[u8],
        wrapped: &[u8],
    ) -> Result<KeyBytes, HsmError> {
        let (identity, wrapped) = (identity.to_vec(), wrapped.to_vec());
        self.workers.call(move |token| token.unwrap(master, &identity, &wrapped))
    }

    /// Runs work in a session with the token.
    pub(crate) fn on_token<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Token) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        self.workers.call(work)
    }

    /// The number of calls since the start, and how many of them failed.
    pub fn asked(&self) -> (u64, u64) {
        self.workers.call_counts()
    }

    /// Checks that the HSM and the newest master key work, by wrapping and unwrapping a probe.
    ///
    /// # Errors
    /// When they do not.
    pub fn alive(&self) -> Result<(), HsmError> {
        self.workers.call(|token| token.self_test())
    }
}
