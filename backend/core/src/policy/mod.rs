//! Policy: decisions on what a caller may do with an object.
//!
//! Each decision depends only on values: the caller, the object's attributes, the ring's policy. The module has no
//! access to keys, storage or a clock. Permission to use a key is a value, the `Permit`; no key is opened without one.

mod attributes;
mod classes;
mod defaults;
mod derivation;
#[cfg(test)]
mod directed_tests;
mod generate;
mod import;
mod login;
mod proof;
mod ring;
mod roles;
mod separation;
mod template;
mod token;
mod usage;
mod wrapping;

use kms_protocol::{AttributeType, Rv, Template};

use crate::object::{Caller, RingRole};

pub use defaults::next_version_attributes;
pub use generate::{generate, generate_pair, next_version_spec};
pub use import::{
    Decision, agree_secret, check_imported_value, copy, create, derive, import_wrapped, unwrap,
};
pub use kms_protocol::Usage;
pub use login::{Claims, TicketKey, check, delay_after, issue};
pub use proof::{PROOF_SECONDS, UseClaims, check_proof, issue_proof, key_digest, needs_proof};
pub use roles::{allowed, allowed_somewhere, permissions, ring_role};
pub use template::change;
pub use token::{TOKEN_PREFIX, TOKEN_SECRET_BYTES, is_token, token_digest, token_of};
pub use usage::{Permit, permit, permit_proven, permit_reveal};
pub use wrapping::{permit_being_wrapped, permit_copy, permit_second_base};

/// An action on an object as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Changing its attributes.
    Change,
    /// Destroying it.
    Destroy,
}

/// Whether a caller may know that an object exists. Callers without a login and the security officer see only public
/// objects (spec, "Session states").
pub fn visible(caller: &Caller, attributes: &Template) -> bool {
    !is_private(attributes) || is_user(caller)
}

/// Whether a caller sees private objects at all.
pub fn sees_private(caller: &Caller) -> bool {
    is_user(caller)
}

/// Decides whether a caller may change or destroy an object that is visible to it.
///
/// # Errors
/// `CKR_USER_NOT_LOGGED_IN`, or `CKR_ACTION_PROHIBITED` if the principal may not do it or the object forbids it.
pub fn may(caller: &Caller, action: Action, attributes: &Template) -> Result<(), Rv> {
    let on_token = attributes.bool(AttributeType::TOKEN) == Some(true);
    match (on_token, caller.ring_role(), action) {
        // A session object belongs to its application.
        (false, ..) => {}
        (true, None, _) => return Err(Rv::USER_NOT_LOGGED_IN),
        (true, Some(RingRole::Admin), _) => {}
        // The security officer changes only CKA_TRUSTED, which `change` checks.
        (true, Some(RingRole::Officer), Action::Change) => {}
        (true, Some(RingRole::Officer), Action::Destroy) => return Err(Rv::ACTION_PROHIBITED),
        (true, Some(RingRole::Editor | RingRole::User | RingRole::Reader), _) => {
            return Err(Rv::ACTION_PROHIBITED);
        }
    }
    let guard = match action {
        Action::Change => AttributeType::MODIFIABLE,
        Action::Destroy => AttributeType::DESTROYABLE,
    };
    if attributes.bool(guard) == Some(false) { Err(Rv::ACTION_PROHIBITED) } else { Ok(()) }
}

/// Whether an object is private; a missing attribute counts as true.
fn is_private(attributes: &Template) -> bool {
    attributes.bool(AttributeType::PRIVATE) != Some(false)
}

/// Whether the caller is logged in as a normal user (`CKU_USER`).
fn is_user(caller: &Caller) -> bool {
    match caller.ring_role() {
        Some(RingRole::Admin | RingRole::Editor | RingRole::User | RingRole::Reader) => true,
        Some(RingRole::Officer) | None => false,
    }
}

/// Callers for the tests of this module.
#[cfg(test)]
pub(crate) mod callers {
    use kms_protocol::{RingId, RingPolicy};

    use crate::object::{Caller, Login, LoginId, RingRole};

    /// All roles of a login, and no login.
    pub(crate) const LOGINS: [Option<RingRole>; 6] = [
        None,
        Some(RingRole::Officer),
        Some(RingRole::Admin),
        Some(RingRole::Editor),
        Some(RingRole::User),
        Some(RingRole::Reader),
    ];

    /// A caller that is logged in with this role.
    pub(crate) fn caller(ring_role: Option<RingRole>, policy: RingPolicy) -> Caller {
        let (id, ring) = (LoginId::default(), RingId([1; 16]));
        let login = ring_role.map(|role| Login::new(id, ring, "someone".to_owned(), role));
        Caller { peer: None, login, policy }
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::{Attribute, RingPolicy};

    use super::callers::{LOGINS, caller};
    use super::*;

    fn object(token: bool, private: bool) -> Template {
        Template(vec![
            Attribute::bool(AttributeType::TOKEN, token),
            Attribute::bool(AttributeType::PRIVATE, private),
            Attribute::bool(AttributeType::MODIFIABLE, true),
            Attribute::bool(AttributeType::DESTROYABLE, true),
        ])
    }

    #[test]
    fn private_objects_are_visible_to_users_only() {
        let seen = LOGINS.map(|login| {
            let caller = caller(login, RingPolicy::Compat);
            (visible(&caller, &object(true, true)), visible(&caller, &object(true, false)))
        });
        assert_eq!(seen.map(|(private, _)| private), [false, false, true, true, true, true]);
        assert_eq!(seen.map(|(_, public)| public), [true; 6]);
        assert!(
            !visible(&caller(None, RingPolicy::Compat), &Template::default()),
            "an object is private by default"
        );
    }

    #[test]
    fn only_admins_change_and_destroy_token_objects() {
        let outcome = |action| {
            LOGINS.map(|login| may(&caller(login, RingPolicy::Strict), action, &object(true, false)).err())
        };
        let (no_login, prohibited) = (Some(Rv::USER_NOT_LOGGED_IN), Some(Rv::ACTION_PROHIBITED));
        assert_eq!(
            outcome(Action::Destroy),
            [no_login, prohibited, None, prohibited, prohibited, prohibited]
        );
        assert_eq!(outcome(Action::Change), [no_login, None, None, prohibited, prohibited, prohibited]);
    }

    #[test]
    fn unmodifiable_and_indestructible_objects_stay() {
        let admin = caller(Some(RingRole::Admin), RingPolicy::Compat);
        for (action, guard) in
            [(Action::Change, AttributeType::MODIFIABLE), (Action::Destroy, AttributeType::DESTROYABLE)]
        {
            let mut fixed = object(true, true);
            fixed.set(Attribute::bool(guard, false));
            assert_eq!(may(&admin, action, &fixed), Err(Rv::ACTION_PROHIBITED));
            assert_eq!(may(&admin, action, &object(false, true)), Ok(()));
        }
    }
}
