//! Encrypt, decrypt, sign, verify: load the key, let policy decide, open the key for the permit, act.

use std::sync::Arc;

use kms_protocol::{Mechanism, ObjectRef, Response, Rv};

use super::Dispatch;
use crate::crypto::{self, OpenedKey};
use crate::error::Error;
use crate::object::Caller;
use crate::policy::{self, Permit, Usage};
use crate::store::Ring;

impl Dispatch {
    pub(super) fn encrypt(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
    ) -> Result<Response, Error> {
        let (permit, key) = self.open(ring, caller, Usage::Encrypt, key, mechanism)?;
        Ok(Response::Bytes(crypto::encrypt(&permit, &key, mechanism, data)?))
    }

    pub(super) fn decrypt(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
    ) -> Result<Response, Error> {
        let (permit, key) = self.open(ring, caller, Usage::Decrypt, key, mechanism)?;
        Ok(Response::Bytes(crypto::decrypt(&permit, &key, mechanism, data)?))
    }

    pub(super) fn sign(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
    ) -> Result<Response, Error> {
        let (permit, key) = self.open(ring, caller, Usage::Sign, key, mechanism)?;
        Ok(Response::Bytes(crypto::sign(&permit, &key, mechanism, data)?))
    }

    pub(super) fn verify(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
        signature: &[u8],
    ) -> Result<Response, Error> {
        let (permit, key) = self.open(ring, caller, Usage::Verify, key, mechanism)?;
        crypto::verify(&permit, &key, mechanism, data, signature)?;
        Ok(Response::Done)
    }

    /// The only way to an opened key: the permit is made for this caller, this use and this object.
    fn open(
        &self,
        ring: &Ring,
        caller: &Caller,
        usage: Usage,
        key: &ObjectRef,
        mechanism: &Mechanism,
    ) -> Result<(Permit, Arc<OpenedKey>), Error> {
        mechanism.check()?;
        let object = self.load(ring, caller, key).map_err(|error| {
            let none = matches!(error, Error::NoSuchObject | Error::Seal(_));
            if none { Error::Refused(Rv::KEY_HANDLE_INVALID) } else { error }
        })?;
        let permit = policy::permit(caller, usage, mechanism, &object)?;
        let opened = self.keys.open(&permit, &object)?;
        Ok((permit, opened))
    }
}
