//! Wraps, unwraps, derives, encapsulates and decapsulates keys.

use std::sync::Arc;

use kms_core::audit::Entry;
use kms_core::object::{Caller, KeyBytes, KeyVersion, Object};
use kms_core::policy::{self, Usage};
use kms_protocol::{AttributeType, ObjectClass};
use kms_protocol::{Mechanism, ObjectRef, Parameters, RequestId, Response, Rv, Salt, Template};
use kms_store::Ring;
use uuid::Uuid;

use crate::dispatch::Dispatch;
use crate::dispatch::audit_names::AuditedResource;
use crate::dispatch::object_ids::unique_id;
use crate::dispatch::pkcs11::audit_events::AuditedFunction;
use crate::dispatch::pkcs11::imports::ImportedValue;
use crate::error::Error;

impl Dispatch {
    pub(in crate::dispatch) fn wrap(
        &self,
        ring: &Ring,
        caller: &Caller,
        mechanism: &Mechanism,
        wrapping: &ObjectRef,
        key: &ObjectRef,
    ) -> Result<Response, Error> {
        let wrapping = self.open_object(ring, caller, Usage::Wrap, wrapping, mechanism)?;
        let key = self.load_key(ring, caller, key, Rv::KEY_HANDLE_INVALID)?;
        let permit = policy::permit_being_wrapped(caller, &wrapping.object, &key)?;
        let (class, kind) = key.class().zip(key.key_type()).ok_or(Rv::KEY_NOT_WRAPPABLE)?;
        let material = self.keys.material(&permit, &key)?;
        let wrapped = kms_crypto::wrap(
            &wrapping.permit,
            &*wrapping.wrapping_key()?,
            mechanism,
            class,
            kind,
            &material,
            &self.random,
        )?;
        // Every export of a key, even wrapped, is recorded, not only counted.
        self.store.record(self.wrap_entry(ring, caller, &wrapping.object, &key))?;
        Ok(Response::Bytes(wrapped))
    }

    fn wrap_entry(&self, ring: &Ring, caller: &Caller, wrapping: &Object, key: &Object) -> Entry {
        let mut entry =
            self.request_entry(ring, caller, AuditedFunction::WRAP, &AuditedResource::object(key));
        if let Some(KeyVersion { key, number }) = wrapping.version {
            let name = format!("keys/{}/versions/{number}", Uuid::from_bytes(key));
            entry.details.insert("wrappingKey".to_owned(), name.into());
        }
        entry
    }

    pub(in crate::dispatch) fn unwrap(
        &self,
        (ring, caller, request): (&Ring, &Caller, RequestId),
        mechanism: &Mechanism,
        unwrapping: &ObjectRef,
        wrapped: &[u8],
        template: &Template,
    ) -> Result<Response, Error> {
        let unwrapping = self.open_counted(ring, caller, Usage::Unwrap, unwrapping, mechanism)?;
        let decision = policy::unwrap(caller, &unwrapping.object, template)?;
        let kind = decision.kind.ok_or(Rv::TEMPLATE_INCOMPLETE)?;
        let material = kms_crypto::unwrap(
            &unwrapping.permit,
            &*unwrapping.wrapping_key()?,
            mechanism,
            wrapped,
            decision.class,
            kind,
        )?;
        let imported = ImportedValue::of_key(caller.policy, &decision, template, material)?;
        let key = Uuid::new_v4().into_bytes();
        Ok(Response::Object(self.store_imported(
            (ring, caller, AuditedFunction::UNWRAP),
            request,
            key,
            decision,
            imported,
        )?))
    }

    pub(in crate::dispatch) fn derive(
        &self,
        (ring, caller, request): (&Ring, &Caller, RequestId),
        mechanism: &Mechanism,
        base: &ObjectRef,
        template: &Template,
    ) -> Result<Response, Error> {
        let base = self.open_counted(ring, caller, Usage::Derive, base, mechanism)?;
        let second = self.second_key(ring, caller, mechanism)?;
        let (second, value) = match &second {
            Some((object, value)) => (Some(object.as_ref()), Some(value)),
            None => (None, None),
        };
        let bases: Vec<&Object> = std::iter::once(base.object.as_ref()).chain(second).collect();
        let decision = policy::derive(caller, mechanism, &bases, template)?;
        let material = kms_crypto::derive(&base.permit, &base.key, mechanism, value, decision.bytes)?;
        let imported = ImportedValue::of_key(caller.policy, &decision, template, material)?;
        let key = Uuid::new_v4().into_bytes();
        Ok(Response::Object(self.store_imported(
            (ring, caller, AuditedFunction::DERIVE),
            request,
            key,
            decision,
            imported,
        )?))
    }

    /// Loads the second key that the parameters of a derivation name, with its value.
    fn second_key(
        &self,
        ring: &Ring,
        caller: &Caller,
        mechanism: &Mechanism,
    ) -> Result<Option<(Arc<Object>, KeyBytes)>, Error> {
        let (Parameters::Key(second) | Parameters::Hkdf { salt: Salt::Key(second), .. }) =
            &mechanism.parameters
        else {
            return Ok(None);
        };
        let object = self.load_key(ring, caller, second, Rv::KEY_HANDLE_INVALID)?;
        let permit = policy::permit_second_base(caller, mechanism, &object)?;
        let value = self.keys.material(&permit, &object)?;
        Ok(Some((object, value)))
    }

    pub(in crate::dispatch) fn encapsulate(
        &self,
        (ring, caller, request): (&Ring, &Caller, RequestId),
        mechanism: &Mechanism,
        public: &ObjectRef,
        template: &Template,
    ) -> Result<Response, Error> {
        let public = self.open_counted(ring, caller, Usage::Encapsulate, public, mechanism)?;
        let decision = policy::agree_secret(caller, &public.object, template)?;
        let (ciphertext, material) = kms_crypto::encapsulate(&public.permit, &public.key, mechanism)?;
        let imported = ImportedValue::of_key(caller.policy, &decision, template, material)?;
        let key = Uuid::new_v4().into_bytes();
        let secret = self.store_imported(
            (ring, caller, AuditedFunction::ENCAPSULATE),
            request,
            key,
            decision,
            imported,
        )?;
        // A repeated request gets the key that was stored at the first time, which this ciphertext does not contain.
        let stored_id = secret.attributes.bytes(AttributeType::UNIQUE_ID);
        let new_id = unique_id(KeyVersion { key, number: 1 }, ObjectClass::SECRET_KEY);
        if stored_id != Some(new_id.as_bytes()) {
            return Err(Rv::FUNCTION_FAILED.into());
        }
        Ok(Response::Encapsulated { ciphertext, secret })
    }

    pub(in crate::dispatch) fn decapsulate(
        &self,
        (ring, caller, request): (&Ring, &Caller, RequestId),
        mechanism: &Mechanism,
        private: &ObjectRef,
        ciphertext: &[u8],
        template: &Template,
    ) -> Result<Response, Error> {
        let private = self.open_counted(ring, caller, Usage::Decapsulate, private, mechanism)?;
        let decision = policy::agree_secret(caller, &private.object, template)?;
        let material = kms_crypto::decapsulate(&private.permit, &private.key, mechanism, ciphertext)?;
        let imported = ImportedValue::of_key(caller.policy, &decision, template, material)?;
        let key = Uuid::new_v4().into_bytes();
        Ok(Response::Object(self.store_imported(
            (ring, caller, AuditedFunction::DECAPSULATE),
            request,
            key,
            decision,
            imported,
        )?))
    }
}
