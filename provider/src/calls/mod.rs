//! What each function means, in safe code; one file per chapter of the specification. A call looks up what it needs
//! under the lock, asks the backend without it, and notes the outcome under the lock again.

/// Encrypt and decrypt.
pub(crate) mod cipher;
/// Digests.
pub(crate) mod digest;
/// Two operations on the same data.
pub(crate) mod dual;
/// General purpose: initialise, finalise, info.
pub(crate) mod general;
/// Making, wrapping and deriving keys.
pub(crate) mod key;
/// Messages.
pub(crate) mod message;
/// Objects: find, look, change, destroy.
pub(crate) mod object;
/// Random numbers.
pub(crate) mod random;
/// Sessions, login, PINs.
pub(crate) mod session;
/// Sign and verify.
pub(crate) mod sign;
/// Slots, tokens, mechanisms.
pub(crate) mod slot;

use std::sync::Arc;

use kms_protocol::Rv;

use crate::module::Module;
use crate::session::objects::Known;
use crate::session::reply::{Reply, Room};
use crate::session::{CallContext, ObjectHandle, Operations, SessionHandle, Sessions};

/// Bytes from the caller, or why they cannot be read. Carried as far as the operation, because a call with wrong
/// arguments ends it (spec, "Conventions for functions returning output in a variable-length buffer").
pub(crate) type Given<'a> = Result<&'a [u8], Rv>;

/// The caller's room, or why there is no telling.
pub(crate) type Offered = Result<Room, Rv>;

/// How a call leaves its operation.
pub(crate) enum Outcome<O, T> {
    /// It goes on.
    GoesOn(O, T),
    /// It is over.
    Over(T),
}

/// Takes an operation out of its session, lets `body` work on it without the lock, and puts it back if it goes on.
/// An error ends it.
pub(crate) fn with_operation<O, T>(
    module: &Module,
    session: SessionHandle,
    place: fn(&mut Operations) -> &mut Option<O>,
    body: impl FnOnce(O, &CallContext) -> Result<Outcome<O, T>, Rv>,
) -> Result<T, Rv> {
    let (operation, context) = module.sessions(|sessions| {
        let context = sessions.context(session)?;
        let operation = place(sessions.operations(session)?).take().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
        Ok((operation, context))
    })?;
    match body(operation, &context)? {
        Outcome::Over(result) => Ok(result),
        Outcome::GoesOn(operation, result) => {
            module.sessions(|sessions| {
                // Another thread may have closed the session, or begun anew: then this operation is over.
                if let Ok(operations) = sessions.operations(session) {
                    place(operations).get_or_insert(operation);
                }
            });
            Ok(result)
        }
    }
}

/// A reply that is only a length leaves the operation as it is.
pub(crate) fn outcome<O>(operation: O, reply: Reply) -> Outcome<O, Reply> {
    if reply.is_pending() { Outcome::GoesOn(operation, reply) } else { Outcome::Over(reply) }
}

/// Begins an operation, or cancels the one that runs when no mechanism is given (spec, "C_EncryptInit").
pub(crate) fn begin<O>(
    module: &Module,
    session: SessionHandle,
    place: fn(&mut Operations) -> &mut Option<O>,
    make: Option<impl FnOnce(&mut Sessions) -> Result<O, Rv>>,
) -> Result<(), Rv> {
    module.sessions(|sessions| {
        let running = place(sessions.operations(session)?);
        let Some(make) = make else {
            *running = None;
            return Ok(());
        };
        if running.is_some() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        let operation = make(sessions)?;
        *place(sessions.operations(session)?) = Some(operation);
        Ok(())
    })
}

/// The object a session means by a handle.
pub(crate) fn object(
    module: &Module,
    session: SessionHandle,
    handle: ObjectHandle,
) -> Result<(Arc<Known>, CallContext), Rv> {
    module.sessions(|sessions| {
        let context = sessions.context(session)?;
        Ok((sessions.objects.known(context.slot, handle)?, context))
    })
}

/// The backend answered something else than was asked for.
pub(crate) fn unexpected<T>() -> Result<T, Rv> {
    Err(Rv::DEVICE_ERROR)
}

/// Arguments that could not be read are told only to who has a session: a wrong handle is the first thing wrong.
pub(crate) fn valid<T>(module: &Module, session: SessionHandle, given: Result<T, Rv>) -> Result<T, Rv> {
    if given.is_err() {
        module.sessions(|sessions| sessions.session(session).map(drop))?;
    }
    given
}
