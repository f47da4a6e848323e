//! Attributes that are computed when an object is created, and who may create it.

use kms_protocol::mechanism_table::{Row, TABLE, Uses};
use kms_protocol::{Attribute, AttributeType, MechanismType, ObjectClass, RingPolicy, Rv, Template};

use super::attributes::Functions;
use super::classes::{is_key, is_secret_or_private};
use super::template::Creation;
use super::{is_private, is_user};
use crate::object::{Caller, Draft, Object, RingRole};

/// `CK_UNAVAILABLE_INFORMATION`: the generation mechanism of a key that was not generated in the KMS.
const UNAVAILABLE_INFORMATION: u64 = u64::MAX;

/// Where a key's value comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeySource<'a> {
    /// It was generated in the KMS, by this mechanism.
    Generated(MechanismType),
    /// It was imported, in plaintext or wrapped, or agreed on with another party.
    External,
    /// It was derived from these keys.
    Derived(&'a [&'a Object]),
}

/// Adds the attributes that are computed at creation, from the object's other attributes and its source.
pub(super) fn with_computed_attributes(
    creation: Creation,
    mut attributes: Template,
    source: KeySource<'_>,
) -> Draft {
    let mut set = |attribute| attributes.set(attribute);
    if is_key(creation.class) {
        let by = match source {
            KeySource::Generated(mechanism) => u64::from(mechanism.0),
            KeySource::External | KeySource::Derived(_) => UNAVAILABLE_INFORMATION,
        };
        set(Attribute::ulong(AttributeType::KEY_GEN_MECHANISM, by));
    }
    if is_secret_or_private(creation.class) {
        // Spec, "Secret key objects" and the derivations' sections: true if the key has it, and so had all keys that it
        // was derived from.
        let inherited = |kind| match source {
            KeySource::Generated(_) => true,
            KeySource::External => false,
            KeySource::Derived(bases) => bases.iter().all(|base| base.is(kind)),
        };
        let always = inherited(AttributeType::ALWAYS_SENSITIVE);
        let never = inherited(AttributeType::NEVER_EXTRACTABLE);
        let sensitive = attributes.bool(AttributeType::SENSITIVE) == Some(true);
        let extractable = attributes.bool(AttributeType::EXTRACTABLE) != Some(false);
        attributes.set(Attribute::bool(AttributeType::ALWAYS_SENSITIVE, always && sensitive));
        attributes.set(Attribute::bool(AttributeType::NEVER_EXTRACTABLE, never && !extractable));
    }
    let token = attributes.bool(AttributeType::TOKEN) == Some(true);
    Draft { attributes, token }
}

/// The attributes of a key's next version, which is generated now: those of the version before, except those that
/// belong to its value.
pub fn next_version_attributes(before: &Template, today: &[u8; 8]) -> Template {
    let mut attributes = before.clone();
    let of_the_value = [AttributeType::ID, AttributeType::UNIQUE_ID, AttributeType::END_DATE];
    attributes.0.retain(|attribute| !of_the_value.contains(&attribute.kind));
    attributes.set(Attribute::bytes(AttributeType::START_DATE, today.as_slice()));
    attributes.set(Attribute::bytes(AttributeType::END_DATE, Vec::new()));
    attributes.set(Attribute::bool(AttributeType::LOCAL, true));
    // The security officer trusts the version before, not one that is generated now.
    if before.bool(AttributeType::TRUSTED) == Some(true) {
        attributes.set(Attribute::bool(AttributeType::TRUSTED, false));
    }
    let generates = |row: &&Row| row.uses.has(Uses::GENERATE) || row.uses.has(Uses::GENERATE_PAIR);
    if let Some(row) = TABLE.iter().filter(generates).find(|row| row.key == before.key_type())
        && before.ulong(AttributeType::KEY_GEN_MECHANISM) == Some(UNAVAILABLE_INFORMATION)
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

/// Checks that the caller may create an object with these attributes.
pub(super) fn may_create(caller: &Caller, creation: Creation, attributes: &Template) -> Result<(), Rv> {
    // Spec, "Session states": without a user's login only public objects are accessible.
    if is_private(attributes) && !is_user(caller) {
        return Err(Rv::USER_NOT_LOGGED_IN);
    }
    // Spec, "Private key objects": a key that requires the PIN for each use is private.
    if attributes.bool(AttributeType::ALWAYS_AUTHENTICATE) == Some(true) && !is_private(attributes) {
        return Err(Rv::TEMPLATE_INCONSISTENT);
    }
    let on_token = attributes.bool(AttributeType::TOKEN) == Some(true);
    // The security officer imports public keys and certificates to mark them as trusted.
    let not_secret = creation.function == Functions::CREATE && !is_secret_or_private(creation.class);
    match (caller.ring_role(), on_token) {
        (Some(RingRole::Admin), _) | (Some(RingRole::Editor | RingRole::User), false) => Ok(()),
        (Some(RingRole::Officer), true) if not_secret => Ok(()),
        (None | Some(RingRole::Officer), true) => Err(Rv::USER_NOT_LOGGED_IN),
        (Some(RingRole::Editor | RingRole::User | RingRole::Reader), true) => Err(Rv::TOKEN_WRITE_PROTECTED),
        (Some(RingRole::Reader), false) => Err(Rv::FUNCTION_REJECTED),
        // Key generation costs time: without a login only a compat ring does it. Importing a public key costs nothing:
        // SunPKCS11 and OpenSSL import public keys into the session to verify with them.
        (None | Some(RingRole::Officer), false) => match caller.policy {
            RingPolicy::Strict if !not_secret => Err(Rv::USER_NOT_LOGGED_IN),
            RingPolicy::Strict | RingPolicy::Compat => Ok(()),
        },
    }
}

/// The class that a template for a new object names.
pub(super) fn class_of(template: &Template) -> Result<ObjectClass, Rv> {
    template.value(AttributeType::CLASS).ok_or(Rv::TEMPLATE_INCOMPLETE)?;
    template.class().ok_or(Rv::ATTRIBUTE_VALUE_INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(attributes: &[Attribute]) -> Template {
        next_version_attributes(&Template(attributes.to_vec()), b"20261201")
    }

    #[test]
    fn the_next_version_says_what_is_true_of_its_own_value() {
        let imported = [
            Attribute::bool(AttributeType::LOCAL, false),
            Attribute::bool(AttributeType::SENSITIVE, true),
            Attribute::bool(AttributeType::ALWAYS_SENSITIVE, false),
            Attribute::bool(AttributeType::EXTRACTABLE, true),
            Attribute::bool(AttributeType::NEVER_EXTRACTABLE, false),
            Attribute::bool(AttributeType::TRUSTED, true),
        ];
        let version = next(&imported);
        assert_eq!(version.bool(AttributeType::LOCAL), Some(true));
        assert_eq!(version.bool(AttributeType::ALWAYS_SENSITIVE), Some(true));
        assert_eq!(version.bool(AttributeType::NEVER_EXTRACTABLE), Some(false), "it is extractable");
        assert_eq!(version.bool(AttributeType::TRUSTED), Some(false), "nobody has trusted this value");
        let readable = [
            Attribute::bool(AttributeType::SENSITIVE, false),
            Attribute::bool(AttributeType::EXTRACTABLE, false),
        ];
        let version = next(&readable);
        assert_eq!(version.bool(AttributeType::ALWAYS_SENSITIVE), Some(false));
        assert_eq!(version.bool(AttributeType::NEVER_EXTRACTABLE), Some(true));
        assert_eq!(version.bool(AttributeType::TRUSTED), None, "not an attribute of this class");
    }
}
