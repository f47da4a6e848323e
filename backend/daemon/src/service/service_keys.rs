//! The keys that the backend itself needs: each wrapped by the HSM, stored in the database.

use kms_core::object::{KeyBytes, MasterVersion, Wrapped};
use kms_hsm::{Hsm, HsmError};
use kms_store::LockedStore;
use zeroize::Zeroizing;

use super::ServiceError;
use crate::error::Error;

/// The keys the backend itself needs, each wrapped by the HSM and kept in the database: for the integrity of rows, …
pub(super) const ROWS: &str = "rows";
/// … for the tickets of logins, …
pub(super) const TICKETS: &str = "tickets";
/// … for sealed session objects, …
pub(super) const SEALS: &str = "seals";
/// … and for the tokens of service accounts. Homes that were made before there were any get it when they are opened.
pub(super) const CREDENTIALS: &str = "bearers";

pub(super) fn fresh_key() -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(Error::Random)?;
    Ok(key)
}

pub(super) fn make_service_key(
    hsm: &Hsm,
    store: &LockedStore,
    master: MasterVersion,
    purpose: &'static str,
) -> Result<(), ServiceError> {
    let key = fresh_key()?;
    let bytes = hsm.wrap(master, &service_identity(store, purpose), key.as_slice())?;
    Ok(store.put_service_key(purpose, &Wrapped { master, bytes })?)
}

/// A service key that homes of earlier versions have not: it is made where it is missing.
pub(super) fn later_service_key(
    hsm: &Hsm,
    store: &LockedStore,
    master: MasterVersion,
    purpose: &'static str,
) -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    if store.service_key(purpose)?.is_none()
        && let Err(error) = make_service_key(hsm, store, master, purpose)
        // Another process may have made it meanwhile; that one counts.
        && store.service_key(purpose)?.is_none()
    {
        return Err(error);
    }
    service_key(hsm, store, purpose)
}

pub(super) fn service_key(
    hsm: &Hsm,
    store: &LockedStore,
    purpose: &'static str,
) -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    let wrapped = store.service_key(purpose)?.ok_or(ServiceError::Incomplete(purpose))?;
    let opened = hsm.unwrap(wrapped.master, &service_identity(store, purpose), &wrapped.bytes);
    let opened: KeyBytes = opened.map_err(|error| {
        let theirs = matches!(error, HsmError::MaterialInvalid);
        if theirs { ServiceError::Mismatch { purpose } } else { error.into() }
    })?;
    let key: [u8; 32] = opened.as_ref().try_into().map_err(|_| ServiceError::Mismatch { purpose })?;
    Ok(Zeroizing::new(key))
}

/// What the HSM binds a service key to: this home and this purpose.
pub(super) fn service_identity(store: &LockedStore, purpose: &str) -> Vec<u8> {
    [b"kms service key v1 ".as_slice(), &store.home(), purpose.as_bytes()].concat()
}
