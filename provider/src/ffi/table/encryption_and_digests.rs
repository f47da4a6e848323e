//! Encryption, decryption, digests, dual-function operations and random numbers (spec, "Encryption functions",
//! "Decryption functions", "Message digesting functions", "Dual-function cryptographic functions", "Random number
//! generation functions").

use cryptoki_sys::*;

use super::super::boundary::call;
use super::super::{input, mechanism, output};
use crate::calls::{cipher, digest, dual, random, valid};
use crate::session::cipher::Direction::{Decrypt, Encrypt};

functions! {
    [yes] C_EncryptInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call |module| {
            let handle = input::session(handle);
            let mechanism = valid(module, handle, mechanism::read(mechanism))?;
            cipher::init(module, handle, Encrypt, mechanism, input::object(key))
        };
    [yes] C_Encrypt(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| output::bytes(encrypted, encrypted_length, |capacity| {
        cipher::single_part(module, input::session(handle), Encrypt, input::bytes(data, data_length), capacity)
    });
    [yes "AEAD mechanisms return their output at the end and take at most 1 MiB"]
    C_EncryptUpdate(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| output::bytes(encrypted, encrypted_length, |capacity| {
        cipher::update(module, input::session(handle), Encrypt, input::bytes(data, data_length), capacity)
    });
    [yes] C_EncryptFinal(handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: *mut CK_ULONG)
        = call |module| output::bytes(encrypted, encrypted_length, |capacity| {
            cipher::finish(module, input::session(handle), Encrypt, capacity)
        });
    [yes] C_DecryptInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
        = call |module| {
            let handle = input::session(handle);
            let mechanism = valid(module, handle, mechanism::read(mechanism))?;
            cipher::init(module, handle, Decrypt, mechanism, input::object(key))
        };
    [yes] C_Decrypt(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call |module| output::bytes(data, data_length, |capacity| {
        let encrypted = input::bytes(encrypted, encrypted_length);
        cipher::single_part(module, input::session(handle), Decrypt, encrypted, capacity)
    });
    [yes "AEAD mechanisms return their output at the end, if the tag is right, and take at most 1 MiB"]
    C_DecryptUpdate(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, data: *mut CK_BYTE,
        data_length: *mut CK_ULONG,
    ) = call |module| output::bytes(data, data_length, |capacity| {
        cipher::update(module, input::session(handle), Decrypt, input::bytes(encrypted, encrypted_length), capacity)
    });
    [yes] C_DecryptFinal(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: *mut CK_ULONG)
        = call |module| output::bytes(data, data_length, |capacity| {
            cipher::finish(module, input::session(handle), Decrypt, capacity)
        });

    [yes] C_DigestInit(handle: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM) = call |module| {
        let handle = input::session(handle);
        digest::init(module, handle, valid(module, handle, mechanism::read(mechanism))?)
    };
    [yes] C_Digest(
        handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG, digest: *mut CK_BYTE,
        digest_length: *mut CK_ULONG,
    ) = call |module| output::bytes(digest, digest_length, |capacity| {
        digest::single_part(module, input::session(handle), input::bytes(data, data_length), capacity)
    });
    [yes] C_DigestUpdate(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        digest::update(module, input::session(handle), input::bytes(data, data_length))
    };
    [yes "only keys whose value the application may read"]
    C_DigestKey(handle: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) = call |module| {
        digest::key(module, input::session(handle), input::object(key))
    };
    [yes] C_DigestFinal(handle: CK_SESSION_HANDLE, digest: *mut CK_BYTE, digest_length: *mut CK_ULONG)
        = call |module| output::bytes(digest, digest_length, |capacity| {
            digest::finish(module, input::session(handle), capacity)
        });

    [yes] C_DigestEncryptUpdate(
        handle: CK_SESSION_HANDLE, part: *mut CK_BYTE, part_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| output::bytes(encrypted, encrypted_length, |capacity| {
        dual::digest_encrypt(module, input::session(handle), input::bytes(part, part_length), capacity)
    });
    [yes] C_DecryptDigestUpdate(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, part: *mut CK_BYTE,
        part_length: *mut CK_ULONG,
    ) = call |module| output::bytes(part, part_length, |capacity| {
        dual::decrypt_digest(module, input::session(handle), input::bytes(encrypted, encrypted_length), capacity)
    });
    [yes] C_SignEncryptUpdate(
        handle: CK_SESSION_HANDLE, part: *mut CK_BYTE, part_length: CK_ULONG, encrypted: *mut CK_BYTE,
        encrypted_length: *mut CK_ULONG,
    ) = call |module| output::bytes(encrypted, encrypted_length, |capacity| {
        dual::sign_encrypt(module, input::session(handle), input::bytes(part, part_length), capacity)
    });
    [yes] C_DecryptVerifyUpdate(
        handle: CK_SESSION_HANDLE, encrypted: *mut CK_BYTE, encrypted_length: CK_ULONG, part: *mut CK_BYTE,
        part_length: *mut CK_ULONG,
    ) = call |module| output::bytes(part, part_length, |capacity| {
        dual::decrypt_verify(module, input::session(handle), input::bytes(encrypted, encrypted_length), capacity)
    });

    [yes "the seed is mixed into the operating system's generator"]
    C_SeedRandom(handle: CK_SESSION_HANDLE, seed: *mut CK_BYTE, seed_length: CK_ULONG) = call |module| {
        random::seed(module, input::session(handle), input::bytes(seed, seed_length))
    };
    [yes] C_GenerateRandom(handle: CK_SESSION_HANDLE, data: *mut CK_BYTE, data_length: CK_ULONG) = call |module| {
        output::fill(data, data_length, |length| random::generate(module, input::session(handle), length))
    };
}
