//! Objects (spec, "Object management functions"). Attributes that are no secret came with the object and are told
//! without a round trip.

use std::sync::Arc;

use kms_protocol::{
    AttributeType, ObjectClass, ObjectId, ObjectRef, ObjectView, Request, Response, Rv, Template,
};

use super::{object, unexpected};
use crate::module::Module;
use crate::session::attributes::{self, AttributeView};
use crate::session::objects::Known;
use crate::session::search::Search;
use crate::session::{Access, CallContext, ObjectHandle, SessionHandle};

/// Objects of one search: as many as fit in the memory of an application that asks for all there are.
const FOUND_TOTAL_MAX: usize = 1_000_000;

/// What can be told of an object.
pub(crate) struct AttributeValues {
    known: Arc<Known>,
    revealed: Option<Template>,
}

impl AttributeValues {
    /// What can be told of an object whose secrets were not asked for.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn known(known: Arc<Known>) -> Self {
        Self { known, revealed: None }
    }

    /// One attribute. A secret that was not asked for at the backend is not told.
    pub(crate) fn at(&self, kind: Option<AttributeType>) -> AttributeView<'_> {
        match kind.map(|kind| attributes::look(&self.known, self.revealed.as_ref(), kind)) {
            Some(AttributeView::Secret) => AttributeView::Sensitive,
            Some(look) => look,
            None => AttributeView::Invalid,
        }
    }
}

/// `C_GetAttributeValue`. A type that is none of ours (`None`) is no object's.
pub(crate) fn look(
    module: &Module,
    session: SessionHandle,
    handle: ObjectHandle,
    kinds: &[Option<AttributeType>],
) -> Result<AttributeValues, Rv> {
    let (known, context) = object(module, session, handle)?;
    let secret = |kind: &AttributeType| attributes::look(&known, None, *kind) == AttributeView::Secret;
    let revealed = if kinds.iter().flatten().any(secret) {
        match module.ask(&context, Request::Reveal { object: known.object.clone() }) {
            Ok(Response::Revealed(revealed)) => Some(revealed),
            Ok(_) => return unexpected(),
            // The others of the list can still be told.
            Err(Rv::ATTRIBUTE_SENSITIVE) => None,
            Err(rv) => return Err(rv),
        }
    } else {
        None
    };
    Ok(AttributeValues { known, revealed })
}

/// `C_CreateObject`.
pub(crate) fn create(
    module: &Module,
    session: SessionHandle,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let context = module.sessions(|sessions| sessions.context(session))?;
    may_write(module, session, template.bool(AttributeType::TOKEN) == Some(true))?;
    let made = module.ask(&context, Request::Create { template })?;
    let Response::Object(view) = made else { return unexpected() };
    let [handle] = note(module, session, &context, [view])?;
    Ok(handle)
}

/// `C_CopyObject`. A copy is where the original is, unless the template says otherwise.
pub(crate) fn copy(
    module: &Module,
    session: SessionHandle,
    handle: ObjectHandle,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let (known, context) = object(module, session, handle)?;
    may_write(module, session, template.bool(AttributeType::TOKEN).unwrap_or(known.is_token()))?;
    let made = module.ask(&context, Request::Copy { object: known.object.clone(), template })?;
    let Response::Object(view) = made else { return unexpected() };
    let [handle] = note(module, session, &context, [view])?;
    Ok(handle)
}

/// Gives new objects their handles. A session closed meanwhile has no room for session objects.
pub(super) fn note<const N: usize>(
    module: &Module,
    session: SessionHandle,
    context: &CallContext,
    views: [ObjectView; N],
) -> Result<[ObjectHandle; N], Rv> {
    module.sessions(|sessions| {
        sessions.session(session)?;
        Ok(views.map(|view| sessions.objects.note(context.slot, session, view)))
    })
}

/// How a key that stands in a mechanism's parameter is named in requests.
pub(crate) fn reference(module: &Module, session: SessionHandle, key: ObjectHandle) -> Result<ObjectRef, Rv> {
    let known = object(module, session, key).map_err(|rv| match rv {
        Rv::OBJECT_HANDLE_INVALID => Rv::KEY_HANDLE_INVALID,
        other => other,
    });
    known.map(|(known, _)| known.object.clone())
}

/// `C_SetAttributeValue`: all attributes or none.
pub(crate) fn set(
    module: &Module,
    session: SessionHandle,
    handle: ObjectHandle,
    template: Template,
) -> Result<(), Rv> {
    let (known, context) = object(module, session, handle)?;
    may_write(module, session, known.is_token())?;
    let changed = module.ask(&context, Request::SetAttributes { object: known.object.clone(), template })?;
    let Response::Object(view) = changed else { return unexpected() };
    module.sessions(|sessions| sessions.objects.update(handle, view));
    Ok(())
}

/// `C_DestroyObject`. A session object is destroyed by forgetting its seal: nobody else has it.
pub(crate) fn destroy(module: &Module, session: SessionHandle, handle: ObjectHandle) -> Result<(), Rv> {
    let (known, context) = object(module, session, handle)?;
    may_write(module, session, known.is_token())?;
    if known.attributes.bool(AttributeType::DESTROYABLE) == Some(false) {
        return Err(Rv::ACTION_PROHIBITED);
    }
    if known.is_token() {
        let done = module.ask(&context, Request::Destroy { object: known.object.clone() })?;
        let Response::Done = done else { return unexpected() };
    }
    module.sessions(|sessions| sessions.objects.forget(handle));
    Ok(())
}

/// Token objects are made, changed and destroyed in read-write sessions (spec, "Session types").
pub(crate) fn may_write(module: &Module, session: SessionHandle, token: bool) -> Result<(), Rv> {
    let access = module.sessions(|sessions| sessions.session(session).map(|session| session.access))?;
    if token && access == Access::ReadOnly { Err(Rv::SESSION_READ_ONLY) } else { Ok(()) }
}

/// `C_GetObjectSize`: what its attributes take, but for a token key's secret, which is held elsewhere. A session object
/// lives in the application whole, under the backend's seal.
pub(crate) fn size(module: &Module, session: SessionHandle, handle: ObjectHandle) -> Result<u64, Rv> {
    let (known, context) = object(module, session, handle)?;
    let rest = match &known.object {
        ObjectRef::Session(seal) => seal.len() as u64,
        ObjectRef::Token(_) if known.class() == Some(ObjectClass::DATA) => {
            let revealed = module.ask(&context, Request::Reveal { object: known.object.clone() })?;
            let Response::Revealed(value) = revealed else { return unexpected() };
            attributes::size(&value)
        }
        ObjectRef::Token(_) => 0,
    };
    Ok(attributes::size(&known.attributes) + rest)
}

/// `C_FindObjectsInit`: finds everything now, so that what the application walks through stands still.
pub(crate) fn find(
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
        // No object has an attribute that has no name.
        Err(Rv::ATTRIBUTE_TYPE_INVALID) => (Vec::new(), None),
        Err(rv) => return Err(rv),
        // Session objects are here, not at the backend.
        Ok(template) if template.bool(AttributeType::TOKEN) == Some(false) => (Vec::new(), Some(template)),
        Ok(template) => {
            let find = |after| Request::Find { template: template.clone(), after };
            (pages(|after| module.ask(&context, find(after)))?, Some(template))
        }
    };
    module.sessions(|sessions| {
        let found = views.into_iter().map(|view| sessions.objects.note(context.slot, session, view));
        let mut found: Vec<ObjectHandle> = found.collect();
        if let Some(template) = template {
            found.extend(sessions.objects.session_objects(context.slot, &template));
        }
        let search = &mut sessions.operations(session)?.search;
        if search.is_some() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        *search = Some(Search::over(found));
        Ok(())
    })
}

fn pages(mut ask: impl FnMut(Option<ObjectId>) -> Result<Response, Rv>) -> Result<Vec<ObjectView>, Rv> {
    let (mut views, mut after) = (Vec::new(), None);
    loop {
        let Response::Found { objects, next } = ask(after)? else { return unexpected() };
        views.extend(objects);
        if views.len() > FOUND_TOTAL_MAX {
            return Err(Rv::DEVICE_MEMORY);
        }
        match next {
            // Ids ascend from page to page: a backend that sends us in circles is broken.
            Some(_) if next <= after => return unexpected(),
            Some(_) => after = next,
            None => return Ok(views),
        }
    }
}

/// `C_FindObjects`.
pub(crate) fn found(module: &Module, session: SessionHandle, most: usize) -> Result<Vec<ObjectHandle>, Rv> {
    module.sessions(|sessions| {
        let search = sessions.operations(session)?.search.as_mut().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
        Ok(search.next(most))
    })
}

/// `C_FindObjectsFinal`.
pub(crate) fn end_find(module: &Module, session: SessionHandle) -> Result<(), Rv> {
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
    fn a_backend_that_turns_in_circles_is_stopped() {
        assert_eq!(pages(|_| page(&[1], Some(1))).err(), Some(Rv::DEVICE_ERROR));
    }
}
