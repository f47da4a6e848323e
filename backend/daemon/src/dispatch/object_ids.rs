//! `CKA_ID` and `CKA_UNIQUE_ID` of the objects of a key version.

use kms_core::object::{Draft, KeyVersion};
use kms_protocol::{Attribute, AttributeType, ObjectClass};
use uuid::Uuid;

/// Sets the ids of an object of a key version; a `CKA_ID` that the caller gave stays.
pub(in crate::dispatch) fn assign_ids(draft: &mut Draft, version: KeyVersion) {
    // The key's UUID and the number of its version: the same id for both keys of a pair, and unique to this version.
    if draft.attributes.value(AttributeType::ID).is_none() {
        let id = [version.key.as_slice(), &version.number.to_be_bytes()].concat();
        draft.attributes.set(Attribute::bytes(AttributeType::ID, id));
    }
    let class = draft.attributes.class().unwrap_or(ObjectClass::SECRET_KEY);
    draft.attributes.set(Attribute::bytes(AttributeType::UNIQUE_ID, unique_id(version, class)));
}

/// The unique id of an object, which no other object ever gets.
pub(in crate::dispatch) fn unique_id(version: KeyVersion, class: ObjectClass) -> String {
    format!("{}-{}-{}", Uuid::from_bytes(version.key), version.number, class.0)
}
