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
use super::mechanism::{kind, mechanism, mechanism_with};
use super::message::{self as messages, Tag};
use super::{environment, info, input, instance, interface, output};
use crate::calls::sign::Form;
use crate::calls::slot::WaitMode;
use crate::calls::{cipher, digest, dual, general, key, message, object, random, session, sign, slot, valid};
use crate::module::Module;
use crate::session::cipher::Direction::{Decrypt, Encrypt};
use crate::session::cipher::Part;

/// The answer of functions that are refused; their rows say why.
fn unsupported(_: &Module) -> Result<(), Rv> {
    Err(Rv::FUNCTION_NOT_SUPPORTED)
}

/// Whether a part of a message is its last.
fn part_of(flags: CK_FLAGS) -> Part {
    if flags & CKF_END_OF_MESSAGE == 0 { Part::Inner } else { Part::Last }
}

/// The answer of the two functions that are there for hosts of the nineties.
fn not_parallel(_: &Module) -> Result<(), Rv> {
    Err(Rv::FUNCTION_NOT_PARALLEL)
}

cryptoki! {
since_2_40 {
    [yes] C_Initialize(arguments: *mut c_void) = bare || {
        boundary::be_quiet();
        instance::initialize(|| general::initialize(&input::arguments(arguments), &environment::read()))
    };
    [yes] C_Finalize(reserved: *mut c_void) = bare || {
        if reserved.is_null() { instance::finalize() } else { Err(Rv::ARGUMENTS_BAD) }
    };
    [yes] C_GetInfo(place: *mut CK_INFO) = call |_| output::value(place, || Ok(info::module()));
    [yes] C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) = bare || interface::function_list(list);

    [yes] C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) = call |module| {
        let which = if present == CK_FALSE { slot::SlotFilter::All } else { slot::SlotFilter::WithToken };
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
    [yes "a free slot becomes a ring, where the configuration of the backend has one"]
    C_InitToken(id: CK_SLOT_ID, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG, label: *mut CK_UTF8CHAR)
        = call |module| {
            let (pin, label) = (input::pin(pin, pin_length)?, input::label(label)?);
            session::init_token(module, input::slot(id), pin, label)
        };
    [yes] C_InitPIN(handle: CK_SESSION_HANDLE, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG) = call |module| {
        let handle = input::session(handle);
        session::init_pin(module, handle, valid(module, handle, input::pin(pin, pin_length))?)
    };
    [yes] C_SetPIN(
        handle: CK_SESSION_HANDLE, old: *mut CK_UTF8CHAR, old_length: CK_ULONG, new: *mut CK_UTF8CHAR,
        new_length: CK_ULONG,
    ) = call |module| {
        let handle = input::session(handle);
        let old = valid(module, handle, input::pin(old, old_length))?;
        session::set_pin(module, handle, old, valid(module, handle, input::pin(new, new_length))?)
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
            session::log_in(module, handle, role, valid(module, handle, input::pin(pin, pin_length))?)
        };
    [yes] C_Logout(handle: CK_SESSION_HANDLE) = call |module| session::log_out(module, input::session(handle));

    [yes] C_CreateObject(
        handle: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(place, || {
        let handle = input::session(handle);
        let template = valid(module, handle, input::template(template, count))?;
        object::create(module, handle, template).map(|object| output::ulong(object.0))
    });
    [yes] C_CopyObject(
        handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        place: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(place, || {
        let handle = input::session(handle);
        let template = valid(module, handle, input::template(template, count))?;
        object::copy(module, handle, input::object(target), template).map(|object| output::ulong(object.0))
    });
    [yes "a token key is destroyed after 30 days, until when the operator can restore it"]
    C_DestroyObject(handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE) = call |module| {
        object::destroy(module, input::session(handle), input::object(target))
    };
    [yes "what its attributes take that are no secret"]
    C_GetObjectSize(handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, place: *mut CK_ULONG) = call |module| {
        output::value(place, || {
            object::size(module, input::session(handle), input::object(target)).map(output::ulong)
        })
    };
    [yes] C_GetAttributeValue(
        handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
    ) = call |module| {
        output::attributes(template, count, |kinds| {
            object::look(module, input::session(handle), input::object(target), kinds)
        })
    };
    [yes] C_SetAttributeValue(
        handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
    ) = call |module| {
        let handle = input::session(handle);
        let template = valid(module, handle, input::template(template, count))?;
        object::set(module, handle, input::object(target), template)
    };
    [yes] C_FindObjectsInit(handle: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG) = call |module| {
        object::find(module, input::session(handle), input::template(template, count))
    };
    [yes] C_FindObjects(handle: CK_SESSION_HANDLE, objects: *mut CK_OBJECT_HANDLE, most: CK_ULONG, count: *mut CK_ULONG)
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
    [yes] C_Encrypt(
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
    [yes] C_Decrypt(
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
    [yes] C_Digest(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, digest: *mut CK_BYTE,
        digest_length: *mut CK_ULONG,
    ) = call |module| output::bytes(digest, digest_length, |room| {
        digest::whole(module, input::session(handle), input::bytes(data, data_length), room)
    });
    [yes] C_DigestUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        digest::part(module, input::session(handle), input::bytes(data, data_length))
    };
    [yes "keys whose value an application may see"]
    C_DigestKey(handle: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) = call |module| {
        digest::key(module, input::session(handle), input::object(key))
    };
    [yes] C_DigestFinal(handle: CK_SESSION_HANDLE, digest: *mut CK_BYTE, digest_length: *mut CK_ULONG)
        = call |module| output::bytes(digest, digest_length, |room| {
            digest::last(module, input::session(handle), room)
        });

    [yes] C_SignInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) = call |module| {
        let handle = input::session(handle);
        sign::begin_sign(module, handle, valid(module, handle, mechanism(how))?, input::object(key))
    };
    [yes] C_Sign(
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
    [no "no mechanism here recovers data that `C_Sign` does not sign"]
    C_SignRecoverInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no "likewise"] C_SignRecover(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: *mut CK_ULONG,
    ) = call unsupported;
    [yes "public keys verify in the application"]
    C_VerifyInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) = call |module| {
        let handle = input::session(handle);
        sign::begin_verify(module, handle, valid(module, handle, mechanism(how))?, input::object(key))
    };
    [yes] C_Verify(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: CK_ULONG,
    ) = call |module| {
        let (data, signature) = (input::bytes(data, data_length), input::bytes(signature, signature_length));
        sign::verify(module, input::session(handle), data, signature)
    };
    [yes "HMAC takes at most 1 MiB"]
    C_VerifyUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        sign::verify_part(module, input::session(handle), input::bytes(data, data_length), Form::After)
    };
    [yes] C_VerifyFinal(handle: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: CK_ULONG)
        = call |module| {
            sign::verify_last(module, input::session(handle), input::bytes(signature, signature_length))
        };
    [no "`C_Encrypt` with `CKM_RSA_X_509` and the public key gives what was signed"]
    C_VerifyRecoverInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no "likewise"] C_VerifyRecover(
        handle: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call unsupported;
    [yes] C_DigestEncryptUpdate(
        handle: CK_SESSION_HANDLE, part: *mut CK_BYTE, part_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| output::bytes(encrypted, encrypted_length, |room| {
        dual::digest_encrypt(module, input::session(handle), input::bytes(part, part_length), room)
    });
    [yes] C_DecryptDigestUpdate(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, part: *mut CK_BYTE,
        part_length: *mut CK_ULONG,
    ) = call |module| output::bytes(part, part_length, |room| {
        dual::decrypt_digest(module, input::session(handle), input::bytes(encrypted, encrypted_length), room)
    });
    [yes] C_SignEncryptUpdate(
        handle: CK_SESSION_HANDLE, part: *mut CK_BYTE, part_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| output::bytes(encrypted, encrypted_length, |room| {
        dual::sign_encrypt(module, input::session(handle), input::bytes(part, part_length), room)
    });
    [yes] C_DecryptVerifyUpdate(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, part: *mut CK_BYTE,
        part_length: *mut CK_ULONG,
    ) = call |module| output::bytes(part, part_length, |room| {
        dual::decrypt_verify(module, input::session(handle), input::bytes(encrypted, encrypted_length), room)
    });

    [yes] C_GenerateKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        place: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(place, || {
        let handle = input::session(handle);
        let how = valid(module, handle, mechanism(how))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        key::generate(module, handle, how, template).map(|key| output::ulong(key.0))
    });
    [yes] C_GenerateKeyPair(
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
    [yes] C_WrapKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, wrapping_key: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE, wrapped_length: *mut CK_ULONG,
    ) = call |module| output::bytes(wrapped, wrapped_length, |room| {
        let handle = input::session(handle);
        let how = valid(module, handle, mechanism(how))?.ok_or(Rv::ARGUMENTS_BAD)?;
        key::wrap(module, handle, how, input::object(wrapping_key), input::object(key), room)
    });
    [yes] C_UnwrapKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, unwrapping_key: CK_OBJECT_HANDLE, wrapped: *mut CK_BYTE,
        wrapped_length: CK_ULONG, template: *mut CK_ATTRIBUTE, count: CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(place, || {
        let (handle, wrapped) = (input::session(handle), input::bytes(wrapped, wrapped_length));
        let how = valid(module, handle, mechanism(how))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        let key = key::unwrap(module, handle, how, input::object(unwrapping_key), wrapped, template)?;
        Ok(output::ulong(key.0))
    });
    [yes "one key for each call"]
    C_DeriveKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, base: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE,
        count: CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(place, || {
        let handle = input::session(handle);
        let second = |key| object::reference(module, handle, key);
        let how = valid(module, handle, mechanism_with(how, &second))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        let key = key::derive(module, handle, how, input::object(base), template)?;
        Ok(output::ulong(key.0))
    });
    [yes "mixed into the operating system's generator"]
    C_SeedRandom(handle: CK_SESSION_HANDLE, seed: *mut CK_BYTE, seed_length: CK_ULONG) = call |module| {
        random::seed(module, input::session(handle), input::bytes(seed, seed_length))
    };
    [yes] C_GenerateRandom(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        output::fill(data, data_length, |length| random::generate(module, input::session(handle), length))
    };
    [no "a relic: `CKR_FUNCTION_NOT_PARALLEL`"] C_GetFunctionStatus(handle: CK_SESSION_HANDLE) = call not_parallel;
    [no "a relic: `CKR_FUNCTION_NOT_PARALLEL`"] C_CancelFunction(handle: CK_SESSION_HANDLE) = call not_parallel;
    [yes] C_WaitForSlotEvent(flags: CK_FLAGS, place: *mut CK_SLOT_ID, reserved: *mut c_void) = call |module| {
        if !reserved.is_null() {
            return Err(Rv::ARGUMENTS_BAD);
        }
        let patience = if flags & CKF_DONT_BLOCK == 0 { WaitMode::UntilFinalized } else { WaitMode::None };
        output::value(place, || slot::event(module, patience).map(|slot| output::ulong(slot.0)))
    };
}
since_3_0 {
    [yes] C_GetInterfaceList(list: *mut CK_INTERFACE, count: *mut CK_ULONG) = bare || interface::list(list, count);
    [yes] C_GetInterface(
        name: *mut CK_UTF8CHAR, version: *mut CK_VERSION, chosen: *mut *mut CK_INTERFACE, flags: CK_FLAGS,
    ) = bare || interface::choose(name, version, chosen, flags);
    [yes] C_LoginUser(
        handle: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, pin_length: CK_ULONG,
        name: *mut CK_UTF8CHAR, name_length: CK_ULONG,
    ) = call |module| {
        let handle = input::session(handle);
        let role = valid(module, handle, input::role(user))?;
        let pin = valid(module, handle, input::pin(pin, pin_length))?;
        session::log_in_named(module, handle, role, pin, valid(module, handle, input::bytes(name, name_length))?)
    };
    [yes] C_SessionCancel(handle: CK_SESSION_HANDLE, flags: CK_FLAGS) = call |module| {
        session::cancel(module, input::session(handle), input::cancelled(flags))
    };
    [yes] C_MessageEncryptInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call |module| {
            let handle = input::session(handle);
            message::begin(module, handle, Encrypt, valid(module, handle, kind(how))?, input::object(key))
        };
    [yes "AES-GCM and ChaCha20-Poly1305; vectors are given, or made at random behind a fixed part, not counted"]
    C_EncryptMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG, data: *mut CK_BYTE, data_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| {
        let (handle, associated) = (input::session(handle), input::bytes(associated, associated_length));
        let data = input::bytes(data, data_length);
        messages::sealed(parameter, parameter_length, Tag::Made, encrypted, encrypted_length, |told, room| {
            message::encrypt(module, handle, told, associated, data, room)
        })
    };
    [yes] C_EncryptMessageBegin(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG,
    ) = call |module| {
        let told = messages::parameter(parameter, parameter_length, Encrypt, Tag::Later);
        let associated = input::bytes(associated, associated_length);
        message::open(module, input::session(handle), Encrypt, told, associated)
    };
    [yes "a message comes out at its end, and takes at most 1 MiB"]
    C_EncryptMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: *mut CK_ULONG, flags: CK_FLAGS,
    ) = call |module| {
        let (handle, data, part) = (input::session(handle), input::bytes(data, data_length), part_of(flags));
        let tag = if part == Part::Last { Tag::Made } else { Tag::Later };
        messages::sealed(parameter, parameter_length, tag, encrypted, encrypted_length, |told, room| {
            message::encrypt_next(module, handle, told, data, room, part)
        })
    };
    [yes] C_MessageEncryptFinal(handle: CK_SESSION_HANDLE) = call |module| {
        message::end(module, input::session(handle), Encrypt)
    };
    [yes] C_MessageDecryptInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call |module| {
            let handle = input::session(handle);
            message::begin(module, handle, Decrypt, valid(module, handle, kind(how))?, input::object(key))
        };
    [yes] C_DecryptMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call |module| output::bytes(data, data_length, |room| {
        let told = messages::parameter(parameter, parameter_length, Decrypt, Tag::Checked);
        let associated = input::bytes(associated, associated_length);
        let encrypted = input::bytes(encrypted, encrypted_length);
        message::decrypt(module, input::session(handle), told, associated, encrypted, room)
    });
    [yes] C_DecryptMessageBegin(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG,
    ) = call |module| {
        let told = messages::parameter(parameter, parameter_length, Decrypt, Tag::Later);
        let associated = input::bytes(associated, associated_length);
        message::open(module, input::session(handle), Decrypt, told, associated)
    };
    [yes "a message comes out at its end, when the tag is right, and takes at most 1 MiB"]
    C_DecryptMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: CK_ULONG, data: *mut CK_BYTE, data_length: *mut CK_ULONG, flags: CK_FLAGS,
    ) = call |module| output::bytes(data, data_length, |room| {
        let part = part_of(flags);
        let tag = if part == Part::Last { Tag::Checked } else { Tag::Later };
        let told = messages::parameter(parameter, parameter_length, Decrypt, tag);
        let encrypted = input::bytes(encrypted, encrypted_length);
        message::decrypt_next(module, input::session(handle), told, encrypted, room, part)
    });
    [yes] C_MessageDecryptFinal(handle: CK_SESSION_HANDLE) = call |module| {
        message::end(module, input::session(handle), Decrypt)
    };
    [no "no signature here has a parameter of its own for each message"]
    C_MessageSignInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no "likewise"] C_SignMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, signature: *mut CK_BYTE, signature_length: *mut CK_ULONG,
    ) = call unsupported;
    [no "likewise"] C_SignMessageBegin(handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG)
        = call unsupported;
    [no "likewise"] C_SignMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, signature: *mut CK_BYTE, signature_length: *mut CK_ULONG,
    ) = call unsupported;
    [no "likewise"] C_MessageSignFinal(handle: CK_SESSION_HANDLE) = call unsupported;
    [no "likewise"] C_MessageVerifyInit(handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no "likewise"] C_VerifyMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, signature: *mut CK_BYTE, signature_length: CK_ULONG,
    ) = call unsupported;
    [no "likewise"] C_VerifyMessageBegin(handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG)
        = call unsupported;
    [no "likewise"] C_VerifyMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, signature: *mut CK_BYTE, signature_length: CK_ULONG,
    ) = call unsupported;
    [no "likewise"] C_MessageVerifyFinal(handle: CK_SESSION_HANDLE) = call unsupported;
}
since_3_2 {
    [yes] C_EncapsulateKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, public_key: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE,
        count: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: *mut CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::bytes(encrypted, encrypted_length, |room| {
        let (handle, public_key) = (input::session(handle), input::object(public_key));
        let how = valid(module, handle, mechanism(how))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        // Before a key is made that nobody could be told of.
        if place.is_null() && !encrypted.is_null() {
            return Err(Rv::ARGUMENTS_BAD);
        }
        let (reply, key) = key::encapsulate(module, handle, how, public_key, template, room)?;
        if let Some(key) = key {
            output::value(place, || Ok(output::ulong(key.0)))?;
        }
        Ok(reply)
    });
    [yes] C_DecapsulateKey(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, private_key: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG,
        place: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(place, || {
        let (handle, encrypted) = (input::session(handle), input::bytes(encrypted, encrypted_length));
        let how = valid(module, handle, mechanism(how))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        let key = key::decapsulate(module, handle, how, input::object(private_key), encrypted, template)?;
        Ok(output::ulong(key.0))
    });
    [yes] C_VerifySignatureInit(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE, signature: *mut CK_BYTE,
        signature_length: CK_ULONG,
    ) = call |module| {
        let (handle, signature) = (input::session(handle), input::bytes(signature, signature_length));
        let how = valid(module, handle, mechanism(how))?;
        sign::begin_verify_signature(module, handle, how, input::object(key), signature)
    };
    [yes] C_VerifySignature(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        sign::verify_signature(module, input::session(handle), input::bytes(data, data_length))
    };
    [yes] C_VerifySignatureUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG)
        = call |module| {
            sign::verify_part(module, input::session(handle), input::bytes(data, data_length), Form::Before)
        };
    [yes] C_VerifySignatureFinal(handle: CK_SESSION_HANDLE) = call |module| {
        sign::verify_signature_last(module, input::session(handle))
    };
    [yes "no flags: nobody has validated the module"]
    C_GetSessionValidationFlags(
        handle: CK_SESSION_HANDLE, kind: CK_SESSION_VALIDATION_FLAGS_TYPE, place: *mut CK_FLAGS,
    ) = call |module| output::value(place, || {
        // Whatever is asked for: nothing of this module has been validated.
        session::info(module, input::session(handle)).map(|_| 0)
    });
    [no "every call returns when it is done"]
    C_AsyncComplete(handle: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, result: *mut CK_ASYNC_DATA)
        = call unsupported;
    [no "likewise"]
    C_AsyncGetID(handle: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, place: *mut CK_ULONG) = call unsupported;
    [no "likewise"]
    C_AsyncJoin(
        handle: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, id: CK_ULONG, data: *mut CK_BYTE, data_length: CK_ULONG,
    ) = call unsupported;
    [no "`C_WrapKey` takes the associated data in the parameter of `CKM_AES_GCM`"]
    C_WrapKeyAuthenticated(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, wrapping_key: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE,
        associated: *mut CK_BYTE, associated_length: CK_ULONG, wrapped: *mut CK_BYTE, wrapped_length: *mut CK_ULONG,
    ) = call unsupported;
    [no "likewise"]
    C_UnwrapKeyAuthenticated(
        handle: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, unwrapping_key: CK_OBJECT_HANDLE, wrapped: *mut CK_BYTE,
        wrapped_length: CK_ULONG, template: *mut CK_ATTRIBUTE, count: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG, place: *mut CK_OBJECT_HANDLE,
    ) = call unsupported;
}
}
