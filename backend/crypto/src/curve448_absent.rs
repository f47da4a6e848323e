//! Curve 448 in a build without the feature `pre-release-curves`: it has no keys (`docs/decisions/0055`).

use kms_protocol::{Rv, Secret};
use zeroize::Zeroizing;

/// No bytes are a public key of Ed448.
pub(super) fn is_public(_key: &[u8]) -> bool {
    false
}

/// A private key of Ed448, of which there are none.
pub(super) enum Ed448Key {}

impl Ed448Key {
    pub(super) fn open(_secret: &[u8]) -> Option<Self> {
        None
    }

    pub(super) fn public(&self) -> [u8; 57] {
        match *self {}
    }

    pub(super) fn sign(&self, _prehashed: bool, _context: &[u8], _data: &[u8]) -> Result<Secret, Rv> {
        match *self {}
    }
}

/// A private key of X448, of which there are none.
pub(super) enum X448Key {}

impl X448Key {
    pub(super) fn open(_secret: &[u8]) -> Option<Self> {
        None
    }

    pub(super) fn public(&self) -> [u8; 56] {
        match *self {}
    }

    pub(super) fn agree(&self, _public: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match *self {}
    }
}
