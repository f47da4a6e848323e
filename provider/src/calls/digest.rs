//! Digests (spec, "Message digesting functions"): computed here, never at the backend.

use kms_protocol::mechanism_table::Uses;
use kms_protocol::{AttributeType, Mechanism, ObjectClass, Request, Response, Rv};

use super::{Given, Offered, Outcome, outcome, unexpected, with_operation};
use crate::module::Module;
use crate::session::attributes::{AttributeView, look};
use crate::session::digest::{Digesting, Hasher};
use crate::session::reply::{Length, Reply, early};
use crate::session::{ObjectHandle, Operations, SessionHandle, Sessions};

fn place(operations: &mut Operations) -> &mut Option<Digesting> {
    &mut operations.digest
}

/// `C_DigestInit`; without a mechanism, the running digest is cancelled.
pub(crate) fn begin(module: &Module, session: SessionHandle, mechanism: Option<Mechanism>) -> Result<(), Rv> {
    let make = mechanism.map(|mechanism| {
        move |_: &mut Sessions| {
            let row = mechanism.check()?;
            let hasher = row.digest.filter(|_| row.uses.has(Uses::DIGEST)).and_then(Hasher::of);
            hasher.map(Digesting::begin).ok_or(Rv::MECHANISM_INVALID)
        }
    });
    super::begin(module, session, place, make)
}

/// `C_Digest`.
pub(crate) fn whole(
    module: &Module,
    session: SessionHandle,
    data: Given<'_>,
    room: Offered,
) -> Result<Reply, Rv> {
    with_operation(module, session, place, |mut digest, _| {
        let (data, room) = (data?, room?);
        if digest.is_started() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        if let Some(reply) = early(room, Length::Exact(digest.length())) {
            return Ok(outcome(digest, reply));
        }
        digest.feed(data);
        Ok(Outcome::Over(Reply::Bytes(digest.finish())))
    })
}

/// `C_DigestUpdate`.
pub(crate) fn part(module: &Module, session: SessionHandle, data: Given<'_>) -> Result<(), Rv> {
    with_operation(module, session, place, |mut digest, _| {
        digest.feed(data?);
        Ok(Outcome::GoesOn(digest, ()))
    })
}

/// `C_DigestKey`: of a key whose value an application may see anyway.
pub(crate) fn key(module: &Module, session: SessionHandle, key: ObjectHandle) -> Result<(), Rv> {
    with_operation(module, session, place, |mut digest, context| {
        let known = module.sessions(|sessions| sessions.objects.known(context.slot, key));
        let known = known.map_err(|_| Rv::KEY_HANDLE_INVALID)?;
        let value = match look(&known, None, AttributeType::VALUE) {
            AttributeView::Secret if known.class() == Some(ObjectClass::SECRET_KEY) => {
                module.ask(context, Request::Reveal { object: known.object.clone() })
            }
            AttributeView::Secret
            | AttributeView::Sensitive
            | AttributeView::Value(_)
            | AttributeView::Empty
            | AttributeView::Invalid => Err(Rv::KEY_INDIGESTIBLE),
        };
        let revealed = match value {
            Ok(Response::Revealed(revealed)) => revealed,
            Ok(_) => return unexpected(),
            Err(Rv::ATTRIBUTE_SENSITIVE) => return Err(Rv::KEY_INDIGESTIBLE),
            Err(rv) => return Err(rv),
        };
        digest.feed(revealed.bytes(AttributeType::VALUE).ok_or(Rv::KEY_INDIGESTIBLE)?);
        Ok(Outcome::GoesOn(digest, ()))
    })
}

/// `C_DigestFinal`.
pub(crate) fn last(module: &Module, session: SessionHandle, room: Offered) -> Result<Reply, Rv> {
    with_operation(module, session, place, |digest, _| match early(room?, Length::Exact(digest.length())) {
        Some(reply) => Ok(outcome(digest, reply)),
        None => Ok(Outcome::Over(Reply::Bytes(digest.finish()))),
    })
}
