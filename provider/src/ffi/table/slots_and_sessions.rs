//! General-purpose functions, slots, tokens and sessions (spec, "General-purpose functions", "Slot and token management
//! functions", "Session management functions", "Parallel function management functions").

use std::ffi::c_void;

use cryptoki_sys::*;
use kms_protocol::{MechanismType, Rv};

use super::super::boundary::{self, call, without_module};
use super::super::{environment, info, input, instance, interface, output};
use super::unsupported;
use crate::calls::slot::{SlotFilter, WaitMode};
use crate::calls::{general, session, slot, valid};
use crate::module::Module;

/// The body of the two functions from before PKCS#11 2.0 that ran calls in parallel.
fn not_parallel(_: &Module) -> Result<(), Rv> {
    Err(Rv::FUNCTION_NOT_PARALLEL)
}

functions! {
    [yes] C_Initialize(arguments: *mut c_void) = without_module || {
        boundary::silence_panics();
        instance::initialize(|| general::initialize(&input::arguments(arguments), &environment::read()))
    };
    [yes] C_Finalize(reserved: *mut c_void) = without_module || {
        if reserved.is_null() { instance::finalize() } else { Err(Rv::ARGUMENTS_BAD) }
    };
    [yes] C_GetInfo(out: *mut CK_INFO) = call |_| output::value(out, || Ok(info::module()));
    [yes] C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) = without_module || interface::function_list(list);
    [yes] C_GetInterfaceList(list: *mut CK_INTERFACE, count: *mut CK_ULONG)
        = without_module || interface::list(list, count);
    [yes] C_GetInterface(
        name: *mut CK_UTF8CHAR, version: *mut CK_VERSION, chosen: *mut *mut CK_INTERFACE, flags: CK_FLAGS,
    ) = without_module || interface::choose(name, version, chosen, flags);

    [yes] C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) = call |module| {
        let filter = if present == CK_FALSE { SlotFilter::All } else { SlotFilter::WithToken };
        output::list(slots, count, |capacity| {
            Ok(slot::list(module, filter, capacity).iter().map(|slot| slot.0).collect())
        })
    };
    [yes] C_GetSlotInfo(id: CK_SLOT_ID, out: *mut CK_SLOT_INFO) = call |module| {
        output::value(out, || slot::slot(module, input::slot(id)).map(|slot| info::slot(&slot)))
    };
    [yes] C_GetTokenInfo(id: CK_SLOT_ID, out: *mut CK_TOKEN_INFO) = call |module| {
        output::value(out, || slot::token(module, input::slot(id)).map(|token| info::token(&token)))
    };
    [yes] C_WaitForSlotEvent(flags: CK_FLAGS, out: *mut CK_SLOT_ID, reserved: *mut c_void) = call |module| {
        if !reserved.is_null() {
            return Err(Rv::ARGUMENTS_BAD);
        }
        let mode = if flags & CKF_DONT_BLOCK == 0 { WaitMode::UntilFinalized } else { WaitMode::None };
        output::value(out, || slot::wait_for_event(module, mode).map(|slot| output::ulong(slot.0)))
    };
    [yes] C_GetMechanismList(id: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG) = call |module| {
        output::list(list, count, |_| {
            let kinds = slot::mechanisms(module, input::slot(id))?;
            Ok(kinds.iter().map(|kind| kind.0.into()).collect())
        })
    };
    [yes] C_GetMechanismInfo(id: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, out: *mut CK_MECHANISM_INFO) = call |module| {
        output::value(out, || {
            let kind = u32::try_from(kind).map_err(|_| Rv::MECHANISM_INVALID)?;
            slot::mechanism(module, input::slot(id), MechanismType(kind)).map(info::mechanism)
        })
    };
    [yes "a free slot becomes a ring if the backend's configuration has a free slot"]
    C_InitToken(id: CK_SLOT_ID, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG, label: *mut CK_UTF8CHAR)
        = call |module| {
            let (pin, label) = (input::pin(pin, pin_length)?, input::label(label)?);
            session::init_token(module, input::slot(id), pin, label)
        };
    [yes] C_InitPIN(handle: CK_SESSION_HANDLE, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG) = call |module| {
        let handle = input::session(handle);
        session::init_pin(module, handle, valid(module, handle, input::pin(pin, pin_length))?)
    };
    [yes "all logins continue; private session objects of other logins of the principal end"]
    C_SetPIN(
        handle: CK_SESSION_HANDLE, old: *mut CK_UTF8CHAR, old_length: CK_ULONG, new: *mut CK_UTF8CHAR,
        new_length: CK_ULONG,
    ) = call |module| {
        let handle = input::session(handle);
        let old = valid(module, handle, input::pin(old, old_length))?;
        session::set_pin(module, handle, old, valid(module, handle, input::pin(new, new_length))?)
    };

    [yes "the notification callback is never called"]
    C_OpenSession(
        id: CK_SLOT_ID, flags: CK_FLAGS, application: *mut c_void, notify: CK_NOTIFY, out: *mut CK_SESSION_HANDLE,
    ) = call |module| {
        output::value(out, || {
            session::open(module, input::slot(id), input::access(flags)?).map(|handle| output::ulong(handle.0))
        })
    };
    [yes] C_CloseSession(handle: CK_SESSION_HANDLE) = call |module| session::close(module, input::session(handle));
    [yes] C_CloseAllSessions(id: CK_SLOT_ID) = call |module| session::close_all(module, input::slot(id));
    [yes] C_GetSessionInfo(handle: CK_SESSION_HANDLE, out: *mut CK_SESSION_INFO) = call |module| {
        output::value(out, || session::info(module, input::session(handle)).map(info::session))
    };
    [yes] C_SessionCancel(handle: CK_SESSION_HANDLE, flags: CK_FLAGS) = call |module| {
        session::cancel(module, input::session(handle), input::cancel_flags(flags))
    };
    [no "the state of an operation cannot be exported"]
    C_GetOperationState(handle: CK_SESSION_HANDLE, state: *mut CK_BYTE, state_length: *mut CK_ULONG)
        = call unsupported;
    [no "the state of an operation cannot be exported"]
    C_SetOperationState(
        handle: CK_SESSION_HANDLE, state: *mut CK_BYTE, state_length: CK_ULONG, encryption_key: CK_OBJECT_HANDLE,
        authentication_key: CK_OBJECT_HANDLE,
    ) = call unsupported;
    [yes "the PIN `name:secret` logs in a named principal"]
    C_Login(handle: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG)
        = call |module| {
            let handle = input::session(handle);
            let role = valid(module, handle, input::role(user))?;
            session::log_in(module, handle, role, valid(module, handle, input::pin(pin, pin_length))?)
        };
    [yes] C_LoginUser(
        handle: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG,
        name: *mut CK_UTF8CHAR, name_length: CK_ULONG,
    ) = call |module| {
        let handle = input::session(handle);
        let role = valid(module, handle, input::role(user))?;
        let pin = valid(module, handle, input::pin(pin, pin_length))?;
        session::log_in_named(module, handle, role, pin, valid(module, handle, input::bytes(name, name_length))?)
    };
    [yes "private session objects end: nothing of them opens in a later login"]
    C_Logout(handle: CK_SESSION_HANDLE) = call |module| session::log_out(module, input::session(handle));
    [yes "no flags are set: the module has not been validated"]
    C_GetSessionValidationFlags(
        handle: CK_SESSION_HANDLE, kind: CK_SESSION_VALIDATION_FLAGS_TYPE, out: *mut CK_FLAGS,
    ) = call |module| output::value(out, || {
        // The same for every type of validation: the module has none.
        session::info(module, input::session(handle)).map(|_| 0)
    });

    [no "legacy: returns `CKR_FUNCTION_NOT_PARALLEL`"]
    C_GetFunctionStatus(handle: CK_SESSION_HANDLE) = call not_parallel;
    [no "legacy: returns `CKR_FUNCTION_NOT_PARALLEL`"]
    C_CancelFunction(handle: CK_SESSION_HANDLE) = call not_parallel;
    [no "no call is asynchronous"]
    C_AsyncComplete(handle: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, result: *mut CK_ASYNC_DATA)
        = call unsupported;
    [no "likewise"]
    C_AsyncGetID(handle: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, out: *mut CK_ULONG) = call unsupported;
    [no "likewise"]
    C_AsyncJoin(
        handle: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, id: CK_ULONG, data: *mut CK_BYTE, data_length: CK_ULONG,
    ) = call unsupported;
}
