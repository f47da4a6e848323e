//! Generates keys and key pairs. A token key is in the database, wrapped by the HSM, before the response is sent; a
//! session key is returned to the provider as a seal.

use std::sync::Arc;

use kms_core::object::{Caller, KeyBytes, Object};
use kms_core::policy;
use kms_protocol::{Mechanism, RequestId, Response, Rv, Template};
use kms_store::Ring;
use uuid::Uuid;

use crate::dispatch::Dispatch;
use crate::dispatch::pkcs11::audit_events::AuditedFunction;
use crate::dispatch::pkcs11::new_keys::complete_draft;
use crate::dispatch::pkcs11::objects::view;
use crate::dispatch::shares::tenant;
use crate::error::Error;

impl Dispatch {
    pub(in crate::dispatch) fn generate(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: RequestId,
        mechanism: &Mechanism,
        template: &Template,
    ) -> Result<Response, Error> {
        mechanism.check()?;
        let (spec, mut draft) = policy::generate(caller, mechanism, template)?;
        let generated = self.generate_key(tenant(ring, caller), &spec)?;
        let key = Uuid::new_v4().into_bytes();
        complete_draft(&mut draft, key, generated.attributes);
        if !draft.token {
            return Ok(Response::Object(self.seal(ring, caller, draft, &generated.material, None)?));
        }
        let stored = self.store_key(
            (ring, caller, AuditedFunction::GENERATE),
            request,
            key,
            &generated.material,
            vec![draft],
        )?;
        let object = stored.first().ok_or(Error::NoSuchObject)?;
        Ok(Response::Object(view(object)))
    }

    pub(in crate::dispatch) fn generate_pair(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: RequestId,
        mechanism: &Mechanism,
        public: &Template,
        private: &Template,
    ) -> Result<Response, Error> {
        mechanism.check()?;
        let (spec, mut public, mut private) = policy::generate_pair(caller, mechanism, public, private)?;
        let generated = self.generate_key(tenant(ring, caller), &spec)?;
        let key = Uuid::new_v4().into_bytes();
        complete_draft(&mut private, key, generated.attributes);
        complete_draft(&mut public, key, generated.public);
        let by = (ring, caller, AuditedFunction::GENERATE_PAIR);
        let (public, private) = match (public.token, private.token) {
            (true, true) => {
                let stored = self.store_key(by, request, key, &generated.material, vec![private, public])?;
                let [private, public] = stored.as_slice() else { return Err(Error::NoSuchObject) };
                (view(public), view(private))
            }
            (false, false) => (
                self.seal(ring, caller, public, &KeyBytes::from(Vec::new()), None)?,
                self.seal(ring, caller, private, &generated.material, None)?,
            ),
            (false, true) => {
                let stored = self.store_key(by, request, key, &generated.material, vec![private])?;
                let private = stored_key_of(&stored, key)?;
                (self.seal(ring, caller, public, &KeyBytes::from(Vec::new()), None)?, view(private))
            }
            (true, false) => {
                let stored = self.store_key(by, request, key, &KeyBytes::from(Vec::new()), vec![public])?;
                let public = stored_key_of(&stored, key)?;
                (view(public), self.seal(ring, caller, private, &generated.material, None)?)
            }
        };
        Ok(Response::Pair { public, private })
    }
}

/// Returns the stored key of a pair whose other key is a session object. A repeated request gets the key that was
/// stored at the first time; the session object that belonged to it was lost with the first response, so the call
/// fails.
fn stored_key_of(stored: &[Arc<Object>], key: [u8; 16]) -> Result<&Arc<Object>, Error> {
    let is_new = |object: &&Arc<Object>| object.version.is_some_and(|version| version.key == key);
    stored.first().filter(is_new).ok_or(Error::Rejected(Rv::FUNCTION_FAILED))
}
