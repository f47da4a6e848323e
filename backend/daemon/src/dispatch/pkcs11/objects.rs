//! Finds, reads, changes and destroys objects.

use std::sync::Arc;

use kms_core::object::{Caller, KeyBytes, Material, Object};
use kms_core::policy::{self, Action};
use kms_protocol::{
    Attribute, AttributeType, FOUND_MAX, ObjectClass, ObjectId, ObjectRef, ObjectView, RequestId, Response,
    Rv, Template, Value,
};
use kms_store::{Found, Ring, Search};

use crate::dispatch::Dispatch;
use crate::dispatch::audit_names::AuditedResource;
use crate::dispatch::pkcs11::audit_events::{AuditedFunction, with_object_details};
use crate::error::Error;

/// How many objects are read from the store at once. Two pages fit in one response.
const PAGE: usize = FOUND_MAX / 2;

/// The size of a page, in bytes of attributes: one more object of the maximum size still fits in the frame.
const PAGE_BYTES: usize = 512 << 10;

impl Dispatch {
    pub(in crate::dispatch) fn find(
        &self,
        ring: &Ring,
        caller: &Caller,
        template: &Template,
        after: Option<ObjectId>,
    ) -> Result<Response, Error> {
        let public_only = !policy::sees_private(caller);
        let search = Search { ring: ring.id, template, public_only };
        let Found { objects: page, mut next } = self.store.find_some(search, after, PAGE)?;
        let (mut objects, mut bytes) = (Vec::with_capacity(page.len()), 0);
        let count = page.len();
        for (at, object) in page.iter().enumerate() {
            // Once more on what is shown: the rows of objects that are older than the search's index say it themselves.
            if policy::visible(caller, &object.attributes) {
                bytes += bytes_of(&object.attributes);
                objects.push(view(object));
            }
            if bytes > PAGE_BYTES && at + 1 < count {
                next = object.id;
                break;
            }
        }
        // A part may be empty before the end: it reads a bounded number of rows, so that others have their turn.
        Ok(Response::Found { objects, next })
    }

    pub(in crate::dispatch) fn attributes(
        &self,
        ring: &Ring,
        caller: &Caller,
        object: &ObjectRef,
    ) -> Result<Response, Error> {
        let loaded = self.load(ring, caller, object)?;
        Ok(Response::Object(ObjectView { object: object.clone(), attributes: loaded.attributes.clone() }))
    }

    pub(in crate::dispatch) fn reveal(
        &self,
        ring: &Ring,
        caller: &Caller,
        object: &ObjectRef,
    ) -> Result<Response, Error> {
        let object = self.load(ring, caller, object)?;
        let permit = policy::permit_reveal(caller, &object)?;
        if object.class() == Some(ObjectClass::DATA) {
            self.record_use(ring, caller, AuditedFunction::REVEAL.object_event, None)?;
            let value = match object.material {
                Material::None => KeyBytes::from(Vec::new()),
                Material::Wrapped(_) | Material::Plaintext(_) => self.keys.material(&permit, &object)?,
            };
            let value = Attribute::bytes(AttributeType::VALUE, value.as_ref());
            return Ok(Response::Revealed(Template(vec![value])));
        }
        let (Some(class), Some(kind)) = (object.class(), object.key_type()) else {
            return Err(Rv::ATTRIBUTE_TYPE_INVALID.into());
        };
        let material = self.keys.material(&permit, &object)?;
        if object.version.is_some() {
            // Every export of a key in plaintext is recorded, not only counted.
            self.store.record(self.request_entry(
                ring,
                caller,
                AuditedFunction::REVEAL,
                &AuditedResource::object(&object),
            ))?;
        }
        Ok(Response::Revealed(kms_crypto::export_value(&permit, kind, class, &material)?))
    }

    pub(in crate::dispatch) fn set_attributes(
        &self,
        ring: &Ring,
        caller: &Caller,
        reference: &ObjectRef,
        template: &Template,
    ) -> Result<Response, Error> {
        let object = self.load(ring, caller, reference)?;
        let names: Vec<String> = template.0.iter().map(|attribute| attribute.kind.to_string()).collect();
        let (by, template) = (caller.clone(), template.clone());
        let decide = move |object: &Object| {
            policy::may(&by, Action::Change, &object.attributes)?;
            policy::change(&by, object, &template)
        };
        match reference {
            ObjectRef::Token(id) => {
                let resource = AuditedResource::object(&object);
                let mut entry = self.request_entry(ring, caller, AuditedFunction::SET_ATTRIBUTES, &resource);
                entry.details.insert("attributes".to_owned(), names.into());
                let changed = self.store.update(ring.id, *id, decide, Some(entry))??;
                Ok(Response::Object(view(&changed)))
            }
            ObjectRef::Session(seal) => {
                let attributes = decide(&object)?;
                let seal = self.reseal(ring, caller, seal, &attributes)?;
                Ok(Response::Object(ObjectView { object: ObjectRef::Session(seal), attributes }))
            }
        }
    }

    pub(in crate::dispatch) fn destroy(
        &self,
        ring: &Ring,
        caller: &Caller,
        request: RequestId,
        reference: &ObjectRef,
    ) -> Result<Response, Error> {
        let object = match (self.load(ring, caller, reference), reference) {
            // The request is repeated after a broken connection, or the other key of the pair was destroyed before.
            (Err(Error::NoSuchObject), ObjectRef::Token(id)) => {
                let leaving = self.store.leaving(ring.id, *id)?;
                let was_visible = leaving.is_some_and(|object| policy::visible(caller, &object.attributes));
                let done = was_visible || self.store.deleted_by(ring.id, request)?;
                return if done { Ok(Response::Done) } else { Err(Error::NoSuchObject) };
            }
            (loaded, _) => loaded?,
        };
        policy::may(caller, Action::Destroy, &object.attributes)?;
        if let ObjectRef::Token(id) = reference {
            let now = self.clock.seconds();
            let times = (now, now + self.lifecycle.deletion_seconds);
            let entry =
                self.request_entry(ring, caller, AuditedFunction::DESTROY, &AuditedResource::object(&object));
            let entry = Some(with_object_details(entry, &object.attributes));
            for removed in self.store.schedule_destruction((ring.id, request), *id, times, entry)? {
                self.keys.forget(removed);
            }
            let label = object.attributes.bytes(AttributeType::LABEL).map(String::from_utf8_lossy);
            let by = caller.login.as_ref().map(|login| login.name.as_str());
            let is_key = object.version.is_some();
            let outcome = if is_key { "destruction scheduled, restorable for 30 days" } else { "deleted" };
            tracing::info!(object = id.0, label = label.as_deref(), by, "{outcome}");
        }
        Ok(Response::Done)
    }
}

/// Returns a token object as applications see it.
pub(in crate::dispatch) fn view(object: &Arc<Object>) -> ObjectView {
    let id = object.id.expect("objects of the store have an id");
    ObjectView { object: ObjectRef::Token(id), attributes: object.attributes.clone() }
}

/// Estimates the size of a template in a frame.
fn bytes_of(attributes: &Template) -> usize {
    attributes.0.iter().map(|attribute| value_bytes(&attribute.value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Bool(_) | Value::Ulong(_) => 8,
        Value::Bytes(bytes) => bytes.len() + 8,
        Value::Mechanisms(mechanisms) => mechanisms.0.len() * 4 + 8,
        Value::Template(nested) => nested.0.iter().map(|attribute| value_bytes(&attribute.value) + 8).sum(),
    }
}
