//! Making keys. A token key is in the database, wrapped by the HSM, before anybody hears of it; a session key goes
//! back to the provider under the backends' seal.

use std::sync::Arc;

use kms_core::object::{Caller, KeyBytes, Object};
use kms_core::policy;
use kms_protocol::{Mechanism, RequestId, Response, Rv, Template};
use kms_store::Ring;
use uuid::Uuid;

use crate::dispatch::audit_events::Act;
use crate::dispatch::new_keys::complete;
use crate::dispatch::{Dispatch, pkcs11::objects::view};
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
        let made = kms_crypto::generate(&spec, &self.random)?;
        let key = Uuid::new_v4().into_bytes();
        complete(&mut draft, key, made.attributes);
        if !draft.token {
            return Ok(Response::Object(self.seal(ring, caller, draft, &made.material)?));
        }
        let stored =
            self.store_key((ring, caller, Act::GENERATE), request, key, &made.material, vec![draft])?;
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
        let made = kms_crypto::generate(&spec, &self.random)?;
        let key = Uuid::new_v4().into_bytes();
        complete(&mut private, key, made.attributes);
        complete(&mut public, key, made.public);
        let by = (ring, caller, Act::GENERATE_PAIR);
        let (public, private) = match (public.token, private.token) {
            (true, true) => {
                let stored = self.store_key(by, request, key, &made.material, vec![private, public])?;
                let [private, public] = stored.as_slice() else { return Err(Error::NoSuchObject) };
                (view(public), view(private))
            }
            (false, false) => (
                self.seal(ring, caller, public, &KeyBytes::from(Vec::new()))?,
                self.seal(ring, caller, private, &made.material)?,
            ),
            (false, true) => {
                let stored = self.store_key(by, request, key, &made.material, vec![private])?;
                let private = half_of(&stored, key)?;
                (self.seal(ring, caller, public, &KeyBytes::from(Vec::new()))?, view(private))
            }
            (true, false) => {
                let stored = self.store_key(by, request, key, &KeyBytes::from(Vec::new()), vec![public])?;
                let public = half_of(&stored, key)?;
                (view(public), self.seal(ring, caller, private, &made.material)?)
            }
        };
        Ok(Response::Pair { public, private })
    }
}

/// The stored half of a pair whose other half is a session object. A request that is repeated gets the half it stored
/// before, and the session object that went with that is gone with the answer that was lost: there is no pair to give.
fn half_of(stored: &[Arc<Object>], key: [u8; 16]) -> Result<&Arc<Object>, Error> {
    let ours = |object: &&Arc<Object>| object.version.is_some_and(|version| version.key == key);
    stored.first().filter(ours).ok_or(Error::Refused(Rv::FUNCTION_FAILED))
}
