//! Objects by handle: how to name them to a backend, and what is known of them. A handle means the same object for as
//! long as it is valid, whatever is found again or changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kms_protocol::{AttributeType, ObjectClass, ObjectId, ObjectRef, ObjectView, Rv, SlotId, Template};

use super::{ObjectHandle, SessionHandle};

/// What is known of an object.
#[derive(Debug)]
pub(crate) struct Known {
    /// The slot whose token has it.
    pub(crate) slot: SlotId,
    /// Its name in requests.
    pub(crate) object: ObjectRef,
    /// Its attributes, except those that are secret.
    pub(crate) attributes: Template,
    /// The session a session object lives in.
    pub(crate) owner: Option<SessionHandle>,
}

impl Known {
    /// Whether only who is logged in may see it.
    pub(crate) fn is_private(&self) -> bool {
        self.is(AttributeType::PRIVATE)
    }

    /// Whether it outlives the session.
    pub(crate) fn is_token(&self) -> bool {
        self.owner.is_none()
    }

    /// A true-or-false attribute; one that is not there is false.
    pub(crate) fn is(&self, attribute: AttributeType) -> bool {
        self.attributes.bool(attribute).unwrap_or(false)
    }

    /// Its class.
    pub(crate) fn class(&self) -> Option<ObjectClass> {
        self.attributes.class()
    }
}

/// All objects the application has seen.
#[derive(Default)]
pub(crate) struct Objects {
    last: u64,
    known: BTreeMap<ObjectHandle, Arc<Known>>,
    tokens: BTreeMap<(SlotId, ObjectId), ObjectHandle>,
}

impl Objects {
    /// Gives an object a handle, or brings what is known of it up to date. A session object needs an `owner`.
    pub(crate) fn note(&mut self, slot: SlotId, owner: SessionHandle, view: ObjectView) -> ObjectHandle {
        let ObjectView { object, attributes } = view;
        let (handle, owner) = match &object {
            ObjectRef::Token(id) => match self.tokens.get(&(slot, *id)) {
                Some(handle) => (*handle, None),
                None => {
                    let handle = self.next();
                    self.tokens.insert((slot, *id), handle);
                    (handle, None)
                }
            },
            ObjectRef::Session(_) => (self.next(), Some(owner)),
        };
        self.known.insert(handle, Arc::new(Known { slot, object, attributes, owner }));
        handle
    }

    /// Replaces what is known of an object, if it is still there.
    pub(crate) fn update(&mut self, handle: ObjectHandle, view: ObjectView) {
        if let Some(known) = self.known.get_mut(&handle) {
            let ObjectView { object, attributes } = view;
            *known = Arc::new(Known { slot: known.slot, object, attributes, owner: known.owner });
        }
    }

    /// What is known of an object of this slot.
    pub(crate) fn known(&self, slot: SlotId, handle: ObjectHandle) -> Result<Arc<Known>, Rv> {
        let known = self.known.get(&handle).filter(|known| known.slot == slot);
        known.map(Arc::clone).ok_or(Rv::OBJECT_HANDLE_INVALID)
    }

    /// The session objects of a slot that look like `template`, oldest first.
    pub(crate) fn session_objects(&self, slot: SlotId, template: &Template) -> Vec<ObjectHandle> {
        let of_slot = self.known.iter().filter(|(_, known)| known.slot == slot && known.owner.is_some());
        of_slot.filter(|(_, known)| known.attributes.matches(template)).map(|(handle, _)| *handle).collect()
    }

    /// The object is destroyed.
    pub(crate) fn forget(&mut self, handle: ObjectHandle) {
        if let Some(known) = self.known.remove(&handle)
            && let ObjectRef::Token(id) = known.object
        {
            self.tokens.remove(&(known.slot, id));
        }
    }

    /// The session is closed: its objects are gone.
    pub(crate) fn forget_owned_by(&mut self, session: SessionHandle) {
        self.known.retain(|_, known| known.owner != Some(session));
    }

    /// The token is initialised anew: what it had is gone.
    pub(crate) fn forget_slot(&mut self, slot: SlotId) {
        self.known.retain(|_, known| known.slot != slot);
        self.tokens.retain(|(of, _), _| *of != slot);
    }

    /// Nobody is logged in any more.
    pub(crate) fn forget_private(&mut self, slot: SlotId) {
        let gone = |known: &Known| known.slot == slot && known.is_private();
        let handles: Vec<ObjectHandle> =
            self.known.iter().filter(|(_, known)| gone(known)).map(|(handle, _)| *handle).collect();
        handles.into_iter().for_each(|handle| self.forget(handle));
    }

    fn next(&mut self) -> ObjectHandle {
        self.last += 1;
        ObjectHandle(self.last)
    }
}

#[cfg(test)]
mod tests {
    use kms_protocol::{Attribute, Secret};

    use super::*;

    const SLOT: SlotId = SlotId(1);
    const SESSION: SessionHandle = SessionHandle(1);

    fn view(object: ObjectRef, label: &str, private: bool) -> ObjectView {
        let attributes = Template(vec![
            Attribute::bytes(AttributeType::LABEL, label),
            Attribute::bool(AttributeType::PRIVATE, private),
        ]);
        ObjectView { object, attributes }
    }

    fn seal() -> ObjectRef {
        ObjectRef::Session(Secret::from(vec![1]))
    }

    #[test]
    fn an_object_found_again_keeps_its_handle_and_shows_its_new_label() {
        let mut objects = Objects::default();
        let first = objects.note(SLOT, SESSION, view(ObjectRef::Token(ObjectId(7)), "old", false));
        let again = objects.note(SLOT, SESSION, view(ObjectRef::Token(ObjectId(7)), "new", false));
        assert_eq!(first, again);
        let known = objects.known(SLOT, first).unwrap();
        assert_eq!(known.attributes.bytes(AttributeType::LABEL), Some(b"new".as_slice()));
        let elsewhere = objects.note(SlotId(2), SESSION, view(ObjectRef::Token(ObjectId(7)), "new", false));
        assert_ne!(first, elsewhere);
        assert_eq!(objects.known(SlotId(2), first).err(), Some(Rv::OBJECT_HANDLE_INVALID));
    }

    #[test]
    fn a_session_object_dies_with_its_own_session_only() {
        let mut objects = Objects::default();
        let mine = objects.note(SLOT, SESSION, view(seal(), "mine", false));
        let other = objects.note(SLOT, SessionHandle(2), view(seal(), "other", false));
        objects.forget_owned_by(SESSION);
        assert!(objects.known(SLOT, mine).is_err());
        assert!(objects.known(SLOT, other).is_ok());
    }

    #[test]
    fn logout_takes_private_objects_and_their_handles_for_good() {
        let mut objects = Objects::default();
        let secret = objects.note(SLOT, SESSION, view(ObjectRef::Token(ObjectId(1)), "secret", true));
        let public = objects.note(SLOT, SESSION, view(ObjectRef::Token(ObjectId(2)), "public", false));
        objects.forget_private(SLOT);
        assert!(objects.known(SLOT, secret).is_err());
        assert!(objects.known(SLOT, public).is_ok());
        let again = objects.note(SLOT, SESSION, view(ObjectRef::Token(ObjectId(1)), "secret", true));
        assert_ne!(secret, again);
    }
}
