//! Digests (spec, "Message digesting functions"): computed here, never at the backend.

use kms_protocol::mechanism_table::Uses;
use kms_protocol::{Mechanism, Rv};

use super::{Given, Offered, Outcome, outcome, with_operation};
use crate::module::Module;
use crate::session::digest::{Digesting, Hasher};
use crate::session::reply::{Length, Reply, early};
use crate::session::{Operations, SessionHandle, Sessions};

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

/// `C_DigestFinal`.
pub(crate) fn last(module: &Module, session: SessionHandle, room: Offered) -> Result<Reply, Rv> {
    with_operation(module, session, place, |digest, _| match early(room?, Length::Exact(digest.length())) {
        Some(reply) => Ok(outcome(digest, reply)),
        None => Ok(Outcome::Over(Reply::Bytes(digest.finish()))),
    })
}
