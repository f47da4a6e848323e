//! Encryption and decryption (spec, "Encryption functions", "Decryption functions"): one file, because they differ only
//! in the direction.

use kms_protocol::{DATA_BYTES_MAX, Mechanism, Request, Response, Rv, Secret};

use super::{InputBytes, Outcome, OutputCapacity, outcome, unexpected, with_operation};
use crate::module::Module;
use crate::public;
use crate::session::cipher::{BLOCK, Chunk, CipherOperation, Direction, Part};
use crate::session::reply::{Capacity, OutputLength, Reply, length_reply, output_reply};
use crate::session::{CallContext, ObjectHandle, Operations, SessionHandle, Sessions};

fn field(direction: Direction) -> fn(&mut Operations) -> &mut Option<CipherOperation> {
    match direction {
        Direction::Encrypt => |operations| &mut operations.encrypt,
        Direction::Decrypt => |operations| &mut operations.decrypt,
    }
}

/// `C_EncryptInit`, `C_DecryptInit`; a null mechanism cancels the active operation.
pub(crate) fn init(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    mechanism: Option<Mechanism>,
    key: ObjectHandle,
) -> Result<(), Rv> {
    let create = mechanism.map(|mechanism| {
        move |sessions: &mut Sessions| {
            let (slot, policy) = sessions.session(session).map(|session| (session.slot, session.policy))?;
            let key = sessions.objects.get(slot, key).map_err(|_| Rv::KEY_HANDLE_INVALID)?;
            CipherOperation::begin(direction, key, mechanism, policy)
        }
    });
    super::begin(module, session, field(direction), create)
}

/// `C_Encrypt`, `C_Decrypt`.
pub(crate) fn single_part(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    with_operation(module, session, field(direction), |mut cipher, context| {
        let (data, capacity) = (data?, capacity?);
        if let Some(output) = cipher.take_pending_output() {
            return Ok(deliver(cipher, output, capacity));
        }
        // Spec, "C_Encrypt": it cannot end an operation that C_EncryptUpdate began.
        if cipher.is_started() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        finish_with(module, context, cipher, data, capacity)
    })
}

/// `C_EncryptUpdate`, `C_DecryptUpdate`.
pub(crate) fn update(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    with_operation(module, session, field(direction), |mut cipher, context| {
        let (data, capacity) = (data?, capacity?);
        if let Some(reply) = length_reply(capacity, OutputLength::Exact(cipher.part_length(data.len()))) {
            return Ok(Outcome::Continues(cipher, reply));
        }
        let output = run(module, context, &mut cipher, data, Part::Intermediate)?;
        Ok(Outcome::Continues(cipher, Reply::Bytes(output)))
    })
}

/// `C_EncryptFinal`, `C_DecryptFinal`.
pub(crate) fn finish(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    with_operation(module, session, field(direction), |mut cipher, context| {
        let capacity = capacity?;
        match cipher.take_pending_output() {
            Some(output) => Ok(deliver(cipher, output, capacity)),
            None => finish_with(module, context, cipher, &[], capacity),
        }
    })
}

fn finish_with(
    module: &Module,
    context: &CallContext,
    mut cipher: CipherOperation,
    data: &[u8],
    capacity: Capacity,
) -> Result<Outcome<CipherOperation, Reply>, Rv> {
    if let Some(reply) = length_reply(capacity, cipher.rest_length(data.len())) {
        return Ok(outcome(cipher, reply));
    }
    let output = run(module, context, &mut cipher, data, Part::Final)?;
    Ok(deliver(cipher, output, capacity))
}

/// Returns a computed output, or stores it if it does not fit: computing it again costs a request, and a decryption may
/// have another result.
fn deliver(
    mut cipher: CipherOperation,
    output: Secret,
    capacity: Capacity,
) -> Outcome<CipherOperation, Reply> {
    let (reply, stored) = output_reply(capacity, output);
    match stored {
        Some(output) => {
            cipher.store_pending_output(output);
            Outcome::Continues(cipher, reply)
        }
        None => outcome(cipher, reply),
    }
}

/// Requests one chunk after the other. Each is a request with its own deadline.
fn run(
    module: &Module,
    context: &CallContext,
    cipher: &mut CipherOperation,
    data: &[u8],
    part: Part,
) -> Result<Secret, Rv> {
    if cipher.needs_context_login {
        return Err(Rv::USER_NOT_LOGGED_IN);
    }
    cipher.check_input_length(data.len())?;
    let (mut rest, mut output) = (data, Secret::default());
    // Reserved in one step: a buffer that grows leaves copies of its content behind.
    let in_chunks = data.len() > DATA_BYTES_MAX;
    if in_chunks {
        output.bytes_mut().reserve_exact(data.len() + BLOCK);
    }
    while let Some(chunk) = cipher.next(&mut rest, part)? {
        let processed = process(module, context, cipher, chunk)?;
        cipher.chain(&processed);
        if output.is_empty() && !in_chunks {
            output = processed;
        } else {
            output.bytes_mut().extend_from_slice(&processed);
        }
    }
    Ok(output)
}

fn process(
    module: &Module,
    context: &CallContext,
    cipher: &mut CipherOperation,
    chunk: Chunk,
) -> Result<Secret, Rv> {
    let Chunk { mechanism, data } = chunk;
    if cipher.is_local() {
        return public::encrypt(&cipher.key.attributes, &mechanism, &data);
    }
    let key = cipher.key.object.clone();
    let request = match (cipher.direction(), cipher.proof.take()) {
        (Direction::Encrypt, _) => Request::Encrypt { key, mechanism, data },
        (Direction::Decrypt, None) => Request::Decrypt { key, mechanism, data },
        (Direction::Decrypt, Some(proof)) => Request::DecryptProven { key, mechanism, data, proof },
    };
    let Response::Bytes(output) = module.call(context, request)? else { return unexpected() };
    Ok(output)
}
