//! Keys under keys and out of keys: wrap, unwrap, derive, encapsulate, decapsulate.

use std::sync::Arc;

use kms_core::audit::Entry;
use kms_core::object::{Caller, KeyBytes, KeyVersion, Object};
use kms_core::policy::{self, Usage};
use kms_protocol::{AttributeType, ObjectClass};
use kms_protocol::{Mechanism, ObjectRef, Parameters, RequestId, Response, Rv, Salt, Template};
use kms_store::Ring;
use uuid::Uuid;

use crate::dispatch::Dispatch;
use crate::dispatch::audit_events::{About, Act};
use crate::dispatch::new_keys::unique_id;
use crate::dispatch::pkcs11::imports::Cargo;
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
        let by = self.open_object(ring, caller, Usage::Wrap, wrapping, mechanism)?;
        let key = self.load_key(ring, caller, key, Rv::KEY_HANDLE_INVALID)?;
        let carried = policy::permit_wrapped(caller, &by.object, &key)?;
        let (class, kind) = key.class().zip(key.key_type()).ok_or(Rv::KEY_NOT_WRAPPABLE)?;
        let material = self.keys.material(&carried, &key)?;
        let wrapped =
            kms_crypto::wrap(&by.permit, &*by.transport()?, mechanism, class, kind, &material, &self.random)?;
        // A key that leaves, even wrapped, is told one by one.
        self.store.record(self.wrapped_entry(ring, caller, &by.object, &key))?;
        Ok(Response::Bytes(wrapped))
    }

    fn wrapped_entry(&self, ring: &Ring, caller: &Caller, by: &Object, key: &Object) -> Entry {
        let mut entry = self.entry_of(ring, caller, Act::WRAP, &About::object(key));
        if let Some(KeyVersion { key, number }) = by.version {
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
        let by = self.open_counted(ring, caller, Usage::Unwrap, unwrapping, mechanism)?;
        let decision = policy::unwrap(caller, &by.object, template)?;
        let kind = decision.kind.ok_or(Rv::TEMPLATE_INCOMPLETE)?;
        let material =
            kms_crypto::unwrap(&by.permit, &*by.transport()?, mechanism, wrapped, decision.class, kind)?;
        let cargo = Cargo::of_key(&decision, template, material)?;
        let key = Uuid::new_v4().into_bytes();
        Ok(Response::Object(self.arrive((ring, caller, Act::UNWRAP), request, key, decision, cargo)?))
    }

    pub(in crate::dispatch) fn derive(
        &self,
        (ring, caller, request): (&Ring, &Caller, RequestId),
        mechanism: &Mechanism,
        base: &ObjectRef,
        template: &Template,
    ) -> Result<Response, Error> {
        let base = self.open_counted(ring, caller, Usage::Derive, base, mechanism)?;
        let second = self.second(ring, caller, mechanism)?;
        let (second, value) = match &second {
            Some((object, value)) => (Some(object.as_ref()), Some(value)),
            None => (None, None),
        };
        let bases: Vec<&Object> = std::iter::once(base.object.as_ref()).chain(second).collect();
        let decision = policy::derive(caller, mechanism, &bases, template)?;
        let material = kms_crypto::derive(&base.permit, &base.key, mechanism, value, decision.bytes)?;
        let cargo = Cargo::of_key(&decision, template, material)?;
        let key = Uuid::new_v4().into_bytes();
        Ok(Response::Object(self.arrive((ring, caller, Act::DERIVE), request, key, decision, cargo)?))
    }

    /// The second key that a derivation names in its parameters.
    fn second(
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
        let carried = policy::permit_second(caller, mechanism, &object)?;
        let value = self.keys.material(&carried, &object)?;
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
        let decision = policy::agree(caller, &public.object, template)?;
        let (ciphertext, material) = kms_crypto::encapsulate(&public.permit, &public.key, mechanism)?;
        let cargo = Cargo::of_key(&decision, template, material)?;
        let key = Uuid::new_v4().into_bytes();
        let secret = self.arrive((ring, caller, Act::ENCAPSULATE), request, key, decision, cargo)?;
        // A request that is repeated gets the key it stored before, which is not what this ciphertext holds.
        let name = secret.attributes.bytes(AttributeType::UNIQUE_ID);
        if name != Some(unique_id(key, ObjectClass::SECRET_KEY).as_bytes()) {
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
        let decision = policy::agree(caller, &private.object, template)?;
        let material = kms_crypto::decapsulate(&private.permit, &private.key, mechanism, ciphertext)?;
        let cargo = Cargo::of_key(&decision, template, material)?;
        let key = Uuid::new_v4().into_bytes();
        Ok(Response::Object(self.arrive((ring, caller, Act::DECAPSULATE), request, key, decision, cargo)?))
    }
}
