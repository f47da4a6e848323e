//! Messages (spec, "Message-based encryption functions", "Message-based decryption functions"). A message whose nonce
//! the caller passes is the same request as a classic encryption, so it is as fast.

use kms_protocol::{MechanismType, Response, Rv, Secret};

use super::{InputBytes, Outcome, OutputCapacity, unexpected, with_operation};
use crate::module::Module;
use crate::session::cipher::{Direction, Part};
use crate::session::message::{MessageOperation, MessageRequest, Parameter};
use crate::session::reply::{OutputLength, Reply, length_reply};
use crate::session::{CallContext, ObjectHandle, Operations, SessionHandle, Sessions};

/// A message's parameter, or why it cannot be read.
pub(crate) type MessageParameter = Result<Parameter, Rv>;

/// The result of a call that encrypts.
pub(crate) struct EncryptedMessage {
    /// The ciphertext, without its tag.
    pub(crate) reply: Reply,
    /// The generated nonce; empty if the caller passed it.
    pub(crate) nonce: Secret,
    /// The tag, if the message is complete; otherwise empty.
    pub(crate) tag: Secret,
}

impl EncryptedMessage {
    fn without_tag(reply: Reply) -> Self {
        Self { reply, nonce: Secret::default(), tag: Secret::default() }
    }
}

fn field(direction: Direction) -> fn(&mut Operations) -> &mut Option<MessageOperation> {
    match direction {
        Direction::Encrypt => |operations| &mut operations.message_encrypt,
        Direction::Decrypt => |operations| &mut operations.message_decrypt,
    }
}

/// `C_MessageEncryptInit`, `C_MessageDecryptInit`; a null mechanism cancels the active operation.
pub(crate) fn init(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    kind: Option<MechanismType>,
    key: ObjectHandle,
) -> Result<(), Rv> {
    let create = kind.map(|kind| {
        move |sessions: &mut Sessions| {
            let (slot, policy) = sessions.session(session).map(|session| (session.slot, session.policy))?;
            let key = sessions.objects.get(slot, key).map_err(|_| Rv::KEY_HANDLE_INVALID)?;
            MessageOperation::begin(direction, key, kind, policy)
        }
    });
    super::begin(module, session, field(direction), create)
}

/// `C_EncryptMessage`.
pub(crate) fn encrypt(
    module: &Module,
    session: SessionHandle,
    parameter: MessageParameter,
    aad: InputBytes<'_>,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<EncryptedMessage, Rv> {
    with_operation(module, session, field(Direction::Encrypt), |operation, context| {
        let (parameter, aad, data, capacity) = (parameter?, aad?, data?, capacity?);
        if operation.is_open() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        if let Some(reply) = length_reply(capacity, OutputLength::Exact(data.len())) {
            return Ok(Outcome::Continues(operation, EncryptedMessage::without_tag(reply)));
        }
        let message = operation.request(&parameter, aad, Secret::from(data))?;
        let encrypted = request_encryption(module, context, message, data.len())?;
        Ok(Outcome::Continues(operation, encrypted))
    })
}

/// `C_DecryptMessage`. A message with a wrong tag is rejected; the operation continues with the next one.
pub(crate) fn decrypt(
    module: &Module,
    session: SessionHandle,
    parameter: MessageParameter,
    aad: InputBytes<'_>,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    with_operation(module, session, field(Direction::Decrypt), |operation, context| {
        let (parameter, aad, data, capacity) = (parameter?, aad?, data?, capacity?);
        if operation.is_open() {
            return Err(Rv::OPERATION_ACTIVE);
        }
        if let Some(reply) = length_reply(capacity, OutputLength::Exact(data.len())) {
            return Ok(Outcome::Continues(operation, Ok(reply)));
        }
        let message = operation.request(&parameter, aad, Secret::from(data))?;
        let decrypted = request_decryption(module, context, message, data.len())?;
        Ok(Outcome::Continues(operation, decrypted))
    })?
}

/// `C_EncryptMessageBegin`, `C_DecryptMessageBegin`.
pub(crate) fn begin(
    module: &Module,
    session: SessionHandle,
    direction: Direction,
    parameter: MessageParameter,
    aad: InputBytes<'_>,
) -> Result<(), Rv> {
    with_operation(module, session, field(direction), |mut operation, _| {
        operation.begin_message(parameter?, aad?)?;
        Ok(Outcome::Continues(operation, ()))
    })
}

/// `C_EncryptMessageNext`. The whole ciphertext is returned with the last part.
pub(crate) fn encrypt_next(
    module: &Module,
    session: SessionHandle,
    parameter: MessageParameter,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
    part: Part,
) -> Result<EncryptedMessage, Rv> {
    with_operation(module, session, field(Direction::Encrypt), |mut operation, context| {
        let (parameter, data, capacity) = (parameter?, data?, capacity?);
        let length = operation.buffered_bytes()? + data.len();
        if let Some(reply) = length_reply(capacity, OutputLength::Exact(next_length(part, length))) {
            return Ok(Outcome::Continues(operation, EncryptedMessage::without_tag(reply)));
        }
        operation.buffer(data)?;
        let encrypted = match part {
            Part::Intermediate => EncryptedMessage::without_tag(Reply::Bytes(Secret::default())),
            Part::Final => {
                request_encryption(module, context, operation.end_message(parameter.tag)?, length)?
            }
        };
        Ok(Outcome::Continues(operation, encrypted))
    })
}

/// `C_DecryptMessageNext`. The whole plaintext is returned with the last part, if the tag is right.
pub(crate) fn decrypt_next(
    module: &Module,
    session: SessionHandle,
    parameter: MessageParameter,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
    part: Part,
) -> Result<Reply, Rv> {
    with_operation(module, session, field(Direction::Decrypt), |mut operation, context| {
        let (parameter, data, capacity) = (parameter?, data?, capacity?);
        let length = operation.buffered_bytes()? + data.len();
        if let Some(reply) = length_reply(capacity, OutputLength::Exact(next_length(part, length))) {
            return Ok(Outcome::Continues(operation, Ok(reply)));
        }
        operation.buffer(data)?;
        let decrypted = match part {
            Part::Intermediate => Ok(Reply::Bytes(Secret::default())),
            Part::Final => {
                request_decryption(module, context, operation.end_message(parameter.tag)?, length)?
            }
        };
        Ok(Outcome::Continues(operation, decrypted))
    })?
}

/// The length of the output: nothing is returned before the last part.
fn next_length(part: Part, total: usize) -> usize {
    match part {
        Part::Intermediate => 0,
        Part::Final => total,
    }
}

/// `C_MessageEncryptFinal`, `C_MessageDecryptFinal`.
pub(crate) fn finish(module: &Module, session: SessionHandle, direction: Direction) -> Result<(), Rv> {
    with_operation(module, session, field(direction), |_, _| Ok(Outcome::Ends(())))
}

/// Requests the encryption of a message and splits the response. Checks the lengths that the caller's buffers have.
fn request_encryption(
    module: &Module,
    context: &CallContext,
    message: MessageRequest,
    length: usize,
) -> Result<EncryptedMessage, Rv> {
    let MessageRequest { request, tag_bytes, nonce_bytes } = message;
    let response = module.call(context, request)?;
    let (nonce, mut ciphertext) = match (nonce_bytes, response) {
        (None, Response::Bytes(ciphertext)) => (Secret::default(), ciphertext),
        (Some(bytes), Response::Message { nonce, ciphertext }) if nonce.len() == bytes => (nonce, ciphertext),
        (None | Some(_), _) => return unexpected(),
    };
    if ciphertext.len() != length + tag_bytes {
        return unexpected();
    }
    let tag = Secret::from(&ciphertext[length..]);
    ciphertext.bytes_mut().truncate(length);
    Ok(EncryptedMessage { reply: Reply::Bytes(ciphertext), nonce, tag })
}

/// Requests the decryption of a message. The inner error, for a wrong tag, ends the message and not the operation.
fn request_decryption(
    module: &Module,
    context: &CallContext,
    message: MessageRequest,
    length: usize,
) -> Result<Result<Reply, Rv>, Rv> {
    match module.call(context, message.request) {
        Ok(Response::Bytes(data)) if data.len() == length => Ok(Ok(Reply::Bytes(data))),
        Ok(_) => unexpected(),
        Err(Rv::ENCRYPTED_DATA_INVALID | Rv::AEAD_DECRYPT_FAILED) => Ok(Err(Rv::AEAD_DECRYPT_FAILED)),
        Err(rv) => Err(rv),
    }
}
