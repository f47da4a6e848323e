//! Sealed session objects: sealed for the provider, and opened if nothing has ended them (docs/decisions/0050). Each
//! request opens its seals anew; no opened seal is cached, only parsed private keys are (`keys`), by their value.

use kms_core::object::{Caller, Draft, KeyBytes, Material};
use kms_core::seal::{NONCE_BYTES, OpenedSeal, SealBounds, SealContext, SealEnd, SealError};
use kms_protocol::{ObjectId, ObjectRef, ObjectView, Secret, Template};
use kms_store::{Ring, StoreError};

use crate::dispatch::Dispatch;
use crate::error::Error;

impl Dispatch {
    /// Seals a session object for the provider; `origin` is the token object that it is a copy of.
    pub(in crate::dispatch) fn seal(
        &self,
        ring: &Ring,
        caller: &Caller,
        draft: Draft,
        material: &KeyBytes,
        origin: Option<ObjectId>,
    ) -> Result<ObjectView, Error> {
        let context = self.seal_context(ring, caller);
        let bounds = SealBounds::of(&context, origin);
        let seal = self.seals.seal(&context, &bounds, &draft.attributes, material, nonce()?)?;
        Ok(ObjectView { object: ObjectRef::Session(seal), attributes: draft.attributes })
    }

    /// Seals a session object anew, with changed attributes. It ends when it would have ended before.
    pub(in crate::dispatch) fn reseal(
        &self,
        ring: &Ring,
        caller: &Caller,
        seal: &Secret,
        attributes: &Template,
    ) -> Result<Secret, Error> {
        let OpenedSeal { object, bounds } = self.open_seal(ring, caller, seal)?;
        let empty = KeyBytes::from(Vec::new());
        let material = match &object.material {
            Material::Plaintext(bytes) => bytes,
            Material::None | Material::Wrapped(_) => &empty,
        };
        Ok(self.seals.seal(&self.seal_context(ring, caller), &bounds, attributes, material, nonce()?)?)
    }

    /// Opens a seal that a caller sent.
    ///
    /// # Errors
    /// When it was not sealed here for this caller, or has ended.
    pub(in crate::dispatch) fn open_seal(
        &self,
        ring: &Ring,
        caller: &Caller,
        seal: &[u8],
    ) -> Result<OpenedSeal, Error> {
        let opened = self.seals.open(&self.seal_context(ring, caller), seal)?;
        if let Some(origin) = opened.bounds.origin() {
            match self.store.object(ring.id, origin) {
                Ok(_) => {}
                // Not visible to applications: disabled, destroyed, deleted, or edited outside the KMS.
                Err(StoreError::NotFound | StoreError::RowInvalid { .. }) => {
                    return Err(SealError::Ended(SealEnd::Origin).into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(opened)
    }

    /// Returns the token object that an object or its copies depend on: itself, or what it is a copy of.
    pub(in crate::dispatch) fn origin_of(
        &self,
        ring: &Ring,
        caller: &Caller,
        object: &ObjectRef,
    ) -> Result<Option<ObjectId>, Error> {
        match object {
            ObjectRef::Token(id) => Ok(Some(*id)),
            ObjectRef::Session(seal) => Ok(self.open_seal(ring, caller, seal)?.bounds.origin()),
        }
    }

    fn seal_context<'a>(&self, ring: &Ring, caller: &'a Caller) -> SealContext<'a> {
        let (epoch, now) = (ring.epoch, self.clock.seconds());
        SealContext { ring: ring.id, epoch, login: caller.login.as_ref(), now }
    }
}

fn nonce() -> Result<[u8; NONCE_BYTES], Error> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(Error::Random)?;
    Ok(nonce)
}
