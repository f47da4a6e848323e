//! Encrypt and decrypt (spec, "Encryption functions", "Decryption functions"): one file, because they differ in the
//! direction alone.

use kms_protocol::{DATA_BYTES_MAX, Mechanism, Request, Response, Rv, Secret};

use super::{Given, Offered, Outcome, outcome, unexpected, with_operation};
use crate::module::Module;
use crate::public;
use crate::session::cipher::{BLOCK, Cipher, Direction, Part, Piece};
use crate::session::reply::{Length, Reply, Room, early, hand_over};
use crate::session::{CallContext, ObjectHandle, Operations, SessionHandle, Sessions};

fn place(direction: Direction) -> fn(&mut Operations) -> &mut Option<Cipher> {
    match direction {
        Direction::Encrypt => |operations| &mut operations.encrypt,
        Direction::Decrypt => |operations| &mut operations.decrypt,
    }
}

/// `C_EncryptInit`, `C_DecryptInit`; without a mechanism, the running operation is cancelled.
pub(crate) fn begin(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    mechanism: Option<Mechanism>,
    key: ObjectHandle,
) -> Result<(), Rv> {
    let make = mechanism.map(|mechanism| {
        move |sessions: &mut Sessions| {
            let (slot, policy) = sessions.session(session).map(|session| (session.slot, session.policy))?;
            let key = sessions.objects.known(slot, key).map_err(|_| Rv::KEY_HANDLE_INVALID)?;
            Cipher::begin(direction, key, mechanism, policy)
        }
    });
    super::begin(module, session, place(direction), make)
}

/// `C_Encrypt`, `C_Decrypt`: all data at once.
pub(crate) fn whole(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    data: Given<'_>,
    room: Offered,
) -> Result<Reply, Rv> {
    with_operation(module, session, place(direction), |mut cipher, context| {
        let (data, room) = (data?, room?);
        if let Some(kept) = cipher.kept() {
            return Ok(deliver(cipher, kept, room));
        }
        // Spec, "C_Encrypt": it cannot end what C_EncryptUpdate began.
        if cipher.is_started() {
            return Err(Rv::OPERATION_NOT_INITIALIZED);
        }
        finish(module, context, cipher, data, room)
    })
}

/// `C_EncryptUpdate`, `C_DecryptUpdate`.
pub(crate) fn part(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    data: Given<'_>,
    room: Offered,
) -> Result<Reply, Rv> {
    with_operation(module, session, place(direction), |mut cipher, context| {
        let (data, room) = (data?, room?);
        if let Some(reply) = early(room, Length::Exact(cipher.part_length(data.len()))) {
            return Ok(Outcome::GoesOn(cipher, reply));
        }
        let output = run(module, context, &mut cipher, data, Part::Inner)?;
        Ok(Outcome::GoesOn(cipher, Reply::Bytes(output)))
    })
}

/// `C_EncryptFinal`, `C_DecryptFinal`.
pub(crate) fn last(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    room: Offered,
) -> Result<Reply, Rv> {
    with_operation(module, session, place(direction), |mut cipher, context| {
        let room = room?;
        match cipher.kept() {
            Some(kept) => Ok(deliver(cipher, kept, room)),
            None => finish(module, context, cipher, &[], room),
        }
    })
}

fn finish(
    module: &Module,
    context: &CallContext,
    mut cipher: Cipher,
    data: &[u8],
    room: Room,
) -> Result<Outcome<Cipher, Reply>, Rv> {
    if let Some(reply) = early(room, cipher.rest_length(data.len())) {
        return Ok(outcome(cipher, reply));
    }
    let output = run(module, context, &mut cipher, data, Part::Last)?;
    Ok(deliver(cipher, output, room))
}

/// Gives an output that exists, or keeps it: it was paid for, and a decryption may not come out the same again.
fn deliver(mut cipher: Cipher, output: Secret, room: Room) -> Outcome<Cipher, Reply> {
    let (reply, kept) = hand_over(room, output);
    match kept {
        Some(kept) => {
            cipher.keep(kept);
            Outcome::GoesOn(cipher, reply)
        }
        None => outcome(cipher, reply),
    }
}

/// Asks for piece after piece. Each is a request of its own, with a deadline of its own.
fn run(
    module: &Module,
    context: &CallContext,
    cipher: &mut Cipher,
    data: &[u8],
    part: Part,
) -> Result<Secret, Rv> {
    if cipher.awaits_login {
        return Err(Rv::USER_NOT_LOGGED_IN);
    }
    cipher.check_call(data.len())?;
    let (mut rest, mut output) = (data, Secret::default());
    // All at once: a buffer that grows leaves copies of what it held behind.
    let in_pieces = data.len() > DATA_BYTES_MAX;
    if in_pieces {
        output.bytes_mut().reserve_exact(data.len() + BLOCK);
    }
    while let Some(piece) = cipher.next(&mut rest, part)? {
        let answer = compute(module, context, cipher, piece)?;
        cipher.took(&answer);
        if output.is_empty() && !in_pieces {
            output = answer;
        } else {
            output.bytes_mut().extend_from_slice(&answer);
        }
    }
    Ok(output)
}

fn compute(module: &Module, context: &CallContext, cipher: &Cipher, piece: Piece) -> Result<Secret, Rv> {
    let Piece { mechanism, data } = piece;
    if cipher.is_local() {
        return public::encrypt(&cipher.key.attributes, &mechanism, &data);
    }
    let key = cipher.key.object.clone();
    let request = match cipher.direction() {
        Direction::Encrypt => Request::Encrypt { key, mechanism, data },
        Direction::Decrypt => Request::Decrypt { key, mechanism, data },
    };
    let Response::Bytes(output) = module.ask(context, request)? else { return unexpected() };
    Ok(output)
}
