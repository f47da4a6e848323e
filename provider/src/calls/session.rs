//! Sessions, login and PINs (spec, "Session management functions"). Opening, closing and looking at sessions costs
//! no round trip: some hosts open one for each operation.

use kms_protocol::{PIN_BYTES_MAX, Request, Response, Role, Rv, Secret, SlotId};

use super::unexpected;
use crate::module::{Module, SlotRequirements};
use crate::session::{Access, CallContext, SessionHandle, State};

/// `C_OpenSession`.
pub(crate) fn open(module: &Module, slot: SlotId, access: Access) -> Result<SessionHandle, Rv> {
    let SlotRequirements { policy, initialized } = module.terms(slot)?;
    // What `C_InitToken` has not been called for is no token to work with (spec, "C_OpenSession").
    if !initialized {
        return Err(Rv::TOKEN_NOT_RECOGNIZED);
    }
    module.sessions(|sessions| sessions.open(slot, policy, access))
}

/// `C_CloseSession`.
pub(crate) fn close(module: &Module, session: SessionHandle) -> Result<(), Rv> {
    module.sessions(|sessions| sessions.close(session))
}

/// `C_CloseAllSessions`: of one slot.
pub(crate) fn close_all(module: &Module, slot: SlotId) -> Result<(), Rv> {
    if module.sessions(|sessions| sessions.count(slot).0) == 0 {
        module.slot(slot)?;
    }
    module.sessions(|sessions| sessions.close_all(slot));
    Ok(())
}

/// `C_GetSessionInfo`: slot, state, and whether the session writes.
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
    // An empty PIN would mean a keypad at the token, and there is none.
    if pin.is_empty() || pin.len() > PIN_BYTES_MAX {
        return Err(Rv::PIN_INCORRECT);
    }
    // Only the confirmation of a login needs to show the login.
    let context = match role {
        Role::Context => context,
        Role::User | Role::Officer => CallContext { ticket: None, ..context },
    };
    let answer = module.ask(&context, Request::Login { role, pin: Secret::from(pin) })?;
    let Response::LoggedIn { ticket } = answer else { return unexpected() };
    module.sessions(|sessions| sessions.log_in(session, role, ticket))
}

/// `C_LoginUser`: the name and the PIN apart; the backend takes them as `name:secret`.
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
    let whole = Secret::from([name, b":", pin].concat());
    log_in(module, session, role, &whole)
}

/// `C_Logout`.
pub(crate) fn log_out(module: &Module, session: SessionHandle) -> Result<(), Rv> {
    module.sessions(|sessions| sessions.log_out(session))
}

/// `C_InitToken`: a free slot becomes a ring, or a ring is emptied by its officer.
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
    let done = module.ask(&context, Request::InitToken { pin: new_pin(pin)?, label });
    module.slots_changed();
    let Response::Done = done? else { return unexpected() };
    module.sessions(|sessions| sessions.objects.forget_slot(slot));
    Ok(())
}

/// `C_InitPIN`: the officer sets the user's PIN.
pub(crate) fn init_pin(module: &Module, session: SessionHandle, pin: &[u8]) -> Result<(), Rv> {
    let context = module.sessions(|sessions| match sessions.state(session)? {
        State::RwOfficer => sessions.context(session),
        State::RoPublic | State::RoUser => Err(Rv::SESSION_READ_ONLY),
        State::RwPublic | State::RwUser => Err(Rv::USER_NOT_LOGGED_IN),
    })?;
    let done = module.ask(&context, Request::InitPin { pin: new_pin(pin)? })?;
    module.slots_changed();
    let Response::Done = done else { return unexpected() };
    Ok(())
}

/// `C_SetPIN`: whoever is logged in, or the user, changes their own PIN.
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
    let done = module.ask(&context, Request::SetPin { role, old: Secret::from(old), new: new_pin(new)? })?;
    let Response::Done = done else { return unexpected() };
    Ok(())
}

/// Whether the PIN will do is the backend's to say; only what cannot be sent is refused here.
fn new_pin(pin: &[u8]) -> Result<Secret, Rv> {
    if pin.len() > PIN_BYTES_MAX { Err(Rv::PIN_LEN_RANGE) } else { Ok(Secret::from(pin)) }
}

/// SlotFilter operations `C_SessionCancel` ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cancelled {
    pub(crate) encrypt: bool,
    pub(crate) decrypt: bool,
    pub(crate) digest: bool,
    pub(crate) sign: bool,
    pub(crate) verify: bool,
    pub(crate) search: bool,
    pub(crate) message_encrypt: bool,
    pub(crate) message_decrypt: bool,
}

/// `C_SessionCancel`. An operation that does not run is as good as cancelled.
pub(crate) fn cancel(module: &Module, session: SessionHandle, which: Cancelled) -> Result<(), Rv> {
    module.sessions(|sessions| {
        let operations = sessions.operations(session)?;
        operations.encrypt.take_if(|_| which.encrypt);
        operations.decrypt.take_if(|_| which.decrypt);
        operations.digest.take_if(|_| which.digest);
        operations.sign.take_if(|_| which.sign);
        operations.verify.take_if(|_| which.verify);
        operations.search.take_if(|_| which.search);
        operations.message_encrypt.take_if(|_| which.message_encrypt);
        operations.message_decrypt.take_if(|_| which.message_decrypt);
        Ok(())
    })
}
