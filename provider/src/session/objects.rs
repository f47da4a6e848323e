//! Objects by handle: their references in requests and their attributes. A handle names the same object for as long as
//! it is valid, even if the object is found again or changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kms_protocol::{AttributeType, ObjectClass, ObjectId, ObjectRef, ObjectView, Rv, SlotId, Template};

use super::{ObjectHandle, SessionHandle};

/// What the provider knows about an object.
#[derive(Debug)]
pub(crate) struct ObjectInfo {
    /// The slot of its token.
    pub(crate) slot: SlotId,
    /// Its reference in requests.
    pub(crate) object: ObjectRef,
    /// Its attributes, except those that are secret.
    pub(crate) attributes: Template,
    /// The session of a session object; none for a token object.
    pub(crate) owner: Option<SessionHandle>,
}

impl ObjectInfo {
    /// Whether it is visible only after a login.
    pub(crate) fn is_private(&self) -> bool {
        self.is(AttributeType::PRIVATE)
    }

    /// Whether it is a token object, which outlives the session.
    pub(crate) fn is_token(&self) -> bool {
        self.owner.is_none()
    }

    /// A boolean attribute; a missing one is false.
    pub(crate) fn is(&self, attribute: AttributeType) -> bool {
        self.attributes.bool(attribute).unwrap_or(false)
    }

    /// Its class.
    pub(crate) fn class(&self) -> Option<ObjectClass> {
        self.attributes.class()
    }
}

/// All objects that the application has a handle of.
#[derive(Default)]
pub(crate) struct Objects {
    last_handle: u64,
    infos: BTreeMap<ObjectHandle, Arc<ObjectInfo>>,
    token_handles: BTreeMap<(SlotId, ObjectId), ObjectHandle>,
}

impl Objects {
    /// Gives an object a handle, or updates its attributes if it has one. `owner` is the session of a session object.
    pub(crate) fn register(&mut self, slot: SlotId, owner: SessionHandle, view: ObjectView) -> ObjectHandle {
        let ObjectView { object, attributes } = view;
        let (handle, owner) = match &object {
            ObjectRef::Token(id) => match self.token_handles.get(&(slot, *id)) {
                Some(handle) => (*handle, None),
                None => {
                    let handle = self.next_handle();
                    self.token_handles.insert((slot, *id), handle);
                    (handle, None)
                }
            },
            ObjectRef::Session(_) => (self.next_handle(), Some(owner)),
        };
        self.infos.insert(handle, Arc::new(ObjectInfo { slot, object, attributes, owner }));
        handle
    }

    /// Replaces the attributes of an object, if it still exists.
    pub(crate) fn update(&mut self, handle: ObjectHandle, view: ObjectView) {
        if let Some(info) = self.infos.get_mut(&handle) {
            let ObjectView { object, attributes } = view;
            *info = Arc::new(ObjectInfo { slot: info.slot, object, attributes, owner: info.owner });
        }
    }

    /// The object of a handle, if it is in this slot.
    pub(crate) fn get(&self, slot: SlotId, handle: ObjectHandle) -> Result<Arc<ObjectInfo>, Rv> {
        let info = self.infos.get(&handle).filter(|info| info.slot == slot);
        info.map(Arc::clone).ok_or(Rv::OBJECT_HANDLE_INVALID)
    }

    /// The session objects of a slot that match `template`, oldest first.
    pub(crate) fn session_objects(&self, slot: SlotId, template: &Template) -> Vec<ObjectHandle> {
        let of_slot = self.infos.iter().filter(|(_, info)| info.slot == slot && info.owner.is_some());
        of_slot.filter(|(_, info)| info.attributes.matches(template)).map(|(handle, _)| *handle).collect()
    }

    /// Removes a destroyed object.
    pub(crate) fn remove(&mut self, handle: ObjectHandle) {
        if let Some(info) = self.infos.remove(&handle)
            && let ObjectRef::Token(id) = info.object
        {
            self.token_handles.remove(&(info.slot, id));
        }
    }

    /// Removes the objects of a closed session.
    pub(crate) fn remove_owned_by(&mut self, session: SessionHandle) {
        self.infos.retain(|_, info| info.owner != Some(session));
    }

    /// Removes all objects of a token that was initialised again.
    pub(crate) fn remove_slot(&mut self, slot: SlotId) {
        self.infos.retain(|_, info| info.slot != slot);
        self.token_handles.retain(|(of, _), _| *of != slot);
    }

    /// Removes the private objects of a slot whose login has ended.
    pub(crate) fn remove_private(&mut self, slot: SlotId) {
        let private = |info: &ObjectInfo| info.slot == slot && info.is_private();
        let handles: Vec<ObjectHandle> =
            self.infos.iter().filter(|(_, info)| private(info)).map(|(handle, _)| *handle).collect();
        handles.into_iter().for_each(|handle| self.remove(handle));
    }

    /// Removes the private session objects of a slot: their login has ended, and another takes its place.
    pub(crate) fn remove_private_session_objects(&mut self, slot: SlotId) {
        self.infos.retain(|_, info| info.slot != slot || info.owner.is_none() || !info.is_private());
    }

    fn next_handle(&mut self) -> ObjectHandle {
        self.last_handle += 1;
        ObjectHandle(self.last_handle)
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
    fn an_object_that_is_found_again_keeps_its_handle_and_has_its_new_label() {
        let mut objects = Objects::default();
        let first = objects.register(SLOT, SESSION, view(ObjectRef::Token(ObjectId(7)), "old", false));
        let again = objects.register(SLOT, SESSION, view(ObjectRef::Token(ObjectId(7)), "new", false));
        assert_eq!(first, again);
        let info = objects.get(SLOT, first).unwrap();
        assert_eq!(info.attributes.bytes(AttributeType::LABEL), Some(b"new".as_slice()));
        let elsewhere =
            objects.register(SlotId(2), SESSION, view(ObjectRef::Token(ObjectId(7)), "new", false));
        assert_ne!(first, elsewhere);
        assert_eq!(objects.get(SlotId(2), first).err(), Some(Rv::OBJECT_HANDLE_INVALID));
    }

    #[test]
    fn a_session_object_is_removed_with_its_own_session_only() {
        let mut objects = Objects::default();
        let mine = objects.register(SLOT, SESSION, view(seal(), "mine", false));
        let other = objects.register(SLOT, SessionHandle(2), view(seal(), "other", false));
        objects.remove_owned_by(SESSION);
        assert!(objects.get(SLOT, mine).is_err());
        assert!(objects.get(SLOT, other).is_ok());
    }

    #[test]
    fn logout_removes_private_objects_and_their_handles() {
        let mut objects = Objects::default();
        let secret = objects.register(SLOT, SESSION, view(ObjectRef::Token(ObjectId(1)), "secret", true));
        let public = objects.register(SLOT, SESSION, view(ObjectRef::Token(ObjectId(2)), "public", false));
        objects.remove_private(SLOT);
        assert!(objects.get(SLOT, secret).is_err());
        assert!(objects.get(SLOT, public).is_ok());
        let again = objects.register(SLOT, SESSION, view(ObjectRef::Token(ObjectId(1)), "secret", true));
        assert_ne!(secret, again);
    }

    #[test]
    fn a_login_that_takes_the_place_of_a_stale_one_keeps_all_handles_but_of_private_session_objects() {
        let mut objects = Objects::default();
        let token = objects.register(SLOT, SESSION, view(ObjectRef::Token(ObjectId(1)), "token", true));
        let private = objects.register(SLOT, SESSION, view(seal(), "private", true));
        let public = objects.register(SLOT, SESSION, view(seal(), "public", false));
        let elsewhere = objects.register(SlotId(2), SESSION, view(seal(), "private", true));
        objects.remove_private_session_objects(SLOT);
        assert!(objects.get(SLOT, private).is_err());
        assert!(objects.get(SLOT, token).is_ok() && objects.get(SLOT, public).is_ok());
        assert!(objects.get(SlotId(2), elsewhere).is_ok());
    }
}
