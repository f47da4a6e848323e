//! Imports: objects that are created from their values, copied, unwrapped, derived or agreed on. A token object is in
//! the database before the response is sent; a session object is returned to the provider as a seal.

use std::sync::Arc;

use kms_core::integrity;
use kms_core::object::{Caller, KeyBytes, KeyVersion, Material, Object};
use kms_core::policy::{self, Decision};
use kms_crypto::Imported;
use kms_hsm::MATERIAL_BYTES_MAX;
use kms_protocol::{
    Attribute, AttributeType, ObjectClass, ObjectId, ObjectRef, ObjectView, RequestId, Response, RingPolicy,
    Rv, Template,
};
use kms_store::{NewObject, Ring};
use uuid::Uuid;

use crate::dispatch::Dispatch;
use crate::dispatch::audit_names::AuditedResource;
use crate::dispatch::object_ids::unique_id;
use crate::dispatch::pkcs11::audit_events::{AuditedFunction, with_object_details};
use crate::dispatch::pkcs11::new_keys::complete_draft;
use crate::dispatch::pkcs11::objects::view;
use crate::error::Error;

/// The value of an imported object, and the attributes that follow from it.
pub(in crate::dispatch) struct ImportedValue {
    /// The secret value, if there is one.
    pub(in crate::dispatch) material: Option<KeyBytes>,
    /// The attributes that follow from the value.
    pub(in crate::dispatch) attributes: Vec<Attribute>,
    /// The token object that it is a copy of.
    pub(in crate::dispatch) origin: Option<ObjectId>,
}

impl ImportedValue {
    /// Returns that of an unwrapped, derived or agreed key, after checking it against what its template states.
    pub(in crate::dispatch) fn of_key(
        policy: RingPolicy,
        decision: &Decision,
        template: &Template,
        material: KeyBytes,
    ) -> Result<Self, Error> {
        let kind = decision.kind.ok_or(Rv::TEMPLATE_INCOMPLETE)?;
        let attributes = kms_crypto::public_attributes(decision.class, kind, &material)?;
        check_stated_values(template, &attributes)?;
        policy::check_imported_value(policy, decision.class, kind, &attributes)?;
        Ok(Self { material: Some(material), attributes, origin: None })
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
        let imported = match decision.kind {
            Some(kind) => {
                let Imported { material, attributes } = kms_crypto::import(decision.class, kind, template)?;
                check_stated_values(template, &attributes)?;
                policy::check_imported_value(caller.policy, decision.class, kind, &attributes)?;
                ImportedValue { material, attributes, origin: None }
            }
            None => {
                let value =
                    template.bytes(AttributeType::VALUE).filter(|_| decision.class == ObjectClass::DATA);
                ImportedValue {
                    material: value.map(|value| KeyBytes::from(value.to_vec())),
                    attributes: Vec::new(),
                    origin: None,
                }
            }
        };
        let (by, key) = ((ring, caller, AuditedFunction::CREATE), Uuid::new_v4().into_bytes());
        Ok(Response::Object(self.store_imported(by, request, key, decision, imported)?))
    }

    pub(in crate::dispatch) fn copy(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: RequestId,
        object: &ObjectRef,
        template: &Template,
    ) -> Result<Response, Error> {
        let origin = self.origin_of(ring, caller, object)?;
        let object = self.load(ring, caller, object)?;
        let permit = policy::permit_copy(caller, &object)?;
        let decision = policy::copy(caller, &object, template)?;
        let material = match object.material {
            Material::None => None,
            Material::Wrapped(_) | Material::Plaintext(_) => Some(self.keys.material(&permit, &object)?),
        };
        let (key, imported) =
            (Uuid::new_v4().into_bytes(), ImportedValue { material, attributes: Vec::new(), origin });
        Ok(Response::Object(self.store_imported(
            (ring, caller, AuditedFunction::COPY),
            request,
            key,
            decision,
            imported,
        )?))
    }

    /// Stores a token object, or seals a session object, with new ids.
    pub(in crate::dispatch) fn store_imported(
        &self,
        (ring, caller, function): (&Ring, &Caller, AuditedFunction),
        request: RequestId,
        key: [u8; 16],
        decision: Decision,
        imported: ImportedValue,
    ) -> Result<ObjectView, Error> {
        let Decision { class, kind, mut draft, .. } = decision;
        let material = imported.material.unwrap_or_else(|| KeyBytes::from(Vec::new()));
        if kind.is_some() {
            complete_draft(&mut draft, key, imported.attributes);
        } else {
            let unique = unique_id(KeyVersion { key, number: 1 }, class);
            draft.attributes.set(Attribute::bytes(AttributeType::UNIQUE_ID, unique));
        }
        if !draft.token {
            return self.seal(ring, caller, draft, &material, imported.origin);
        }
        if matches!(class, ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY) {
            let stored = self.store_key((ring, caller, function), request, key, &material, vec![draft])?;
            return stored.first().map(view).ok_or(Error::NoSuchObject);
        }
        let value = if material.as_ref().is_empty() {
            None
        } else {
            // The HSM encrypts the value in one call; a session object's value is limited by the frame only.
            if material.as_ref().len() > MATERIAL_BYTES_MAX {
                return Err(Rv::ATTRIBUTE_VALUE_INVALID.into());
            }
            let name = draft.attributes.bytes(AttributeType::UNIQUE_ID).unwrap_or_default();
            Some(self.wrap_under_master(&integrity::value_identity(ring.id, name), material.as_ref())?)
        };
        let name = draft.attributes.bytes(AttributeType::UNIQUE_ID).unwrap_or_default();
        let entry = self.request_entry(ring, caller, function, &AuditedResource::Object(name));
        let entry = Some(with_object_details(entry, &draft.attributes));
        let new = NewObject { ring: ring.id, value, created: self.clock.seconds(), entry };
        let stored: Arc<Object> = self.store.insert_object(request, new, draft)?;
        Ok(view(&stored))
    }
}

/// Checks a value against what the template states of it (spec, "Secret key objects": an empty check value requests
/// none).
fn check_stated_values(template: &Template, actual: &[Attribute]) -> Result<(), Rv> {
    for attribute in actual {
        let differs = template.value(attribute.kind).is_some_and(|stated| *stated != attribute.value);
        match attribute.kind {
            AttributeType::VALUE_LEN if differs => return Err(Rv::TEMPLATE_INCONSISTENT),
            AttributeType::CHECK_VALUE
                if differs && template.bytes(attribute.kind).is_some_and(|stated| !stated.is_empty()) =>
            {
                return Err(Rv::ATTRIBUTE_VALUE_INVALID);
            }
            _ => {}
        }
    }
    Ok(())
}
