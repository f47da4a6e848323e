//! Objects that arrive: created from their values, copied, and whatever was unwrapped, derived or agreed on. A token
//! object is in the database before anybody hears of it; a session object goes back under the backends' seal.

use std::sync::Arc;

use kms_core::integrity;
use kms_core::object::{Caller, KeyBytes, Material, Object, Wrapped};
use kms_core::policy::{self, Decision};
use kms_crypto::Imported;
use kms_hsm::MATERIAL_BYTES_MAX;
use kms_protocol::{
    Attribute, AttributeType, ObjectClass, ObjectRef, ObjectView, RequestId, Response, Rv, Template,
};
use kms_store::{NewObject, Ring};
use uuid::Uuid;

use crate::dispatch::Dispatch;
use crate::dispatch::audit_events::{About, Act, described};
use crate::dispatch::new_keys::{complete, unique_id};
use crate::dispatch::pkcs11::objects::view;
use crate::error::Error;

/// What comes with an object: its secret, and the attributes that follow from it.
pub(in crate::dispatch) struct Cargo {
    /// Its secret, if it has one.
    pub(in crate::dispatch) material: Option<KeyBytes>,
    /// What follows from it.
    pub(in crate::dispatch) attributes: Vec<Attribute>,
}

impl Cargo {
    /// A key whose value was unwrapped, derived or agreed on, as its template may have said it would be.
    pub(in crate::dispatch) fn of_key(
        decision: &Decision,
        template: &Template,
        material: KeyBytes,
    ) -> Result<Self, Error> {
        let kind = decision.kind.ok_or(Rv::TEMPLATE_INCOMPLETE)?;
        let attributes = kms_crypto::public_attributes(decision.class, kind, &material)?;
        as_said(template, &attributes)?;
        Ok(Self { material: Some(material), attributes })
    }
}

impl Dispatch {
    pub(in crate::dispatch) fn create(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: RequestId,
        template: &Template,
    ) -> Result<Response, Error> {
        let decision = policy::create(caller, template)?;
        let cargo = match decision.kind {
            Some(kind) => {
                let Imported { material, attributes } = kms_crypto::import(decision.class, kind, template)?;
                as_said(template, &attributes)?;
                Cargo { material, attributes }
            }
            None => {
                let value =
                    template.bytes(AttributeType::VALUE).filter(|_| decision.class == ObjectClass::DATA);
                Cargo { material: value.map(|value| KeyBytes::from(value.to_vec())), attributes: Vec::new() }
            }
        };
        let by = (ring, caller, Act::CREATE);
        Ok(Response::Object(self.arrive(by, request, Uuid::new_v4().into_bytes(), decision, cargo)?))
    }

    pub(in crate::dispatch) fn copy(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: RequestId,
        object: &ObjectRef,
        template: &Template,
    ) -> Result<Response, Error> {
        let object = self.load(ring, caller, object)?;
        let permit = policy::permit_copy(caller, &object)?;
        let decision = policy::copy(caller, &object, template)?;
        let material = match object.material {
            Material::None => None,
            Material::Wrapped(_) | Material::Open(_) => Some(self.keys.material(&permit, &object)?),
        };
        let (key, cargo) = (Uuid::new_v4().into_bytes(), Cargo { material, attributes: Vec::new() });
        Ok(Response::Object(self.arrive((ring, caller, Act::COPY), request, key, decision, cargo)?))
    }

    /// Stores or seals an object under its new name.
    pub(in crate::dispatch) fn arrive(
        &self,
        (ring, caller, act): (&Ring, &Caller, Act),
        request: RequestId,
        key: [u8; 16],
        decision: Decision,
        cargo: Cargo,
    ) -> Result<ObjectView, Error> {
        let Decision { class, kind, mut draft, .. } = decision;
        let material = cargo.material.unwrap_or_else(|| KeyBytes::from(Vec::new()));
        if kind.is_some() {
            complete(&mut draft, key, cargo.attributes);
        } else {
            let unique = Attribute::bytes(AttributeType::UNIQUE_ID, unique_id(key, class));
            draft.attributes.set(unique);
        }
        if !draft.token {
            return self.seal(ring, caller, draft, &material);
        }
        if matches!(class, ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY) {
            let stored = self.store_key((ring, caller, act), request, key, &material, vec![draft])?;
            return stored.first().map(view).ok_or(Error::NoSuchObject);
        }
        let value = if material.as_ref().is_empty() {
            None
        } else {
            // The HSM encrypts it in one call. A session object takes as much as a frame.
            if material.as_ref().len() > MATERIAL_BYTES_MAX {
                return Err(Rv::ATTRIBUTE_VALUE_INVALID.into());
            }
            let name = draft.attributes.bytes(AttributeType::UNIQUE_ID).unwrap_or_default();
            let bytes =
                self.hsm.wrap(self.master, &integrity::value_identity(ring.id, name), material.as_ref())?;
            Some(Wrapped { master: self.master, bytes })
        };
        let name = draft.attributes.bytes(AttributeType::UNIQUE_ID).unwrap_or_default();
        let entry = self.entry_of(ring, caller, act, &About::Object(name));
        let entry = Some(described(entry, &draft.attributes));
        let new = NewObject { ring: ring.id, value, created: self.clock.seconds(), entry };
        let stored: Arc<Object> = self.store.insert_object(request, new, draft)?;
        Ok(view(&stored))
    }
}

/// What a template says of a value must be so (spec, "Secret key objects": an empty check value asks for none).
fn as_said(template: &Template, found: &[Attribute]) -> Result<(), Rv> {
    for attribute in found {
        let differs = template.value(attribute.kind).is_some_and(|said| *said != attribute.value);
        match attribute.kind {
            AttributeType::VALUE_LEN if differs => return Err(Rv::TEMPLATE_INCONSISTENT),
            AttributeType::CHECK_VALUE
                if differs && template.bytes(attribute.kind).is_some_and(|said| !said.is_empty()) =>
            {
                return Err(Rv::ATTRIBUTE_VALUE_INVALID);
            }
            _ => {}
        }
    }
    Ok(())
}
