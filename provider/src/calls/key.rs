//! Making keys (spec, "Key management functions"): the backend makes them; a session key comes back sealed and lives
//! in its session.

use std::sync::Arc;

use kms_protocol::mechanism_table::Uses;
use kms_protocol::{AttributeType, Mechanism, Request, Response, Rv, Secret, Template};

use super::{Given, Offered, object, unexpected};
use crate::module::Module;
use crate::session::objects::Known;
use crate::session::reply::{Length, Reply, early, hand_over};
use crate::session::usage::{self, Usage};
use crate::session::{CallContext, ObjectHandle, SessionHandle, Wrapped};

/// `C_GenerateKey`.
pub(crate) fn generate(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let context = may_make(module, session, &mechanism, Uses::GENERATE, &[&template])?;
    one(module, session, &context, Request::Generate { mechanism, template })
}

/// `C_GenerateKeyPair`: the public and the private half.
pub(crate) fn generate_pair(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    public: Template,
    private: Template,
) -> Result<(ObjectHandle, ObjectHandle), Rv> {
    let context = may_make(module, session, &mechanism, Uses::GENERATE_PAIR, &[&public, &private])?;
    let made = module.ask(&context, Request::GeneratePair { mechanism, public, private })?;
    let Response::Pair { public, private } = made else { return unexpected() };
    let [public, private] = object::note(module, session, &context, [public, private])?;
    Ok((public, private))
}

/// `C_WrapKey`. How long a wrapped key is, only the backend knows: so a question for the length wraps, and the result
/// waits for the call that has room.
pub(crate) fn wrap(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    wrapping: ObjectHandle,
    key: ObjectHandle,
    room: Offered,
) -> Result<Reply, Rv> {
    let before = module.sessions(|sessions| Ok(sessions.operations(session)?.wrapped.take()))?;
    let room = room?;
    let same = |wrapped: &Wrapped| {
        (&wrapped.mechanism, wrapped.wrapping, wrapped.key) == (&mechanism, wrapping, key)
    };
    let bytes = match before.filter(same) {
        Some(wrapped) => wrapped.bytes,
        None => ask_to_wrap(module, session, &mechanism, wrapping, key)?,
    };
    let (reply, kept) = hand_over(room, bytes);
    if let Some(bytes) = kept {
        let wrapped = Wrapped { mechanism, wrapping, key, bytes };
        module.sessions(|sessions| sessions.operations(session).map(|all| all.wrapped = Some(wrapped)))?;
    }
    Ok(reply)
}

fn ask_to_wrap(
    module: &Module,
    session: SessionHandle,
    mechanism: &Mechanism,
    wrapping: ObjectHandle,
    key: ObjectHandle,
) -> Result<Secret, Rv> {
    let (wrapping, context) = used(module, session, Usage::Wrap, mechanism, wrapping).map_err(of_wrapping)?;
    let key = module.sessions(|sessions| sessions.objects.known(context.slot, key));
    let (wrapping, key) = (wrapping.object.clone(), key.map_err(|_| Rv::KEY_HANDLE_INVALID)?.object.clone());
    let answer = module.ask(&context, Request::Wrap { mechanism: mechanism.clone(), wrapping, key })?;
    let Response::Bytes(bytes) = answer else { return unexpected() };
    Ok(bytes)
}

/// `C_UnwrapKey`.
pub(crate) fn unwrap(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    unwrapping: ObjectHandle,
    wrapped: Given<'_>,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let used = used(module, session, Usage::Unwrap, &mechanism, unwrapping).map_err(of_unwrapping)?;
    let (unwrapping, context) = (used.0.object.clone(), used.1);
    may_keep(module, session, &template)?;
    let wrapped = Secret::from(wrapped?);
    if wrapped.is_empty() {
        return Err(Rv::WRAPPED_KEY_LEN_RANGE);
    }
    one(module, session, &context, Request::Unwrap { mechanism, unwrapping, wrapped, template })
}

/// `C_DeriveKey`.
pub(crate) fn derive(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    base: ObjectHandle,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let (base, context) = used(module, session, Usage::Derive, &mechanism, base)?;
    may_keep(module, session, &template)?;
    one(module, session, &context, Request::Derive { mechanism, base: base.object.clone(), template })
}

/// `C_EncapsulateKey`: what the other side needs and, if there was room for it, the shared secret.
pub(crate) fn encapsulate(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    public: ObjectHandle,
    template: Template,
    room: Offered,
) -> Result<(Reply, Option<ObjectHandle>), Rv> {
    let (public, context) = used(module, session, Usage::Encapsulate, &mechanism, public)?;
    may_keep(module, session, &template)?;
    let length = usage::encapsulated_bytes(&public)?;
    if let Some(reply) = early(room?, Length::Exact(length)) {
        return Ok((reply, None));
    }
    let public = public.object.clone();
    let answer = module.ask(&context, Request::Encapsulate { mechanism, public, template })?;
    let Response::Encapsulated { ciphertext, secret } = answer else { return unexpected() };
    if ciphertext.len() != length {
        return unexpected();
    }
    let [secret] = object::note(module, session, &context, [secret])?;
    Ok((Reply::Bytes(ciphertext), Some(secret)))
}

/// `C_DecapsulateKey`.
pub(crate) fn decapsulate(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    private: ObjectHandle,
    ciphertext: Given<'_>,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let (private, context) = used(module, session, Usage::Decapsulate, &mechanism, private)?;
    may_keep(module, session, &template)?;
    let (private, ciphertext) = (private.object.clone(), Secret::from(ciphertext?));
    one(module, session, &context, Request::Decapsulate { mechanism, private, ciphertext, template })
}

/// A key that is used to make or to wrap another, if it may be.
fn used(
    module: &Module,
    session: SessionHandle,
    usage: Usage,
    mechanism: &Mechanism,
    key: ObjectHandle,
) -> Result<(Arc<Known>, CallContext), Rv> {
    module.sessions(|sessions| {
        let policy = sessions.session(session)?.policy;
        let context = sessions.context(session)?;
        let key = sessions.objects.known(context.slot, key).map_err(|_| Rv::KEY_HANDLE_INVALID)?;
        usage::check(usage, mechanism, &key, policy)?;
        Ok((key, context))
    })
}

/// The codes of `C_WrapKey` say which of the two keys is meant.
fn of_wrapping(rv: Rv) -> Rv {
    match rv {
        Rv::KEY_HANDLE_INVALID => Rv::WRAPPING_KEY_HANDLE_INVALID,
        Rv::KEY_TYPE_INCONSISTENT => Rv::WRAPPING_KEY_TYPE_INCONSISTENT,
        Rv::KEY_SIZE_RANGE => Rv::WRAPPING_KEY_SIZE_RANGE,
        other => other,
    }
}

/// Likewise those of `C_UnwrapKey`.
fn of_unwrapping(rv: Rv) -> Rv {
    match rv {
        Rv::KEY_HANDLE_INVALID => Rv::UNWRAPPING_KEY_HANDLE_INVALID,
        Rv::KEY_TYPE_INCONSISTENT => Rv::UNWRAPPING_KEY_TYPE_INCONSISTENT,
        Rv::KEY_SIZE_RANGE => Rv::UNWRAPPING_KEY_SIZE_RANGE,
        other => other,
    }
}

/// Asks for one key, and gives it its handle.
fn one(
    module: &Module,
    session: SessionHandle,
    context: &CallContext,
    request: Request,
) -> Result<ObjectHandle, Rv> {
    let Response::Object(view) = module.ask(context, request)? else { return unexpected() };
    let [handle] = object::note(module, session, context, [view])?;
    Ok(handle)
}

/// A token key is made in a read-write session.
fn may_keep(module: &Module, session: SessionHandle, template: &Template) -> Result<(), Rv> {
    object::may_write(module, session, template.bool(AttributeType::TOKEN) == Some(true))
}

fn may_make(
    module: &Module,
    session: SessionHandle,
    mechanism: &Mechanism,
    wanted: Uses,
    templates: &[&Template],
) -> Result<CallContext, Rv> {
    let row = mechanism.check()?;
    let (context, policy) = module.sessions(|sessions| {
        let policy = sessions.session(session)?.policy;
        Ok((sessions.context(session)?, policy))
    })?;
    if !row.uses_in(policy).has(wanted) {
        return Err(Rv::MECHANISM_INVALID);
    }
    templates.iter().try_for_each(|template| may_keep(module, session, template))?;
    Ok(context)
}
