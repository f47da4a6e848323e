//! The functions of PKCS#11 in safe code; one file for each chapter of the specification. A call reads the state under
//! the lock, sends its request without the lock, and stores the result under the lock again.

/// Encryption and decryption.
pub(crate) mod cipher;
/// Digests.
pub(crate) mod digest;
/// Dual-function operations.
pub(crate) mod dual;
/// Initialisation and the module's version.
pub(crate) mod general;
/// Generating, wrapping and deriving keys.
pub(crate) mod key;
/// Message encryption and decryption.
pub(crate) mod message;
/// Objects: create, copy, find, read, change, destroy.
pub(crate) mod object;
/// Random numbers.
pub(crate) mod random;
/// Sessions, login, PINs.
pub(crate) mod session;
/// Signatures, MACs and their verification.
pub(crate) mod sign;
/// Slots, tokens, mechanisms.
pub(crate) mod slot;

use std::sync::Arc;

use kms_protocol::Rv;

use crate::module::Module;
use crate::session::objects::ObjectInfo;
use crate::session::reply::{Capacity, Reply};
use crate::session::{CallContext, ObjectHandle, Operations, SessionHandle, Sessions};

/// Input of the caller, or why it cannot be read. The error is passed on to the operation, because a call with invalid
/// arguments ends it (spec, "Conventions for functions returning output in a variable-length buffer").
pub(crate) type InputBytes<'a> = Result<&'a [u8], Rv>;

/// The capacity of the caller's buffer, or why it cannot be read.
pub(crate) type OutputCapacity = Result<Capacity, Rv>;

/// Whether an operation continues after a call.
pub(crate) enum Outcome<O, T> {
    /// It continues.
    Continues(O, T),
    /// It has ended.
    Ends(T),
}

/// Takes an operation out of its session, runs `body` without the lock, and puts the operation back if it continues. An
/// error ends it.
pub(crate) fn with_operation<O, T>(
    module: &Module,
    session: SessionHandle,
    field: fn(&mut Operations) -> &mut Option<O>,
    body: impl FnOnce(O, &CallContext) -> Result<Outcome<O, T>, Rv>,
) -> Result<T, Rv> {
    let (operation, context) = module.sessions(|sessions| {
        let context = sessions.context(session)?;
        let operation = field(sessions.operations(session)?).take().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
        Ok((operation, context))
    })?;
    match body(operation, &context)? {
        Outcome::Ends(result) => Ok(result),
        Outcome::Continues(operation, result) => {
            module.sessions(|sessions| {
                // Another thread may have closed the session or begun a new operation: then this one has ended.
                if let Ok(operations) = sessions.operations(session) {
                    field(operations).get_or_insert(operation);
                }
            });
            Ok(result)
        }
    }
}

/// The operation continues if the reply is only a length.
pub(crate) fn outcome<O>(operation: O, reply: Reply) -> Outcome<O, Reply> {
    if reply.is_pending() { Outcome::Continues(operation, reply) } else { Outcome::Ends(reply) }
}

/// Begins an operation, or cancels the active one if the mechanism is null (spec, "C_EncryptInit").
pub(crate) fn begin<O>(
    module: &Module,
    session: SessionHandle,
    field: fn(&mut Operations) -> &mut Option<O>,
    create: Option<impl FnOnce(&mut Sessions) -> Result<O, Rv>>,
) -> Result<(), Rv> {
    module.sessions(|sessions| {
        let active = field(sessions.operations(session)?);
        let Some(create) = create else {
            *active = None;
            return Ok(());
        };
        if active.is_some() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        let operation = create(sessions)?;
        *field(sessions.operations(session)?) = Some(operation);
        Ok(())
    })
}

/// The object of a handle, and the context of requests about it.
pub(crate) fn object(
    module: &Module,
    session: SessionHandle,
    handle: ObjectHandle,
) -> Result<(Arc<ObjectInfo>, CallContext), Rv> {
    module.sessions(|sessions| {
        let context = sessions.context(session)?;
        Ok((sessions.objects.get(context.slot, handle)?, context))
    })
}

/// The error for a response of the wrong type.
pub(crate) fn unexpected<T>() -> Result<T, Rv> {
    Err(Rv::DEVICE_ERROR)
}

/// Returns an argument, or why it cannot be read; an invalid session handle takes precedence over that error.
pub(crate) fn valid<T>(module: &Module, session: SessionHandle, argument: Result<T, Rv>) -> Result<T, Rv> {
    if argument.is_err() {
        module.sessions(|sessions| sessions.session(session).map(drop))?;
    }
    argument
}
