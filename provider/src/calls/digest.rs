//! Digests (spec, "Message digesting functions"), computed in the application, never by the backend.

use kms_protocol::mechanism_table::Uses;
use kms_protocol::{AttributeType, Mechanism, ObjectClass, Request, Response, Rv};

use super::{InputBytes, Outcome, OutputCapacity, outcome, unexpected, with_operation};
use crate::module::Module;
use crate::session::attributes::{AttributeView, view};
use crate::session::digest::{DigestOperation, Hasher};
use crate::session::reply::{OutputLength, Reply, length_reply};
use crate::session::{ObjectHandle, Operations, SessionHandle, Sessions};

fn field(operations: &mut Operations) -> &mut Option<DigestOperation> {
    &mut operations.digest
}

/// `C_DigestInit`; a null mechanism cancels the active digest.
pub(crate) fn init(module: &Module, session: SessionHandle, mechanism: Option<Mechanism>) -> Result<(), Rv> {
    let create = mechanism.map(|mechanism| {
        move |_: &mut Sessions| {
            let row = mechanism.check()?;
            let hasher = row.digest.filter(|_| row.uses.has(Uses::DIGEST)).and_then(Hasher::of);
            hasher.map(DigestOperation::begin).ok_or(Rv::MECHANISM_INVALID)
        }
    });
    super::begin(module, session, field, create)
}

/// `C_Digest`.
pub(crate) fn single_part(
    module: &Module,
    session: SessionHandle,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    with_operation(module, session, field, |mut digest, _| {
        let (data, capacity) = (data?, capacity?);
        if digest.is_started() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        if let Some(reply) = length_reply(capacity, OutputLength::Exact(digest.length())) {
            return Ok(outcome(digest, reply));
        }
        digest.update(data);
        Ok(Outcome::Ends(Reply::Bytes(digest.finish())))
    })
}

/// `C_DigestUpdate`.
pub(crate) fn update(module: &Module, session: SessionHandle, data: InputBytes<'_>) -> Result<(), Rv> {
    with_operation(module, session, field, |mut digest, _| {
        digest.update(data?);
        Ok(Outcome::Continues(digest, ()))
    })
}

/// `C_DigestKey`: only for a key whose value the application may read.
pub(crate) fn key(module: &Module, session: SessionHandle, key: ObjectHandle) -> Result<(), Rv> {
    with_operation(module, session, field, |mut digest, context| {
        let info = module.sessions(|sessions| sessions.objects.get(context.slot, key));
        let info = info.map_err(|_| Rv::KEY_HANDLE_INVALID)?;
        let value = match view(&info, None, AttributeType::VALUE) {
            AttributeView::Secret if info.class() == Some(ObjectClass::SECRET_KEY) => {
                module.call(context, Request::Reveal { object: info.object.clone() })
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
        digest.update(revealed.bytes(AttributeType::VALUE).ok_or(Rv::KEY_INDIGESTIBLE)?);
        Ok(Outcome::Continues(digest, ()))
    })
}

/// `C_DigestFinal`.
pub(crate) fn finish(module: &Module, session: SessionHandle, capacity: OutputCapacity) -> Result<Reply, Rv> {
    with_operation(module, session, field, |digest, _| {
        match length_reply(capacity?, OutputLength::Exact(digest.length())) {
            Some(reply) => Ok(outcome(digest, reply)),
            None => Ok(Outcome::Ends(Reply::Bytes(digest.finish()))),
        }
    })
}
