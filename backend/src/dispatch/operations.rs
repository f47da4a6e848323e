//! Encrypt, decrypt, sign, verify, encrypt messages: load the key, let policy decide, open the key for the permit, act.

use std::sync::Arc;

use kms_protocol::{AttributeType, Mechanism, ObjectClass, ObjectRef, Response, Rv};

use super::Dispatch;
use super::vectors::draw;
use crate::crypto::{self, OpenedKey};
use crate::error::Error;
use crate::object::{Caller, Object};
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

    pub(super) fn encrypt_message(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        mechanism: &Mechanism,
        data: &[u8],
    ) -> Result<Response, Error> {
        let Opened { object, permit, key } =
            self.open_counted(ring, caller, Usage::Encrypt, key, mechanism)?;
        self.take_vector(&object, &key)?;
        let (nonce, ciphertext) = crypto::encrypt_message(&permit, &key, mechanism, data, &self.random)?;
        Ok(Response::Message { nonce, ciphertext })
    }

    /// Counts an initialisation vector that is about to be made for a key.
    pub(super) fn take_vector(&self, object: &Object, key: &OpenedKey) -> Result<(), Error> {
        let print = || key.print(|value| self.seals.print(value)).ok_or(Rv::KEY_TYPE_INCONSISTENT);
        self.vectors.take(&self.store, print, object.version, draw(&self.random)?)
    }

    fn open(
        &self,
        ring: &Ring,
        caller: &Caller,
        usage: Usage,
        key: &ObjectRef,
        mechanism: &Mechanism,
    ) -> Result<(Permit, Arc<OpenedKey>), Error> {
        let Opened { permit, key, .. } = self.open_counted(ring, caller, usage, key, mechanism)?;
        Ok((permit, key))
    }

    /// Opens a key for a provider's application, and counts the use.
    pub(super) fn open_counted(
        &self,
        ring: &Ring,
        caller: &Caller,
        usage: Usage,
        key: &ObjectRef,
        mechanism: &Mechanism,
    ) -> Result<Opened, Error> {
        let opened = self.open_object(ring, caller, usage, key, mechanism)?;
        // A session key is its application's own.
        if let Some(version) = opened.object.version {
            self.used(ring, caller, event_of(usage), Some(version))?;
        }
        Ok(opened)
    }

    /// The only way to an opened key: the permit is made for this caller, this use and this object.
    pub(super) fn open_object(
        &self,
        ring: &Ring,
        caller: &Caller,
        usage: Usage,
        key: &ObjectRef,
        mechanism: &Mechanism,
    ) -> Result<Opened, Error> {
        mechanism.check()?;
        let object = self.load_key(ring, caller, key, usage.unknown())?;
        let permit = policy::permit(caller, usage, mechanism, &object)?;
        let key = match (object.class(), object.key_type()) {
            (Some(ObjectClass::PUBLIC_KEY), Some(kind)) => {
                Arc::new(OpenedKey::public(kind, &object.attributes)?)
            }
            _ => self.keys.open(&permit, &object)?,
        };
        Ok(Opened { object, permit, key })
    }

    /// Loads a key; `unknown` says that there is none.
    pub(super) fn load_key(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        unknown: Rv,
    ) -> Result<Arc<Object>, Error> {
        self.load(ring, caller, key).map_err(|error| {
            let none = matches!(error, Error::NoSuchObject | Error::Seal(_));
            if none { Error::Refused(unknown) } else { error }
        })
    }
}

/// A use's name in the audit log.
fn event_of(usage: Usage) -> &'static str {
    match usage {
        Usage::Encrypt => "kms.key.version.encrypt",
        Usage::Decrypt => "kms.key.version.decrypt",
        Usage::Sign => "kms.key.version.sign",
        Usage::Verify => "kms.key.version.verify",
        Usage::Wrap => "kms.key.version.wrap",
        Usage::Unwrap => "kms.key.version.unwrap",
        Usage::Derive => "kms.key.version.derive",
        Usage::Encapsulate => "kms.key.version.encapsulate",
        Usage::Decapsulate => "kms.key.version.decapsulate",
    }
}

/// A key, opened for the use that was permitted.
pub(super) struct Opened {
    /// What it was loaded from.
    pub(super) object: Arc<Object>,
    /// For what.
    pub(super) permit: Permit,
    /// The key itself.
    pub(super) key: Arc<OpenedKey>,
}

impl Opened {
    /// What wraps and unwraps: the key itself, or its half for that.
    ///
    /// # Errors
    /// When an object says that it has such a half, and is no AES key.
    pub(super) fn transport(&self) -> Result<Arc<OpenedKey>, Rv> {
        if self.object.is(AttributeType::KMS_WRAPS_APART) {
            Ok(Arc::new(self.key.apart()?))
        } else {
            Ok(Arc::clone(&self.key))
        }
    }
}
