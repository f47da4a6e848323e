//! Messages (spec, "Message-based encryption functions", "Message-based decryption functions"). A message whose nonce
//! the caller has is the same request as a classic encryption, so it is as fast.

use kms_protocol::{MechanismType, Response, Rv, Secret};

use super::{Given, Offered, Outcome, unexpected, with_operation};
use crate::module::Module;
use crate::session::cipher::{Direction, Part};
use crate::session::message::{Message, Messaging, Parameter};
use crate::session::reply::{Length, Reply, early};
use crate::session::{CallContext, ObjectHandle, Operations, SessionHandle, Sessions};

/// A message's parameter, or why it cannot be read.
pub(crate) type MessageParameter = Result<Parameter, Rv>;

/// What a call that encrypts gives.
pub(crate) struct Sealed {
    /// The ciphertext, without its tag.
    pub(crate) reply: Reply,
    /// The nonce, if it was made; otherwise nothing.
    pub(crate) nonce: Secret,
    /// The tag, if the message is complete.
    pub(crate) tag: Secret,
}

impl Sealed {
    fn only(reply: Reply) -> Self {
        Self { reply, nonce: Secret::default(), tag: Secret::default() }
    }
}

fn place(direction: Direction) -> fn(&mut Operations) -> &mut Option<Messaging> {
    match direction {
        Direction::Encrypt => |operations| &mut operations.message_encrypt,
        Direction::Decrypt => |operations| &mut operations.message_decrypt,
    }
}

/// `C_MessageEncryptInit`, `C_MessageDecryptInit`; without a mechanism, what runs is cancelled.
pub(crate) fn begin(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    kind: Option<MechanismType>,
    key: ObjectHandle,
) -> Result<(), Rv> {
    let make = kind.map(|kind| {
        move |sessions: &mut Sessions| {
            let (slot, policy) = sessions.session(session).map(|session| (session.slot, session.policy))?;
            let key = sessions.objects.known(slot, key).map_err(|_| Rv::KEY_HANDLE_INVALID)?;
            Messaging::begin(direction, key, kind, policy)
        }
    });
    super::begin(module, session, place(direction), make)
}

/// `C_EncryptMessage`.
pub(crate) fn encrypt(
    module: &Module,
    session: SessionHandle,
    parameter: MessageParameter,
    aad: Given<'_>,
    data: Given<'_>,
    room: Offered,
) -> Result<Sealed, Rv> {
    with_operation(module, session, place(Direction::Encrypt), |messaging, context| {
        let (parameter, aad, data, room) = (parameter?, aad?, data?, room?);
        if messaging.is_open() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        if let Some(reply) = early(room, Length::Exact(data.len())) {
            return Ok(Outcome::GoesOn(messaging, Sealed::only(reply)));
        }
        let message = messaging.message(&parameter, aad, Secret::from(data))?;
        let sealed = seal(module, context, message, data.len())?;
        Ok(Outcome::GoesOn(messaging, sealed))
    })
}

/// `C_DecryptMessage`. A message that was tampered with is refused; the next one may be whole.
pub(crate) fn decrypt(
    module: &Module,
    session: SessionHandle,
    parameter: MessageParameter,
    aad: Given<'_>,
    data: Given<'_>,
    room: Offered,
) -> Result<Reply, Rv> {
    with_operation(module, session, place(Direction::Decrypt), |messaging, context| {
        let (parameter, aad, data, room) = (parameter?, aad?, data?, room?);
        if messaging.is_open() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        if let Some(reply) = early(room, Length::Exact(data.len())) {
            return Ok(Outcome::GoesOn(messaging, Ok(reply)));
        }
        let message = messaging.message(&parameter, aad, Secret::from(data))?;
        let opened = unseal(module, context, message, data.len())?;
        Ok(Outcome::GoesOn(messaging, opened))
    })?
}

/// `C_EncryptMessageBegin`, `C_DecryptMessageBegin`.
pub(crate) fn open(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    parameter: MessageParameter,
    aad: Given<'_>,
) -> Result<(), Rv> {
    with_operation(module, session, place(direction), |mut messaging, _| {
        messaging.open(parameter?, aad?)?;
        Ok(Outcome::GoesOn(messaging, ()))
    })
}

/// `C_EncryptMessageNext`. All of the ciphertext comes with the last part.
pub(crate) fn encrypt_next(
    module: &Module,
    session: SessionHandle,
    parameter: MessageParameter,
    data: Given<'_>,
    room: Offered,
    part: Part,
) -> Result<Sealed, Rv> {
    with_operation(module, session, place(Direction::Encrypt), |mut messaging, context| {
        let (parameter, data, room) = (parameter?, data?, room?);
        let length = messaging.held()? + data.len();
        if let Some(reply) = early(room, Length::Exact(next_length(part, length))) {
            return Ok(Outcome::GoesOn(messaging, Sealed::only(reply)));
        }
        messaging.hold(data)?;
        let sealed = match part {
            Part::Inner => Sealed::only(Reply::Bytes(Secret::default())),
            Part::Last => seal(module, context, messaging.close(parameter.tag)?, length)?,
        };
        Ok(Outcome::GoesOn(messaging, sealed))
    })
}

/// `C_DecryptMessageNext`. All of the plaintext comes with the last part, if the tag is right.
pub(crate) fn decrypt_next(
    module: &Module,
    session: SessionHandle,
    parameter: MessageParameter,
    data: Given<'_>,
    room: Offered,
    part: Part,
) -> Result<Reply, Rv> {
    with_operation(module, session, place(Direction::Decrypt), |mut messaging, context| {
        let (parameter, data, room) = (parameter?, data?, room?);
        let length = messaging.held()? + data.len();
        if let Some(reply) = early(room, Length::Exact(next_length(part, length))) {
            return Ok(Outcome::GoesOn(messaging, Ok(reply)));
        }
        messaging.hold(data)?;
        let opened = match part {
            Part::Inner => Ok(Reply::Bytes(Secret::default())),
            Part::Last => unseal(module, context, messaging.close(parameter.tag)?, length)?,
        };
        Ok(Outcome::GoesOn(messaging, opened))
    })?
}

/// Nothing of a message comes out before its end.
fn next_length(part: Part, total: usize) -> usize {
    match part {
        Part::Inner => 0,
        Part::Last => total,
    }
}

/// `C_MessageEncryptFinal`, `C_MessageDecryptFinal`.
pub(crate) fn end(module: &Module, session: SessionHandle, direction: Direction) -> Result<(), Rv> {
    with_operation(module, session, place(direction), |_, _| Ok(Outcome::Over(())))
}

/// Asks for a message's encryption, and takes its answer apart. The caller's places were measured for these lengths.
fn seal(module: &Module, context: &CallContext, message: Message, length: usize) -> Result<Sealed, Rv> {
    let Message { request, tag_bytes, nonce_bytes } = message;
    let answer = module.ask(context, request)?;
    let (nonce, mut ciphertext) = match (nonce_bytes, answer) {
        (None, Response::Bytes(ciphertext)) => (Secret::default(), ciphertext),
        (Some(bytes), Response::Message { nonce, ciphertext }) if nonce.len() == bytes => (nonce, ciphertext),
        (None | Some(_), _) => return unexpected(),
    };
    if ciphertext.len() != length + tag_bytes {
        return unexpected();
    }
    let tag = Secret::from(&ciphertext[length..]);
    ciphertext.bytes_mut().truncate(length);
    Ok(Sealed { reply: Reply::Bytes(ciphertext), nonce, tag })
}

/// Asks for a message's decryption. That its tag was wrong ends the message alone.
fn unseal(
    module: &Module,
    context: &CallContext,
    message: Message,
    length: usize,
) -> Result<Result<Reply, Rv>, Rv> {
    match module.ask(context, message.request) {
        Ok(Response::Bytes(data)) if data.len() == length => Ok(Ok(Reply::Bytes(data))),
        Ok(_) => unexpected(),
        Err(Rv::ENCRYPTED_DATA_INVALID | Rv::AEAD_DECRYPT_FAILED) => Ok(Err(Rv::AEAD_DECRYPT_FAILED)),
        Err(rv) => Err(rv),
    }
}
