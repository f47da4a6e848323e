//! The 25 operations of the public API, with its success codes: its clients treat any other code as a failure.

use kms_core::api::{Operation, Problem};

use super::super::extract::ApiRequest;
use super::super::payloads::{
    CreateKeyPayload, CreateKeyRingPayload, CreateWrappingKeyPayload, DecryptPayload, EncryptPayload,
    ImportKeyPayload, SignPayload, VerifyPayload,
};
use super::{Method, Route, key_path, project_path};

/// The resource may not exist.
const READ_ERRORS: &[u16] = &[404];

/// The resource may also be in the wrong state, or the `Idempotency-Key` may have been sent with another request.
const WRITE_ERRORS: &[u16] = &[404, 409];

/// The key material may also be unavailable.
const USE_ERRORS: &[u16] = &[404, 409, 503];

/// The routes, in the order of the public API's document.
pub(super) static ROUTES: [Route; 25] = [
    Route::new(
        "ListKeyRings",
        (Method::Get, project_path!("/keyrings")),
        "Lists the key rings of a project",
        |request| Ok(Operation::ListKeyRings { project: request.path.project, page: request.page()? }),
    )
    .responds(200, "keyRingList")
    .paged(),
    Route::new(
        "CreateKeyRing",
        (Method::Post, project_path!("/keyrings")),
        "Creates a key ring",
        |request| {
            let ask = request.payload::<CreateKeyRingPayload>()?.try_into()?;
            Ok(Operation::CreateKeyRing {
                project: request.path.project,
                ask,
                repeat: request.idempotency_key()?,
            })
        },
    )
    .request_schema("CreateKeyRingPayload")
    .responds(202, "keyRing")
    .errors(WRITE_ERRORS),
    Route::new(
        "GetKeyRing",
        (Method::Get, project_path!("/keyrings/{keyRingId}")),
        "Returns a key ring",
        |request| Ok(Operation::GetKeyRing(request.path.ring()?)),
    )
    .responds(200, "keyRing")
    .errors(READ_ERRORS),
    Route::new(
        "DeleteKeyRing",
        (Method::Delete, project_path!("/keyrings/{keyRingId}")),
        "Deletes an empty key ring",
        |request| Ok(Operation::DeleteKeyRing(request.path.ring()?)),
    )
    .errors(WRITE_ERRORS),
    Route::new(
        "ListKeys",
        (Method::Get, project_path!("/keyrings/{keyRingId}/keys")),
        "Lists the keys of a key ring",
        |request| Ok(Operation::ListKeys { ring: request.path.ring()?, page: request.page()? }),
    )
    .responds(200, "keyList")
    .errors(READ_ERRORS)
    .paged(),
    Route::new(
        "CreateKey",
        (Method::Post, project_path!("/keyrings/{keyRingId}/keys")),
        "Creates a key and, unless it is import-only, its first version",
        |request| {
            let ask = request.payload::<CreateKeyPayload>()?.try_into()?;
            Ok(Operation::CreateKey { ring: request.path.ring()?, ask, repeat: request.idempotency_key()? })
        },
    )
    .request_schema("CreateKeyPayload")
    .responds(202, "key")
    .errors(WRITE_ERRORS),
    Route::new("GetKey", (Method::Get, key_path!("")), "Returns a key", |request| {
        Ok(Operation::GetKey(request.path.key()?))
    })
    .responds(200, "key")
    .errors(READ_ERRORS),
    Route::new(
        "DeleteKey",
        (Method::Delete, key_path!("")),
        "Schedules the deletion of a key, by default in 30 days; until then it can be restored",
        |request| Ok(Operation::DeleteKey(request.path.key()?)),
    )
    .responds_empty(202)
    .errors(WRITE_ERRORS),
    Route::new(
        "ImportKey",
        (Method::Post, key_path!("/import")),
        "Imports wrapped key material as the next version of a key",
        import,
    )
    .request_schema("ImportKeyPayload")
    .responds(202, "version")
    .errors(WRITE_ERRORS),
    Route::new(
        "RestoreKey",
        (Method::Post, key_path!("/restore")),
        "Cancels the scheduled deletion of a key",
        |request| Ok(Operation::RestoreKey(request.path.key()?)),
    )
    .errors(WRITE_ERRORS),
    Route::new(
        "RotateKey",
        (Method::Post, key_path!("/rotate")),
        "Creates the next version of a key",
        |request| Ok(Operation::RotateKey(request.path.key()?)),
    )
    .responds(202, "version")
    .errors(WRITE_ERRORS),
    Route::new(
        "ListVersions",
        (Method::Get, key_path!("/versions")),
        "Lists the versions of a key",
        |request| Ok(Operation::ListVersions { key: request.path.key()?, page: request.page()? }),
    )
    .responds(200, "versionList")
    .errors(READ_ERRORS)
    .paged(),
    Route::new(
        "GetVersion",
        (Method::Get, key_path!("/versions/{versionNumber}")),
        "Returns a key version",
        |request| Ok(Operation::GetVersion(request.path.version()?)),
    )
    .responds(200, "version")
    .errors(READ_ERRORS),
    Route::new(
        "Encrypt",
        (Method::Post, key_path!("/versions/{versionNumber}/encrypt")),
        "Encrypts data with a key version",
        encrypt,
    )
    .request_schema("EncryptPayload")
    .responds(200, "encryptedData")
    .errors(USE_ERRORS),
    Route::new(
        "Decrypt",
        (Method::Post, key_path!("/versions/{versionNumber}/decrypt")),
        "Decrypts data with a key version",
        decrypt,
    )
    .request_schema("DecryptPayload")
    .responds(200, "decryptedData")
    .errors(USE_ERRORS),
    Route::new(
        "Sign",
        (Method::Post, key_path!("/versions/{versionNumber}/sign")),
        "Signs data, or computes its HMAC, with a key version",
        |request| {
            let data = request.payload::<SignPayload<'_>>()?.decode()?;
            Ok(Operation::Sign { version: request.path.version()?, data })
        },
    )
    .request_schema("SignPayload")
    .responds(200, "signedData")
    .errors(USE_ERRORS),
    Route::new(
        "Verify",
        (Method::Post, key_path!("/versions/{versionNumber}/verify")),
        "Verifies a signature or an HMAC with a key version",
        verify,
    )
    .request_schema("VerifyPayload")
    .responds(200, "verifiedData")
    .errors(USE_ERRORS),
    Route::new(
        "DestroyVersion",
        (Method::Post, key_path!("/versions/{versionNumber}/destroy")),
        "Schedules the destruction of a key version, by default in 30 days; until then it can be restored",
        |request| Ok(Operation::DestroyVersion(request.path.version()?)),
    )
    .errors(WRITE_ERRORS),
    Route::new(
        "DisableVersion",
        (Method::Post, key_path!("/versions/{versionNumber}/disable")),
        "Disables a key version",
        |request| Ok(Operation::DisableVersion(request.path.version()?)),
    )
    .errors(WRITE_ERRORS),
    Route::new(
        "EnableVersion",
        (Method::Post, key_path!("/versions/{versionNumber}/enable")),
        "Enables a key version",
        |request| Ok(Operation::EnableVersion(request.path.version()?)),
    )
    .errors(WRITE_ERRORS),
    Route::new(
        "RestoreVersion",
        (Method::Post, key_path!("/versions/{versionNumber}/restore")),
        "Cancels the scheduled destruction of a key version",
        |request| Ok(Operation::RestoreVersion(request.path.version()?)),
    )
    .errors(WRITE_ERRORS),
    Route::new(
        "ListWrappingKeys",
        (Method::Get, project_path!("/keyrings/{keyRingId}/wrappingkeys")),
        "Lists the wrapping keys of a key ring",
        |request| Ok(Operation::ListWrappingKeys { ring: request.path.ring()?, page: request.page()? }),
    )
    .responds(200, "wrappingKeyList")
    .errors(READ_ERRORS)
    .paged(),
    Route::new(
        "CreateWrappingKey",
        (Method::Post, project_path!("/keyrings/{keyRingId}/wrappingkeys")),
        "Creates a wrapping key, under which key material can be wrapped for import",
        |request| {
            let ask = request.payload::<CreateWrappingKeyPayload>()?.try_into()?;
            Ok(Operation::CreateWrappingKey {
                ring: request.path.ring()?,
                ask,
                repeat: request.idempotency_key()?,
            })
        },
    )
    .request_schema("CreateWrappingKeyPayload")
    .responds(202, "wrappingKey")
    .errors(WRITE_ERRORS),
    Route::new(
        "GetWrappingKey",
        (Method::Get, project_path!("/keyrings/{keyRingId}/wrappingkeys/{wrappingKeyId}")),
        "Returns a wrapping key",
        |request| Ok(Operation::GetWrappingKey(request.path.wrapping_key()?)),
    )
    .responds(200, "wrappingKey")
    .errors(READ_ERRORS),
    Route::new(
        "DeleteWrappingKey",
        (Method::Delete, project_path!("/keyrings/{keyRingId}/wrappingkeys/{wrappingKeyId}")),
        "Deletes a wrapping key",
        |request| Ok(Operation::DeleteWrappingKey(request.path.wrapping_key()?)),
    )
    .errors(WRITE_ERRORS),
];

fn import(request: &ApiRequest<'_>) -> Result<Operation, Problem> {
    let ask = request.payload::<ImportKeyPayload<'_>>()?.try_into()?;
    Ok(Operation::ImportKey { key: request.path.key()?, ask })
}

fn encrypt(request: &ApiRequest<'_>) -> Result<Operation, Problem> {
    let (data, aad) = request.payload::<EncryptPayload<'_>>()?.decode()?;
    Ok(Operation::Encrypt { version: request.path.version()?, data, aad })
}

fn decrypt(request: &ApiRequest<'_>) -> Result<Operation, Problem> {
    let (data, aad) = request.payload::<DecryptPayload<'_>>()?.decode()?;
    Ok(Operation::Decrypt { version: request.path.version()?, data, aad })
}

fn verify(request: &ApiRequest<'_>) -> Result<Operation, Problem> {
    let (data, signature) = request.payload::<VerifyPayload<'_>>()?.decode()?;
    Ok(Operation::Verify { version: request.path.version()?, data, signature })
}
