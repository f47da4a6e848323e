//! Message-based encryption, decryption, signatures and verification (spec, "Message-based encryption functions",
//! "Message-based decryption functions", "Message-based signing and MACing functions").

use std::ffi::c_void;

use cryptoki_sys::*;

use super::super::boundary::call;
use super::super::message_parameter::{self, Tag};
use super::super::{input, mechanism, output};
use super::unsupported;
use crate::calls::{message, valid};
use crate::session::cipher::Direction::{Decrypt, Encrypt};
use crate::session::cipher::Part;

/// Whether a part of a message is the last one.
fn part_of(flags: CK_FLAGS) -> Part {
    if flags & CKF_END_OF_MESSAGE == 0 { Part::Intermediate } else { Part::Final }
}

functions! {
    [yes] C_MessageEncryptInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call |module| {
            let handle = input::session(handle);
            let mechanism = valid(module, handle, mechanism::read_type(mechanism))?;
            message::init(module, handle, Encrypt, mechanism, input::object(key))
        };
    [yes "AES-GCM and ChaCha20-Poly1305; IVs are passed in, or generated at random (no counter) after a fixed part"]
    C_EncryptMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG, data: *mut CK_BYTE, data_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| {
        let (handle, associated) = (input::session(handle), input::bytes(associated, associated_length));
        let data = input::bytes(data, data_length);
        let output = (encrypted, encrypted_length);
        message_parameter::encrypt(parameter, parameter_length, Tag::Written, output, |parameter, capacity| {
            message::encrypt(module, handle, parameter, associated, data, capacity)
        })
    };
    [yes] C_EncryptMessageBegin(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG,
    ) = call |module| {
        let parameter = message_parameter::read(parameter, parameter_length, Encrypt, Tag::Pending);
        let associated = input::bytes(associated, associated_length);
        message::begin(module, input::session(handle), Encrypt, parameter, associated)
    };
    [yes "a message is returned at its end and has at most 1 MiB"]
    C_EncryptMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: *mut CK_ULONG, flags: CK_FLAGS,
    ) = call |module| {
        let (handle, data, part) = (input::session(handle), input::bytes(data, data_length), part_of(flags));
        let tag = if part == Part::Final { Tag::Written } else { Tag::Pending };
        let output = (encrypted, encrypted_length);
        message_parameter::encrypt(parameter, parameter_length, tag, output, |parameter, capacity| {
            message::encrypt_next(module, handle, parameter, data, capacity, part)
        })
    };
    [yes] C_MessageEncryptFinal(handle: CK_SESSION_HANDLE) = call |module| {
        message::finish(module, input::session(handle), Encrypt)
    };

    [yes] C_MessageDecryptInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call |module| {
            let handle = input::session(handle);
            let mechanism = valid(module, handle, mechanism::read_type(mechanism))?;
            message::init(module, handle, Decrypt, mechanism, input::object(key))
        };
    [yes] C_DecryptMessage(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call |module| output::bytes(data, data_length, |capacity| {
        let parameter = message_parameter::read(parameter, parameter_length, Decrypt, Tag::Read);
        let associated = input::bytes(associated, associated_length);
        let encrypted = input::bytes(encrypted, encrypted_length);
        message::decrypt(module, input::session(handle), parameter, associated, encrypted, capacity)
    });
    [yes] C_DecryptMessageBegin(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, associated: *mut CK_BYTE,
        associated_length: CK_ULONG,
    ) = call |module| {
        let parameter = message_parameter::read(parameter, parameter_length, Decrypt, Tag::Pending);
        let associated = input::bytes(associated, associated_length);
        message::begin(module, input::session(handle), Decrypt, parameter, associated)
    };
    [yes "a message is returned at its end, if the tag is right, and has at most 1 MiB"]
    C_DecryptMessageNext(
        handle: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: CK_ULONG, data: *mut CK_BYTE, data_length: *mut CK_ULONG, flags: CK_FLAGS,
    ) = call |module| output::bytes(data, data_length, |capacity| {
        let part = part_of(flags);
        let tag = if part == Part::Final { Tag::Read } else { Tag::Pending };
        let parameter = message_parameter::read(parameter, parameter_length, Decrypt, tag);
        let encrypted = input::bytes(encrypted, encrypted_length);
        message::decrypt_next(module, input::session(handle), parameter, encrypted, capacity, part)
    });
    [yes] C_MessageDecryptFinal(handle: CK_SESSION_HANDLE) = call |module| {
        message::finish(module, input::session(handle), Decrypt)
    };

    [no "no supported signature mechanism has a parameter for each message"]
    C_MessageSignInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
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

    [no "likewise"] C_MessageVerifyInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
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
