//! Dual-function operations (spec, "Dual-function cryptographic functions"): two operations on the same data, one after
//! the other. A call that returned only a length, or had too small a buffer, changed neither.

use kms_protocol::Rv;

use super::{InputBytes, OutputCapacity, cipher, digest, sign};
use crate::module::Module;
use crate::session::cipher::Direction;
use crate::session::reply::Reply;
use crate::session::{Operations, SessionHandle};

/// `C_DigestEncryptUpdate`.
pub(crate) fn digest_encrypt(
    module: &Module,
    session: SessionHandle,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    check_active(module, session, |operations| operations.digest.is_some())?;
    let reply = cipher::update(module, session, Direction::Encrypt, data, capacity)?;
    if !reply.is_pending() {
        digest::update(module, session, data)?;
    }
    Ok(reply)
}

/// `C_SignEncryptUpdate`.
pub(crate) fn sign_encrypt(
    module: &Module,
    session: SessionHandle,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    check_active(module, session, |operations| operations.sign.is_some())?;
    let reply = cipher::update(module, session, Direction::Encrypt, data, capacity)?;
    if !reply.is_pending() {
        sign::sign_update(module, session, data)?;
    }
    Ok(reply)
}

/// `C_DecryptDigestUpdate`.
pub(crate) fn decrypt_digest(
    module: &Module,
    session: SessionHandle,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    check_active(module, session, |operations| operations.digest.is_some())?;
    let reply = cipher::update(module, session, Direction::Decrypt, data, capacity)?;
    if let Reply::Bytes(plain) = &reply {
        digest::update(module, session, Ok(plain))?;
    }
    Ok(reply)
}

/// `C_DecryptVerifyUpdate`.
pub(crate) fn decrypt_verify(
    module: &Module,
    session: SessionHandle,
    data: InputBytes<'_>,
    capacity: OutputCapacity,
) -> Result<Reply, Rv> {
    check_active(module, session, |operations| operations.verify.is_some())?;
    let reply = cipher::update(module, session, Direction::Decrypt, data, capacity)?;
    if let Reply::Bytes(plain) = &reply {
        sign::verify_update(module, session, Ok(plain), sign::SignaturePosition::AfterData)?;
    }
    Ok(reply)
}

/// Checks that the second operation is active before the first one changes.
fn check_active(
    module: &Module,
    session: SessionHandle,
    second: fn(&mut Operations) -> bool,
) -> Result<(), Rv> {
    let active = module.sessions(|sessions| sessions.operations(session).map(second))?;
    if active { Ok(()) } else { Err(Rv::OPERATION_NOT_INITIALIZED) }
}
