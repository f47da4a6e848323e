//! Sessions, login and PINs (spec, "Session management functions"). Opening, closing and inspecting sessions costs no
//! round trip: some hosts open one for each operation.

use kms_protocol::{PIN_BYTES_MAX, Request, Response, Role, Rv, Secret, SlotId};

use super::unexpected;
use crate::module::{Module, TokenState};
use crate::session::{Access, CallContext, SessionHandle, State};

/// `C_OpenSession`.
pub(crate) fn open(module: &Module, slot: SlotId, access: Access) -> Result<SessionHandle, Rv> {
    let TokenState { policy, initialized } = module.token_state(slot)?;
    // A token needs `C_InitToken` before its first session (spec, "C_OpenSession").
    if !initialized {
        return Err(Rv::TOKEN_NOT_RECOGNIZED);
    }
    module.sessions(|sessions| sessions.open(slot, policy, access))
}

/// `C_CloseSession`.
pub(crate) fn close(module: &Module, session: SessionHandle) -> Result<(), Rv> {
    module.sessions(|sessions| sessions.close(session))
}

/// `C_CloseAllSessions`, of one slot.
pub(crate) fn close_all(module: &Module, slot: SlotId) -> Result<(), Rv> {
    if module.sessions(|sessions| sessions.count(slot).0) == 0 {
        module.slot(slot)?;
    }
    module.sessions(|sessions| sessions.close_all(slot));
    Ok(())
}

/// `C_GetSessionInfo`: slot, state and access.
pub(crate) fn info(module: &Module, session: SessionHandle) -> Result<(SlotId, State, Access), Rv> {
    module.sessions(|sessions| {
        let open = sessions.session(session)?;
        Ok((open.slot, sessions.state(session)?, open.access))
    })
}

/// `C_Login`.
pub(crate) fn log_in(module: &Module, session: SessionHandle, role: Role, pin: &[u8]) -> Result<(), Rv> {
    let context = module.sessions(|sessions| {
        sessions.may_log_in(session, role)?;
        sessions.context(session)
    })?;
    // An empty PIN would mean a PIN pad at the token, and there is none.
    if pin.is_empty() || pin.len() > PIN_BYTES_MAX {
        return Err(Rv::PIN_INCORRECT);
    }
    if role == Role::Context {
        return prove_use(module, session, &context, pin);
    }
    let context = CallContext { ticket: None, ..context };
    let response = module.call(&context, Request::Login { role, pin: Secret::from(pin) })?;
    let Response::LoggedIn { ticket } = response else { return unexpected() };
    module.sessions(|sessions| sessions.log_in(session, role, ticket))
}

/// `C_Login` with `CKU_CONTEXT_SPECIFIC`: gets a proof for one use of the key of each operation that waits.
fn prove_use(module: &Module, session: SessionHandle, context: &CallContext, pin: &[u8]) -> Result<(), Rv> {
    for (operation, key) in module.sessions(|sessions| sessions.waiting(session))? {
        let request = Request::ProveUse { key: key.object.clone(), pin: Secret::from(pin) };
        let Response::Proof(proof) = module.call(context, request)? else { return unexpected() };
        module.sessions(|sessions| sessions.prove(session, operation, &key, proof))?;
    }
    Ok(())
}

/// `C_LoginUser`: name and PIN are separate arguments; the backend takes them as `name:secret`.
pub(crate) fn log_in_named(
    module: &Module,
    session: SessionHandle,
    role: Role,
    pin: &[u8],
    name: &[u8],
) -> Result<(), Rv> {
    if name.is_empty() || pin.is_empty() {
        return log_in(module, session, role, pin);
    }
    if role == Role::Officer {
        return Err(Rv::USER_TYPE_INVALID);
    }
    let combined = Secret::from([name, b":", pin].concat());
    log_in(module, session, role, &combined)
}

/// `C_Logout`.
pub(crate) fn log_out(module: &Module, session: SessionHandle) -> Result<(), Rv> {
    module.sessions(|sessions| sessions.log_out(session))
}

/// `C_InitToken`: a free slot becomes a ring, or the officer erases a ring.
///
/// # Errors
/// `CKR_SESSION_EXISTS` while this application has a session with the token.
pub(crate) fn init_token(module: &Module, slot: SlotId, pin: &[u8], label: String) -> Result<(), Rv> {
    module.token(slot)?;
    if module.sessions(|sessions| sessions.count(slot).0) > 0 {
        return Err(Rv::SESSION_EXISTS);
    }
    if pin.is_empty() {
        return Err(Rv::PIN_INCORRECT);
    }
    let context = CallContext { slot, ticket: None };
    let done = module.call(&context, Request::InitToken { pin: new_pin(pin)?, label });
    module.slots_changed();
    let Response::Done = done? else { return unexpected() };
    module.sessions(|sessions| sessions.objects.remove_slot(slot));
    Ok(())
}

/// `C_InitPIN`: the officer sets the user's PIN.
pub(crate) fn init_pin(module: &Module, session: SessionHandle, pin: &[u8]) -> Result<(), Rv> {
    let context = module.sessions(|sessions| match sessions.state(session)? {
        State::RwOfficer => sessions.context(session),
        State::RoPublic | State::RoUser => Err(Rv::SESSION_READ_ONLY),
        State::RwPublic | State::RwUser => Err(Rv::USER_NOT_LOGGED_IN),
    })?;
    let done = module.call(&context, Request::InitPin { pin: new_pin(pin)? })?;
    module.slots_changed();
    let Response::Done = done else { return unexpected() };
    Ok(())
}

/// `C_SetPIN`: the logged-in role changes its PIN; without a login, the user does.
pub(crate) fn set_pin(module: &Module, session: SessionHandle, old: &[u8], new: &[u8]) -> Result<(), Rv> {
    let (context, role) = module.sessions(|sessions| {
        let role = match sessions.state(session)? {
            State::RoPublic | State::RoUser => return Err(Rv::SESSION_READ_ONLY),
            State::RwOfficer => Role::Officer,
            State::RwPublic | State::RwUser => Role::User,
        };
        Ok((sessions.context(session)?, role))
    })?;
    if old.is_empty() || old.len() > PIN_BYTES_MAX {
        return Err(Rv::PIN_INCORRECT);
    }
    let done = module.call(&context, Request::SetPin { role, old: Secret::from(old), new: new_pin(new)? })?;
    let Response::Done = done else { return unexpected() };
    Ok(())
}

/// Rejects a new PIN that is too long to be sent; the backend checks the rest.
fn new_pin(pin: &[u8]) -> Result<Secret, Rv> {
    if pin.len() > PIN_BYTES_MAX { Err(Rv::PIN_LEN_RANGE) } else { Ok(Secret::from(pin)) }
}

/// The operations that `C_SessionCancel` ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct CancelFlags {
    pub(crate) encrypt: bool,
    pub(crate) decrypt: bool,
    pub(crate) digest: bool,
    pub(crate) sign: bool,
    pub(crate) verify: bool,
    pub(crate) search: bool,
    pub(crate) message_encrypt: bool,
    pub(crate) message_decrypt: bool,
}

/// `C_SessionCancel`. Operations that are not active count as cancelled.
pub(crate) fn cancel(module: &Module, session: SessionHandle, flags: CancelFlags) -> Result<(), Rv> {
    module.sessions(|sessions| {
        let operations = sessions.operations(session)?;
        operations.encrypt.take_if(|_| flags.encrypt);
        operations.decrypt.take_if(|_| flags.decrypt);
        operations.digest.take_if(|_| flags.digest);
        operations.sign.take_if(|_| flags.sign);
        operations.verify.take_if(|_| flags.verify);
        operations.search.take_if(|_| flags.search);
        operations.message_encrypt.take_if(|_| flags.message_encrypt);
        operations.message_decrypt.take_if(|_| flags.message_decrypt);
        Ok(())
    })
}
