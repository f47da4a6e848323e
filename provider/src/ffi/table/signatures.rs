//! Signatures and MACs, and their verification (spec, "Signing and MACing functions", "Functions for verifying
//! signatures and MACs").

use cryptoki_sys::*;

use super::super::boundary::call;
use super::super::{input, mechanism, output};
use super::unsupported;
use crate::calls::sign::SignaturePosition::{AfterData, BeforeData};
use crate::calls::{sign, valid};

functions! {
    [yes] C_SignInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) = call |module| {
        let handle = input::session(handle);
        sign::sign_init(module, handle, valid(module, handle, mechanism::read(mechanism))?, input::object(key))
    };
    [yes] C_Sign(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: *mut CK_ULONG,
    ) = call |module| output::bytes(signature, signature_length, |capacity| {
        sign::sign(module, input::session(handle), input::bytes(data, data_length), capacity)
    });
    [yes "HMAC takes at most 1 MiB"]
    C_SignUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        sign::sign_update(module, input::session(handle), input::bytes(data, data_length))
    };
    [yes] C_SignFinal(handle: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: *mut CK_ULONG)
        = call |module| output::bytes(signature, signature_length, |capacity| {
            sign::sign_final(module, input::session(handle), capacity)
        });
    [no "no supported mechanism recovers data that `C_Sign` does not sign"]
    C_SignRecoverInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no "likewise"] C_SignRecover(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, signature: *mut CK_BYTE,
        signature_length: *mut CK_ULONG,
    ) = call unsupported;

    [yes "signatures are verified in the application, with the public key"]
    C_VerifyInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) = call |module| {
        let handle = input::session(handle);
        sign::verify_init(module, handle, valid(module, handle, mechanism::read(mechanism))?, input::object(key))
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
        sign::verify_update(module, input::session(handle), input::bytes(data, data_length), AfterData)
    };
    [yes] C_VerifyFinal(handle: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: CK_ULONG)
        = call |module| {
            sign::verify_final(module, input::session(handle), input::bytes(signature, signature_length))
        };
    [no "`C_Encrypt` with `CKM_RSA_X_509` and the public key returns the signed data"]
    C_VerifyRecoverInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call unsupported;
    [no "likewise"] C_VerifyRecover(
        handle: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call unsupported;

    [yes] C_VerifySignatureInit(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE, signature: *mut CK_BYTE,
        signature_length: CK_ULONG,
    ) = call |module| {
        let (handle, signature) = (input::session(handle), input::bytes(signature, signature_length));
        let mechanism = valid(module, handle, mechanism::read(mechanism))?;
        sign::verify_signature_init(module, handle, mechanism, input::object(key), signature)
    };
    [yes] C_VerifySignature(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        sign::verify_signature(module, input::session(handle), input::bytes(data, data_length))
    };
    [yes] C_VerifySignatureUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG)
        = call |module| {
            sign::verify_update(module, input::session(handle), input::bytes(data, data_length), BeforeData)
        };
    [yes] C_VerifySignatureFinal(handle: CK_SESSION_HANDLE) = call |module| {
        sign::verify_signature_final(module, input::session(handle))
    };
}
