//! Every `C_` function once: its C signature, how far it is built, and what it does. From this table come the exports,
//! the function lists of 2.40, 3.0 and 3.2, and `provider/SUPPORT.md`.
#![allow(non_snake_case, reason = "the names are the specification's")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one block for each row; the table's SAFETY comment says why"
)]

use std::ffi::c_void;

use cryptoki_sys::*;
use kms_protocol::{MechanismType, Rv};

use super::boundary::{self, bare, call};
use super::mechanism::mechanism;
use super::{environment, generation, info, input, interface, output};
use crate::calls::{cipher, digest, general, key, object, random, session, sign, slot, valid};
use crate::module::Module;
use crate::session::cipher::Direction::{Decrypt, Encrypt};

/// A row: `[how far] name(C signature) = entry body`. `call` needs the module; `bare` works without.
macro_rules! cryptoki {
    (
        since_2_40 { $($first:tt)* }
        since_3_0 { $($second:tt)* }
        since_3_2 { $($third:tt)* }
    ) => {
        functions! { $($first)* }
        functions! { $($second)* }
        functions! { $($third)* }

        /// The functions of PKCS#11 2.40.
        pub(crate) static LIST_2_40: CK_FUNCTION_LIST = list!(CK_FUNCTION_LIST, 2, 40, $($first)*);
        /// The functions of PKCS#11 3.0.
        pub(crate) static LIST_3_0: CK_FUNCTION_LIST_3_0 =
            list!(CK_FUNCTION_LIST_3_0, 3, 0, $($first)* $($second)*);
        /// The functions of PKCS#11 3.2.
        pub(crate) static LIST_3_2: CK_FUNCTION_LIST_3_2 =
            list!(CK_FUNCTION_LIST_3_2, 3, 2, $($first)* $($second)* $($third)*);

        /// Name, version of PKCS#11, how far it is built, and a note, for each function.
        #[cfg(test)]
        pub(crate) const SUPPORT: &[&[(&str, &str, &str, &str)]] =
            &[support!("2.40", $($first)*), support!("3.0", $($second)*), support!("3.2", $($third)*)];
    };
}

macro_rules! functions {
    ($([$support:ident $($note:literal)?] $name:ident($($argument:ident: $type:ty),* $(,)?) = $entry:ident $body:expr;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`.")]
            /// # Safety
            /// What the specification asks of a caller: each pointer null, or valid for what it is passed as.
            #[unsafe(no_mangle)]
            #[allow(unused_variables, unused_unsafe, reason = "functions that are not built look at no argument")]
            pub(crate) unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
                // SAFETY: pointers go unread to `input`, `mechanism`, `output` and `interface`, which check what can
                // be checked; that the rest is readable and writable until we return is the caller's promise (`ffi`).
                unsafe { $entry(stringify!($name), $body) }
            }
        )*
    };
}

macro_rules! list {
    ($list:ident, $major:literal, $minor:literal, $([$($support:tt)*] $name:ident($($argument:tt)*) = $entry:ident $body:expr;)*) => {
        $list { version: CK_VERSION { major: $major, minor: $minor }, $($name: Some($name),)* }
    };
}

#[cfg(test)]
macro_rules! support {
    ($since:literal, $([$support:ident $($note:literal)?] $name:ident($($argument:tt)*) = $entry:ident $body:expr;)*) => {
        &[$((stringify!($name), $since, stringify!($support), concat!($($note)?)),)*]
    };
}

/// The answer of functions that are not built yet.
fn unsupported(_: &Module) -> Result<(), Rv> {
    Err(Rv::FUNCTION_NOT_SUPPORTED)
}

/// The answer of the two functions that are there for hosts of the nineties.
fn not_parallel(_: &Module) -> Result<(), Rv> {
    Err(Rv::FUNCTION_NOT_PARALLEL)
}

cryptoki! {
since_2_40 {
    [yes] C_Initialize(arguments: *mut c_void) = bare || {
        boundary::be_quiet();
        generation::initialize(|| general::initialize(&input::arguments(arguments), &environment::read()))
    };
    [yes] C_Finalize(reserved: *mut c_void) = bare || {
        if reserved.is_null() { generation::finalize() } else { Err(Rv::ARGUMENTS_BAD) }
    };
    [yes] C_GetInfo(place: *mut CK_INFO) = call |_| output::value(place, || Ok(info::module()));
    [yes] C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) = bare || interface::function_list(list);

    [yes] C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) = call |module| {
        let which = if present == CK_FALSE { slot::Which::All } else { slot::Which::WithToken };
        output::list(slots, count, |room| Ok(slot::list(module, which, room).iter().map(|slot| slot.0).collect()))
    };
    [yes] C_GetSlotInfo(id: CK_SLOT_ID, place: *mut CK_SLOT_INFO) = call |module| {
        output::value(place, || slot::slot(module, input::slot(id)).map(|slot| info::slot(&slot)))
    };
    [yes] C_GetTokenInfo(id: CK_SLOT_ID, place: *mut CK_TOKEN_INFO) = call |module| {
        output::value(place, || slot::token(module, input::slot(id)).map(|token| info::token(&token)))
    };
    [yes] C_GetMechanismList(id: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG) = call |module| {
        output::list(list, count, |_| {
            let kinds = slot::mechanisms(module, input::slot(id))?;
            Ok(kinds.iter().map(|kind| kind.0.into()).collect())
        })
    };
    [yes] C_GetMechanismInfo(id: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, place: *mut CK_MECHANISM_INFO) = call |module| {
        output::value(place, || {
            let kind = u32::try_from(kind).map_err(|_| Rv::MECHANISM_INVALID)?;
            slot::mechanism(module, input::slot(id), MechanismType(kind)).map(info::mechanism)
        })
    };
    [no "rings are made by `kms ring create`"]
    C_InitToken(id: CK_SLOT_ID, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG, label: *mut CK_UTF8CHAR)
        = call unsupported;
    [yes] C_InitPIN(handle: CK_SESSION_HANDLE, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG) = call |module| {
        let handle = input::session(handle);
        session::init_pin(module, handle, valid(module, handle, input::bytes(pin, pin_length))?)
    };
    [yes]
    C_SetPIN(
        handle: CK_SESSION_HANDLE, old: *mut CK_UTF8CHAR, old_length: CK_ULONG, new: *mut CK_UTF8CHAR,
        new_length: CK_ULONG,
    ) = call |module| {
        let handle = input::session(handle);
        let old = valid(module, handle, input::bytes(old, old_length))?;
        session::set_pin(module, handle, old, valid(module, handle, input::bytes(new, new_length))?)
    };

    [yes "no notifications"]
    C_OpenSession(
        id: CK_SLOT_ID, flags: CK_FLAGS, application: *mut c_void, notify: CK_NOTIFY, place: *mut CK_SESSION_HANDLE,
    ) = call |module| {
        output::value(place, || {
            session::open(module, input::slot(id), input::access(flags)?).map(|handle| output::ulong(handle.0))
        })
    };
    [yes] C_CloseSession(handle: CK_SESSION_HANDLE) = call |module| session::close(module, input::session(handle));
    [yes] C_CloseAllSessions(id: CK_SLOT_ID) = call |module| session::close_all(module, input::slot(id));
    [yes] C_GetSessionInfo(handle: CK_SESSION_HANDLE, place: *mut CK_SESSION_INFO) = call |module| {
        output::value(place, || session::info(module, input::session(handle)).map(info::session))
    };
    [no "operations are not portable"]
    C_GetOperationState(handle: CK_SESSION_HANDLE, state: *mut CK_BYTE, state_length: *mut CK_ULONG)
        = call unsupported;
    [no "operations are not portable"]
    C_SetOperationState(
        handle: CK_SESSION_HANDLE, state: *mut CK_BYTE, state_length: CK_ULONG, encryption_key: CK_OBJECT_HANDLE,
        authentication_key: CK_OBJECT_HANDLE,
    ) = call unsupported;
    [yes "a PIN `name:secret` logs a named principal in"]
    C_Login(handle: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG)
        = call |module| {
            let handle = input::session(handle);
            let role = valid(module, handle, input::role(user))?;
            session::log_in(module, handle, role, valid(module, handle, input::bytes(pin, pin_length))?)
        };
    [yes] C_Logout(handle: CK_SESSION_HANDLE) = call |module| session::log_out(module, input::session(handle));

    [no] C_CreateObject(
        handle: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call unsupported;
    [no] C_CopyObject(
        handle: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        place: *mut CK_OBJECT_HANDLE,
    ) = call unsupported;
    [yes "a token key is destroyed after 30 days, until when the operator can restore it"]
    C_DestroyObject(handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE) = call |module| {
        object::destroy(module, input::session(handle), input::object(target))
    };
    [partly "always unavailable information"]
    C_GetObjectSize(handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, place: *mut CK_ULONG) = call |module| {
        output::value(place, || {
            object::size(module, input::session(handle), input::object(target)).map(output::ulong)
        })
    };
    [yes]
    C_GetAttributeValue(
        handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
    ) = call |module| {
        output::attributes(template, count, |kinds| {
            object::look(module, input::session(handle), input::object(target), kinds)
        })
    };
    [yes]
    C_SetAttributeValue(
        handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
    ) = call |module| {
        let handle = input::session(handle);
        let template = valid(module, handle, input::template(template, count))?;
        object::set(module, handle, input::object(target), template)
    };
    [yes] C_FindObjectsInit(handle: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG) = call |module| {
        object::find(module, input::session(handle), input::template(template, count))
    };
    [yes]
    C_FindObjects(handle: CK_SESSION_HANDLE, objects: *mut CK_OBJECT_HANDLE, most: CK_ULONG, count: *mut CK_ULONG)
        = call |module| {
            output::found(objects, most, count, |most| {
                let found = object::found(module, input::session(handle), most)?;
                Ok(found.iter().map(|object| object.0).collect())
            })
        };
    [yes] C_FindObjectsFinal(handle: CK_SESSION_HANDLE) = call |module| {
        object::end_find(module, input::session(handle))
    };

    [yes] C_EncryptInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) = call |module| {
        let handle = input::session(handle);
        cipher::begin(module, handle, Encrypt, valid(module, handle, mechanism(how))?, input::object(key))
    };
    [yes]
    C_Encrypt(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| output::bytes(encrypted, encrypted_length, |room| {
        cipher::whole(module, input::session(handle), Encrypt, input::bytes(data, data_length), room)
    });
    [yes "GCM comes out at the end, and takes at most 1 MiB"]
    C_EncryptUpdate(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| output::bytes(encrypted, encrypted_length, |room| {
        cipher::part(module, input::session(handle), Encrypt, input::bytes(data, data_length), room)
    });
    [yes] C_EncryptFinal(handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: *mut CK_ULONG)
        = call |module| output::bytes(encrypted, encrypted_length, |room| {
            cipher::last(module, input::session(handle), Encrypt, room)
        });
    [yes] C_DecryptInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) = call |module| {
        let handle = input::session(handle);
        cipher::begin(module, handle, Decrypt, valid(module, handle, mechanism(how))?, input::object(key))
    };
    [yes]
    C_Decrypt(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call |module| output::bytes(data, data_length, |room| {
        cipher::whole(module, input::session(handle), Decrypt, input::bytes(encrypted, encrypted_length), room)
    });
    [yes "GCM comes out at the end, when the tag is right, and takes at most 1 MiB"]
    C_DecryptUpdate(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call |module| output::bytes(data, data_length, |room| {
        cipher::part(module, input::session(handle), Decrypt, input::bytes(encrypted, encrypted_length), room)
    });
    [yes] C_DecryptFinal(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: *mut CK_ULONG)
        = call |module| output::bytes(data, data_length, |room| {
            cipher::last(module, input::session(handle), Decrypt, room)
        });

    [yes] C_DigestInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM) = call |module| {
        let handle = input::session(handle);
        digest::begin(module, handle, valid(module, handle, mechanism(how))?)
    };
    [yes]
    C_Digest(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, digest: *mut CK_BYTE,
        digest_length: *mut CK_ULONG,
    ) = call |module| output::bytes(digest, digest_length, |room| {
        digest::whole(module, input::session(handle), input::bytes(data, data_length), room)
    });
    [yes] C_DigestUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        digest::part(module, input::session(handle), input::bytes(data, data_length))
    };
    [no "keys do not leave the backend"] C_DigestKey(handle: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [yes] C_DigestFinal(handle: CK_SESSION_HANDLE, digest: *mut CK_BYTE, digest_length: *mut CK_ULONG)
        = call |module| output::bytes(digest, digest_length, |room| {
            digest::last(module, input::session(handle), room)
        });

    [yes] C_SignInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) = call |module| {
        let handle = input::session(handle);
        sign::begin_sign(module, handle, valid(module, handle, mechanism(how))?, input::object(key))
    };
    [yes]
    C_Sign(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: *mut CK_ULONG,
    ) = call |module| output::bytes(signature, signature_length, |room| {
        sign::sign(module, input::session(handle), input::bytes(data, data_length), room)
    });
    [yes "HMAC takes at most 1 MiB"]
    C_SignUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        sign::sign_part(module, input::session(handle), input::bytes(data, data_length))
    };
    [yes] C_SignFinal(handle: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: *mut CK_ULONG)
        = call |module| output::bytes(signature, signature_length, |room| {
            sign::sign_last(module, input::session(handle), room)
        });
    [no] C_SignRecoverInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no] C_SignRecover(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: *mut CK_ULONG,
    ) = call unsupported;
    [yes "public keys verify in the application"]
    C_VerifyInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) = call |module| {
        let handle = input::session(handle);
        sign::begin_verify(module, handle, valid(module, handle, mechanism(how))?, input::object(key))
    };
    [yes]
    C_Verify(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: CK_ULONG,
    ) = call |module| {
        let (data, signature) = (input::bytes(data, data_length), input::bytes(signature, signature_length));
        sign::verify(module, input::session(handle), data, signature)
    };
    [yes "HMAC takes at most 1 MiB"]
    C_VerifyUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        sign::verify_part(module, input::session(handle), input::bytes(data, data_length))
    };
    [yes] C_VerifyFinal(handle: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: CK_ULONG)
        = call |module| {
            sign::verify_last(module, input::session(handle), input::bytes(signature, signature_length))
        };
    [no] C_VerifyRecoverInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no] C_VerifyRecover(
        handle: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_DigestEncryptUpdate(
        handle: CK_SESSION_HANDLE, part: *mut CK_BYTE, part_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_DecryptDigestUpdate(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, part: *mut CK_BYTE,
        part_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_SignEncryptUpdate(
        handle: CK_SESSION_HANDLE, part: *mut CK_BYTE, part_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_DecryptVerifyUpdate(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, part: *mut CK_BYTE,
        part_length: *mut CK_ULONG,
    ) = call unsupported;

    [yes]
    C_GenerateKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        place: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(place, || {
        let handle = input::session(handle);
        let how = valid(module, handle, mechanism(how))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        key::generate(module, handle, how, template).map(|key| output::ulong(key.0))
    });
    [yes]
    C_GenerateKeyPair(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, public: *mut CK_ATTRIBUTE, public_count: CK_ULONG,
        private: *mut CK_ATTRIBUTE, private_count: CK_ULONG, public_place: *mut CK_OBJECT_HANDLE,
        private_place: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::pair(public_place, private_place, || {
        let handle = input::session(handle);
        let how = valid(module, handle, mechanism(how))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let public = valid(module, handle, input::template(public, public_count))?;
        let private = valid(module, handle, input::template(private, private_count))?;
        let (public, private) = key::generate_pair(module, handle, how, public, private)?;
        Ok((output::ulong(public.0), output::ulong(private.0)))
    });
    [no] C_WrapKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, wrapping_key: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE, wrapped_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_UnwrapKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, unwrapping_key: CK_OBJECT_HANDLE, wrapped: *mut CK_BYTE,
        wrapped_length: CK_ULONG, template: *mut CK_ATTRIBUTE, count: CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call unsupported;
    [no] C_DeriveKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, base: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE,
        count: CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call unsupported;
    [no "the operating system's generator takes no seed"]
    C_SeedRandom(handle: CK_SESSION_HANDLE, seed: *mut CK_BYTE, seed_length: CK_ULONG) = call |module| {
        random::seed(module, input::session(handle))
    };
    [yes] C_GenerateRandom(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        output::fill(data, data_length, |length| random::generate(module, input::session(handle), length))
    };
    [no "a relic: `CKR_FUNCTION_NOT_PARALLEL`"] C_GetFunctionStatus(handle: CK_SESSION_HANDLE) = call not_parallel;
    [no "a relic: `CKR_FUNCTION_NOT_PARALLEL`"] C_CancelFunction(handle: CK_SESSION_HANDLE) = call not_parallel;
    [partly "never waits: without `CKF_DONT_BLOCK` it is not supported"]
    C_WaitForSlotEvent(flags: CK_FLAGS, place: *mut CK_SLOT_ID, reserved: *mut c_void) = call |_| {
        Err(match (reserved.is_null(), flags & CKF_DONT_BLOCK) {
            (false, _) => Rv::ARGUMENTS_BAD,
            (true, 0) => Rv::FUNCTION_NOT_SUPPORTED,
            (true, _) => Rv::NO_EVENT,
        })
    };
}
since_3_0 {
    [yes] C_GetInterfaceList(list: *mut CK_INTERFACE, count: *mut CK_ULONG) = bare || interface::list(list, count);
    [yes]
    C_GetInterface(
        name: *mut CK_UTF8CHAR, version: *mut CK_VERSION, chosen: *mut *mut CK_INTERFACE, flags: CK_FLAGS,
    ) = bare || interface::choose(name, version, chosen, flags);
    [yes]
    C_LoginUser(
        handle: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG,
        name: *mut CK_UTF8CHAR, name_length: CK_ULONG,
    ) = call |module| {
        let handle = input::session(handle);
        let role = valid(module, handle, input::role(user))?;
        let pin = valid(module, handle, input::bytes(pin, pin_length))?;
        session::log_in_named(module, handle, role, pin, valid(module, handle, input::bytes(name, name_length))?)
    };
    [yes] C_SessionCancel(handle: CK_SESSION_HANDLE, flags: CK_FLAGS) = call |module| {
        session::cancel(module, input::session(handle), input::cancelled(flags))
    };
    [no] C_MessageEncryptInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no] C_EncryptMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG, data: *mut CK_BYTE, data_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_EncryptMessageBegin(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG,
    ) = call unsupported;
    [no] C_EncryptMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: *mut CK_ULONG, flags: CK_FLAGS,
    ) = call unsupported;
    [no] C_MessageEncryptFinal(handle: CK_SESSION_HANDLE) = call unsupported;
    [no] C_MessageDecryptInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no] C_DecryptMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_DecryptMessageBegin(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG,
    ) = call unsupported;
    [no] C_DecryptMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: CK_ULONG, data: *mut CK_BYTE, data_length: *mut CK_ULONG, flags: CK_FLAGS,
    ) = call unsupported;
    [no] C_MessageDecryptFinal(handle: CK_SESSION_HANDLE) = call unsupported;
    [no] C_MessageSignInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no] C_SignMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, signature: *mut CK_BYTE, signature_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_SignMessageBegin(handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG)
        = call unsupported;
    [no] C_SignMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, signature: *mut CK_BYTE, signature_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_MessageSignFinal(handle: CK_SESSION_HANDLE) = call unsupported;
    [no] C_MessageVerifyInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no] C_VerifyMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, signature: *mut CK_BYTE, signature_length: CK_ULONG,
    ) = call unsupported;
    [no] C_VerifyMessageBegin(handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG)
        = call unsupported;
    [no] C_VerifyMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, signature: *mut CK_BYTE, signature_length: CK_ULONG,
    ) = call unsupported;
    [no] C_MessageVerifyFinal(handle: CK_SESSION_HANDLE) = call unsupported;
}
since_3_2 {
    [no] C_EncapsulateKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, public_key: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE,
        count: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: *mut CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call unsupported;
    [no] C_DecapsulateKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, private_key: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG,
        place: *mut CK_OBJECT_HANDLE,
    ) = call unsupported;
    [no] C_VerifySignatureInit(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE, signature: *mut CK_BYTE,
        signature_length: CK_ULONG,
    ) = call unsupported;
    [no] C_VerifySignature(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call unsupported;
    [no] C_VerifySignatureUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG)
        = call unsupported;
    [no] C_VerifySignatureFinal(handle: CK_SESSION_HANDLE) = call unsupported;
    [no] C_GetSessionValidationFlags(
        handle: CK_SESSION_HANDLE, kind: CK_SESSION_VALIDATION_FLAGS_TYPE, place: *mut CK_FLAGS,
    ) = call unsupported;
    [no] C_AsyncComplete(handle: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, result: *mut CK_ASYNC_DATA)
        = call unsupported;
    [no] C_AsyncGetID(handle: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, place: *mut CK_ULONG) = call unsupported;
    [no] C_AsyncJoin(
        handle: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, id: CK_ULONG, data: *mut CK_BYTE, data_length: CK_ULONG,
    ) = call unsupported;
    [no] C_WrapKeyAuthenticated(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, wrapping_key: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE,
        associated: *mut CK_BYTE, associated_length: CK_ULONG, wrapped: *mut CK_BYTE, wrapped_length: *mut CK_ULONG,
    ) = call unsupported;
    [no] C_UnwrapKeyAuthenticated(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, unwrapping_key: CK_OBJECT_HANDLE, wrapped: *mut CK_BYTE,
        wrapped_length: CK_ULONG, template: *mut CK_ATTRIBUTE, count: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call unsupported;
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_every_list_is_there() {
        let counts: Vec<usize> = SUPPORT.iter().map(|part| part.len()).collect();
        assert_eq!(counts, [68, 24, 12]);
        assert_eq!(size_of::<CK_FUNCTION_LIST_3_2>(), (104 + 1) * size_of::<*const c_void>());
    }

    #[test]
    fn without_initialize_calls_say_so_and_touch_nothing() {
        let mut length = 5;
        // SAFETY: null pointers, which are legal to pass, and one length.
        let returned = unsafe { C_Sign(1, std::ptr::null_mut(), 9, std::ptr::null_mut(), &raw mut length) };
        assert_eq!((returned, length), (CKR_CRYPTOKI_NOT_INITIALIZED, 5));
    }
}
