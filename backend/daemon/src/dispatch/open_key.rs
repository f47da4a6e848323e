//! The one path to an opened key: load the object, ask policy for a permit, open the key.

use std::sync::Arc;

use kms_core::object::{Caller, Object};
use kms_core::policy::{self, Permit, Usage};
use kms_crypto::OpenedKey;
use kms_protocol::{AttributeType, Mechanism, ObjectClass, ObjectRef, Rv};
use kms_store::Ring;

use crate::dispatch::Dispatch;
use crate::error::Error;

impl Dispatch {
    /// Opens a key for a provider's application, and records the use.
    pub(in crate::dispatch) fn open_counted(
        &self,
        ring: &Ring,
        caller: &Caller,
        usage: Usage,
        key: &ObjectRef,
        mechanism: &Mechanism,
    ) -> Result<PermittedKey, Error> {
        let opened = self.open_object(ring, caller, usage, key, mechanism)?;
        self.record_opened(ring, caller, usage, &opened)?;
        Ok(opened)
    }

    /// Records the use of a key of the token. Uses of session keys are not recorded: such a key belongs to its
    /// application.
    pub(in crate::dispatch) fn record_opened(
        &self,
        ring: &Ring,
        caller: &Caller,
        usage: Usage,
        opened: &PermittedKey,
    ) -> Result<(), Error> {
        if let Some(version) = opened.object.version {
            self.record_use(ring, caller, event_of(usage), Some(version))?;
        }
        Ok(())
    }

    /// Loads a key and opens it for one use.
    pub(in crate::dispatch) fn open_object(
        &self,
        ring: &Ring,
        caller: &Caller,
        usage: Usage,
        key: &ObjectRef,
        mechanism: &Mechanism,
    ) -> Result<PermittedKey, Error> {
        mechanism.check()?;
        let object = self.load_key(ring, caller, key, usage.handle_invalid())?;
        let permit = policy::permit(caller, usage, mechanism, &object)?;
        self.open_permitted(object, permit)
    }

    /// Opens a key. No other function does: the permit is for this caller, this use and this object.
    pub(in crate::dispatch) fn open_permitted(
        &self,
        object: Arc<Object>,
        permit: Permit,
    ) -> Result<PermittedKey, Error> {
        let key = match (object.class(), object.key_type()) {
            (Some(ObjectClass::PUBLIC_KEY), Some(kind)) => {
                Arc::new(OpenedKey::public(kind, &object.attributes)?)
            }
            _ => self.keys.open(&permit, &object)?,
        };
        Ok(PermittedKey { object, permit, key })
    }

    /// Loads a key; `unknown` is returned if there is none.
    pub(in crate::dispatch) fn load_key(
        &self,
        ring: &Ring,
        caller: &Caller,
        key: &ObjectRef,
        unknown: Rv,
    ) -> Result<Arc<Object>, Error> {
        self.load(ring, caller, key).map_err(|error| {
            let missing = matches!(error, Error::NoSuchObject | Error::Seal(_));
            if missing { Error::Rejected(unknown) } else { error }
        })
    }
}

/// The event of a use in the audit log.
fn event_of(usage: Usage) -> &'static str {
    match usage {
        Usage::Encrypt | Usage::MessageEncrypt => "kms.key.version.encrypt",
        Usage::Decrypt | Usage::MessageDecrypt => "kms.key.version.decrypt",
        Usage::Sign => "kms.key.version.sign",
        Usage::Verify => "kms.key.version.verify",
        Usage::Wrap => "kms.key.version.wrap",
        Usage::Unwrap => "kms.key.version.unwrap",
        Usage::Derive => "kms.key.version.derive",
        Usage::Encapsulate => "kms.key.version.encapsulate",
        Usage::Decapsulate => "kms.key.version.decapsulate",
    }
}

/// A key, opened for one permitted use.
pub(in crate::dispatch) struct PermittedKey {
    /// The object that it was loaded from.
    pub(in crate::dispatch) object: Arc<Object>,
    /// The permit for the use.
    pub(in crate::dispatch) permit: Permit,
    /// The opened key.
    pub(in crate::dispatch) key: Arc<OpenedKey>,
}

impl PermittedKey {
    /// Returns the key that wraps and unwraps: the key itself, or its wrapping subkey.
    ///
    /// # Errors
    /// When the object has `CKA_KMS_WRAP_SUBKEY` and is not an AES key.
    pub(in crate::dispatch) fn wrapping_key(&self) -> Result<Arc<OpenedKey>, Rv> {
        if self.object.is(AttributeType::KMS_WRAP_SUBKEY) {
            Ok(Arc::new(self.key.wrap_subkey()?))
        } else {
            Ok(Arc::clone(&self.key))
        }
    }
}
