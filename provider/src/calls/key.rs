//! Keys (spec, "Key management functions"): the backend creates them; a session key is returned sealed and is stored in
//! its session.

use std::sync::Arc;

use kms_protocol::mechanism_table::Uses;
use kms_protocol::{AttributeType, Mechanism, ObjectClass, Request, Response, Rv, Secret, Template};

use super::{InputBytes, OutputCapacity, object, unexpected};
use crate::module::Module;
use crate::session::objects::ObjectInfo;
use crate::session::reply::{OutputLength, Reply, length_reply, output_reply};
use crate::session::usage::{self, Usage};
use crate::session::{CallContext, ObjectHandle, PendingWrap, SessionHandle};

/// `C_GenerateKey`.
pub(crate) fn generate(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let context = check_generation(module, session, &mechanism, Uses::GENERATE, &[&template])?;
    request_key(module, session, &context, Request::Generate { mechanism, template })
}

/// `C_GenerateKeyPair`: the public and the private key.
pub(crate) fn generate_pair(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    public: Template,
    private: Template,
) -> Result<(ObjectHandle, ObjectHandle), Rv> {
    let context = check_generation(module, session, &mechanism, Uses::GENERATE_PAIR, &[&public, &private])?;
    let generated = module.call(&context, Request::GeneratePair { mechanism, public, private })?;
    let Response::Pair { public, private } = generated else { return unexpected() };
    let [public, private] = object::register(module, session, &context, [public, private])?;
    Ok((public, private))
}

/// `C_WrapKey`. Only the backend knows the length of a wrapped key: so a length query wraps, and the result is stored
/// for the call with a large enough buffer.
pub(crate) fn wrap(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    wrapping: ObjectHandle,
    key: ObjectHandle,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    let pending = module.sessions(|sessions| Ok(sessions.operations(session)?.wrapped.take()))?;
    let capacity = capacity?;
    let same = |wrapped: &PendingWrap| {
        (&wrapped.mechanism, wrapped.wrapping, wrapped.key) == (&mechanism, wrapping, key)
    };
    let bytes = match pending.filter(same) {
        Some(wrapped) => wrapped.bytes,
        None => request_wrap(module, session, &mechanism, wrapping, key)?,
    };
    let (reply, stored) = output_reply(capacity, bytes);
    if let Some(bytes) = stored {
        let wrapped = PendingWrap { mechanism, wrapping, key, bytes };
        module.sessions(|sessions| sessions.operations(session).map(|all| all.wrapped = Some(wrapped)))?;
    }
    Ok(reply)
}

fn request_wrap(
    module: &Module,
    session: SessionHandle,
    mechanism: &Mechanism,
    wrapping: ObjectHandle,
    key: ObjectHandle,
) -> Result<Secret, Rv> {
    let (wrapping, context) =
        checked_key(module, session, Usage::Wrap, mechanism, wrapping).map_err(wrapping_key_error)?;
    let key = module.sessions(|sessions| sessions.objects.get(context.slot, key));
    let (wrapping, key) = (wrapping.object.clone(), key.map_err(|_| Rv::KEY_HANDLE_INVALID)?.object.clone());
    let response = module.call(&context, Request::Wrap { mechanism: mechanism.clone(), wrapping, key })?;
    let Response::Bytes(bytes) = response else { return unexpected() };
    Ok(bytes)
}

/// `C_UnwrapKey`.
pub(crate) fn unwrap(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    unwrapping: ObjectHandle,
    wrapped: InputBytes<'_>,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let (key, context) =
        checked_key(module, session, Usage::Unwrap, &mechanism, unwrapping).map_err(unwrapping_key_error)?;
    let unwrapping = key.object.clone();
    check_session(module, session, &template)?;
    let wrapped = Secret::from(wrapped?);
    if wrapped.is_empty() {
        return Err(Rv::WRAPPED_KEY_LEN_RANGE);
    }
    request_key(module, session, &context, Request::Unwrap { mechanism, unwrapping, wrapped, template })
}

/// `C_DeriveKey`.
pub(crate) fn derive(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    base: ObjectHandle,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let (base, context) = checked_key(module, session, Usage::Derive, &mechanism, base)?;
    check_session(module, session, &template)?;
    request_key(module, session, &context, Request::Derive { mechanism, base: base.object.clone(), template })
}

/// `C_EncapsulateKey`: the ciphertext and, if it fits in the buffer, the shared secret.
pub(crate) fn encapsulate(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    public: ObjectHandle,
    template: Template,
    capacity: OutputCapacity,
) -> Result<(Reply, Option<ObjectHandle>), Rv> {
    let (public, context) = checked_key(module, session, Usage::Encapsulate, &mechanism, public)?;
    check_session(module, session, &template)?;
    let length = usage::encapsulated_bytes(&public)?;
    if let Some(reply) = length_reply(capacity?, OutputLength::Exact(length)) {
        return Ok((reply, None));
    }
    let public = public.object.clone();
    let response = module.call(&context, Request::Encapsulate { mechanism, public, template })?;
    let Response::Encapsulated { ciphertext, secret } = response else { return unexpected() };
    if ciphertext.len() != length {
        return unexpected();
    }
    let [secret] = object::register(module, session, &context, [secret])?;
    Ok((Reply::Bytes(ciphertext), Some(secret)))
}

/// `C_DecapsulateKey`.
pub(crate) fn decapsulate(
    module: &Module,
    session: SessionHandle,
    mechanism: Mechanism,
    private: ObjectHandle,
    ciphertext: InputBytes<'_>,
    template: Template,
) -> Result<ObjectHandle, Rv> {
    let (private, context) = checked_key(module, session, Usage::Decapsulate, &mechanism, private)?;
    check_session(module, session, &template)?;
    let (private, ciphertext) = (private.object.clone(), Secret::from(ciphertext?));
    request_key(module, session, &context, Request::Decapsulate { mechanism, private, ciphertext, template })
}

/// A key that creates or wraps another, after the checks of its usage.
fn checked_key(
    module: &Module,
    session: SessionHandle,
    usage: Usage,
    mechanism: &Mechanism,
    key: ObjectHandle,
) -> Result<(Arc<ObjectInfo>, CallContext), Rv> {
    module.sessions(|sessions| {
        let policy = sessions.session(session)?.policy;
        let context = sessions.context(session)?;
        let key = sessions.objects.get(context.slot, key).map_err(|_| Rv::KEY_HANDLE_INVALID)?;
        usage::check(usage, mechanism, &key, policy)?;
        // There is no operation that a context-specific login could be for; the backend refuses the use, too.
        if key.class() == Some(ObjectClass::PRIVATE_KEY) && key.is(AttributeType::ALWAYS_AUTHENTICATE) {
            return Err(Rv::USER_NOT_LOGGED_IN);
        }
        Ok((key, context))
    })
}

/// The return values of `C_WrapKey` distinguish the two keys.
fn wrapping_key_error(rv: Rv) -> Rv {
    match rv {
        Rv::KEY_HANDLE_INVALID => Rv::WRAPPING_KEY_HANDLE_INVALID,
        Rv::KEY_TYPE_INCONSISTENT => Rv::WRAPPING_KEY_TYPE_INCONSISTENT,
        Rv::KEY_SIZE_RANGE => Rv::WRAPPING_KEY_SIZE_RANGE,
        other => other,
    }
}

/// Likewise those of `C_UnwrapKey`.
fn unwrapping_key_error(rv: Rv) -> Rv {
    match rv {
        Rv::KEY_HANDLE_INVALID => Rv::UNWRAPPING_KEY_HANDLE_INVALID,
        Rv::KEY_TYPE_INCONSISTENT => Rv::UNWRAPPING_KEY_TYPE_INCONSISTENT,
        Rv::KEY_SIZE_RANGE => Rv::UNWRAPPING_KEY_SIZE_RANGE,
        other => other,
    }
}

/// Requests one key and gives it a handle.
fn request_key(
    module: &Module,
    session: SessionHandle,
    context: &CallContext,
    request: Request,
) -> Result<ObjectHandle, Rv> {
    let Response::Object(view) = module.call(context, request)? else { return unexpected() };
    let [handle] = object::register(module, session, context, [view])?;
    Ok(handle)
}

/// Checks that a token key is created in a read-write session.
fn check_session(module: &Module, session: SessionHandle, template: &Template) -> Result<(), Rv> {
    object::may_write(module, session, template.bool(AttributeType::TOKEN) == Some(true))
}

/// Checks mechanism and session before a key is generated.
fn check_generation(
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
    templates.iter().try_for_each(|template| check_session(module, session, template))?;
    Ok(context)
}
