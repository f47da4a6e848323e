//! Wrapping under the master key, and the count of it: each wrap uses a random IV, of which at most 2^32 are safe under one
//! key (NIST SP 800-38D). They are counted like those of other keys (`iv_budget`), so that most wraps write nothing; the
//! limit leaves 2^29 for what releases before the count wrapped, and for the handful of service keys.

use kms_core::object::{MasterVersion, Wrapped};
use kms_core::seal::Fingerprint;
use kms_protocol::Rv;
use sha2::{Digest, Sha256};

use super::Dispatch;
use super::iv_budget::{IV_BLOCK, draw};
use crate::error::Error;

/// The number of wraps from which the operator should act: half of what is safe.
const WARN_AT: u64 = 1 << 31;

/// How much a master key has wrapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MasterUse {
    /// The version of the master key.
    pub master: MasterVersion,
    /// The approximate number of wraps.
    pub wraps: u64,
    /// Whether half of what is safe is used up.
    pub is_high: bool,
}

impl Dispatch {
    /// Wraps material under the current master key; it can be unwrapped with the same identity only.
    ///
    /// # Errors
    /// [`Error::MasterExhausted`] when the master key has wrapped as much as is safe; others when the HSM fails.
    pub(super) fn wrap_under_master(&self, identity: &[u8], material: &[u8]) -> Result<Wrapped, Error> {
        let master = self.master;
        let counted = self.iv_budget.take(&self.store, || Ok(counter(master)), None, draw(&self.random)?);
        counted.map_err(|error| {
            let exhausted = matches!(error, Error::Rejected(Rv::KEY_EXHAUSTED));
            if exhausted { Error::MasterExhausted(master.0) } else { error }
        })?;
        Ok(Wrapped { master, bytes: self.hsm.wrap(master, identity, material)? })
    }

    /// Returns how much the current master key has wrapped.
    ///
    /// # Errors
    /// When the database fails.
    pub fn master_use(&self) -> Result<MasterUse, Error> {
        let wraps = self.store.iv_blocks(counter(self.master))?.saturating_mul(IV_BLOCK);
        Ok(MasterUse { master: self.master, wraps, is_high: wraps >= WARN_AT })
    }
}

/// What a master key's wraps are counted under. It is no fingerprint of a value, which only the HSM knows.
fn counter(master: MasterVersion) -> Fingerprint {
    let mut digest = Sha256::new();
    digest.update(b"kms wraps under master key ");
    digest.update(master.0.to_be_bytes());
    Fingerprint(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FILE_NAME};
    use crate::service::Backend;
    use crate::test_home;

    #[test]
    fn a_master_key_warns_at_half_of_its_wraps_and_then_wraps_no_more() {
        let name =
            "dispatch::master_wraps::tests::a_master_key_warns_at_half_of_its_wraps_and_then_wraps_no_more";
        let Some(home) = test_home::home_in_child(name) else { return };
        let config = Config::read(&home.join(FILE_NAME)).unwrap();
        let backend = Backend::create(&config).unwrap();
        let dispatch = backend.dispatch();
        let wrapped = dispatch.wrap_under_master(b"identity", b"material").unwrap();
        assert!(!dispatch.master_use().unwrap().is_high);
        let count = |blocks| {
            for _ in 0..blocks {
                backend.dispatch().store.count_ivs(counter(wrapped.master), None).unwrap();
            }
        };
        count(2048);
        let used = dispatch.master_use().unwrap();
        assert!(used.is_high && used.wraps >= WARN_AT, "{used:?}");
        dispatch.wrap_under_master(b"identity", b"material").unwrap();
        count(3584 - 2048);
        drop(backend);
        let backend = Backend::open(&config).unwrap();
        let refused = backend.dispatch().wrap_under_master(b"identity", b"material").unwrap_err();
        assert!(matches!(refused, Error::MasterExhausted(1)), "{refused:?}");
        assert!(refused.is_internal() && refused.to_string().contains("new home"), "{refused}");
        let opened = backend.dispatch().hsm.unwrap(wrapped.master, b"identity", &wrapped.bytes).unwrap();
        assert_eq!(opened.as_ref(), b"material");
        assert_ne!(counter(MasterVersion(1)), counter(MasterVersion(2)));
    }
}
