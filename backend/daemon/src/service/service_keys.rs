//! Service keys: the backend's own keys, each wrapped by the HSM and stored in the database.

use kms_core::object::{KeyBytes, MasterVersion, Wrapped};
use kms_hsm::{Hsm, HsmError};
use kms_store::LockedStore;
use zeroize::Zeroizing;

use super::ServiceError;
use crate::dispatch::Dispatch;
use crate::error::Error;

/// The purpose of the service key for row MACs.
pub(super) const ROWS: &str = "rows";
/// The purpose of the service key for login tickets.
pub(super) const TICKETS: &str = "tickets";
/// The purpose of the service key for sealed session objects.
pub(super) const SEALS: &str = "seals";
/// The purpose of the service key for the fingerprints of key values. A home of an earlier release gets it when it is
/// opened, with the value of [`SEALS`], under which that release counted.
pub(super) const FINGERPRINTS: &str = "prints";
/// The purpose of the service key for the credentials of service accounts. A home that was created before there were
/// service accounts gets this key when it is opened.
pub(super) const CREDENTIALS: &str = "bearers";

/// The purpose of the service key that the hashes of PINs need. A home that was created before there was one gets it when
/// it is opened.
pub(super) const PINS: &str = "pins";

pub(super) fn fresh_key() -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(Error::Random)?;
    Ok(key)
}

pub(super) fn create_service_key(
    hsm: &Hsm,
    store: &LockedStore,
    master: MasterVersion,
    purpose: &'static str,
) -> Result<(), ServiceError> {
    store_service_key(hsm, store, master, purpose, &fresh_key()?)
}

/// Stores a service key with this value.
pub(super) fn store_service_key(
    hsm: &Hsm,
    store: &LockedStore,
    master: MasterVersion,
    purpose: &'static str,
    key: &Zeroizing<[u8; 32]>,
) -> Result<(), ServiceError> {
    let bytes = hsm.wrap(master, &service_identity(store.home(), purpose), key.as_slice())?;
    Ok(store.put_service_key(purpose, &Wrapped { master, bytes })?)
}

/// Returns a new value for a service key, wrapped: nothing that was made under the old one is valid when it is stored.
pub(super) fn new_service_key(
    dispatch: &Dispatch,
    home: [u8; 16],
    purpose: &'static str,
) -> Result<Wrapped, ServiceError> {
    let (key, master) = (fresh_key()?, dispatch.master);
    let identity = service_identity(home, purpose);
    let bytes = dispatch.hsm.wrap(master, &identity, key.as_slice())?;
    Ok(Wrapped { master, bytes })
}

/// A service key that homes of earlier versions do not have: it is created if it is missing, with the value that `make`
/// returns.
pub(super) fn service_key_or_create(
    hsm: &Hsm,
    store: &LockedStore,
    master: MasterVersion,
    purpose: &'static str,
    make: impl FnOnce() -> Result<Zeroizing<[u8; 32]>, ServiceError>,
) -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    if store.service_key(purpose)?.is_none()
        && let Err(error) = store_service_key(hsm, store, master, purpose, &make()?)
        // Another process may have created it meanwhile; then that one is used.
        && store.service_key(purpose)?.is_none()
    {
        return Err(error);
    }
    service_key(hsm, store, purpose)
}

/// The service key of PINs. One that is missing is created only while no hash needs it: after that, a new one would
/// make every PIN wrong.
pub(super) fn pins_key(
    hsm: &Hsm,
    store: &LockedStore,
    master: MasterVersion,
) -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    if store.has_bound_pins()? {
        return service_key(hsm, store, PINS);
    }
    service_key_or_create(hsm, store, master, PINS, fresh_key)
}

pub(super) fn service_key(
    hsm: &Hsm,
    store: &LockedStore,
    purpose: &'static str,
) -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    let wrapped = store.service_key(purpose)?.ok_or(ServiceError::Incomplete(purpose))?;
    let opened = hsm.unwrap(wrapped.master, &service_identity(store.home(), purpose), &wrapped.bytes);
    let opened: KeyBytes = opened.map_err(|error| {
        let wrong_master = matches!(error, HsmError::MaterialInvalid);
        if wrong_master { ServiceError::Mismatch { purpose } } else { error.into() }
    })?;
    let key: [u8; 32] = opened.as_ref().try_into().map_err(|_| ServiceError::Mismatch { purpose })?;
    Ok(Zeroizing::new(key))
}

/// The AAD of a wrapped service key, which binds it to this home and its purpose.
pub(super) fn service_identity(home: [u8; 16], purpose: &str) -> Vec<u8> {
    [b"kms service key v1 ".as_slice(), &home, purpose.as_bytes()].concat()
}
