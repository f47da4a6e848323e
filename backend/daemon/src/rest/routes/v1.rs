//! The 25 operations of the public API, with its own success codes: clients take any other for a failure.

use kms_core::api::{Operation, Problem};

use super::super::extract::Asked;
use super::super::payloads::{
    CreateKeyPayload, CreateKeyRingPayload, CreateWrappingKeyPayload, DecryptPayload, EncryptPayload,
    ImportKeyPayload, SignPayload, VerifyPayload,
};
use super::{Route, Verb, at, key};

/// A resource that may not be there.
const LOOKS: &[u16] = &[404];

/// A resource that may be in the wrong state besides, or an `Idempotency-Key` that came with another request before.
const CHANGES: &[u16] = &[404, 409];

/// Key material that may be out of reach besides.
const USES: &[u16] = &[404, 409, 503];

/// In the order of the public API's document.
pub(super) static ROUTES: [Route; 25] = [
    Route::new("ListKeyRings", (Verb::Get, at!("/keyrings")), "Lists the key rings", |asked| {
        Ok(Operation::ListKeyRings { project: asked.place.project, page: asked.page()? })
    })
    .gives(200, "keyRingList")
    .paged(),
    Route::new("CreateKeyRing", (Verb::Post, at!("/keyrings")), "Makes a key ring", |asked| {
        let ask = asked.payload::<CreateKeyRingPayload>()?.try_into()?;
        Ok(Operation::CreateKeyRing { project: asked.place.project, ask, repeat: asked.repeat()? })
    })
    .takes("CreateKeyRingPayload")
    .gives(202, "keyRing")
    .refuses(CHANGES),
    Route::new("GetKeyRing", (Verb::Get, at!("/keyrings/{keyRingId}")), "Shows a key ring", |asked| {
        Ok(Operation::GetKeyRing(asked.place.ring()?))
    })
    .gives(200, "keyRing")
    .refuses(LOOKS),
    Route::new(
        "DeleteKeyRing",
        (Verb::Delete, at!("/keyrings/{keyRingId}")),
        "Deletes a key ring without keys",
        |asked| Ok(Operation::DeleteKeyRing(asked.place.ring()?)),
    )
    .refuses(CHANGES),
    Route::new(
        "ListKeys",
        (Verb::Get, at!("/keyrings/{keyRingId}/keys")),
        "Lists the keys of a ring",
        |asked| Ok(Operation::ListKeys { ring: asked.place.ring()?, page: asked.page()? }),
    )
    .gives(200, "keyList")
    .refuses(LOOKS)
    .paged(),
    Route::new("CreateKey", (Verb::Post, at!("/keyrings/{keyRingId}/keys")), "Makes a key", |asked| {
        let ask = asked.payload::<CreateKeyPayload>()?.try_into()?;
        Ok(Operation::CreateKey { ring: asked.place.ring()?, ask, repeat: asked.repeat()? })
    })
    .takes("CreateKeyPayload")
    .gives(202, "key")
    .refuses(CHANGES),
    Route::new("GetKey", (Verb::Get, key!("")), "Shows a key", |asked| {
        Ok(Operation::GetKey(asked.place.key()?))
    })
    .gives(200, "key")
    .refuses(LOOKS),
    Route::new("DeleteKey", (Verb::Delete, key!("")), "Schedules a key's deletion in 30 days", |asked| {
        Ok(Operation::DeleteKey(asked.place.key()?))
    })
    .gives_nothing(202)
    .refuses(CHANGES),
    Route::new("ImportKey", (Verb::Post, key!("/import")), "Makes a version of wrapped material", import)
        .takes("ImportKeyPayload")
        .gives(202, "version")
        .refuses(CHANGES),
    Route::new("RestoreKey", (Verb::Post, key!("/restore")), "Calls a key's deletion off", |asked| {
        Ok(Operation::RestoreKey(asked.place.key()?))
    })
    .refuses(CHANGES),
    Route::new("RotateKey", (Verb::Post, key!("/rotate")), "Makes a key's next version", |asked| {
        Ok(Operation::RotateKey(asked.place.key()?))
    })
    .gives(202, "version")
    .refuses(CHANGES),
    Route::new("ListVersions", (Verb::Get, key!("/versions")), "Lists a key's versions", |asked| {
        Ok(Operation::ListVersions { key: asked.place.key()?, page: asked.page()? })
    })
    .gives(200, "versionList")
    .refuses(LOOKS)
    .paged(),
    Route::new("GetVersion", (Verb::Get, key!("/versions/{versionNumber}")), "Shows a version", |asked| {
        Ok(Operation::GetVersion(asked.place.version()?))
    })
    .gives(200, "version")
    .refuses(LOOKS),
    Route::new("Encrypt", (Verb::Post, key!("/versions/{versionNumber}/encrypt")), "Encrypts", encrypt)
        .takes("EncryptPayload")
        .gives(200, "encryptedData")
        .refuses(USES),
    Route::new("Decrypt", (Verb::Post, key!("/versions/{versionNumber}/decrypt")), "Decrypts", decrypt)
        .takes("DecryptPayload")
        .gives(200, "decryptedData")
        .refuses(USES),
    Route::new(
        "Sign",
        (Verb::Post, key!("/versions/{versionNumber}/sign")),
        "Signs, or authenticates with HMAC",
        |asked| {
            let data = asked.payload::<SignPayload<'_>>()?.opened()?;
            Ok(Operation::Sign { version: asked.place.version()?, data })
        },
    )
    .takes("SignPayload")
    .gives(200, "signedData")
    .refuses(USES),
    Route::new(
        "Verify",
        (Verb::Post, key!("/versions/{versionNumber}/verify")),
        "Verifies a signature",
        verify,
    )
    .takes("VerifyPayload")
    .gives(200, "verifiedData")
    .refuses(USES),
    Route::new(
        "DestroyVersion",
        (Verb::Post, key!("/versions/{versionNumber}/destroy")),
        "Schedules the destruction of a version's material in 30 days",
        |asked| Ok(Operation::DestroyVersion(asked.place.version()?)),
    )
    .refuses(CHANGES),
    Route::new(
        "DisableVersion",
        (Verb::Post, key!("/versions/{versionNumber}/disable")),
        "Disables a version",
        |asked| Ok(Operation::DisableVersion(asked.place.version()?)),
    )
    .refuses(CHANGES),
    Route::new(
        "EnableVersion",
        (Verb::Post, key!("/versions/{versionNumber}/enable")),
        "Enables a version",
        |asked| Ok(Operation::EnableVersion(asked.place.version()?)),
    )
    .refuses(CHANGES),
    Route::new(
        "RestoreVersion",
        (Verb::Post, key!("/versions/{versionNumber}/restore")),
        "Calls a version's destruction off",
        |asked| Ok(Operation::RestoreVersion(asked.place.version()?)),
    )
    .refuses(CHANGES),
    Route::new(
        "ListWrappingKeys",
        (Verb::Get, at!("/keyrings/{keyRingId}/wrappingkeys")),
        "Lists the wrapping keys of a ring",
        |asked| Ok(Operation::ListWrappingKeys { ring: asked.place.ring()?, page: asked.page()? }),
    )
    .gives(200, "wrappingKeyList")
    .refuses(LOOKS)
    .paged(),
    Route::new(
        "CreateWrappingKey",
        (Verb::Post, at!("/keyrings/{keyRingId}/wrappingkeys")),
        "Makes a wrapping key",
        |asked| {
            let ask = asked.payload::<CreateWrappingKeyPayload>()?.try_into()?;
            Ok(Operation::CreateWrappingKey { ring: asked.place.ring()?, ask, repeat: asked.repeat()? })
        },
    )
    .takes("CreateWrappingKeyPayload")
    .gives(202, "wrappingKey")
    .refuses(CHANGES),
    Route::new(
        "GetWrappingKey",
        (Verb::Get, at!("/keyrings/{keyRingId}/wrappingkeys/{wrappingKeyId}")),
        "Shows a wrapping key",
        |asked| Ok(Operation::GetWrappingKey(asked.place.wrapping_key()?)),
    )
    .gives(200, "wrappingKey")
    .refuses(LOOKS),
    Route::new(
        "DeleteWrappingKey",
        (Verb::Delete, at!("/keyrings/{keyRingId}/wrappingkeys/{wrappingKeyId}")),
        "Deletes a wrapping key",
        |asked| Ok(Operation::DeleteWrappingKey(asked.place.wrapping_key()?)),
    )
    .refuses(CHANGES),
];

fn import(asked: &Asked<'_>) -> Result<Operation, Problem> {
    let ask = asked.payload::<ImportKeyPayload<'_>>()?.try_into()?;
    Ok(Operation::ImportKey { key: asked.place.key()?, ask })
}

fn encrypt(asked: &Asked<'_>) -> Result<Operation, Problem> {
    let (data, aad) = asked.payload::<EncryptPayload<'_>>()?.opened()?;
    Ok(Operation::Encrypt { version: asked.place.version()?, data, aad })
}

fn decrypt(asked: &Asked<'_>) -> Result<Operation, Problem> {
    let (data, aad) = asked.payload::<DecryptPayload<'_>>()?.opened()?;
    Ok(Operation::Decrypt { version: asked.place.version()?, data, aad })
}

fn verify(asked: &Asked<'_>) -> Result<Operation, Problem> {
    let (data, signature) = asked.payload::<VerifyPayload<'_>>()?.opened()?;
    Ok(Operation::Verify { version: asked.place.version()?, data, signature })
}
