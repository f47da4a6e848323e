//! Sign and verify (spec, "Signing and MACing functions", "Functions for verifying signatures and MACs"). Signatures
//! of key pairs are verified here, with the public key alone; MACs are verified where the secret is.

use kms_protocol::{Mechanism, Request, Response, Rv, Secret};

use super::{Given, Offered, Outcome, outcome, unexpected, with_operation};
use crate::module::Module;
use crate::public;
use crate::session::reply::{Length, Reply, Room, early};
use crate::session::signing::{Signed, Signing};
use crate::session::usage::Usage;
use crate::session::{CallContext, ObjectHandle, Operations, SessionHandle, Sessions};

/// When the signature comes that is to be verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// With the last of the data, or after it: `C_Verify`.
    After,
    /// Before the data: `C_VerifySignature`.
    Before,
}

fn signing(operations: &mut Operations) -> &mut Option<Signing> {
    &mut operations.sign
}

fn verifying(operations: &mut Operations) -> &mut Option<Signing> {
    &mut operations.verify
}

/// `C_SignInit`; without a mechanism, the running signature is cancelled.
pub(crate) fn begin_sign(
    module: &Module,
    session: SessionHandle,
    mechanism: Option<Mechanism>,
    key: ObjectHandle,
) -> Result<(), Rv> {
    super::begin(
        module,
        session,
        signing,
        mechanism.map(|mechanism| make(session, Usage::Sign, mechanism, key)),
    )
}

/// `C_VerifyInit`; without a mechanism, the running verification is cancelled.
pub(crate) fn begin_verify(
    module: &Module,
    session: SessionHandle,
    mechanism: Option<Mechanism>,
    key: ObjectHandle,
) -> Result<(), Rv> {
    super::begin(
        module,
        session,
        verifying,
        mechanism.map(|mechanism| make(session, Usage::Verify, mechanism, key)),
    )
}

/// `C_VerifySignatureInit`: the signature comes first; without a mechanism, the running verification is cancelled.
pub(crate) fn begin_verify_signature(
    module: &Module,
    session: SessionHandle,
    mechanism: Option<Mechanism>,
    key: ObjectHandle,
    signature: Given<'_>,
) -> Result<(), Rv> {
    let make = mechanism.map(|mechanism| {
        let make = make(session, Usage::Verify, mechanism, key);
        move |sessions: &mut Sessions| make(sessions)?.promise(signature?)
    });
    super::begin(module, session, verifying, make)
}

fn make(
    session: SessionHandle,
    usage: Usage,
    mechanism: Mechanism,
    key: ObjectHandle,
) -> impl FnOnce(&mut Sessions) -> Result<Signing, Rv> {
    move |sessions| {
        let (slot, policy) = sessions.session(session).map(|session| (session.slot, session.policy))?;
        let key = sessions.objects.known(slot, key).map_err(|_| Rv::KEY_HANDLE_INVALID)?;
        Signing::begin(usage, key, mechanism, policy)
    }
}

/// `C_Sign`.
pub(crate) fn sign(
    module: &Module,
    session: SessionHandle,
    data: Given<'_>,
    room: Offered,
) -> Result<Reply, Rv> {
    with_operation(module, session, signing, |mut operation, context| {
        let (data, room) = (data?, room?);
        if operation.is_started() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        if let Some(reply) = early(room, Length::Exact(operation.length())) {
            return Ok(outcome(operation, reply));
        }
        operation.feed(data)?;
        complete(module, context, operation).map(|signature| Outcome::Over(Reply::Bytes(signature)))
    })
}

/// `C_SignUpdate`.
pub(crate) fn sign_part(module: &Module, session: SessionHandle, data: Given<'_>) -> Result<(), Rv> {
    with_operation(module, session, signing, |mut operation, _| {
        if !operation.takes_parts() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        operation.feed(data?)?;
        Ok(Outcome::GoesOn(operation, ()))
    })
}

/// `C_SignFinal`.
pub(crate) fn sign_last(module: &Module, session: SessionHandle, room: Offered) -> Result<Reply, Rv> {
    with_operation(module, session, signing, |operation, context| {
        let room: Room = room?;
        match early(room, Length::Exact(operation.length())) {
            Some(reply) => Ok(outcome(operation, reply)),
            None => {
                complete(module, context, operation).map(|signature| Outcome::Over(Reply::Bytes(signature)))
            }
        }
    })
}

fn complete(module: &Module, context: &CallContext, operation: Signing) -> Result<Secret, Rv> {
    if operation.awaits_login {
        return Err(Rv::USER_NOT_LOGGED_IN);
    }
    let length = operation.length();
    let Signed { key, mechanism, data } = operation.finish()?;
    let answer = module.ask(context, Request::Sign { key: key.object.clone(), mechanism, data })?;
    let Response::Bytes(signature) = answer else { return unexpected() };
    // The caller's room was measured for this length.
    if signature.len() == length { Ok(signature) } else { unexpected() }
}

/// `C_Verify`.
pub(crate) fn verify(
    module: &Module,
    session: SessionHandle,
    data: Given<'_>,
    signature: Given<'_>,
) -> Result<(), Rv> {
    with_operation(module, session, verifying, |mut operation, context| {
        let (data, signature) = (data?, signature?);
        if operation.is_started() || form_of(&operation) != Form::After {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        operation.feed(data)?;
        compare(module, context, operation, signature).map(Outcome::Over)
    })
}

/// `C_VerifySignature`.
pub(crate) fn verify_signature(module: &Module, session: SessionHandle, data: Given<'_>) -> Result<(), Rv> {
    with_operation(module, session, verifying, |mut operation, context| {
        let data = data?;
        if operation.is_started() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        operation.feed(data)?;
        compare_promised(module, context, operation).map(Outcome::Over)
    })
}

fn form_of(operation: &Signing) -> Form {
    if operation.promised().is_some() { Form::Before } else { Form::After }
}

/// `C_VerifyUpdate`, `C_VerifySignatureUpdate`.
pub(crate) fn verify_part(
    module: &Module,
    session: SessionHandle,
    data: Given<'_>,
    form: Form,
) -> Result<(), Rv> {
    with_operation(module, session, verifying, |mut operation, _| {
        if form_of(&operation) != form || !operation.takes_parts() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        operation.feed(data?)?;
        Ok(Outcome::GoesOn(operation, ()))
    })
}

/// `C_VerifyFinal`.
pub(crate) fn verify_last(module: &Module, session: SessionHandle, signature: Given<'_>) -> Result<(), Rv> {
    with_operation(module, session, verifying, |operation, context| {
        if form_of(&operation) != Form::After {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        compare(module, context, operation, signature?).map(Outcome::Over)
    })
}

/// `C_VerifySignatureFinal`.
pub(crate) fn verify_signature_last(module: &Module, session: SessionHandle) -> Result<(), Rv> {
    with_operation(module, session, verifying, |operation, context| {
        compare_promised(module, context, operation).map(Outcome::Over)
    })
}

fn compare_promised(module: &Module, context: &CallContext, operation: Signing) -> Result<(), Rv> {
    let signature = operation.promised().cloned().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
    compare(module, context, operation, &signature)
}

fn compare(module: &Module, context: &CallContext, operation: Signing, signature: &[u8]) -> Result<(), Rv> {
    if signature.len() != operation.length() {
        return Err(Rv::SIGNATURE_LEN_RANGE);
    }
    let local = operation.is_local();
    let Signed { key, mechanism, data } = operation.finish()?;
    if local {
        return public::verify(&key.attributes, &mechanism, &data, signature);
    }
    let (key, signature) = (key.object.clone(), Secret::from(signature));
    let done = module.ask(context, Request::Verify { key, mechanism, data, signature })?;
    let Response::Done = done else { return unexpected() };
    Ok(())
}
