//! New keys: stored with their material wrapped by the HSM, or sealed for the provider.

use std::sync::Arc;

use kms_core::api::DisplayName;
use kms_core::integrity;
use kms_core::object::{Caller, Draft, KeyBytes, KeyVersion, Material, Object, Wrapped};
use kms_core::seal::NONCE_BYTES;
use kms_protocol::{
    Attribute, AttributeType, KeyType, ObjectClass, ObjectRef, ObjectView, RequestId, Secret, Template,
};
use kms_store::{KeyMetadata, NewKey, Ring};
use uuid::Uuid;

use crate::dispatch::algorithm_name::algorithm_of;
use crate::dispatch::audit_events::{About, Act, described};
use crate::dispatch::{Dispatch, owner};
use crate::error::Error;

impl Dispatch {
    /// Wraps a key's material in the HSM and stores it with its objects, in one transaction.
    pub(in crate::dispatch) fn store_key(
        &self,
        (ring, caller, act): (&Ring, &Caller, Act),
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
            let bytes = self.hsm.wrap(self.master, &identity, material.as_ref())?;
            Some(Wrapped { master: self.master, bytes })
        };
        let label = first.bytes(AttributeType::LABEL).unwrap_or_default().to_vec();
        let algorithm = algorithm_of(first);
        // A key that came to be over PKCS #11 has a name in the API as well, if it has a shape the API can say.
        let named = kms_core::api::algorithm_of(first);
        let display_name = named.map(|_| DisplayName::nearest(&label).as_str().to_owned());
        let metadata = KeyMetadata { algorithm: named, display_name, ..KeyMetadata::default() };
        let created = self.clock.seconds();
        let mut entry = described(self.entry_of(ring, caller, act, &About::Key(key)), first);
        entry.details.insert("algorithm".to_owned(), algorithm.as_str().into());
        let entry = Some(entry);
        let new = NewKey { ring: ring.id, key, label, algorithm, wrapped, created, metadata, entry };
        Ok(self.store.insert(request, new, drafts)?)
    }

    pub(in crate::dispatch) fn seal(
        &self,
        ring: &Ring,
        caller: &Caller,
        draft: Draft,
        material: &KeyBytes,
    ) -> Result<ObjectView, Error> {
        let seal = self.seals.seal(ring.id, owner(caller), &draft.attributes, material, nonce()?)?;
        Ok(ObjectView { object: ObjectRef::Session(seal), attributes: draft.attributes })
    }

    /// The same session object with other attributes.
    pub(in crate::dispatch) fn reseal(
        &self,
        ring: &Ring,
        caller: &Caller,
        seal: &Secret,
        attributes: &Template,
    ) -> Result<Secret, Error> {
        let object = self.seals.open(ring.id, owner(caller), seal)?;
        let nothing = KeyBytes::from(Vec::new());
        let material = match &object.material {
            Material::Open(bytes) => bytes,
            Material::None | Material::Wrapped(_) => &nothing,
        };
        Ok(self.seals.seal(ring.id, owner(caller), attributes, material, nonce()?)?)
    }
}

fn nonce() -> Result<[u8; NONCE_BYTES], Error> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(Error::Random)?;
    Ok(nonce)
}

/// Adds what comes with the key: its public values, and names where the caller gave none.
pub(in crate::dispatch) fn complete(draft: &mut Draft, key: [u8; 16], made: Vec<Attribute>) {
    for attribute in made {
        draft.attributes.set(attribute);
    }
    name(draft, KeyVersion { key, number: 1 });
}

/// Names an object of a key version, where its caller gave no name.
pub(in crate::dispatch) fn name(draft: &mut Draft, version: KeyVersion) {
    // The same id for both halves and unlike any other key's: the key's UUID and the number of its version.
    if draft.attributes.value(AttributeType::ID).is_none() {
        let id = [version.key.as_slice(), &version.number.to_be_bytes()].concat();
        draft.attributes.set(Attribute::bytes(AttributeType::ID, id));
    }
    let class = draft.attributes.class().unwrap_or(ObjectClass::SECRET_KEY);
    draft.attributes.set(Attribute::bytes(AttributeType::UNIQUE_ID, unique_of(version, class)));
}

/// The name that no other object has or will have.
pub(in crate::dispatch) fn unique_id(key: [u8; 16], class: ObjectClass) -> String {
    unique_of(KeyVersion { key, number: 1 }, class)
}

fn unique_of(version: KeyVersion, class: ObjectClass) -> String {
    format!("{}-{}-{}", Uuid::from_bytes(version.key), version.number, class.0)
}
