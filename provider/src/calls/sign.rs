//! Signatures and MACs (spec, "Signing and MACing functions", "Functions for verifying signatures and MACs").
//! Signatures are verified in the application, with the public key; MACs are verified by the backend, which has the
//! secret key.

use kms_protocol::{Mechanism, Request, Response, Rv, Secret};

use super::{InputBytes, Outcome, OutputCapacity, outcome, unexpected, with_operation};
use crate::module::Module;
use crate::public;
use crate::session::reply::{Capacity, OutputLength, Reply, length_reply};
use crate::session::signature::{SignatureOperation, SigningInput};
use crate::session::usage::Usage;
use crate::session::{CallContext, ObjectHandle, Operations, SessionHandle, Sessions};

/// When the caller passes the signature that is to be verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SignaturePosition {
    /// With the last of the data, or after it: `C_Verify`.
    AfterData,
    /// Before the data: `C_VerifySignature`.
    BeforeData,
}

fn signing(operations: &mut Operations) -> &mut Option<SignatureOperation> {
    &mut operations.sign
}

fn verifying(operations: &mut Operations) -> &mut Option<SignatureOperation> {
    &mut operations.verify
}

/// `C_SignInit`; a null mechanism cancels the active operation.
pub(crate) fn sign_init(
    module: &Module,
    session: SessionHandle,
    mechanism: Option<Mechanism>,
    key: ObjectHandle,
) -> Result<(), Rv> {
    super::begin(
        module,
        session,
        signing,
        mechanism.map(|mechanism| begin(session, Usage::Sign, mechanism, key)),
    )
}

/// `C_VerifyInit`; a null mechanism cancels the active operation.
pub(crate) fn verify_init(
    module: &Module,
    session: SessionHandle,
    mechanism: Option<Mechanism>,
    key: ObjectHandle,
) -> Result<(), Rv> {
    super::begin(
        module,
        session,
        verifying,
        mechanism.map(|mechanism| begin(session, Usage::Verify, mechanism, key)),
    )
}

/// `C_VerifySignatureInit`, which takes the signature; a null mechanism cancels the active operation.
pub(crate) fn verify_signature_init(
    module: &Module,
    session: SessionHandle,
    mechanism: Option<Mechanism>,
    key: ObjectHandle,
    signature: InputBytes<'_>,
) -> Result<(), Rv> {
    let create = mechanism.map(|mechanism| {
        let begin = begin(session, Usage::Verify, mechanism, key);
        move |sessions: &mut Sessions| begin(sessions)?.with_expected_signature(signature?)
    });
    super::begin(module, session, verifying, create)
}

/// The closure that begins an operation.
fn begin(
    session: SessionHandle,
    usage: Usage,
    mechanism: Mechanism,
    key: ObjectHandle,
) -> impl FnOnce(&mut Sessions) -> Result<SignatureOperation, Rv> {
    move |sessions| {
        let (slot, policy) = sessions.session(session).map(|session| (session.slot, session.policy))?;
        let key = sessions.objects.get(slot, key).map_err(|_| Rv::KEY_HANDLE_INVALID)?;
        SignatureOperation::begin(usage, key, mechanism, policy)
    }
}

/// `C_Sign`.
pub(crate) fn sign(
    module: &Module,
    session: SessionHandle,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    with_operation(module, session, signing, |mut operation, context| {
        let (data, capacity) = (data?, capacity?);
        if operation.is_started() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        if let Some(reply) = length_reply(capacity, OutputLength::Exact(operation.length())) {
            return Ok(outcome(operation, reply));
        }
        operation.update(data)?;
        complete(module, context, operation).map(|signature| Outcome::Ends(Reply::Bytes(signature)))
    })
}

/// `C_SignUpdate`.
pub(crate) fn sign_update(module: &Module, session: SessionHandle, data: InputBytes<'_>) -> Result<(), Rv> {
    with_operation(module, session, signing, |mut operation, _| {
        if !operation.takes_parts() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        operation.update(data?)?;
        Ok(Outcome::Continues(operation, ()))
    })
}

/// `C_SignFinal`.
pub(crate) fn sign_final(
    module: &Module,
    session: SessionHandle,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    with_operation(module, session, signing, |operation, context| {
        let capacity: Capacity = capacity?;
        match length_reply(capacity, OutputLength::Exact(operation.length())) {
            Some(reply) => Ok(outcome(operation, reply)),
            None => {
                complete(module, context, operation).map(|signature| Outcome::Ends(Reply::Bytes(signature)))
            }
        }
    })
}

fn complete(module: &Module, context: &CallContext, mut operation: SignatureOperation) -> Result<Secret, Rv> {
    if operation.needs_context_login {
        return Err(Rv::USER_NOT_LOGGED_IN);
    }
    let (length, proof) = (operation.length(), operation.proof.take());
    let SigningInput { key, mechanism, data } = operation.finish()?;
    let key = key.object.clone();
    let request = match proof {
        Some(proof) => Request::SignProven { key, mechanism, data, proof },
        None => Request::Sign { key, mechanism, data },
    };
    let response = module.call(context, request)?;
    let Response::Bytes(signature) = response else { return unexpected() };
    // The capacity of the caller's buffer was checked for this length.
    if signature.len() == length { Ok(signature) } else { unexpected() }
}

/// `C_Verify`.
pub(crate) fn verify(
    module: &Module,
    session: SessionHandle,
    data: InputBytes<'_>,
    signature: InputBytes<'_>,
) -> Result<(), Rv> {
    with_operation(module, session, verifying, |mut operation, context| {
        let (data, signature) = (data?, signature?);
        if operation.is_started() || position_of(&operation) != SignaturePosition::AfterData {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        operation.update(data)?;
        verify_with(module, context, operation, signature).map(Outcome::Ends)
    })
}

/// `C_VerifySignature`.
pub(crate) fn verify_signature(
    module: &Module,
    session: SessionHandle,
    data: InputBytes<'_>,
) -> Result<(), Rv> {
    with_operation(module, session, verifying, |mut operation, context| {
        let data = data?;
        if operation.is_started() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        operation.update(data)?;
        verify_expected(module, context, operation).map(Outcome::Ends)
    })
}

fn position_of(operation: &SignatureOperation) -> SignaturePosition {
    if operation.expected_signature().is_some() {
        SignaturePosition::BeforeData
    } else {
        SignaturePosition::AfterData
    }
}

/// `C_VerifyUpdate`, `C_VerifySignatureUpdate`.
pub(crate) fn verify_update(
    module: &Module,
    session: SessionHandle,
    data: InputBytes<'_>,
    position: SignaturePosition,
) -> Result<(), Rv> {
    with_operation(module, session, verifying, |mut operation, _| {
        if position_of(&operation) != position || !operation.takes_parts() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        operation.update(data?)?;
        Ok(Outcome::Continues(operation, ()))
    })
}

/// `C_VerifyFinal`.
pub(crate) fn verify_final(
    module: &Module,
    session: SessionHandle,
    signature: InputBytes<'_>,
) -> Result<(), Rv> {
    with_operation(module, session, verifying, |operation, context| {
        if position_of(&operation) != SignaturePosition::AfterData {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        verify_with(module, context, operation, signature?).map(Outcome::Ends)
    })
}

/// `C_VerifySignatureFinal`.
pub(crate) fn verify_signature_final(module: &Module, session: SessionHandle) -> Result<(), Rv> {
    with_operation(module, session, verifying, |operation, context| {
        verify_expected(module, context, operation).map(Outcome::Ends)
    })
}

fn verify_expected(module: &Module, context: &CallContext, operation: SignatureOperation) -> Result<(), Rv> {
    let signature = operation.expected_signature().cloned().ok_or(Rv::OPERATION_NOT_INITIALIZED)?;
    verify_with(module, context, operation, &signature)
}

fn verify_with(
    module: &Module,
    context: &CallContext,
    operation: SignatureOperation,
    signature: &[u8],
) -> Result<(), Rv> {
    if signature.len() != operation.length() {
        return Err(Rv::SIGNATURE_LEN_RANGE);
    }
    let local = operation.is_local();
    let SigningInput { key, mechanism, data } = operation.finish()?;
    if local {
        return public::verify(&key.attributes, &mechanism, &data, signature);
    }
    let (key, signature) = (key.object.clone(), Secret::from(signature));
    let done = module.call(context, Request::Verify { key, mechanism, data, signature })?;
    let Response::Done = done else { return unexpected() };
    Ok(())
}
