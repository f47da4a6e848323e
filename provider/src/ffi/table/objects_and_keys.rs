//! Objects and keys (spec, "Object management functions", "Key management functions").

use cryptoki_sys::*;
use kms_protocol::Rv;

use super::super::boundary::call;
use super::super::{input, mechanism, output};
use super::unsupported;
use crate::calls::{key, object, valid};

functions! {
    [yes] C_CreateObject(
        handle: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG, out: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(out, || {
        let handle = input::session(handle);
        let template = valid(module, handle, input::template(template, count))?;
        object::create(module, handle, template).map(|object| output::ulong(object.0))
    });
    [yes "a session copy of a token object can be used while the original is active"]
    C_CopyObject(
        handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        out: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(out, || {
        let handle = input::session(handle);
        let template = valid(module, handle, input::template(template, count))?;
        object::copy(module, handle, input::object(target), template).map(|object| output::ulong(object.0))
    });
    [yes "the material of a token key is destroyed after 30 days; until then the operator can restore it"]
    C_DestroyObject(handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE) = call |module| {
        object::destroy(module, input::session(handle), input::object(target))
    };
    [yes "the size of the attributes that are not secret"]
    C_GetObjectSize(handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, out: *mut CK_ULONG) = call |module| {
        output::value(out, || {
            object::size(module, input::session(handle), input::object(target)).map(output::ulong)
        })
    };
    [yes] C_GetAttributeValue(
        handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
    ) = call |module| {
        output::attributes(template, count, |kinds| {
            object::attribute_values(module, input::session(handle), input::object(target), kinds)
        })
    };
    [yes] C_SetAttributeValue(
        handle: CK_SESSION_HANDLE, target: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
    ) = call |module| {
        let handle = input::session(handle);
        let template = valid(module, handle, input::template(template, count))?;
        object::set_attributes(module, handle, input::object(target), template)
    };
    [yes] C_FindObjectsInit(handle: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG) = call |module| {
        object::find_init(module, input::session(handle), input::template(template, count))
    };
    [yes] C_FindObjects(
        handle: CK_SESSION_HANDLE, objects: *mut CK_OBJECT_HANDLE, max_count: CK_ULONG, count: *mut CK_ULONG,
    ) = call |module| {
        output::found(objects, max_count, count, |max_count| {
            let found = object::find(module, input::session(handle), max_count)?;
            Ok(found.iter().map(|object| object.0).collect())
        })
    };
    [yes] C_FindObjectsFinal(handle: CK_SESSION_HANDLE) = call |module| {
        object::find_final(module, input::session(handle))
    };

    [yes] C_GenerateKey(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        out: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(out, || {
        let handle = input::session(handle);
        let mechanism = valid(module, handle, mechanism::read(mechanism))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        key::generate(module, handle, mechanism, template).map(|key| output::ulong(key.0))
    });
    [yes] C_GenerateKeyPair(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, public: *mut CK_ATTRIBUTE, public_count: CK_ULONG,
        private: *mut CK_ATTRIBUTE, private_count: CK_ULONG, public_out: *mut CK_OBJECT_HANDLE,
        private_out: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::pair(public_out, private_out, || {
        let handle = input::session(handle);
        let mechanism = valid(module, handle, mechanism::read(mechanism))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let public = valid(module, handle, input::template(public, public_count))?;
        let private = valid(module, handle, input::template(private, private_count))?;
        let (public, private) = key::generate_pair(module, handle, mechanism, public, private)?;
        Ok((output::ulong(public.0), output::ulong(private.0)))
    });
    [yes] C_WrapKey(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, wrapping_key: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE, wrapped_length: *mut CK_ULONG,
    ) = call |module| output::bytes(wrapped, wrapped_length, |capacity| {
        let handle = input::session(handle);
        let mechanism = valid(module, handle, mechanism::read(mechanism))?.ok_or(Rv::ARGUMENTS_BAD)?;
        key::wrap(module, handle, mechanism, input::object(wrapping_key), input::object(key), capacity)
    });
    [yes] C_UnwrapKey(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, unwrapping_key: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE, wrapped_length: CK_ULONG, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        out: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(out, || {
        let (handle, wrapped) = (input::session(handle), input::bytes(wrapped, wrapped_length));
        let mechanism = valid(module, handle, mechanism::read(mechanism))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        let key = key::unwrap(module, handle, mechanism, input::object(unwrapping_key), wrapped, template)?;
        Ok(output::ulong(key.0))
    });
    [yes "derives one key in each call"]
    C_DeriveKey(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, base: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE,
        count: CK_ULONG, out: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(out, || {
        let handle = input::session(handle);
        let second_key = |key| object::object_ref(module, handle, key);
        let mechanism = valid(module, handle, mechanism::read_with_keys(mechanism, &second_key))?;
        let mechanism = mechanism.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        let key = key::derive(module, handle, mechanism, input::object(base), template)?;
        Ok(output::ulong(key.0))
    });
    [yes] C_EncapsulateKey(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, public_key: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: *mut CK_ULONG,
        out: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::bytes(encrypted, encrypted_length, |capacity| {
        let (handle, public_key) = (input::session(handle), input::object(public_key));
        let mechanism = valid(module, handle, mechanism::read(mechanism))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        // Checked before the backend creates a key whose handle could not be returned.
        if out.is_null() && !encrypted.is_null() {
            return Err(Rv::ARGUMENTS_BAD);
        }
        let (reply, key) = key::encapsulate(module, handle, mechanism, public_key, template, capacity)?;
        if let Some(key) = key {
            output::value(out, || Ok(output::ulong(key.0)))?;
        }
        Ok(reply)
    });
    [yes] C_DecapsulateKey(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, private_key: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG,
        out: *mut CK_OBJECT_HANDLE,
    ) = call |module| output::value(out, || {
        let (handle, encrypted) = (input::session(handle), input::bytes(encrypted, encrypted_length));
        let mechanism = valid(module, handle, mechanism::read(mechanism))?.ok_or(Rv::ARGUMENTS_BAD)?;
        let template = valid(module, handle, input::template(template, count))?;
        let key = key::decapsulate(module, handle, mechanism, input::object(private_key), encrypted, template)?;
        Ok(output::ulong(key.0))
    });
    [no "`C_WrapKey` takes the AAD in the parameter of `CKM_AES_GCM`"]
    C_WrapKeyAuthenticated(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, wrapping_key: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE,
        associated: *mut CK_BYTE, associated_length: CK_ULONG, wrapped: *mut CK_BYTE, wrapped_length: *mut CK_ULONG,
    ) = call unsupported;
    [no "likewise"]
    C_UnwrapKeyAuthenticated(
        handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, unwrapping_key: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE, wrapped_length: CK_ULONG, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        associated: *mut CK_BYTE, associated_length: CK_ULONG, out: *mut CK_OBJECT_HANDLE,
    ) = call unsupported;
}
