//! Objects (spec, "Object management functions"). Attributes that are not secret were received with the object and are
//! returned without a round trip.

use std::sync::Arc;

use kms_protocol::{
    AttributeType, ObjectClass, ObjectId, ObjectRef, ObjectView, Request, Response, Rv, Template,
};

use super::{object, unexpected};
use crate::module::Module;
use crate::session::attributes::{self, AttributeView};
use crate::session::objects::ObjectInfo;
use crate::session::search::Search;
use crate::session::{Access, CallContext, ObjectHandle, SessionHandle};

/// The most results of one search, so that a search for all objects fits in the memory of the application.
const FOUND_TOTAL_MAX: usize = 1_000_000;

/// The attributes of an object that a call may return.
pub(crate) struct AttributeValues {
    info: Arc<ObjectInfo>,
    revealed: Option<Template>,
}

impl AttributeValues {
    /// The attributes of an object without its secrets.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn without_secrets(info: Arc<ObjectInfo>) -> Self {
        Self { info, revealed: None }
    }

    /// Returns one attribute. A secret that the backend has not revealed is sensitive.
    pub(crate) fn view(&self, kind: Option<AttributeType>) -> AttributeView<'_> {
        match kind.map(|kind| attributes::view(&self.info, self.revealed.as_ref(), kind)) {
            Some(AttributeView::Secret) => AttributeView::Sensitive,
            Some(view) => view,
            None => AttributeView::Invalid,
        }
    }
}

/// `C_GetAttributeValue`. An unknown attribute type (`None`) is invalid for every object.
pub(crate) fn attribute_values(
    module: &Module,
    session: SessionHandle,
    handle: ObjectHandle,
    kinds: &[Option<AttributeType>],
) -> Result<AttributeValues, Rv> {
    let (info, context) = object(module, session, handle)?;
    let secret = |kind: &AttributeType| attributes::view(&info, None, *kind) == AttributeView::Secret;
    let revealed = if kinds.iter().flatten().any(secret) {
        match module.call(&context, Request::Reveal { object: info.object.clone() }) {
            Ok(Response::Revealed(revealed)) => Some(revealed),
            Ok(_) => return unexpected(),
            // The other attributes can still be returned.
            Err(Rv::ATTRIBUTE_SENSITIVE) => None,
            Err(rv) => return Err(rv),
        }
    } else {
        None
    };
    Ok(AttributeValues { info, revealed })
}

/// `C_CreateObject`.
pub(crate) fn create(
    module: &Module,
    session: SessionHandle,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let context = module.sessions(|sessions| sessions.context(session))?;
    may_write(module, session, template.bool(AttributeType::TOKEN) == Some(true))?;
    let created = module.call(&context, Request::Create { template })?;
    let Response::Object(view) = created else { return unexpected() };
    let [handle] = register(module, session, &context, [view])?;
    Ok(handle)
}

/// `C_CopyObject`. `CKA_TOKEN` of the copy is that of the original unless the template sets it.
pub(crate) fn copy(
    module: &Module,
    session: SessionHandle,
    handle: ObjectHandle,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let (info, context) = object(module, session, handle)?;
    may_write(module, session, template.bool(AttributeType::TOKEN).unwrap_or(info.is_token()))?;
    let created = module.call(&context, Request::Copy { object: info.object.clone(), template })?;
    let Response::Object(view) = created else { return unexpected() };
    let [handle] = register(module, session, &context, [view])?;
    Ok(handle)
}

/// Gives new objects their handles. Fails if the session was closed meanwhile.
pub(super) fn register<const N: usize>(
    module: &Module,
    session: SessionHandle,
    context: &CallContext,
    views: [ObjectView; N],
) -> Result<[ObjectHandle; N], Rv> {
    module.sessions(|sessions| {
        sessions.session(session)?;
        Ok(views.map(|view| sessions.objects.register(context.slot, session, view)))
    })
}

/// The reference, in requests, of a key whose handle is in a mechanism's parameter.
pub(crate) fn object_ref(
    module: &Module,
    session: SessionHandle,
    key: ObjectHandle,
) -> Result<ObjectRef, Rv> {
    let info = object(module, session, key).map_err(|rv| match rv {
        Rv::OBJECT_HANDLE_INVALID => Rv::KEY_HANDLE_INVALID,
        other => other,
    });
    info.map(|(info, _)| info.object.clone())
}

/// `C_SetAttributeValue`: all attributes or none.
pub(crate) fn set_attributes(
    module: &Module,
    session: SessionHandle,
    handle: ObjectHandle,
    template: Template,
) -> Result<(), Rv> {
    let (info, context) = object(module, session, handle)?;
    may_write(module, session, info.is_token())?;
    let changed = module.call(&context, Request::SetAttributes { object: info.object.clone(), template })?;
    let Response::Object(view) = changed else { return unexpected() };
    module.sessions(|sessions| sessions.objects.update(handle, view));
    Ok(())
}

/// `C_DestroyObject`. A session object is destroyed by dropping its seal: there is no other copy.
pub(crate) fn destroy(module: &Module, session: SessionHandle, handle: ObjectHandle) -> Result<(), Rv> {
    let (info, context) = object(module, session, handle)?;
    may_write(module, session, info.is_token())?;
    if info.attributes.bool(AttributeType::DESTROYABLE) == Some(false) {
        return Err(Rv::ACTION_PROHIBITED);
    }
    if info.is_token() {
        let done = module.call(&context, Request::Destroy { object: info.object.clone() })?;
        let Response::Done = done else { return unexpected() };
    }
    module.sessions(|sessions| sessions.objects.remove(handle));
    Ok(())
}

/// Checks that token objects are created, changed and destroyed in read-write sessions (spec, "Session types").
pub(crate) fn may_write(module: &Module, session: SessionHandle, token: bool) -> Result<(), Rv> {
    let access = module.sessions(|sessions| sessions.session(session).map(|session| session.access))?;
    if token && access == Access::ReadOnly { Err(Rv::SESSION_READ_ONLY) } else { Ok(()) }
}

/// `C_GetObjectSize`: the size of the attributes, without a token key's secret, which the backend holds. A session
/// object is in the application as a whole, under the backend's seal.
pub(crate) fn size(module: &Module, session: SessionHandle, handle: ObjectHandle) -> Result<u64, Rv> {
    let (info, context) = object(module, session, handle)?;
    let secret = match &info.object {
        ObjectRef::Session(seal) => seal.len() as u64,
        ObjectRef::Token(_) if info.class() == Some(ObjectClass::DATA) => {
            let revealed = module.call(&context, Request::Reveal { object: info.object.clone() })?;
            let Response::Revealed(value) = revealed else { return unexpected() };
            attributes::size(&value)
        }
        ObjectRef::Token(_) => 0,
    };
    Ok(attributes::size(&info.attributes) + secret)
}

/// `C_FindObjectsInit`: finds all objects now, so that the results do not change during the search.
pub(crate) fn find_init(
    module: &Module,
    session: SessionHandle,
    template: Result<Template, Rv>,
) -> Result<(), Rv> {
    let context = module.sessions(|sessions| {
        let context = sessions.context(session)?;
        match sessions.operations(session)?.search {
            Some(_) => Err(Rv::OPERATION_ACTIVE),
            None => Ok(context),
        }
    })?;
    let (views, template) = match template {
        // No object has an attribute of an unknown type.
        Err(Rv::ATTRIBUTE_TYPE_INVALID) => (Vec::new(), None),
        Err(rv) => return Err(rv),
        // The backend has no session objects.
        Ok(template) if template.bool(AttributeType::TOKEN) == Some(false) => (Vec::new(), Some(template)),
        Ok(template) => {
            let find = |after| Request::Find { template: template.clone(), after };
            (pages(|after| module.call(&context, find(after)))?, Some(template))
        }
    };
    module.sessions(|sessions| {
        let found = views.into_iter().map(|view| sessions.objects.register(context.slot, session, view));
        let mut found: Vec<ObjectHandle> = found.collect();
        if let Some(template) = template {
            found.extend(sessions.objects.session_objects(context.slot, &template));
        }
        let search = &mut sessions.operations(session)?.search;
        if search.is_some() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        *search = Some(Search::new(found));
        Ok(())
    })
}

/// Requests all pages of a search.
fn pages(mut request: impl FnMut(Option<ObjectId>) -> Result<Response, Rv>) -> Result<Vec<ObjectView>, Rv> {
    let (mut views, mut after) = (Vec::new(), None);
    loop {
        let Response::Found { objects, next } = request(after)? else { return unexpected() };
        views.extend(objects);
        if views.len() > FOUND_TOTAL_MAX {
            return Err(Rv::DEVICE_MEMORY);
        }
        match next {
            // Ids ascend from page to page; anything else would never end.
            Some(_) if next <= after => return unexpected(),
            Some(_) => after = next,
            None => return Ok(views),
        }
    }
}

/// `C_FindObjects`.
pub(crate) fn find(
    module: &Module,
    session: SessionHandle,
    max_count: usize,
) -> Result<Vec<ObjectHandle>, Rv> {
    module.sessions(|sessions| {
        let search = sessions.operations(session)?.search.as_mut().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
        Ok(search.next(max_count))
    })
}

/// `C_FindObjectsFinal`.
pub(crate) fn find_final(module: &Module, session: SessionHandle) -> Result<(), Rv> {
    module.sessions(|sessions| {
        let search = sessions.operations(session)?.search.take();
        search.map(drop).ok_or(Rv::OPERATION_NOT_INITIALIZED)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[u64], next: Option<u64>) -> Result<Response, Rv> {
        let view = |id: &u64| ObjectView {
            object: ObjectRef::Token(ObjectId(*id)),
            attributes: Template::default(),
        };
        Ok(Response::Found { objects: ids.iter().map(view).collect(), next: next.map(ObjectId) })
    }

    #[test]
    fn all_pages_are_fetched() {
        let views = pages(|after| match after.map(|id| id.0) {
            None => page(&[1, 2], Some(2)),
            Some(2) => page(&[], Some(7)),
            _ => page(&[8], None),
        });
        assert_eq!(views.map(|views| views.len()), Ok(3));
    }

    #[test]
    fn pages_that_repeat_are_an_error() {
        assert_eq!(pages(|_| page(&[1], Some(1))).err(), Some(Rv::DEVICE_ERROR));
    }
}
