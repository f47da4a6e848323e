//! Stores new token keys, with their material wrapped by the HSM.

use std::sync::Arc;

use kms_core::api::DisplayName;
use kms_core::integrity;
use kms_core::object::{Caller, Draft, KeyBytes, KeyVersion, Object};
use kms_protocol::{Attribute, AttributeType, KeyType, ObjectClass, RequestId};
use kms_store::{KeyMetadata, NewKey, Ring};

use crate::dispatch::Dispatch;
use crate::dispatch::audit_names::AuditedResource;
use crate::dispatch::object_ids::assign_ids;
use crate::dispatch::pkcs11::algorithm_name::algorithm_of;
use crate::dispatch::pkcs11::audit_events::{AuditedFunction, with_object_details};
use crate::error::Error;

impl Dispatch {
    /// Wraps a key's material in the HSM and stores it with its objects, in one transaction.
    pub(in crate::dispatch) fn store_key(
        &self,
        (ring, caller, function): (&Ring, &Caller, AuditedFunction),
        request: RequestId,
        key: [u8; 16],
        material: &KeyBytes,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Arc<Object>>, Error> {
        let first = drafts.first().map(|draft| &draft.attributes).ok_or(Error::NoSuchObject)?;
        let (class, kind) = (first.class(), first.key_type());
        let (class, kind) =
            (class.unwrap_or(ObjectClass::SECRET_KEY), kind.unwrap_or(KeyType::GENERIC_SECRET));
        let version = KeyVersion { key, number: 1 };
        let wrapped = if material.as_ref().is_empty() {
            None
        } else {
            let identity = integrity::identity(ring.id, version, class, kind);
            Some(self.wrap_under_master(&identity, material.as_ref())?)
        };
        let label = first.bytes(AttributeType::LABEL).unwrap_or_default().to_vec();
        let algorithm = algorithm_of(first);
        // The API shows this key as well, under a name of its own, if it has an algorithm of the API.
        let api_algorithm = kms_core::api::algorithm_of(first);
        let display_name = api_algorithm.map(|_| DisplayName::nearest(&label).as_str().to_owned());
        let metadata = KeyMetadata { algorithm: api_algorithm, display_name, ..KeyMetadata::default() };
        let created = self.clock.seconds();
        let entry = self.request_entry(ring, caller, function, &AuditedResource::Key(key));
        let mut entry = with_object_details(entry, first);
        entry.details.insert("algorithm".to_owned(), algorithm.as_str().into());
        let entry = Some(entry);
        let new = NewKey { ring: ring.id, key, label, algorithm, wrapped, created, metadata, entry };
        Ok(self.store.insert(request, new, drafts)?)
    }
}

/// Adds to a new key's object the attributes of its value, and its ids.
pub(in crate::dispatch) fn complete_draft(draft: &mut Draft, key: [u8; 16], generated: Vec<Attribute>) {
    for attribute in generated {
        draft.attributes.set(attribute);
    }
    assign_ids(draft, KeyVersion { key, number: 1 });
}
