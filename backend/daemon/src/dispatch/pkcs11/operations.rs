//! Encrypts, decrypts, signs, verifies, and encrypts messages with an IV that is generated here.

use std::sync::Arc;

use kms_core::object::{Caller, Object};
use kms_core::policy::{Permit, Usage};
use kms_crypto::OpenedKey;
use kms_protocol::{Mechanism, ObjectRef, Response, Rv};
use kms_store::Ring;

use crate::dispatch::Dispatch;
use crate::dispatch::iv_budget::draw;
use crate::dispatch::open_key::PermittedKey;
use crate::error::Error;

impl Dispatch {
    pub(in crate::dispatch) fn encrypt(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
    ) -> Result<Response, Error> {
        let (permit, key) = self.open(ring, caller, Usage::Encrypt, key, mechanism)?;
        Ok(Response::Bytes(kms_crypto::encrypt(&permit, &key, mechanism, data)?))
    }

    pub(in crate::dispatch) fn decrypt(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
    ) -> Result<Response, Error> {
        let (permit, key) = self.open(ring, caller, Usage::Decrypt, key, mechanism)?;
        Ok(Response::Bytes(kms_crypto::decrypt(&permit, &key, mechanism, data)?))
    }

    pub(in crate::dispatch) fn sign(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
    ) -> Result<Response, Error> {
        let (permit, key) = self.open(ring, caller, Usage::Sign, key, mechanism)?;
        Ok(Response::Bytes(kms_crypto::sign(&permit, &key, mechanism, data)?))
    }

    pub(in crate::dispatch) fn verify(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
        signature: &[u8],
    ) -> Result<Response, Error> {
        let (permit, key) = self.open(ring, caller, Usage::Verify, key, mechanism)?;
        kms_crypto::verify(&permit, &key, mechanism, data, signature)?;
        Ok(Response::Done)
    }

    pub(in crate::dispatch) fn encrypt_message(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
    ) -> Result<Response, Error> {
        let PermittedKey { object, permit, key } =
            self.open_counted(ring, caller, Usage::Encrypt, key, mechanism)?;
        self.take_iv(&object, &key)?;
        let (nonce, ciphertext) = kms_crypto::encrypt_message(&permit, &key, mechanism, data, &self.random)?;
        Ok(Response::Message { nonce, ciphertext })
    }

    /// Counts an initialisation vector that is about to be generated for a key.
    pub(in crate::dispatch) fn take_iv(&self, object: &Object, key: &OpenedKey) -> Result<(), Error> {
        let fingerprint =
            || key.fingerprint(|value| self.seals.fingerprint(value)).ok_or(Rv::KEY_TYPE_INCONSISTENT);
        self.iv_budget.take(&self.store, fingerprint, object.version, draw(&self.random)?)
    }

    fn open(
        &self,
        ring: &Ring,
        caller: &Caller,
        usage: Usage,
        key: &ObjectRef,
        mechanism: &Mechanism,
    ) -> Result<(Permit, Arc<OpenedKey>), Error> {
        let PermittedKey { permit, key, .. } = self.open_counted(ring, caller, usage, key, mechanism)?;
        Ok((permit, key))
    }
}
