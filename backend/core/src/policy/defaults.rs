//! What is computed when an object comes to be: who may make it, and what its history says of it.

use kms_protocol::mechanism_table::{Row, TABLE, Uses};
use kms_protocol::{Attribute, AttributeType, MechanismType, ObjectClass, RingPolicy, Rv, Template};

use super::attributes::Origins;
use super::classes::{is_hidden, is_key};
use super::template::Creation;
use super::{is_private, is_user};
use crate::object::{Caller, Draft, Object, RingRole};

/// `CK_UNAVAILABLE_INFORMATION`: the mechanism that made a key which was not made here.
const UNAVAILABLE: u64 = u64::MAX;

/// Where a key's value comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Descent<'a> {
    /// It was made here, by this mechanism.
    GeneratedKey(MechanismType),
    /// It came from outside, in plaintext or wrapped, or was agreed on with somebody there.
    Foreign,
    /// It was derived from these keys.
    Derived(&'a [&'a Object]),
}

/// Adds what is computed at creation, from what the object has come to be.
pub(super) fn with_defaults(creation: Creation, mut attributes: Template, descent: Descent<'_>) -> Draft {
    let mut set = |attribute| attributes.set(attribute);
    if is_key(creation.class) {
        let by = match descent {
            Descent::GeneratedKey(mechanism) => u64::from(mechanism.0),
            Descent::Foreign | Descent::Derived(_) => UNAVAILABLE,
        };
        set(Attribute::ulong(AttributeType::KEY_GEN_MECHANISM, by));
    }
    if is_hidden(creation.class) {
        // Spec, "Secret key objects" and the derivations' sections: as long as there were none before, or all of them
        // were so, and it is so itself.
        let so_far = |kind| match descent {
            Descent::GeneratedKey(_) => true,
            Descent::Foreign => false,
            Descent::Derived(bases) => bases.iter().all(|base| base.is(kind)),
        };
        let always = so_far(AttributeType::ALWAYS_SENSITIVE);
        let never = so_far(AttributeType::NEVER_EXTRACTABLE);
        let sensitive = attributes.bool(AttributeType::SENSITIVE) == Some(true);
        let extractable = attributes.bool(AttributeType::EXTRACTABLE) != Some(false);
        attributes.set(Attribute::bool(AttributeType::ALWAYS_SENSITIVE, always && sensitive));
        attributes.set(Attribute::bool(AttributeType::NEVER_EXTRACTABLE, never && !extractable));
    }
    let token = attributes.bool(AttributeType::TOKEN) == Some(true);
    Draft { attributes, token }
}

/// The attributes of a key's next version, made here now: those of the one before, but for what came with its value.
pub fn next_version_attributes(before: &Template, today: &[u8; 8]) -> Template {
    let mut attributes = before.clone();
    let came = [AttributeType::ID, AttributeType::UNIQUE_ID, AttributeType::END_DATE];
    attributes.0.retain(|attribute| !came.contains(&attribute.kind));
    attributes.set(Attribute::bytes(AttributeType::START_DATE, today.as_slice()));
    attributes.set(Attribute::bytes(AttributeType::END_DATE, Vec::new()));
    attributes.set(Attribute::bool(AttributeType::LOCAL, true));
    let makes = |row: &&Row| row.uses.has(Uses::GENERATE) || row.uses.has(Uses::GENERATE_PAIR);
    if let Some(row) = TABLE.iter().filter(makes).find(|row| row.key == before.key_type())
        && before.ulong(AttributeType::KEY_GEN_MECHANISM) == Some(UNAVAILABLE)
    {
        attributes.set(Attribute::ulong(AttributeType::KEY_GEN_MECHANISM, u64::from(row.kind.0)));
    }
    if let Some(sensitive) = before.bool(AttributeType::SENSITIVE) {
        attributes.set(Attribute::bool(AttributeType::ALWAYS_SENSITIVE, sensitive));
    }
    if let Some(extractable) = before.bool(AttributeType::EXTRACTABLE) {
        attributes.set(Attribute::bool(AttributeType::NEVER_EXTRACTABLE, !extractable));
    }
    attributes
}

/// Who may make an object like this.
pub(super) fn may_make(caller: &Caller, creation: Creation, attributes: &Template) -> Result<(), Rv> {
    // Spec, "Session states": without a user's login there are public objects only.
    if is_private(attributes) && !is_user(caller) {
        return Err(Rv::USER_NOT_LOGGED_IN);
    }
    // Spec, "Private key objects": who must prove the PIN for each use must be logged in to begin with.
    if attributes.bool(AttributeType::ALWAYS_AUTHENTICATE) == Some(true) && !is_private(attributes) {
        return Err(Rv::TEMPLATE_INCONSISTENT);
    }
    let on_token = attributes.bool(AttributeType::TOKEN) == Some(true);
    // The officer brings public keys and certificates, to trust them.
    let brought = creation.origin == Origins::CREATE && !is_hidden(creation.class);
    match (caller.ring_role(), on_token) {
        (Some(RingRole::Admin), _) | (Some(RingRole::Editor | RingRole::User), false) => Ok(()),
        (Some(RingRole::Officer), true) if brought => Ok(()),
        (None | Some(RingRole::Officer), true) => Err(Rv::USER_NOT_LOGGED_IN),
        (Some(RingRole::Editor | RingRole::User | RingRole::Reader), true) => Err(Rv::TOKEN_WRITE_PROTECTED),
        (Some(RingRole::Reader), false) => Err(Rv::FUNCTION_REJECTED),
        // Key generation is work: who is nobody gets it done in a compat ring only. What costs nothing is everybody's:
        // SunPKCS11 and OpenSSL bring public keys into the session to verify with them.
        (None | Some(RingRole::Officer), false) => match caller.policy {
            RingPolicy::Strict if !brought => Err(Rv::USER_NOT_LOGGED_IN),
            RingPolicy::Strict | RingPolicy::Compat => Ok(()),
        },
    }
}

/// Whether the class of object may be made by applications at all.
pub(super) fn class_of(template: &Template) -> Result<ObjectClass, Rv> {
    template.value(AttributeType::CLASS).ok_or(Rv::TEMPLATE_INCOMPLETE)?;
    template.class().ok_or(Rv::ATTRIBUTE_VALUE_INVALID)
}
