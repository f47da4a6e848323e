//! Two operations on the same data (spec, "Dual-function cryptographic functions"): one after the other. What only asked
//! for a length, or had too little room, moved neither.

use kms_protocol::Rv;

use super::{Given, Offered, cipher, digest, sign};
use crate::module::Module;
use crate::session::cipher::Direction;
use crate::session::reply::Reply;
use crate::session::{Operations, SessionHandle};

/// `C_DigestEncryptUpdate`.
pub(crate) fn digest_encrypt(
    module: &Module,
    session: SessionHandle,
    data: Given<'_>,
    room: Offered,
) -> Result<Reply, Rv> {
    running(module, session, |operations| operations.digest.is_some())?;
    let reply = cipher::part(module, session, Direction::Encrypt, data, room)?;
    if !reply.is_pending() {
        digest::part(module, session, data)?;
    }
    Ok(reply)
}

/// `C_SignEncryptUpdate`.
pub(crate) fn sign_encrypt(
    module: &Module,
    session: SessionHandle,
    data: Given<'_>,
    room: Offered,
) -> Result<Reply, Rv> {
    running(module, session, |operations| operations.sign.is_some())?;
    let reply = cipher::part(module, session, Direction::Encrypt, data, room)?;
    if !reply.is_pending() {
        sign::sign_part(module, session, data)?;
    }
    Ok(reply)
}

/// `C_DecryptDigestUpdate`.
pub(crate) fn decrypt_digest(
    module: &Module,
    session: SessionHandle,
    data: Given<'_>,
    room: Offered,
) -> Result<Reply, Rv> {
    running(module, session, |operations| operations.digest.is_some())?;
    let reply = cipher::part(module, session, Direction::Decrypt, data, room)?;
    if let Reply::Bytes(plain) = &reply {
        digest::part(module, session, Ok(plain))?;
    }
    Ok(reply)
}

/// `C_DecryptVerifyUpdate`.
pub(crate) fn decrypt_verify(
    module: &Module,
    session: SessionHandle,
    data: Given<'_>,
    room: Offered,
) -> Result<Reply, Rv> {
    running(module, session, |operations| operations.verify.is_some())?;
    let reply = cipher::part(module, session, Direction::Decrypt, data, room)?;
    if let Reply::Bytes(plain) = &reply {
        sign::verify_part(module, session, Ok(plain), sign::Form::After)?;
    }
    Ok(reply)
}

/// The second operation has to be there before the first one moves.
fn running(module: &Module, session: SessionHandle, second: fn(&mut Operations) -> bool) -> Result<(), Rv> {
    let runs = module.sessions(|sessions| sessions.operations(session).map(second))?;
    if runs { Ok(()) } else { Err(Rv::OPERATION_NOT_INITIALIZED) }
}
